# SPDX-License-Identifier: MIT
import numpy as np
import numpy.typing as npt

def mark_data(fd: int, offset: int, page_size: int, pages: int, words: npt.NDArray[np.uint64]) -> int: ...

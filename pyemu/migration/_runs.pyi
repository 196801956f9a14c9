# SPDX-License-Identifier: MIT
import numpy as np
import numpy.typing as npt

_Runs = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint64]

def take_runs(bits: _Bits, pages: int, start: int, limit: int) -> tuple[_Runs, int]: ...
def runs_of(bits: _Bits, pages: int, value: bool = True) -> _Runs: ...
def count_bits(bits: _Bits, pages: int) -> int: ...

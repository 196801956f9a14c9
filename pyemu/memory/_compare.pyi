# SPDX-License-Identifier: MIT
from collections.abc import Iterable
from typing import final

import numpy as np
from numpy.typing import NDArray

from ._ram import RAMBlock

@final
class CompareSource:
    name: str
    reason: str
    def __init__(self, reason: str = "") -> None: ...
    def start(self, blocks: Iterable[RAMBlock]) -> None: ...
    def stop(self) -> None: ...
    def sync(self) -> int: ...
    def data(self, block: RAMBlock) -> NDArray[np.uint8]: ...

# SPDX-License-Identifier: MIT
import numpy as np
import numpy.typing as npt

_Runs = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint64]

def simd() -> str: ...
def select_simd(name: str | None = None) -> None: ...
def write_pages(
    fd: int,
    base: int,
    pages: int,
    page_size: int,
    offset: int,
    runs: _Runs,
    present: _Bits,
    written: _Bits,
    detect_zero: bool,
    buffered: int = -1,
    gap: int = 0,
) -> tuple[int, int, int]: ...
def read_pages(
    fd: int, base: int, pages: int, page_size: int, offset: int, runs: _Runs, buffered: int = -1, gap: int = 0
) -> int: ...
def zero_flags(base: int, pages: int, page_size: int, runs: _Runs) -> npt.NDArray[np.uint8]: ...
def clear_pages(
    base: int, pages: int, page_size: int, runs: _Runs, used: _Bits | None = None, first: int = 0
) -> int: ...
def punch_hole(fd: int, position: int, length: int) -> bool: ...

# SPDX-License-Identifier: MIT
from typing_extensions import Buffer

import numpy as np
import numpy.typing as npt

_Runs = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint64]

def select_simd(name: str | None = None) -> None: ...
def gather_records(
    base: int,
    pages: int,
    page_size: int,
    runs: _Runs,
    row: int,
    page: int,
    out: Buffer,
    name: Buffer,
    detect_zero: bool,
) -> tuple[int, int, int, int, int]: ...
def scatter_records(base: int, pages: int, page_size: int, data: Buffer, touched: _Bits) -> tuple[int, int, int]: ...
def gather_pages(base: int, pages: int, page_size: int, numbers: _Numbers, out: Buffer) -> None: ...
def scatter_pages(base: int, pages: int, page_size: int, numbers: _Numbers, data: Buffer) -> None: ...
def sort_pages(base: int, pages: int, page_size: int, runs: _Runs, data: _Numbers, zero: _Numbers) -> tuple[int, int]: ...
def clear_touched(base: int, pages: int, page_size: int, numbers: _Numbers, touched: _Bits) -> None: ...
def touch(numbers: _Numbers, touched: _Bits) -> None: ...
def scan_records(
    fd: int, position: int, pages: int, page_size: int, first: int, most: int, data: int, touched: _Bits
) -> tuple[int, int, int]: ...
def read_records(
    fd: int,
    position: int,
    end: int,
    base: int,
    pages: int,
    page_size: int,
    first: int,
    count: int,
    touched: _Bits,
    buffer: Buffer,
) -> int: ...
def forget_records(base: int, pages: int, page_size: int, first: int, count: int, touched: _Bits) -> None: ...

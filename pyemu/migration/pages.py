# SPDX-License-Identifier: MIT
"""Moving guest pages, for migration backends.

Runs are arrays of ``int64`` with rows of (first page, number of pages). All page work runs without
the GIL, so these functions may be called from several threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from . import _pages, _records
from ._pages import clear_pages, punch_hole, read_pages, simd, write_pages, zero_flags
from ._runs import count_bits, runs_of, take_runs
from .faults import load_fault, read_fault, write_fault

__all__ = [
    "Bits",
    "BlockLike",
    "Memory",
    "MemoryView",
    "PageCount",
    "Runs",
    "as_runs",
    "clear",
    "clear_file",
    "count_bits",
    "fetch",
    "memory_of",
    "new_bits",
    "page_count",
    "place",
    "runs_of",
    "select_simd",
    "simd",
    "split_runs",
    "take_runs",
    "zero_flags_of",
]

Runs = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

#: A page in memory or in swap; what has neither is zero.
_PAGEMAP_USED = np.uint64(3 << 62)
_PAGEMAP_BATCH = 1 << 16
#: Pages between two runs that are moved with them where every system call waits for the disk: one of 12 KiB took as
#: long there as 160 KiB more in a long one.
_DIRECT_GAP = 8
#: The same where the page cache is read: a system call took as long there as copying three or four pages of a hole.
_CACHED_GAP = 2
#: Pages from which on asking the kernel costs less than looking at them.
_WORTH_ASKING = 256


class BlockLike(Protocol):
    """What identifies a block in a stream, with memory behind it or not."""

    @property
    def idstr(self) -> str: ...

    @property
    def used_length(self) -> int: ...

    @property
    def page_size(self) -> int: ...


class Memory(BlockLike, Protocol):
    """A block with memory behind it; :class:`~pyemu.memory.RAMBlock` is one."""

    @property
    def pointer(self) -> int: ...

    @property
    def backing(self) -> str: ...

    @property
    def array(self) -> npt.NDArray[np.uint8]: ...


def memory_of(block: BlockLike) -> Memory:
    """The block itself, whose memory may be used: sources that load into memory are given blocks that have some.

    Raises:
        TypeError: it comes from a file that was opened as data.
    """
    if not hasattr(block, "array"):
        raise TypeError(f"block {block.idstr} has no memory")
    memory: Any = block
    return memory  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class MemoryView:
    """The bytes of a block in another place: the copy that a dirty source compares with."""

    block: BlockLike
    array: npt.NDArray[np.uint8]
    backing: str = "copy"

    @property
    def idstr(self) -> str:
        return self.block.idstr

    @property
    def used_length(self) -> int:
        return self.block.used_length

    @property
    def page_size(self) -> int:
        return self.block.page_size

    @property
    def pointer(self) -> int:
        return self.array.ctypes.data


@dataclass(slots=True)
class PageCount:
    """Pages handled by a sink.

    Attributes:
        normal: pages with data.
        zero: pages of zeros.
        size: bytes written.
    """

    normal: int = 0
    zero: int = 0
    size: int = 0

    def add(self, other: PageCount) -> None:
        self.normal += other.normal
        self.zero += other.zero
        self.size += other.size


def select_simd(name: str | None = None) -> None:
    """Selects the zero test by name (``avx2``, ``sse2``, ``plain``), or the best one; for tests and benchmarks.

    Raises:
        ValueError: this processor does not have it.
    """
    _pages.select_simd(name)
    _records.select_simd(name)


def page_count(block: BlockLike) -> int:
    """Pages of a block."""
    return block.used_length // block.page_size


def new_bits(pages: int) -> Bits:
    """A clear bitmap, one bit a page, in 64-bit words."""
    return np.zeros((pages + 63) // 64, dtype=np.uint64)


def as_runs(rows: Iterable[tuple[int, int]]) -> Runs:
    """Runs from pairs."""
    return np.array(list(rows), dtype=np.int64).reshape(-1, 2)


def split_runs(runs: Runs, limit: int) -> list[Runs]:
    """Cuts *runs* into portions of at most *limit* pages each, in order."""
    runs = runs[runs[:, 1] > 0]
    ends = np.cumsum(runs[:, 1])
    starts = ends - runs[:, 1]
    total = int(ends[-1]) if len(ends) else 0
    portions: list[Runs] = []
    for low in range(0, total, limit):
        high = min(low + limit, total)
        first = int(np.searchsorted(ends, low, side="right"))
        last = int(np.searchsorted(starts, high, side="left")) - 1
        portion = runs[first : last + 1].copy()
        # Measured from the left before the right end is cut, for both may be the same run.
        ahead = low - int(starts[first])
        portion[0] += (ahead, -ahead)
        portion[-1, 1] -= int(ends[last]) - high
        portions.append(portion)
    return portions


def place(
    fd: int,
    block: Memory,
    offset: int,
    runs: Runs,
    present: Bits,
    written: Bits,
    *,
    detect_zero: bool = True,
    buffered: int = -1,
) -> PageCount:
    """Writes pages to their places in a file, *offset* being that of page 0.

    Data pages are set in *present* and in *written*, zero pages are cleared in *present* and not written. Where *fd*
    bypasses the page cache, *buffered* is a descriptor that does not, for pages that are not aligned as the disk wants it;
    then a few zero pages between others are written, too, as zeros.

    Raises:
        MigrationError: the write failed.
    """
    gap = _DIRECT_GAP if buffered >= 0 else 0
    try:
        normal, zero, _ = write_pages(
            fd, block.pointer, page_count(block), block.page_size, offset, runs, present, written, detect_zero, buffered, gap
        )
    except OSError as error:
        raise write_fault(error) from error
    return PageCount(normal, zero, normal * block.page_size)


def fetch(fd: int, block: Memory, offset: int, runs: Runs, *, buffered: int = -1) -> int:
    """Reads pages from their places in a file; returns how many. *buffered* is as for :func:`place`.

    Raises:
        MigrationError: the read failed or the file ends before.
    """
    gap = _DIRECT_GAP if buffered >= 0 else _CACHED_GAP
    try:
        read: int = read_pages(fd, block.pointer, page_count(block), block.page_size, offset, runs, buffered, gap)
    except OSError as error:
        raise read_fault(error) from error
    except EOFError as error:
        raise load_fault(f"block {block.idstr}: {error}", 5) from error
    return read


def clear_file(fd: int, position: int, length: int) -> None:
    """Makes part of a file read as zeros: as a hole, or written where the file system has no holes.

    Raises:
        MigrationError: it failed.
    """
    try:
        if punch_hole(fd, position, length):
            return
        zeros = bytes(min(length, 1 << 20))
        while length:
            done = os.pwrite(fd, zeros[:length], position)
            position, length = position + done, length - done
    except OSError as error:
        raise write_fault(error) from error


def zero_flags_of(block: Memory, runs: Runs) -> npt.NDArray[np.uint8]:
    """For each page of *runs*, in order, whether it is all zero."""
    flags: npt.NDArray[np.uint8] = zero_flags(block.pointer, page_count(block), block.page_size, runs)
    return flags


def clear(block: Memory, runs: Runs) -> int:
    """Makes pages zero; memory that nobody has touched stays untouched. Returns how many were not zero."""
    if not len(runs):
        return 0
    first, end = int(runs[:, 0].min()), int((runs[:, 0] + runs[:, 1]).max())
    used = None
    if runs[:, 1].sum() >= _WORTH_ASKING:
        used = _used_bits(block, first, end - first)
    cleared: int = clear_pages(block.pointer, page_count(block), block.page_size, runs, used, first)
    return cleared


def _used_bits(block: Memory, first: int, count: int) -> Bits | None:
    """For each page from *first* on whether the kernel has memory for it; None where that cannot be known."""
    if block.backing != "anon" or block.page_size != os.sysconf("SC_PAGE_SIZE"):
        return None
    try:
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    bits = np.zeros((count + 63) // 64 * 8, dtype=np.uint8)
    try:
        start = block.pointer // block.page_size + first
        for at in range(0, count, _PAGEMAP_BATCH):
            length = min(_PAGEMAP_BATCH, count - at)
            raw = os.pread(pagemap, length * 8, (start + at) * 8)
            if len(raw) != length * 8:
                return None
            packed = np.packbits((np.frombuffer(raw, dtype=np.uint64) & _PAGEMAP_USED) != 0, bitorder="little")
            bits[at // 8 : at // 8 + len(packed)] = packed
    finally:
        os.close(pagemap)
    return bits.view(np.uint64)

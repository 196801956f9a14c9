# SPDX-License-Identifier: MIT
"""Page records of the stream, and pages by number, for migration backends.

A record is a page's offset with flags in the low bits, the block's name where it is not the one of the record before,
and the page, or one zero byte. All page work runs without the GIL; functions may be called from several threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from . import _records
from .channel import Buffer
from .framing import StreamReader, StreamWriter
from .pages import Bits, BlockLike, Memory, PageCount, Runs, new_bits, page_count
from .reading import reading_threads

__all__ = [
    "Numbers",
    "RecordWriter",
    "clear_touched",
    "gather_pages",
    "numbers_of",
    "runs_of_numbers",
    "scatter_pages",
    "scatter_records",
    "scatter_stream",
    "slices",
    "sort_pages",
    "touch",
]

#: Page numbers, one a page, in any order.
Numbers = npt.NDArray[np.int64]

#: Bytes of records put together at a time: enough for few system calls, little enough to stay in cache.
GATHERED = 512 << 10

#: Bytes of a file that a thread reads and copies at a time: they stay in its processor's cache between the two.
PIECE = 1 << 20
#: Bytes of a file from which on several threads are worth their start.
WORTH_THREADS = 4 << 20


class RecordWriter:
    """Writes pages to a stream as records. Keeps a buffer of :data:`GATHERED` bytes."""

    def __init__(self, stream: StreamWriter) -> None:
        self._stream = stream
        self._buffer = memoryview(bytearray(GATHERED))
        self._block = ""

    def write(self, block: Memory, runs: Runs, *, detect_zero: bool = True) -> PageCount:
        """Writes the pages of *runs*; of the count, ``size`` is 0, for the stream counts its bytes itself.

        Raises:
            MigrationError: the channel failed.
        """
        count = PageCount()
        row = page = 0
        while row < len(runs):
            name = b"" if block.idstr == self._block else block.idstr.encode()
            filled, normal, zero, row, page = _records.gather_records(
                block.pointer, page_count(block), block.page_size, runs, row, page, self._buffer, name, detect_zero
            )
            if filled:
                self._block = block.idstr
                self._stream.write(self._buffer[:filled])
            count.normal += normal
            count.zero += zero
        return count


def scatter_records(block: Memory, data: Buffer, touched: Bits) -> tuple[int, int, int]:
    """Copies the pages of those records at the beginning of *data* that continue *block* to its memory.

    It ends before the first record that names a block, is of another kind, is not acceptable, or is not whole.

    Args:
        block: where to.
        data: a piece of the stream that begins with a record.
        touched: pages that are not known to be zero; gets those that were copied. Zero pages outside of it
            are left alone.

    Returns:
        (bytes taken, data pages, zero pages)
    """
    return _records.scatter_records(block.pointer, page_count(block), block.page_size, data, touched)


def scatter_stream(block: Memory, stream: StreamReader, touched: Bits) -> tuple[int, int]:
    """Takes all records from *stream* that continue *block*, as far as they have come.

    As :func:`scatter_records`, and where the stream is a large file in which many follow, by several threads that read
    and copy different pieces of it at the same time. Of a connection only what is here is taken: behind the last page of
    a live stream nothing comes until it was answered.

    Returns:
        (data pages, zero pages)
    """
    normal = zero = 0
    while True:
        data = stream.buffered()
        taken, more_normal, more_zero = scatter_records(block, data, touched)
        if not taken:
            return normal, zero
        # A record that is not whole is what the buffer ends with when many of them follow.
        ended = len(data) - taken >= 9 + block.page_size
        stream.skip(taken)
        normal, zero = normal + more_normal, zero + more_zero
        if not ended and stream.channel.seekable:
            more_normal, more_zero = _scatter_file(block, stream, touched)
            normal, zero = normal + more_normal, zero + more_zero


def _scatter_file(block: Memory, stream: StreamReader, touched: Bits) -> tuple[int, int]:
    position, size = stream.position, stream.size
    if size is None or size - position < WORTH_THREADS:
        return 0, 0
    pages = page_count(block)
    work = _records.FileScatter(
        stream.channel.fileno(), position, block.pointer, pages, block.page_size, touched, new_bits(pages), PIECE
    )
    count = reading_threads()
    with ThreadPoolExecutor(count, "restore") as threads:
        for job in [threads.submit(work.work) for _ in range(count)]:
            job.result()
    stream.passed(work.end - position)
    return work.normal, work.zero


def sort_pages(block: Memory, runs: Runs) -> tuple[Numbers, Numbers]:
    """The pages of *runs* that hold data, and those that are all zero."""
    total = int(runs[:, 1].sum())
    data, zero = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    normal, empty = _records.sort_pages(block.pointer, page_count(block), block.page_size, runs, data, zero)
    return data[:normal], zero[:empty]


def numbers_of(runs: Runs) -> Numbers:
    """Each page of *runs*."""
    counts = runs[:, 1]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Numbers = np.arange(total, dtype=np.int64) + np.repeat(runs[:, 0] - (ends - counts), counts)
    return numbers


def runs_of_numbers(numbers: Numbers) -> Runs:
    """Pages given one by one, in the same order, neighbours in one run."""
    if not len(numbers):
        return np.empty((0, 2), dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers) != 1) + 1])
    counts = np.diff(np.append(starts, len(numbers)))
    return np.stack([numbers[starts], counts], axis=1).astype(np.int64)


def slices(block: Memory, numbers: Numbers) -> list[memoryview]:
    """The memory of pages in the order of *numbers*, neighbours in one piece: for gathered writes and scattered reads.

    Raises:
        ValueError: a page is outside of the block.
    """
    if not len(numbers):
        return []
    if numbers.min() < 0 or numbers.max() >= page_count(block):
        raise ValueError(f"pages {numbers.min()} to {numbers.max()} are not all in {page_count(block)} pages")
    memory, size = block.array.data, block.page_size
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts = np.concatenate([[0], breaks])
    ends = np.append(breaks, len(numbers)) - 1
    return [
        memory[first * size : (last + 1) * size]
        for first, last in zip(numbers[starts].tolist(), numbers[ends].tolist(), strict=True)
    ]


def gather_pages(block: Memory, numbers: Numbers) -> memoryview:
    """A copy of pages, one behind the other in the order of *numbers*."""
    out = memoryview(bytearray(len(numbers) * block.page_size))
    _records.gather_pages(block.pointer, page_count(block), block.page_size, numbers, out)
    return out


def scatter_pages(block: Memory, numbers: Numbers, data: Buffer) -> None:
    """Copies *data*, pages one behind the other, to memory.

    Raises:
        ValueError: *data* is not of the pages' size, or a page is outside of the block.
    """
    _records.scatter_pages(block.pointer, page_count(block), block.page_size, numbers, data)


def clear_touched(block: Memory, numbers: Numbers, touched: Bits) -> None:
    """Zeroes those of the pages that are in *touched*; the others are known to be zero."""
    _records.clear_touched(block.pointer, page_count(block), block.page_size, numbers, touched)


def touch(block: BlockLike, numbers: Numbers, touched: Bits) -> None:
    """Puts pages of a block into *touched*.

    Raises:
        ValueError: a page is outside of the block.
    """
    _records.touch(numbers, touched)

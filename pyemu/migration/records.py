# SPDX-License-Identifier: MIT
"""Page records of the stream, and pages by number, for migration backends.

A record is a page's offset with flags in the low bits, the block's name where it is not the one of the record before,
and the page, or one zero byte. All page work runs without the GIL; functions may be called from several threads.
"""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import _records
from .channel import Buffer
from .framing import StreamReader, StreamWriter
from .pages import Bits, BlockLike, Memory, PageCount, Runs, page_count

__all__ = [
    "Numbers",
    "RecordReader",
    "RecordWriter",
    "clear_touched",
    "gather_pages",
    "numbers_of",
    "runs_of_numbers",
    "scatter_pages",
    "scatter_records",
    "slices",
    "sort_pages",
    "touch",
]

#: Page numbers, one a page, in any order.
Numbers = npt.NDArray[np.int64]

#: Bytes of records put together at a time: enough for few system calls, little enough to stay in cache.
GATHERED = 512 << 10

#: Pages of a run of records that one thread reads: 4 MiB of memory, whole huge pages mostly.
RUN = 1024
#: Pages below which a run is not worth it.
SHORTEST_RUN = 256
#: Bytes of records that a thread reads at a time, into the same memory again and again: they stay in cache.
SCATTERED = 128 << 10
#: Threads at most; more than these wait for memory, not for each other.
MOST_READERS = 8


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


@dataclass(frozen=True, slots=True)
class _Run:
    """Records of pages that follow each other, between two positions, and the thread that reads them."""

    first: int
    count: int
    end: int
    job: Future[int]


class RecordReader:
    """Takes long runs of records from a file, in several threads.

    Where a record begins is known only when all before it have been looked at. For pages that follow each other it can be
    guessed: the word of a page far ahead stands where it would if a certain number of those before had data. The threads
    check every record, so a guess that was wrong is found out; what was read then is undone, and nothing is guessed any more.
    Channels that are no files are left alone.
    """

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream
        self._count = min(MOST_READERS, len(os.sched_getaffinity(0)))
        self._enabled = stream.channel.seekable and stream.size is not None and self._count > 1
        self._threads: ThreadPoolExecutor | None = None
        #: One for each run that is being read.
        self._buffers: queue.SimpleQueue[bytearray] = queue.SimpleQueue()

    def take(self, block: Memory, first: int, touched: Bits, loaded: Callable[[int, int], object]) -> None:
        """Takes the records at the stream's position if they are a run of pages, from page *first* on, that is long enough.

        Args:
            block: where to, the block of the record before.
            first: the page expected next.
            touched: as for :func:`scatter_records`. Pages in it end the run.
            loaded: called now and then with data pages and zero pages that have come.
        """
        if not self._enabled:
            return
        fd, pages = self._stream.channel.fileno(), page_count(block)
        position, data, more = self._stream.position, RUN, True
        runs: deque[_Run] = deque()
        try:
            while more or runs:
                if more and len(runs) <= self._count:
                    most = RUN - first % RUN
                    most = min(most if most >= SHORTEST_RUN else most + RUN, pages - first)
                    count, end, data = _records.scan_records(fd, position, pages, block.page_size, first, most, data, touched)
                    more = count >= SHORTEST_RUN
                    if more:
                        runs.append(_Run(first, count, end, self._start(fd, block, position, end, first, count, touched)))
                        first, position = first + count, end
                    continue
                run, found = runs[0], runs[0].job.result()
                if found < 0:
                    # At the position where it began, the stream is read as if nobody had looked ahead.
                    self._enabled = False
                    self._undo(block, runs, touched)
                    return
                self._stream.pass_to(run.end)
                runs.popleft()
                loaded(found, run.count - found)
        finally:
            # Whatever happened: nobody writes to memory any more when this returns.
            wait([run.job for run in runs])

    def _start(self, fd: int, block: Memory, position: int, end: int, first: int, count: int, touched: Bits) -> Future[int]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._count, "records")
            for _ in range(self._count):
                self._buffers.put(bytearray(SCATTERED))

        def read() -> int:
            buffer = self._buffers.get()
            try:
                return _records.read_records(
                    fd, position, end, block.pointer, page_count(block), block.page_size, first, count, touched, buffer
                )
            finally:
                self._buffers.put(buffer)

        return self._threads.submit(read)

    @staticmethod
    def _undo(block: Memory, runs: deque[_Run], touched: Bits) -> None:
        """The place where these began was a wrong guess, though they may look right."""
        for run in runs:
            if run.job.result() >= 0:
                _records.forget_records(block.pointer, page_count(block), block.page_size, run.first, run.count, touched)

    def close(self) -> None:
        """Lets the threads go."""
        if self._threads is not None:
            self._threads.shutdown()


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

# SPDX-License-Identifier: MIT
"""Lazy restore: RAM is mapped copy-on-write over the saved file, and read when it is used or by threads behind.

A file that says of itself that its absent pages are holes (ours do) is mapped as it is. Of others the extents
are looked at first: bytes under a clear bit may be left from an earlier content of the page, and are covered.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from ..errors import MemoryMapError, MigrationError
from ..memory import RAMBlock
from ._extents import mark_data
from .faults import read_fault
from .host import MigrationHost
from .pages import Bits, Memory, clear, new_bits, page_count, runs_of, split_runs

#: Threads that read ahead, at most.
THREADS = 4
#: Pages that a thread reads in one go.
PORTION = 1024
#: What is settled at a time, in bytes: the guest stands still meanwhile.
SETTLE_STEP = 8 << 20


class LazyRestore:
    """The memory of one machine over the file that it was restored from.

    A layout whose places are fixed calls :meth:`map` for each block instead of reading its pages; :meth:`start`
    begins to read ahead. All methods may be called from any thread.

    Args:
        known: the file is known to hold zeros for absent pages.

    Attributes:
        check_seconds: time that looking at the file's extents took; 0.0 where the file says what it is.
        extents: how many there were.
        resident: all that the file holds has been read.
        stale_pages: pages that are absent but for which the file holds other bytes than zeros.
        error: why reading ahead ended early; None when it did not.
    """

    def __init__(self, known: bool) -> None:
        self._known = known
        self._blocks: list[tuple[RAMBlock, Bits]] = []
        self._stop = threading.Event()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._left = 0
        self.resident = False
        self.check_seconds = 0.0
        self.extents = 0
        self.stale_pages = 0
        self.error: MemoryMapError | None = None

    def map(self, block: Memory, fd: int, offset: int, present: Bits) -> None:
        """Maps *block* over a file; what it held is gone.

        Args:
            fd: of the file, the caller's, opened for this purpose.
            offset: where the block's first page is in it.
            present: which pages hold data, a bit each; the others are zero.

        Raises:
            MigrationError: it cannot be mapped.
        """
        if not isinstance(block, RAMBlock):
            raise MigrationError(f"block {block.idstr}: {type(block).__name__} cannot be mapped over a file")
        try:
            block.map_file(fd, offset, present)
        except MemoryMapError as error:
            raise MigrationError(str(error)) from error
        self._blocks.append((block, present))
        if not self._known:
            begin = time.perf_counter()
            self._cover_stale(block, fd, offset, present)
            self.check_seconds += time.perf_counter() - begin

    def _cover_stale(self, block: RAMBlock, fd: int, offset: int, present: Bits) -> None:
        """Zeroes pages that are absent while the file has bytes for them; holes are not even read."""
        data = new_bits(page_count(block))
        try:
            self.extents += mark_data(fd, offset, block.page_size, page_count(block), data)
        except OSError as error:
            raise read_fault(error) from error
        self.stale_pages += clear(block, runs_of(data & ~present, page_count(block)))

    def drop(self) -> None:
        """Forgets the file again: mapped blocks are zero."""
        self.stop()
        for block, _ in self._blocks:
            block.discard_file()
        self._blocks = []

    # -- reading ahead ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to read what the file holds, in threads of its own."""
        portions = [
            (block, portion)
            for block, present in self._blocks
            for portion in split_runs(runs_of(present, page_count(block)), PORTION)
        ]
        self._left = len(portions)
        queue = iter(portions)

        def work() -> None:
            while not self._stop.is_set():
                with self._lock:
                    item = next(queue, None)
                if item is None:
                    return
                try:
                    item[0].populate(item[1])
                except MemoryMapError as error:
                    # Closed in the meantime, or the file cannot be read: whoever asks is told.
                    self.error = error
                    self._stop.set()
                    self._done.set()
                    return
                with self._lock:
                    self._left -= 1
                    if not self._left:
                        self.resident = True
                        self._done.set()

        if not portions:
            self.resident = True
            self._done.set()
            return
        count = min(THREADS, len(os.sched_getaffinity(0)), len(portions))
        self._threads = [threading.Thread(target=work, name=f"restore-ahead-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until all has been read, or reading ended early; returns :attr:`resident`."""
        self._done.wait(timeout)
        return self.resident

    def stop(self) -> None:
        """Ends reading ahead. The memory stays where it is. May be repeated."""
        self._stop.set()
        self._done.set()
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()


def settle(host: MigrationHost, check: Callable[[], object]) -> None:
    """Makes a machine's RAM independent of the file that it was restored from lazily, in steps.

    Args:
        host: the machine; it stands still during a step.
        check: called after each step; may raise.

    Raises:
        MemoryMapError: there is no memory, or RAM is being watched.
    """
    for block in host.ram_blocks():
        while block.backing == "file-private" and host.call(lambda block=block: block.settle(SETTLE_STEP)):  # type: ignore[misc]
            check()

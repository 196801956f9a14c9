# SPDX-License-Identifier: MIT
"""The source's end of the channels: pages of a layout without fixed places go out in packets.

Each channel has a thread. The migration's thread hands out portions of pages, and the next idle thread makes
packets of them: it looks for zero pages, and sends the others straight from guest memory, or compressed. Which
channel a page takes does not matter between two synchronisation points, for no page is sent twice there.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyemu.migration import CompressionMethod, Compressor, OutputChannel, PageSink, Runs, SaveContext
from pyemu.migration.pages import Memory, split_runs
from pyemu.migration.records import Numbers, gather_pages, numbers_of, runs_of_numbers, slices, sort_pages

from . import packets
from .workers import Workers

#: Record of the main stream: all that the channels carried before their sync packet comes before what follows.
FLUSH = 0x200
#: Packets that a thread makes of one job, if there are pages enough.
PACKETS = 4


class PacketSink(PageSink):
    """Sends pages over further connections.

    Args:
        below: the layout, which writes records to the main stream.
        context: of the migration.
        count: channels.
        method: how page data is compressed, with its level and the flags that say so; None for not at all.
    """

    portion = 1024

    def __init__(
        self,
        below: PageSink,
        context: SaveContext,
        count: int,
        method: tuple[CompressionMethod, int, int] | None,
    ) -> None:
        super().__init__()
        self._below = below
        self._stream = context.stream
        self._detect = context.parameters["zero-page-detection"]
        self._flags = method[2] if method is not None else 0
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._page_size = 4096
        self._pending: list[Runs] = []
        self._pending_pages = 0
        self._block: Memory | None = None
        self._channels: list[OutputChannel] = []
        self._compressors: Sequence[Compressor | None] = [
            method[0].compressor(method[1]) if method is not None else None for _ in range(count)
        ]
        try:
            for number in range(count):
                channel = context.stream.channel.open_more()
                self._channels.append(channel)
                self._send(channel, [packets.encode_initial(context.uuid, number)])
        except BaseException:
            self._abort()
            raise
        self._workers = Workers(count, "multifd-send", self._abort)

    # -- the migration's thread -------------------------------------------------------------------

    def block_header(self, block: Memory) -> None:
        self._page_size = block.page_size
        self._below.block_header(block)

    def ignored_block(self, block: Memory) -> None:
        self._below.ignored_block(block)

    def list_end(self) -> None:
        self._below.list_end()
        self.sync()

    def submit(self, block: Memory, runs: Runs) -> None:
        if self._detect == "legacy":
            runs = self._zero_below(block, runs)
        if self._block is not None and (block.idstr != self._block.idstr or block.pointer != self._block.pointer):
            self._hand_out(self._pending_pages)
        self._block = block
        self._pending.append(runs)
        pages = int(runs[:, 1].sum())
        self._pending_pages += pages
        with self._lock:
            self.in_flight += pages * block.page_size
        room = packets.capacity(block.page_size)
        self._hand_out(self._pending_pages // room * room)

    def _zero_below(self, block: Memory, runs: Runs) -> Runs:
        """Gives zero pages to the layout, whose records go over the main stream; returns the others."""
        data, zero = sort_pages(block, runs)
        if len(zero):
            normal, empty = self._below.count.normal, self._below.count.zero
            self._below.submit(block, runs_of_numbers(zero))
            with self._lock:
                self.count.normal += self._below.count.normal - normal
                self.count.zero += self._below.count.zero - empty
        return runs_of_numbers(data)

    def _hand_out(self, pages: int) -> None:
        """Gives the threads that many of the pending pages."""
        block = self._block
        if not pages or block is None:
            return
        runs = np.concatenate(self._pending)
        left = self._pending_pages - pages
        self._pending, self._pending_pages = [], left
        if left:
            first, rest = _cut(runs, pages)
            self._pending.append(rest)
            runs = first
        for portion in split_runs(runs, PACKETS * packets.capacity(block.page_size)):
            self._workers.give(lambda number, portion=portion: self._pages(number, block, portion))  # type: ignore[misc]

    def sync(self) -> None:
        self._hand_out(self._pending_pages)
        self._workers.wait()
        self._below.sync()
        for channel in self._channels:
            self._send(channel, [packets.encode_sync(next(self._numbers), self._page_size)])
        self._stream.u64(FLUSH)
        # The other end lets its channels go on when it reads this: it must not wait in a buffer here.
        self._stream.flush()

    def finish(self) -> None:
        self._below.finish()

    def close(self) -> None:
        # Ends sending that hangs; what was sent is in the system's hands and arrives.
        self._abort()
        self._workers.close()
        self._below.close()

    def describe(self) -> dict[str, Any]:
        return self._below.describe()

    def _abort(self) -> None:
        for channel in self._channels:
            channel.abort()

    # -- the channels' threads --------------------------------------------------------------------

    def _pages(self, number: int, block: Memory, runs: Runs) -> None:
        """Sends a portion of pages over channel *number*."""
        if self._detect == "multifd":
            data, zero = sort_pages(block, runs)
        else:
            data, zero = numbers_of(runs), np.empty(0, dtype=np.int64)
        room = packets.capacity(block.page_size)
        while len(data) or len(zero):
            empty = room - min(len(data), room)
            self._packet(number, block, data[:room], zero[:empty])
            data, zero = data[room:], zero[empty:]

    def _packet(self, number: int, block: Memory, data: Numbers, zero: Numbers) -> None:
        compressor = self._compressors[number]
        size = len(data) * block.page_size
        pieces: list[Any] = []
        if compressor is not None and size:
            # A copy, for compressors look at their input more than once, and the guest may be writing.
            pieces = [compressor.compress(gather_pages(block, data))]
            size = len(pieces[0])
        elif size:
            pieces = slices(block, data)
        head = packets.encode_pages(next(self._numbers), self._flags, block, data, zero, size)
        self._send(self._channels[number], [head, *pieces], len(data), len(zero))

    def _send(self, channel: OutputChannel, pieces: Sequence[Any], normal: int = 0, zero: int = 0) -> None:
        channel.writev(pieces)
        size = sum(len(piece) for piece in pieces)
        with self._lock:
            self.count.normal += normal
            self.count.zero += zero
            self.count.size += size
            self.channel_bytes += size
            self.in_flight -= (normal + zero) * self._page_size


def _cut(runs: Runs, pages: int) -> tuple[Runs, Runs]:
    """The first *pages* pages of *runs*, and the rest."""
    ends = np.cumsum(runs[:, 1])
    row = int(np.searchsorted(ends, pages, side="left"))
    first, rest = runs[: row + 1].copy(), runs[row:].copy()
    over = int(ends[row]) - pages
    first[-1, 1] -= over
    rest[0] += (rest[0, 1] - over, over - rest[0, 1])
    return first, rest[rest[:, 1] > 0]

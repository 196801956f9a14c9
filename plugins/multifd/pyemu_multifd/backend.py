# SPDX-License-Identifier: MIT
"""The carrier: pages of the layout below are moved by several threads.

With a layout that has fixed places, a thread takes a portion of pages, finds the zero pages among them
and writes or reads the others in runs; the GIL is held for none of that. With one that has none, each thread has a
connection of its own and sends packets of pages (:mod:`.sending`, :mod:`.receiving`). Which thread gets which portion
does not matter as long as no page is in two at once, and that holds within one pass over RAM.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pyemu.errors import MigrationError
from pyemu.migration import (
    ChannelType,
    CompressionMethod,
    LoadContext,
    MigrationBackend,
    PageIndex,
    PageSink,
    PageSource,
    Parameter,
    Runs,
    SaveContext,
    find_compression,
)
from pyemu.migration.pages import BlockLike, Memory, split_runs

from .packets import COMPRESSIONS, MAX_CHANNELS
from .receiving import PacketSource
from .sending import PacketSink
from .workers import Workers

#: Pages of one job: 2 MiB, so that the hand-over costs little beside the work and all threads end together.
PORTION = 512


class MultifdBackend(MigrationBackend):
    """Several channels at once."""

    role = "carrier"
    capabilities = ("multifd",)
    before_incoming: Mapping[str, str] = MappingProxyType({"multifd": "Multifd must be set before incoming starts"})
    maps_files = True
    parameters = (
        Parameter("multifd-channels", 2, 1, 255),
        Parameter("multifd-compression", "none", choices=("none", "zlib", "zstd")),
        Parameter("multifd-zlib-level", 1, 0, 9),
        Parameter("multifd-zstd-level", 1, 0, 20),
        Parameter("multifd-qatzip-level", 1, 1, 9),
    )

    def check_capabilities(self, enabled: frozenset[str]) -> None:
        if "xbzrle" in enabled:
            raise MigrationError("Multifd is not compatible with xbzrle")
        if "postcopy-ram" in enabled:
            raise MigrationError("Postcopy is not yet compatible with multifd")

    def check_channel(self, channel: ChannelType, layout: MigrationBackend) -> None:
        if not layout.fixed_places and not channel.multiple:
            raise MigrationError("Migration requires multi-channel URIs (e.g. tcp)")

    def connections(self, layout: MigrationBackend, parameters: Mapping[str, Any]) -> int:
        # A destination takes as many channels as the source has, whatever is set here.
        return 0 if layout.fixed_places else MAX_CHANNELS

    def check_start(self, enabled: frozenset[str], parameters: Mapping[str, Any]) -> None:
        self._method(parameters)

    def _method(self, parameters: Mapping[str, Any]) -> tuple[CompressionMethod, int, int] | None:
        """The compression, its level, and the flags that announce it."""
        name = parameters["multifd-compression"]
        if name == "none":
            return None
        return find_compression(name, self.plugins), parameters[f"multifd-{name}-level"], COMPRESSIONS[name]

    def sink(self, context: SaveContext, below: PageSink | None) -> PageSink:
        assert below is not None
        if below.place is None:
            return PacketSink(below, context, context.parameters["multifd-channels"], self._method(context.parameters))
        return MultifdSink(below, context.parameters["multifd-channels"])

    def source(self, context: LoadContext, below: PageSource | None) -> PageSource:
        assert below is not None
        if not context.into_memory:
            return below
        if not below.fixed_places:
            method = self._method(context.parameters)
            return PacketSource(below, context, None if method is None else (method[0], method[2]))
        return MultifdSource(below, context.parameters["multifd-channels"] if context.parameters["direct-io"] else 0)


class MultifdSink(PageSink):
    """Has the sink below place pages from several threads."""

    portion = 8192

    def __init__(self, below: PageSink, channels: int) -> None:
        super().__init__()
        self._below = below
        self._workers = Workers(channels, "multifd-send")
        self._lock = threading.Lock()

    def block_header(self, block: Memory) -> None:
        self._below.block_header(block)

    def ignored_block(self, block: Memory) -> None:
        self._below.ignored_block(block)

    def list_end(self) -> None:
        self._below.list_end()

    def submit(self, block: Memory, runs: Runs) -> None:
        with self._lock:
            self.in_flight += int(runs[:, 1].sum()) * block.page_size
        for portion in split_runs(runs, PORTION):
            self._workers.give(lambda _, portion=portion: self._place(block, portion))  # type: ignore[misc]

    def _place(self, block: Memory, runs: Runs) -> None:
        count = self._below.place(block, runs)
        with self._lock:
            self.count.add(count)
            self.channel_bytes += count.size
            self.in_flight -= int(runs[:, 1].sum()) * block.page_size

    def sync(self) -> None:
        self._workers.wait()
        self._below.sync()

    def finish(self) -> None:
        self._workers.wait()
        before = self._below.count.size
        self._below.finish()
        self.count.size += self._below.count.size - before

    def close(self) -> None:
        self._workers.close()
        self._below.close()

    def describe(self) -> dict[str, Any]:
        return self._below.describe()


class MultifdSource(PageSource):
    """Fetches the pages of the source below from several threads.

    With how many channels a file was written does not matter to those who read it: there are as many threads as
    processors, and more only where each waits for the disk.

    Args:
        below: has places.
        waiting: threads that are worth having there.
    """

    def __init__(self, below: PageSource, waiting: int) -> None:
        self._below = below
        self._waiting = waiting

    def block_header(self, block: BlockLike) -> None:
        self._below.block_header(block)

    def ignored_block(self, block: BlockLike) -> None:
        self._below.ignored_block(block)

    def list_end(self) -> None:
        self._below.list_end()

    def record(self, value: int, flags: int) -> None:
        self._below.record(value, flags)

    def wanted(self) -> Sequence[tuple[Memory, Runs]]:
        return self._below.wanted()

    def fetch(self, block: Memory, runs: Runs) -> None:
        self._below.fetch(block, runs)

    def fetch_all(self, *, waiting: int = 0) -> None:
        self._below.fetch_all(waiting=max(waiting, self._waiting))

    def finish(self) -> None:
        self._below.finish()

    def close(self) -> None:
        self._below.close()

    def index(self) -> Sequence[PageIndex]:
        return self._below.index()

# SPDX-License-Identifier: MIT
"""Migration backends: where pages go and who carries them.

The core writes frames, sections and the block list, finds the dirty pages and hands them to a
:class:`PageSink`; it does not know what becomes of them. A backend is of one of two roles:

* a *layout* decides where pages go. The layout whose capability is on is used, or the one that
  declares no capability.
* a *carrier* decides who moves them. Each carrier whose capability is on is wrapped around the
  sink and source below it, in the order of their names. Where the sink below offers
  :meth:`PageSink.place`, a carrier may call it from threads of its own.
"""

# Most hooks here are for those that need them; doing nothing is what they do for the others.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from ..errors import MigrationError
from .channel import ChannelType, PluginSource
from .faults import load_fault
from .framing import StreamReader, StreamWriter
from .lazy import LazyRestore
from .pages import Bits, BlockLike, Memory, PageCount, Runs, split_runs
from .parameters import Parameter
from .reading import reading_threads
from .statistics import LoadStatistics

#: Pages of one job of a thread that fetches them: 4 MiB, whole huge pages mostly.
FETCH_PORTION = 1024


@dataclass(frozen=True, slots=True)
class SaveContext:
    """What a sink works with.

    Attributes:
        stream: the main stream; ``stream.channel`` is its channel.
        parameters: values of all parameters at the start.
        uuid: the machine's, 16 bytes; zeros when it has none.
    """

    stream: StreamWriter
    parameters: Mapping[str, Any]
    uuid: bytes = bytes(16)


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a source works with.

    Attributes:
        stream: the main stream.
        parameters: values of all parameters at the start.
        into_memory: false when a file is opened as data: the blocks then have no memory and the
            source only finds out where pages are.
        uuid: the machine's, 16 bytes; zeros when it has none.
        lazy: for layouts that say :attr:`MigrationBackend.maps_files`: not None when blocks are to be mapped
            over the file (:meth:`LazyRestore.map`) instead of being read.
        statistics: is told of each page that is in memory, whoever brought it.
    """

    stream: StreamReader
    parameters: Mapping[str, Any]
    into_memory: bool = True
    uuid: bytes = bytes(16)
    lazy: LazyRestore | None = None
    statistics: LoadStatistics = field(default_factory=LoadStatistics)


@dataclass(frozen=True, slots=True)
class PageIndex:
    """Where the pages of one block are in a file. Pages that it does not name are zero.

    Attributes:
        block: name and size.
        rows: array of (first page, number of pages, file position of the first page's data).
        stride: bytes from one page's data to that of the next in the same row.
        base: position of page 0 if all pages lie in order at fixed places; else None.
    """

    block: BlockLike
    rows: Runs
    stride: int
    base: int | None = None


class PageSink(ABC):
    """Takes the pages of one migration.

    Attributes:
        count: pages and bytes so far, of the bytes only those that did not go through the main stream.
        channel_bytes: the part of ``count.size`` that other channels than the main one carried.
        in_flight: bytes, at most, that were submitted and are not in the count yet; other threads have them.
    """

    def __init__(self) -> None:
        self.count = PageCount()
        self.channel_bytes = 0
        self.in_flight = 0

    def block_header(self, block: Memory) -> None:
        """Writes to the main stream what follows the block's entry in the list; called before any page."""

    def ignored_block(self, block: Memory) -> None:
        """As :meth:`block_header`, for a block of which no page will come, because it is shared with the destination."""

    def list_end(self) -> None:
        """The block list is complete; records may be written before its end mark."""

    @abstractmethod
    def submit(self, block: Memory, runs: Runs) -> None:
        """Takes pages to be saved. They may be written later, but before :meth:`sync` returns."""

    def sync(self) -> None:
        """All pages submitted so far are ordered before those submitted later. May write records to the stream."""

    def finish(self) -> None:
        """No page follows and the last :meth:`sync` is done; called before the last end mark of the ``ram`` section."""

    def close(self) -> None:
        """Lets threads and descriptors go; always called, after success and failure, and never raises."""

    def describe(self) -> dict[str, Any]:
        """Facts about the file for its JSON description."""
        return {}

    #: Sinks with fixed places define ``place(block, runs) -> PageCount``, callable from any thread,
    #: which writes pages and counts nothing.
    place: Any = None

    #: Pages that a carrier should hand to one call of ``place``.
    portion = 4096


class PageSource(ABC):
    """Brings the pages of one migration back; the mirror of :class:`PageSink`.

    Attributes:
        fixed_places: :meth:`wanted` and :meth:`fetch` work, and carriers may use them.
        touched: by block name, the pages that are not known to be zero, of layouts that clear memory first and
            then leave zero pages alone. Carriers that bring pages another way set their bits
            (:func:`pyemu.migration.records.touch`), in any thread.
    """

    fixed_places: bool = False
    touched: Mapping[str, Bits] = MappingProxyType({})

    def block_header(self, block: BlockLike) -> None:
        """Reads what follows the block's entry in the list."""

    def ignored_block(self, block: BlockLike) -> None:
        """As :meth:`block_header`, for a block of which no page may come and whose memory must be left alone."""

    def list_end(self) -> None:
        """The block list is complete and good: from here on memory may be changed."""

    def record(self, value: int, flags: int) -> None:
        """Reads the rest of a record whose first word the core does not know."""
        raise load_fault(f"Unexpected RAM flags: {flags}")

    def fault(self) -> BaseException | None:
        """What went wrong in a thread of its own: it explains the error that the loader met because of it."""
        return None

    def finish(self) -> None:
        """The stream's end has been reached."""

    def close(self) -> None:
        """Lets threads and descriptors go; always called, and never raises."""

    def index(self) -> Sequence[PageIndex]:
        """After :meth:`finish`: where pages are. Only of sources made with ``into_memory=False``."""
        raise MigrationError(f"{type(self).__name__} cannot open files as data")

    def wanted(self) -> Sequence[tuple[Memory, Runs]]:
        """Sources with fixed places: the pages to fetch, once the block list is complete."""
        return ()

    def fetch(self, block: Memory, runs: Runs) -> None:
        """Sources with fixed places: brings pages to memory; callable from any thread."""
        raise NotImplementedError

    def fetch_all(self, *, waiting: int = 0) -> None:
        """Fetches what is wanted, in several threads; called after :meth:`list_end`.

        Args:
            waiting: threads that are worth having where each waits for the disk.
        """
        portions = [(block, part) for block, runs in self.wanted() for part in split_runs(runs, FETCH_PORTION)]
        if not portions:
            return
        count = min(reading_threads(waiting=waiting), len(portions))
        with ThreadPoolExecutor(count, "restore") as threads:
            jobs = [threads.submit(self.fetch, block, part) for block, part in portions]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise


class MigrationBackend(ABC):
    """One way to lay out or carry pages. Instances hold no state of a migration: sinks and sources do.

    Attributes:
        role: see the module's text.
        capabilities: as in the plugin's record.
        in_configuration: those of its capabilities that the stream's configuration section names, so
            that a loader which lacks them refuses the stream.
        before_incoming: those that a destination cannot switch on once it waits for its source, each with the
            refusal's text.
        parameters: migration parameters that it brings along.
        plugins: where it comes from, and where compressions are found; set before anything else is asked.
    """

    role: Literal["layout", "carrier"] = "layout"
    capabilities: tuple[str, ...] = ()
    in_configuration: tuple[str, ...] = ()
    before_incoming: Mapping[str, str] = MappingProxyType({})
    parameters: tuple[Parameter, ...] = ()
    plugins: PluginSource

    def check_capabilities(self, enabled: frozenset[str]) -> None:
        """Refuses what does not go together with its own capabilities, some of which are in *enabled*.

        Raises:
            MigrationError: with the text that clients know.
        """

    def check_channel(self, channel: ChannelType, layout: MigrationBackend) -> None:
        """Refuses a kind of channel, before anything is opened; *layout* is the selected one."""

    def check_start(self, enabled: frozenset[str], parameters: Mapping[str, Any]) -> None:
        """Refuses to start with these capabilities and parameters."""

    def connections(self, layout: MigrationBackend, parameters: Mapping[str, Any]) -> int:
        """Connections that it makes, or waits for, besides the main one (:meth:`OutputChannel.open_more`)."""
        return 0

    #: Layouts only: every page has one place in the file, so pages may be written in any order.
    fixed_places = False

    #: Layouts: sources can map blocks over the file, see :attr:`LoadContext.lazy`. Carriers: nothing is missed then.
    maps_files = False

    @abstractmethod
    def sink(self, context: SaveContext, below: PageSink | None) -> PageSink:
        """A sink for one migration; *below* is what a carrier wraps, None for a layout."""

    @abstractmethod
    def source(self, context: LoadContext, below: PageSource | None) -> PageSource:
        """A source for one migration."""


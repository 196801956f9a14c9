# SPDX-License-Identifier: MIT
"""Carriers that look at what passes: a sink and a source that hand everything to the one below.

A carrier inherits from these and overrides what it wants to see or change::

    class CountingSink(SinkWrapper):
        def submit(self, block, runs):
            self.pages += int(runs[:, 1].sum())
            super().submit(block, runs)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .backend import PageIndex, PageSink, PageSource
from .pages import Bits, BlockLike, Memory, PageCount, Runs


class SinkWrapper(PageSink):
    """A sink that does what *below* does.

    Where the sink below has fixed places, so has this one: a carrier further out then calls :meth:`place_pages`
    from threads of its own and :meth:`submit` not at all. Whoever looks at pages looks in both.

    Attributes:
        below: the sink that is wrapped.
    """

    def __init__(self, below: PageSink) -> None:
        super().__init__()
        self.below = below
        # The same object: what the sink below counts is counted here.
        self.count: PageCount = below.count
        self.portion = below.portion
        if below.place is not None:
            self.place = self.place_pages

    @property
    def channel_bytes(self) -> int:
        return self.below.channel_bytes

    @channel_bytes.setter
    def channel_bytes(self, value: int) -> None:
        # The base class begins with 0, before there is anything below.
        if value:
            self.below.channel_bytes = value

    @property
    def in_flight(self) -> int:
        return self.below.in_flight

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        if value:
            self.below.in_flight = value

    def block_header(self, block: Memory) -> None:
        self.below.block_header(block)

    def ignored_block(self, block: Memory) -> None:
        self.below.ignored_block(block)

    def list_end(self) -> None:
        self.below.list_end()

    def submit(self, block: Memory, runs: Runs) -> None:
        self.below.submit(block, runs)

    def place_pages(self, block: Memory, runs: Runs) -> PageCount:
        """What :attr:`place` is where the sink below has fixed places."""
        count: PageCount = self.below.place(block, runs)
        return count

    def sync(self) -> None:
        self.below.sync()

    def finish(self) -> None:
        self.below.finish()

    def close(self) -> None:
        self.below.close()

    def describe(self) -> dict[str, Any]:
        return self.below.describe()


class SourceWrapper(PageSource):
    """A source that does what *below* does; the mirror of :class:`SinkWrapper`.

    Attributes:
        below: the source that is wrapped.
    """

    def __init__(self, below: PageSource) -> None:
        super().__init__()
        self.below = below
        self.fixed_places = below.fixed_places

    @property
    def touched(self) -> Mapping[str, Bits]:  # type: ignore[override]
        return self.below.touched

    def fault(self) -> BaseException | None:
        return self.below.fault()

    def block_header(self, block: BlockLike) -> None:
        self.below.block_header(block)

    def ignored_block(self, block: BlockLike) -> None:
        self.below.ignored_block(block)

    def list_end(self) -> None:
        self.below.list_end()

    def record(self, value: int, flags: int) -> None:
        self.below.record(value, flags)

    def wanted(self) -> Sequence[tuple[Memory, Runs]]:
        return self.below.wanted()

    def fetch(self, block: Memory, runs: Runs) -> None:
        self.below.fetch(block, runs)

    def fetch_all(self, *, waiting: int = 0) -> None:
        self.below.fetch_all(waiting=waiting)

    def finish(self) -> None:
        self.below.finish()

    def close(self) -> None:
        self.below.close()

    def index(self) -> Sequence[PageIndex]:
        return self.below.index()

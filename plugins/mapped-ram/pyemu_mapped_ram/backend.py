# SPDX-License-Identifier: MIT
"""Saving pages to, and loading them from, their fixed places in a file."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyemu.errors import MigrationError
from pyemu.migration import (
    ChannelType,
    LazyRestore,
    LoadContext,
    MigrationBackend,
    PageCount,
    PageIndex,
    PageSink,
    PageSource,
    Parameter,
    Runs,
    SaveContext,
    load_fault,
    write_fault,
)
from pyemu.migration import pages as page_io
from pyemu.migration.pages import Bits, BlockLike, Memory

from .layout import BlockLayout


class MappedRamBackend(MigrationBackend):
    """The layout with fixed places."""

    capabilities = ("mapped-ram",)
    in_configuration = ("mapped-ram",)
    parameters = (Parameter("direct-io", False),)
    fixed_places = True
    maps_files = True

    def check_capabilities(self, enabled: frozenset[str]) -> None:
        if "xbzrle" in enabled:
            raise MigrationError("Mapped-ram migration is incompatible with xbzrle")
        if "postcopy-ram" in enabled:
            raise MigrationError("Mapped-ram migration is incompatible with postcopy")

    def check_channel(self, channel: ChannelType, layout: MigrationBackend) -> None:
        if not channel.seekable:
            raise MigrationError("Migration requires seekable transport (e.g. file)")

    def check_start(self, enabled: frozenset[str], parameters: Mapping[str, Any]) -> None:
        if parameters.get("multifd-compression", "none") != "none":
            raise MigrationError("Cannot use compression with mapped-ram")
        if parameters["tls-creds"]:
            raise MigrationError("Cannot use TLS with mapped-ram")

    def sink(self, context: SaveContext, below: PageSink | None) -> PageSink:
        return MappedRamSink(context)

    def source(self, context: LoadContext, below: PageSource | None) -> PageSource:
        return MappedRamSource(context)


@dataclass(slots=True)
class _Saved:
    """What is known of one block while it is being saved."""

    layout: BlockLayout
    page_size: int
    present: Bits
    written: Bits


class MappedRamSink(PageSink):
    """Writes pages to their places; a page's bit says whether the file's bytes count."""

    def __init__(self, context: SaveContext) -> None:
        super().__init__()
        self._stream = context.stream
        self._channel = context.stream.channel
        self._detect_zero = context.parameters["zero-page-detection"] != "none"
        self._blocks: dict[str, _Saved] = {}
        self._direct_fd = self._channel.open_again(direct=True) if context.parameters["direct-io"] else -1

    @property
    def _fd(self) -> int:
        return self._direct_fd if self._direct_fd >= 0 else self._channel.fileno()

    @property
    def _buffered(self) -> int:
        return self._channel.fileno() if self._direct_fd >= 0 else -1

    def block_header(self, block: Memory) -> None:
        layout = BlockLayout.behind(self._stream.position, block)
        layout.write_header(self._stream, block)
        pages = page_io.page_count(block)
        self._blocks[block.idstr] = _Saved(layout, block.page_size, page_io.new_bits(pages), page_io.new_bits(pages))

    def ignored_block(self, block: Memory) -> None:
        # Its place is there, and its bitmap stays clear.
        self.block_header(block)

    def place(self, block: Memory, runs: Runs) -> PageCount:
        """Writes pages; several threads may do so as long as no page is in two calls at once."""
        saved = self._blocks[block.idstr]
        return page_io.place(
            self._fd,
            block,
            saved.layout.pages_offset,
            runs,
            saved.present,
            saved.written,
            detect_zero=self._detect_zero,
            buffered=self._buffered,
        )

    def submit(self, block: Memory, runs: Runs) -> None:
        self.count.add(self.place(block, runs))

    def finish(self) -> None:
        fd = self._channel.fileno()
        for saved in self._blocks.values():
            # A page that was written and is zero now: its old bytes would stay in the file for anyone to read.
            stale = saved.written & ~saved.present
            size, base = saved.page_size, saved.layout.pages_offset
            for first, count in page_io.runs_of(stale, saved.layout.pages_size // size).tolist():
                page_io.clear_file(fd, base + first * size, count * size)
            self._write_bitmap(fd, saved)

    def _write_bitmap(self, fd: int, saved: _Saved) -> None:
        data = memoryview(saved.present.astype("<u8").tobytes())
        position = saved.layout.bitmap_offset
        self.count.size += len(data)
        while data:
            try:
                done = os.pwrite(fd, data, position)
            except OSError as error:
                raise write_fault(error) from error
            data, position = data[done:], position + done

    def close(self) -> None:
        fd, self._direct_fd = self._direct_fd, -1
        if fd >= 0:
            os.close(fd)

    def describe(self) -> dict[str, Any]:
        # Readers that map the file may trust its holes instead of asking for them.
        return {"absent-pages": "zero"}


class MappedRamSource(PageSource):
    """Reads pages from their places. Nothing is loaded before all headers are found good."""

    fixed_places = True

    def __init__(self, context: LoadContext) -> None:
        self._stream = context.stream
        self._channel = context.stream.channel
        self._into_memory = context.into_memory
        self._blocks: dict[str, tuple[BlockLike, BlockLayout, Bits]] = {}
        self._statistics = context.statistics
        self._taken: list[tuple[int, int, str]] = []
        self._lazy = context.lazy
        direct = context.into_memory and context.parameters["direct-io"] and self._lazy is None
        self._direct_fd = self._channel.open_again(direct=True) if direct else -1

    @property
    def _fd(self) -> int:
        return self._direct_fd if self._direct_fd >= 0 else self._channel.fileno()

    @property
    def _buffered(self) -> int:
        return self._channel.fileno() if self._direct_fd >= 0 else -1

    def block_header(self, block: BlockLike) -> None:
        layout, words = self._header(block)
        self._blocks[block.idstr] = (block, layout, words)

    def ignored_block(self, block: BlockLike) -> None:
        _, words = self._header(block)
        if words.any():
            raise MigrationError(
                f"block {block.idstr}: the file has pages of it, but it is shared memory here (x-ignore-shared)"
            )

    def _header(self, block: BlockLike) -> tuple[BlockLayout, Bits]:
        layout = BlockLayout.read_header(self._stream, block, self._taken)
        raw = bytearray(layout.bitmap_size)
        position, view = layout.bitmap_offset, memoryview(raw)
        while view:
            done = os.preadv(self._channel.fileno(), [view], position)
            if not done:
                raise load_fault(f"Error reading dirty bitmap of block {block.idstr}: the file ends", errno.EIO)
            view, position = view[done:], position + done
        words = np.frombuffer(raw, dtype="<u8").astype(np.uint64)
        _trim(words, page_io.page_count(block))
        return layout, words

    def list_end(self) -> None:
        if self._lazy is not None:
            self._map(self._lazy)
        elif self._into_memory:
            for block, _, bits in self._blocks.values():
                memory: Any = block
                absent = page_io.runs_of(bits, page_io.page_count(block), False)
                page_io.clear(memory, absent)
                self._statistics.loaded(zero=int(absent[:, 1].sum()))

    def _map(self, lazy: LazyRestore) -> None:
        fd = self._channel.open_again()
        try:
            for block, layout, bits in self._blocks.values():
                memory: Any = block
                lazy.map(memory, fd, layout.pages_offset, bits)
                # All of it can be had from here on, whenever it is read from the file.
                pages = page_io.page_count(block)
                present = page_io.count_bits(bits, pages)
                self._statistics.loaded(normal=present, zero=pages - present)
        finally:
            os.close(fd)

    def wanted(self) -> Sequence[tuple[Memory, Runs]]:
        wanted: list[tuple[Memory, Runs]] = []
        if self._lazy is not None:
            return wanted
        for block, _, bits in self._blocks.values():
            memory: Any = block
            wanted.append((memory, page_io.runs_of(bits, page_io.page_count(block))))
        return wanted

    def fetch(self, block: Memory, runs: Runs) -> None:
        """Reads pages; several threads may do so."""
        page_io.fetch(self._fd, block, self._blocks[block.idstr][1].pages_offset, runs, buffered=self._buffered)
        pages = int(runs[:, 1].sum())
        self._statistics.loaded(normal=pages, size=pages * block.page_size)

    def close(self) -> None:
        fd, self._direct_fd = self._direct_fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def index(self) -> Sequence[PageIndex]:
        return [_index(block, layout, bits) for block, layout, bits in self._blocks.values()]


def _index(block: BlockLike, layout: BlockLayout, bits: Bits) -> PageIndex:
    runs = page_io.runs_of(bits, page_io.page_count(block))
    positions = layout.pages_offset + runs[:, :1] * block.page_size
    return PageIndex(block, np.concatenate([runs, positions], axis=1), block.page_size, layout.pages_offset)


def _trim(words: Bits, pages: int) -> None:
    """Clears the bits behind the last page, which mean nothing."""
    if pages % 64:
        words[-1] &= np.uint64((1 << pages % 64) - 1)

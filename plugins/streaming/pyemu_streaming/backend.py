# SPDX-License-Identifier: MIT
"""Page records in the stream.

A record is a 64-bit word, the page's offset in its block with flags in the low bits, then the name of
the block unless it is the one of the record before, then the page's bytes, or one zero byte for a
page of zeros. Records are put together and taken apart by compiled code, 512 KiB at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pyemu.errors import MigrationError
from pyemu.migration import LoadContext, MigrationBackend, PageIndex, PageSink, PageSource, Runs, SaveContext
from pyemu.migration import pages as page_io
from pyemu.migration.faults import load_fault
from pyemu.migration.pages import Bits, BlockLike, Memory
from pyemu.migration.records import Numbers, RecordWriter, clear_touched, scatter_stream, touch

ZERO: Final = 0x002
PAGE: Final = 0x008
CONTINUE: Final = 0x020
XBZRLE: Final = 0x040
HOOK: Final = 0x080
MULTIFD_FLUSH: Final = 0x200
FLAGS: Final = 0xFFF


class StreamingBackend(MigrationBackend):
    """The layout that needs nothing but a channel."""

    def check_start(self, enabled: frozenset[str], parameters: Mapping[str, Any]) -> None:
        if parameters.get("direct-io"):
            raise MigrationError("direct-io needs pages at fixed places in a file: switch mapped-ram on")

    def sink(self, context: SaveContext, below: PageSink | None) -> PageSink:
        return StreamingSink(context)

    def source(self, context: LoadContext, below: PageSource | None) -> PageSource:
        return StreamingSource(context)


class StreamingSink(PageSink):
    """Writes page records to the main stream."""

    portion = 2048

    def __init__(self, context: SaveContext) -> None:
        super().__init__()
        self._records = RecordWriter(context.stream)
        self._detect_zero = context.parameters["zero-page-detection"] != "none"

    def submit(self, block: Memory, runs: Runs) -> None:
        self.count.add(self._records.write(block, runs, detect_zero=self._detect_zero))


class StreamingSource(PageSource):
    """Reads page records from the main stream."""

    def __init__(self, context: LoadContext) -> None:
        self._stream = context.stream
        self._into_memory = context.into_memory
        self._statistics = context.statistics
        self._blocks: dict[str, BlockLike] = {}
        self._current: BlockLike | None = None
        self.touched: dict[str, Bits] = {}
        #: For files opened as data: page numbers and positions, in the order of the stream.
        self._found: dict[str, list[tuple[Numbers, Numbers]]] = {}

    def block_header(self, block: BlockLike) -> None:
        self._blocks[block.idstr] = block
        self._found[block.idstr] = []
        self.touched[block.idstr] = page_io.new_bits(page_io.page_count(block))

    def list_end(self) -> None:
        if self._into_memory:
            # Most of it is zero already and stays untouched; from here on only pages of the stream are not.
            for block in self._blocks.values():
                page_io.clear(_memory(block), page_io.as_runs([(0, page_io.page_count(block))]))

    def record(self, value: int, flags: int) -> None:
        kind = flags & ~CONTINUE
        if kind in (HOOK, MULTIFD_FLUSH):
            # Marks for other transports, which readers skip.
            return
        if kind == XBZRLE:
            raise load_fault("XBZRLE pages are not supported: save without capability xbzrle")
        if kind not in (ZERO, PAGE):
            raise load_fault(f"Unknown combination of migration flags: {flags:#x}")
        block = self._block_of(flags)
        if value >= block.used_length:
            raise load_fault(f"Illegal RAM offset {value:x} in block {block.idstr} of {block.used_length:x} bytes")
        if kind == PAGE:
            self._one_page(block, value)
        else:
            byte = self._stream.u8("a zero page")
            if byte:
                raise load_fault(f"Found a zero page with value {byte}")
            self._zero(block, np.array([value // block.page_size]))
        if self._into_memory:
            self._more(_memory(block))
        elif kind == PAGE:
            self._note_pages(block)
        else:
            self._note_zeros(block)

    def _block_of(self, flags: int) -> BlockLike:
        if not flags & CONTINUE:
            name = self._stream.counted("RAM block name")
            self._current = self._blocks.get(name)
            if self._current is None:
                raise load_fault(f"Can't find block {name}; listed are: {', '.join(self._blocks) or 'none'}")
        elif self._current is None:
            raise load_fault("Ack, bad migration stream! A page record continues a block, but there was none before")
        return self._current

    def _one_page(self, block: BlockLike, offset: int) -> None:
        size = block.page_size
        number = np.array([offset // size])
        if self._into_memory:
            touch(block, number, self.touched[block.idstr])
            self._stream.read_into(_memory(block).array[offset : offset + size].data)
            self._statistics.loaded(normal=1)
        else:
            self._note(block, number, np.array([self._stream.position]))
            self._stream.skip(size)

    def _zero(self, block: BlockLike, numbers: Numbers) -> None:
        if self._into_memory:
            clear_touched(_memory(block), numbers, self.touched[block.idstr])
            self._statistics.loaded(zero=len(numbers))
        else:
            self._note(block, numbers, np.full(len(numbers), -1))

    def _more(self, block: Memory) -> None:
        """Takes all further records of the same block that are at hand."""
        self._statistics.loaded(*scatter_stream(block, self._stream, self.touched[block.idstr]))

    # -- files as data ----------------------------------------------------------------------------

    def _note_pages(self, block: BlockLike) -> None:
        """Notes as many further data pages of the same block as are at hand."""
        length = 8 + block.page_size
        view = self._stream.buffered(length)
        count = len(view) // length
        records = np.frombuffer(view, dtype=np.uint8, count=count * length).reshape(count, length)
        numbers = _leading(records, PAGE | CONTINUE, block)
        if len(numbers):
            self._note(block, numbers, self._stream.position + 8 + np.arange(len(numbers)) * length)
            self._stream.skip(len(numbers) * length)

    def _note_zeros(self, block: BlockLike) -> None:
        view = self._stream.buffered(9)
        count = len(view) // 9
        records = np.frombuffer(view, dtype=np.uint8, count=count * 9).reshape(count, 9)
        numbers = _leading(records, ZERO | CONTINUE, block)
        filled = np.flatnonzero(records[: len(numbers), 8])
        if len(filled):
            numbers = numbers[: filled[0]]
        if len(numbers):
            self._zero(block, numbers)
            self._stream.skip(len(numbers) * 9)

    def _note(self, block: BlockLike, numbers: Numbers, positions: Numbers) -> None:
        self._found[block.idstr].append((numbers, positions))

    def index(self) -> Sequence[PageIndex]:
        return [self._index(block) for block in self._blocks.values()]

    def _index(self, block: BlockLike) -> PageIndex:
        found = self._found[block.idstr]
        empty = np.empty(0, dtype=np.int64)
        numbers = np.concatenate([empty, *(n for n, _ in found)])
        positions = np.concatenate([empty, *(p for _, p in found)])
        # The last record of a page counts: look at them from the end, where unique() keeps the first.
        unique, last = np.unique(numbers[::-1], return_index=True)
        where = positions[::-1][last]
        data = where >= 0
        unique, where = unique[data], where[data]
        stride = 8 + block.page_size
        starts = empty
        if len(unique):
            breaks = np.flatnonzero((np.diff(unique) != 1) | (np.diff(where) != stride)) + 1
            starts = np.concatenate([[0], breaks])
        counts = np.diff(np.append(starts, len(unique)))
        rows = np.stack([unique[starts], counts, where[starts]], axis=1) if len(unique) else empty.reshape(0, 3)
        return PageIndex(block, rows.astype(np.int64), stride)


def _leading(
    records: npt.NDArray[np.uint8], flags: int, block: BlockLike
) -> Numbers:
    """Page numbers of the records at the beginning that have exactly these flags and lie in the block."""
    words = np.ascontiguousarray(records[:, :8]).view(">u8").ravel().astype(np.uint64)
    good = ((words & np.uint64(FLAGS)) == flags) & (words < np.uint64(block.used_length))
    bad = np.flatnonzero(~good)
    words = words[: bad[0]] if len(bad) else words
    numbers: Numbers = (words // np.uint64(block.page_size)).astype(np.int64)
    return numbers


def _memory(block: BlockLike) -> Memory:
    assert hasattr(block, "array")
    memory: Any = block
    return memory  # type: ignore[no-any-return]

# SPDX-License-Identifier: MIT
"""Page records in the stream.

A record is a 64-bit word, the page's offset in its block with flags in the low bits, then the name of
the block unless it is the one of the record before, then the page's bytes, or one zero byte for a
page of zeros. Long runs of records of one kind are put together and taken apart by numpy.
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
from pyemu.migration.pages import BlockLike, Memory

ZERO: Final = 0x002
PAGE: Final = 0x008
CONTINUE: Final = 0x020
XBZRLE: Final = 0x040
HOOK: Final = 0x080
MULTIFD_FLUSH: Final = 0x200
FLAGS: Final = 0xFFF

#: Pages whose records are put together at a time: enough to keep numpy busy, little enough to stay in cache.
BATCH = 128


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
        self._stream = context.stream
        self._detect_zero = context.parameters["zero-page-detection"] != "none"
        self._block = ""

    def submit(self, block: Memory, runs: Runs) -> None:
        for portion in page_io.split_runs(runs, BATCH):
            self._submit(block, portion)

    def _submit(self, block: Memory, runs: Runs) -> None:
        size = block.page_size
        numbers = np.concatenate([np.arange(first, first + count) for first, count in runs.tolist()])
        if self._detect_zero:
            is_zero = page_io.zero_flags_of(block, runs).astype(bool)
        else:
            is_zero = np.zeros(len(numbers), dtype=bool)
        data, zero = numbers[~is_zero], numbers[is_zero]
        self.count.normal += len(data)
        self.count.zero += len(zero)
        if block.idstr != self._block:
            self._block = block.idstr
            if len(data):
                self._stream.u64(int(data[0]) * size | PAGE)
                self._stream.counted(block.idstr)
                start = int(data[0]) * size
                self._stream.write(block.array[start : start + size].tobytes())
                data = data[1:]
            else:
                self._stream.u64(int(zero[0]) * size | ZERO)
                self._stream.counted(block.idstr)
                self._stream.u8(0)
                zero = zero[1:]
        if len(data):
            records = np.empty((len(data), 8 + size), dtype=np.uint8)
            records[:, :8] = _words(data * size | (PAGE | CONTINUE))
            records[:, 8:] = block.array[: block.used_length].reshape(-1, size)[data]
            self._stream.write(records.reshape(-1).data)
        if len(zero):
            records = np.zeros((len(zero), 9), dtype=np.uint8)
            records[:, :8] = _words(zero * size | (ZERO | CONTINUE))
            self._stream.write(records.reshape(-1).data)


def _words(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    return values.astype(">u8").view(np.uint8).reshape(-1, 8)


class StreamingSource(PageSource):
    """Reads page records from the main stream."""

    def __init__(self, context: LoadContext) -> None:
        self._stream = context.stream
        self._into_memory = context.into_memory
        self._blocks: dict[str, BlockLike] = {}
        self._current: BlockLike | None = None
        #: For files opened as data: page numbers and positions, in the order of the stream.
        self._found: dict[str, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]] = {}

    def block_header(self, block: BlockLike) -> None:
        self._blocks[block.idstr] = block
        self._found[block.idstr] = []

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
            self._more_pages(block)
        else:
            byte = self._stream.u8("a zero page")
            if byte:
                raise load_fault(f"Found a zero page with value {byte}")
            self._zero(block, np.array([value // block.page_size]))
            self._more_zeros(block)

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
        if self._into_memory:
            self._stream.read_into(_memory(block).array[offset : offset + size].data)
        else:
            self._note(block, np.array([offset // size]), np.array([self._stream.position]))
            self._stream.skip(size)

    def _more_pages(self, block: BlockLike) -> None:
        """Takes as many further data pages of the same block as are at hand."""
        size = block.page_size
        length = 8 + size
        view = self._stream.buffered(256 * length)
        count = len(view) // length
        if not count:
            return
        records = np.frombuffer(view, dtype=np.uint8, count=count * length).reshape(count, length)
        numbers = _leading(records, PAGE | CONTINUE, block)
        if not len(numbers):
            return
        if self._into_memory:
            _memory(block).array[: block.used_length].reshape(-1, size)[numbers] = records[: len(numbers), 8:]
        else:
            self._note(block, numbers, self._stream.position + 8 + np.arange(len(numbers)) * length)
        self._stream.skip(len(numbers) * length)

    def _more_zeros(self, block: BlockLike) -> None:
        view = self._stream.buffered(1 << 16)
        count = len(view) // 9
        if not count:
            return
        records = np.frombuffer(view, dtype=np.uint8, count=count * 9).reshape(count, 9)
        numbers = _leading(records, ZERO | CONTINUE, block)
        filled = np.flatnonzero(records[: len(numbers), 8])
        if len(filled):
            numbers = numbers[: filled[0]]
        if len(numbers):
            self._zero(block, numbers)
            self._stream.skip(len(numbers) * 9)

    def _zero(self, block: BlockLike, numbers: npt.NDArray[np.int64]) -> None:
        if self._into_memory:
            page_io.clear(_memory(block), _runs(np.unique(numbers)))
        else:
            self._note(block, numbers, np.full(len(numbers), -1))

    # -- files as data ----------------------------------------------------------------------------

    def _note(self, block: BlockLike, numbers: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> None:
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
) -> npt.NDArray[np.int64]:
    """Page numbers of the records at the beginning that have exactly these flags and lie in the block."""
    words = np.ascontiguousarray(records[:, :8]).view(">u8").ravel().astype(np.uint64)
    good = ((words & np.uint64(FLAGS)) == flags) & (words < np.uint64(block.used_length))
    bad = np.flatnonzero(~good)
    words = words[: bad[0]] if len(bad) else words
    numbers: npt.NDArray[np.int64] = (words // np.uint64(block.page_size)).astype(np.int64)
    return numbers


def _runs(numbers: npt.NDArray[np.int64]) -> Runs:
    """Runs of ascending page numbers."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers) != 1) + 1])
    return np.stack([numbers[starts], np.diff(np.append(starts, len(numbers)))], axis=1).astype(np.int64)


def _memory(block: BlockLike) -> Memory:
    assert hasattr(block, "array")
    memory: Any = block
    return memory  # type: ignore[no-any-return]

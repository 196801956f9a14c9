# SPDX-License-Identifier: MIT
"""A carrier that hashes pages on their way out, and compares when they have come back.

Behind the last page the stream gets one record more: a word whose flag no other record has, then for
each block its name, its number of pages and a 64-bit hash of each page.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from pyemu.migration import (
    LoadContext,
    MigrationBackend,
    PageCount,
    PageSink,
    PageSource,
    Runs,
    SaveContext,
    SinkWrapper,
    SourceWrapper,
    StreamReader,
    StreamWriter,
    load_fault,
)
from pyemu.migration.pages import BlockLike, Memory, as_runs, memory_of, page_count

#: QEMU uses the bits up to 0x200 of a record's word.
HASHES: Final = 0x400

Hashes = npt.NDArray[np.uint64]


class HashBackend(MigrationBackend):
    """Capability ``xxhash``, which both sides switch on."""

    role = "carrier"
    in_configuration = ("xxhash",)

    def sink(self, context: SaveContext, below: PageSink | None) -> PageSink:
        assert below is not None  # a carrier always has a layout below
        return HashSink(context.stream, below)

    def source(self, context: LoadContext, below: PageSource | None) -> PageSource:
        assert below is not None
        return HashSource(context.stream, below, into_memory=context.into_memory)


def hash_pages(block: Memory, runs: Runs, hashes: Hashes) -> None:
    """Puts the hash of each page of *runs* into its place in *hashes*."""
    memory, size = block.array.data, block.page_size
    for first, count in runs.tolist():
        for page in range(first, first + count):
            hashes[page] = xxhash.xxh3_64_intdigest(memory[page * size : (page + 1) * size])


class HashSink(SinkWrapper):
    """Hashes what passes. A page that the guest changes meanwhile passes again, so its last hash is right."""

    def __init__(self, stream: StreamWriter, below: PageSink) -> None:
        super().__init__(below)
        self._stream = stream
        self._hashes: dict[str, Hashes] = {}

    def block_header(self, block: Memory) -> None:
        self._hashes[block.idstr] = np.zeros(page_count(block), dtype=np.uint64)
        super().block_header(block)

    def submit(self, block: Memory, runs: Runs) -> None:
        hash_pages(block, runs, self._hashes[block.idstr])
        super().submit(block, runs)

    def place_pages(self, block: Memory, runs: Runs) -> PageCount:
        hash_pages(block, runs, self._hashes[block.idstr])
        return super().place_pages(block, runs)

    def finish(self) -> None:
        super().finish()
        self._stream.u64(HASHES)
        self._stream.u32(len(self._hashes))
        for name, hashes in self._hashes.items():
            self._stream.counted(name)
            self._stream.u64(len(hashes))
            self._stream.write(hashes.astype(">u8").tobytes())


class HashSource(SourceWrapper):
    """Reads the hashes and compares them with what has been loaded."""

    def __init__(self, stream: StreamReader, below: PageSource, *, into_memory: bool) -> None:
        super().__init__(below)
        self._stream = stream
        self._into_memory = into_memory
        self._blocks: dict[str, BlockLike] = {}
        self._verified = False

    def block_header(self, block: BlockLike) -> None:
        self._blocks[block.idstr] = block
        super().block_header(block)

    def record(self, value: int, flags: int) -> None:
        if self._verified:
            raise load_fault("xxhash: the stream goes on with pages behind their hashes")
        if flags != HASHES:
            super().record(value, flags)
            return
        hashes = self._read()
        if self._into_memory:
            for name, expected in hashes.items():
                verify(memory_of(self._blocks[name]), expected)
        self._verified = True

    def _read(self) -> Mapping[str, Hashes]:
        found: dict[str, Hashes] = {}
        count = self._stream.u32("the page hashes")
        if count != len(self._blocks):
            raise load_fault(f"xxhash: hashes of {count} blocks, the stream has {len(self._blocks)}")
        for _ in range(count):
            name, pages = self._stream.counted("block name"), self._stream.u64("the page hashes")
            block = self._blocks.get(name)
            # The length is checked before anything of that length is allocated.
            if block is None or name in found or pages != page_count(block):
                raise load_fault(f"xxhash: hashes of {pages} pages of a block {name!r} that the stream does not have")
            raw = self._stream.read(pages * 8, "the page hashes")
            found[name] = np.frombuffer(raw, dtype=">u8").astype(np.uint64)
        return found

    def finish(self) -> None:
        super().finish()
        if not self._verified:
            raise load_fault("xxhash: the stream has no page hashes")


def verify(block: Memory, expected: Hashes) -> None:
    """Compares a loaded block with the hashes of the saved one.

    Raises:
        MigrationError: a page differs; the message names the first one.
    """
    found = np.zeros_like(expected)
    hash_pages(block, as_runs([(0, len(expected))]), found)
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        page = int(wrong[0])
        raise load_fault(
            f"xxhash: block {block.idstr}: page at {page * block.page_size:#x} has hash {int(found[page]):#018x}, saved was"
            f" {int(expected[page]):#018x} ({len(wrong)} of {len(expected)} pages differ)"
        )

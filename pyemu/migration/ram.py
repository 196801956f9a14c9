# SPDX-License-Identifier: MIT
"""The ``ram`` section: block list, parts, and the walk over dirty pages.

What lies between a block's entry and the next, and what becomes of pages, is the business of the
backends' sink and source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import MigrationError
from . import wire
from .backend import PageSink, PageSource
from .faults import load_fault
from .framing import StreamReader, StreamWriter
from .pages import Bits, BlockLike, Memory, Runs, count_bits, page_count, take_runs
from .shared import SharedRAM


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """A block that a file lists, without memory."""

    idstr: str
    used_length: int
    page_size: int = wire.PAGE_SIZE


class RamWriter:
    """Writes the ``ram`` section of one migration.

    Args:
        stream: the main stream.
        sink: where pages go.
        blocks: each block with its dirty bitmap, whose set bits are pages still to be sent.
        shared: blocks that are listed, but of which no page is sent.
        taken: called with block and runs after these pages were given to the sink.
    """

    def __init__(
        self,
        stream: StreamWriter,
        sink: PageSink,
        blocks: Sequence[tuple[Memory, Bits]],
        *,
        shared: SharedRAM | None = None,
        taken: Callable[[Memory, Runs], None] | None = None,
    ) -> None:
        self._shared = shared if shared is not None else SharedRAM()
        # Largest first, as QEMU lists them; any order loads.
        self._listed = sorted((block for block, _ in blocks), key=lambda block: -block.used_length)
        self._blocks = sorted(
            ((block, bits) for block, bits in blocks if block.idstr not in self._shared.blocks),
            key=lambda item: -item[0].used_length,
        )
        self._stream = stream
        self._sink = sink
        self._taken = taken
        self._views: dict[str, Memory] = {}
        self._at = 0
        self._page = 0
        self.rounds = 0
        for block in self._listed:
            if block.page_size != wire.PAGE_SIZE or block.used_length % wire.PAGE_SIZE:
                raise MigrationError(
                    f"block {block.idstr}: {block.used_length} bytes in pages of {block.page_size}"
                    f" are not whole pages of {wire.PAGE_SIZE}"
                )

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return sum(block.used_length for block in self._listed)

    def read_from(self, views: Mapping[str, Memory]) -> None:
        """Where pages are read from now on, by block name, where that is not the block itself."""
        self._views = dict(views)

    def pending(self) -> int:
        """Dirty pages."""
        return sum(count_bits(bits, page_count(block)) for block, bits in self._blocks)

    def start(self) -> None:
        """START: the block list."""
        stream = self._stream
        stream.section(wire.SECTION_START, wire.RAM_SECTION_ID, wire.RAM_SECTION, 0, wire.RAM_VERSION)
        stream.u64(self.total | wire.RAM_MEM_SIZE)
        for block in self._listed:
            stream.counted(block.idstr)
            stream.u64(block.used_length)
            if self._shared.active:
                stream.u64(self._shared.addresses[block.idstr])
            if block.idstr in self._shared.blocks:
                self._sink.ignored_block(block)
            else:
                self._sink.block_header(block)
        self._sink.list_end()
        self._end_payload()

    def _end_payload(self) -> None:
        self._stream.u64(wire.RAM_EOS)
        self._stream.footer(wire.RAM_SECTION_ID)

    def part(self, go_on: Callable[[], int]) -> None:
        """PART: sends dirty pages, asking ``go_on()`` each time for how many more, until it says 0 or none is left."""
        self._stream.section(wire.SECTION_PART, wire.RAM_SECTION_ID)
        while (limit := go_on()) > 0 and self._send(min(limit, self._sink.portion)):
            pass
        self._end_payload()

    def end(self, check: Callable[[], object]) -> None:
        """END: sends everything that is left. ``check()`` is called now and then and may raise."""
        self._stream.section(wire.SECTION_END, wire.RAM_SECTION_ID)
        while self._send(self._sink.portion):
            check()
        # Looking for a page in vain went once around all blocks, and so past a sync.
        self._sink.finish()
        self._end_payload()

    def last_part(self, before: Callable[[], object]) -> None:
        """The last PART of streams that have no END: what ``before()`` gives to the sink, then the sink's end."""
        self._stream.section(wire.SECTION_PART, wire.RAM_SECTION_ID)
        before()
        self._sink.sync()
        self._sink.finish()
        self._end_payload()

    def _send(self, limit: int) -> bool:
        """Sends up to *limit* dirty pages from where the last call ended; false if there are none anywhere.

        Each time it comes to the end of the last block, the sink syncs: once when it looks in vain.
        """
        for looked_at in range(len(self._blocks) + 1):
            if not self._blocks:
                self._sink.sync()
                return False
            block, bits = self._blocks[self._at]
            runs, self._page = take_runs(bits, page_count(block), self._page, limit)
            if len(runs):
                self._sink.submit(self._views.get(block.idstr, block), runs)
                if self._taken is not None:
                    self._taken(block, runs)
                return True
            if looked_at == len(self._blocks):
                # Back where it began.
                return False
            self._page = 0
            self._at += 1
            if self._at == len(self._blocks):
                # A page may be sent again from here on, and only after the one sent before.
                self._at = 0
                self.rounds += 1
                self._sink.sync()
        return False


class RamReader:
    """Reads the ``ram`` section of one migration.

    Args:
        stream: the main stream.
        source: what understands pages.
        local: the machine's blocks by name, or None to open a file as data.
        shared: blocks of which no page is taken.
        addresses: the block list carries addresses, whether *shared* is known or not.
    """

    def __init__(
        self,
        stream: StreamReader,
        source: PageSource,
        local: Mapping[str, Memory] | None,
        *,
        shared: SharedRAM | None = None,
        addresses: bool = False,
    ) -> None:
        self._shared = shared if shared is not None else SharedRAM()
        self._addresses = addresses or self._shared.active
        self._stream = stream
        self._source = source
        self._local = local
        self.blocks: dict[str, BlockLike] | None = None

    @staticmethod
    def check_version(version: int) -> None:
        """Refuses other versions of the section than ours."""
        if version > wire.RAM_VERSION:
            raise load_fault(f"savevm: unsupported version {version} for 'ram' v{wire.RAM_VERSION}")
        if version != wire.RAM_VERSION:
            raise load_fault(f"ram: version {version} of the section is too old, ours is {wire.RAM_VERSION}")

    def payload(self) -> None:
        """Reads the payload of a START, PART or END, up to and with its end mark."""
        while True:
            word = self._stream.u64("the ram section")
            flags = word & wire.RAM_FLAGS
            value = word & ~wire.RAM_FLAGS
            if flags == wire.RAM_EOS:
                return
            if flags == wire.RAM_MEM_SIZE:
                self._block_list(value)
            else:
                self._source.record(value, flags)

    def _block_list(self, total: int) -> None:
        if self.blocks is not None:
            raise load_fault("second RAM block list")
        blocks: dict[str, BlockLike] = {}
        self.blocks = blocks
        left = total
        while left:
            name = self._stream.counted("RAM block name")
            length = self._stream.u64("the RAM block list")
            if not 0 < length <= left:
                raise load_fault(f"RAM block list: {name} has {length:#x} bytes, {left:#x} of {total:#x} are left")
            if name in blocks:
                raise load_fault(f"RAM block list: {name} is listed twice")
            if len(blocks) >= wire.MAX_BLOCKS:
                raise load_fault(f"RAM block list: over the limit of {wire.MAX_BLOCKS} blocks")
            blocks[name] = block = self._match(name, length)
            if self._addresses:
                self._shared.check_address(name, self._stream.u64("the RAM block list"))
            if name in self._shared.blocks:
                self._source.ignored_block(block)
            else:
                self._source.block_header(block)
            left -= length
        self._source.list_end()
        if self._local is not None:
            self._source.fetch_all()

    def _match(self, name: str, length: int) -> BlockLike:
        if self._local is None:
            if length % wire.PAGE_SIZE:
                raise load_fault(f"block {name}: {length:#x} bytes are not whole pages")
            return BlockEntry(name, length)
        local = self._local.get(name)
        if local is None:
            known = ", ".join(self._local) or "none"
            raise load_fault(f'Unknown ramblock "{name}", cannot accept migration (here are: {known})')
        if local.used_length != length:
            raise load_fault(f"Size mismatch: {name}: {length:#x} != {local.used_length:#x}: Invalid argument")
        return local

# SPDX-License-Identifier: MIT
"""Where a block's header, bitmap and pages lie in the file, and what of it a reader accepts."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pyemu.migration import StreamReader, StreamWriter, load_fault
from pyemu.migration.pages import BlockLike

VERSION: Final = 1
#: Page areas begin at multiples of this, so that direct I/O and memory maps find them aligned.
ALIGNMENT: Final = 1 << 20
HEADER: Final = struct.Struct(">IQQQ")
#: Largest bitmap that is read into memory: that of a block of 1 TiB.
MAX_BITMAP: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Places of one block, as positions in the file."""

    bitmap_offset: int
    bitmap_size: int
    pages_offset: int
    pages_size: int

    @property
    def end(self) -> int:
        """Where the stream goes on."""
        return self.pages_offset + self.pages_size

    @classmethod
    def behind(cls, position: int, block: BlockLike) -> BlockLayout:
        """The layout of a block whose header begins at *position*."""
        bitmap = position + HEADER.size
        size = bitmap_size(block)
        pages = -(-(bitmap + size) // ALIGNMENT) * ALIGNMENT
        return cls(bitmap, size, pages, block.used_length)

    def write_header(self, stream: StreamWriter, block: BlockLike) -> None:
        """Writes the header and moves the stream behind the pages."""
        stream.write(HEADER.pack(VERSION, block.page_size, self.bitmap_offset, self.pages_offset))
        stream.seek(self.end)

    @classmethod
    def read_header(cls, stream: StreamReader, block: BlockLike, taken: list[tuple[int, int, str]]) -> BlockLayout:
        """Reads a header, checks all of it, and moves the stream behind the pages.

        Args:
            stream: the stream, behind the block's entry.
            block: name and size.
            taken: areas of other blocks as (start, end, what); those of this block are added.

        Raises:
            MigrationError: the header contradicts itself, the block or the file.
        """
        name = block.idstr
        head = stream.peek(HEADER.size)
        if len(head) < HEADER.size:
            raise load_fault(
                f"Could not read whole mapped-ram migration header (expected {HEADER.size}, got {len(head)} bytes)", 5
            )
        start = stream.position
        stream.read(HEADER.size)
        version, page_size, bitmap_offset, pages_offset = HEADER.unpack(head)
        if version != VERSION:
            raise load_fault(
                f"Migration mapped-ram capability version not supported (expected <= {VERSION}, got {version})"
            )
        if page_size != block.page_size:
            raise load_fault(f"block {name}: mapped-ram pages of {page_size} bytes, ours have {block.page_size}")
        if pages_offset % block.page_size:
            raise load_fault(
                f"Error reading ramblock {name} pages, region has bad alignment (offset {pages_offset:#x})"
            )
        layout = cls(bitmap_offset, bitmap_size(block), pages_offset, block.used_length)
        layout._check_places(stream, name, (start, start + HEADER.size, f"header of {name}"), taken)
        stream.seek(layout.end, f"the pages of block {name}")
        return layout

    def _check_places(
        self, stream: StreamReader, name: str, header: tuple[int, int, str], taken: list[tuple[int, int, str]]
    ) -> None:
        if self.bitmap_size > MAX_BITMAP:
            raise load_fault(f"block {name}: bitmap of {self.bitmap_size} bytes is over the limit of {MAX_BITMAP}")
        size = stream.size
        assert size is not None
        bitmap_end = self.bitmap_offset + self.bitmap_size
        if bitmap_end > size:
            raise load_fault(
                f"Error reading dirty bitmap of block {name}: it ends at {bitmap_end:#x}, the file at {size:#x}", 5
            )
        if self.end > size:
            raise load_fault(f"the pages of block {name} end at {self.end:#x}, the file at {size:#x}", 5)
        if self.pages_offset < header[0]:
            # The stream goes on behind the pages; going back would read the list again for ever.
            raise load_fault(f"block {name}: pages at {self.pages_offset:#x} lie before their header")
        taken.append(header)
        for start, end, what in (
            (self.bitmap_offset, bitmap_end, f"bitmap of {name}"),
            (self.pages_offset, self.end, f"pages of {name}"),
        ):
            for other_start, other_end, other in taken:
                if start < other_end and other_start < end:
                    raise load_fault(
                        f"{what} at {start:#x}-{end - 1:#x} overlaps the {other} at {other_start:#x}-{other_end - 1:#x}"
                    )
            taken.append((start, end, what))


def bitmap_size(block: BlockLike) -> int:
    """Bytes of a block's bitmap: one bit a page, in whole 64-bit words."""
    pages = block.used_length // block.page_size
    return -(-pages // 64) * 8

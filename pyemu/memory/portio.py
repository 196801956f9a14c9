# SPDX-License-Identifier: MIT
"""Tables of port handlers: what an entry is, which tables are sound, and how a table falls into chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..errors import MemoryMapError
from ._dispatch import IoHandler, owner_name

PORTS = 0x10000
SIZES = (1, 2, 4)


class PortioEntry(NamedTuple):
    """Handlers for accesses of one size to a range of a function's ports.

    Attributes:
        offset: first port, counted from the function's base.
        length: number of ports at which such an access may begin.
        size: of the accesses it takes: 1, 2 or 4 bytes.
        read: ``read(offset, size) -> int``; None when reads are not decoded.
        write: ``write(offset, size, value)``; None when writes are not decoded.
        handler: instead of ``read`` and ``write``, e.g. that of a compiled chip.
    """

    offset: int
    length: int
    size: int
    read: Callable[[int, int], int] | None = None
    write: Callable[[int, int, int], None] | None = None
    handler: IoHandler | None = None


def _show(entry: PortioEntry) -> str:
    return f"+{entry.offset:#x}..+{entry.offset + entry.length - 1:#x} of {entry.size} bytes"


def check_table(owner: Any, name: str, table: Sequence[PortioEntry]) -> tuple[PortioEntry, ...]:
    """The table as a tuple of entries.

    Raises:
        MemoryMapError: it is empty, not sorted by offset, an entry does not fit or has no handler, or
            two entries of one size overlap.
    """
    who = f"{owner_name(owner)}: table {name}"
    entries = tuple(PortioEntry(*entry) for entry in table)
    if not entries:
        raise MemoryMapError(f"{who} has no entries")
    last: dict[int, PortioEntry] = {}
    for before, entry in zip((None, *entries), entries, strict=False):
        if entry.size not in SIZES:
            raise MemoryMapError(f"{who}: access size {entry.size} at +{entry.offset:#x} is not 1, 2 or 4")
        if entry.offset < 0 or entry.length < 1 or entry.offset + entry.length > PORTS:
            raise MemoryMapError(f"{who}: {entry.length} ports at +{entry.offset:#x} do not fit {PORTS:#x} ports")
        if before is not None and entry.offset < before.offset:
            raise MemoryMapError(f"{who} is not sorted: +{entry.offset:#x} follows +{before.offset:#x}")
        if (entry.handler is None) == (entry.read is None and entry.write is None):
            raise MemoryMapError(f"{who}: {_show(entry)} needs either a handler or read and write")
        other = last.get(entry.size)
        if other is not None and entry.offset < other.offset + other.length:
            raise MemoryMapError(f"{who}: {_show(entry)} overlaps {owner_name(owner)} at {_show(other)}")
        last[entry.size] = entry
    return entries


def chunks_of(table: Sequence[PortioEntry]) -> tuple[tuple[int, int], ...]:
    """The runs of ports that a sorted table covers, as (offset, length): only a gap ends a chunk."""
    chunks: list[tuple[int, int]] = []
    for entry in table:
        end = entry.offset + entry.length
        if chunks and entry.offset <= sum(chunks[-1]):
            first, length = chunks[-1]
            chunks[-1] = first, max(length, end - first)
        else:
            chunks.append((entry.offset, entry.length))
    return tuple(chunks)

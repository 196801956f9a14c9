# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's physical memory as the library has to be told it.

The core says which ranges are RAM; everything else below :data:`END` is MMIO. The library wants both
mapped, in pieces that do not overlap, and takes back only whole pieces. So that a small change touches
small pieces, MMIO below 4 GiB and RAM below 16 MiB are cut at fixed addresses. (Each piece costs time
when an engine starts, each page of a piece when it goes.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

PAGE = 4096
#: Accesses from here on are errors: the processor has 40 address bits.
END = 1 << 40
_FOUR_GIB = 1 << 32
_CHUNK = 64 << 20
_LOW = 16 << 20
_FIRST_MIB = 1 << 20


class Piece(NamedTuple):
    """One mapping of the library; MMIO when *pointer* is 0."""

    gpa: int
    size: int
    pointer: int
    writable: bool

    @property
    def end(self) -> int:
        return self.gpa + self.size


class MemoryMap:
    """RAM ranges as the core declares them, and the pieces that follow from them."""

    def __init__(self) -> None:
        self.ram: list[Piece] = []  # ascending, without overlap

    def add(self, piece: Piece) -> None:
        """Shows a range of RAM, in place of what was there."""
        self.remove(piece.gpa, piece.size)
        self.ram.append(piece)
        self.ram.sort()

    def remove(self, gpa: int, size: int) -> None:
        """Hides a range; RAM that sticks out on either side stays."""
        end = gpa + size
        rest: list[Piece] = []
        for piece in self.ram:
            if piece.end <= gpa or piece.gpa >= end:
                rest.append(piece)
                continue
            if piece.gpa < gpa:
                rest.append(piece._replace(size=gpa - piece.gpa))
            if piece.end > end:
                rest.append(Piece(end, piece.end - end, piece.pointer + end - piece.gpa, piece.writable))
        self.ram = rest

    def pieces(self) -> set[Piece]:
        """What the library should have mapped now."""
        out: set[Piece] = set()
        at = 0
        for piece in [*self.ram, Piece(END, 0, 1, False)]:
            out.update(Piece(a, b - a, 0, True) for a, b in _cut(at, piece.gpa, _mmio_cut))
            for a, b in _cut(piece.gpa, piece.end, _ram_cut):
                out.add(Piece(a, b - a, piece.pointer + a - piece.gpa, piece.writable))
            at = piece.end
        return out

    def host_ranges(self, gpa: int, size: int) -> Iterator[tuple[int, int]]:
        """Host address and length of each part of a guest range that is RAM."""
        for piece in self.ram:
            first, last = max(gpa, piece.gpa), min(gpa + size, piece.end)
            if first < last:
                yield piece.pointer + first - piece.gpa, last - first

    def shared(self) -> bool:
        """Some host memory is visible at two guest addresses."""
        end = 0
        for pointer, size in sorted((p.pointer, p.size) for p in self.ram):
            if pointer < end:
                return True
            end = pointer + size
        return False


def _mmio_cut(at: int) -> int:
    if at < _LOW:
        return _LOW
    return (at // _CHUNK + 1) * _CHUNK if at < _FOUR_GIB else END


def _ram_cut(at: int) -> int:
    if at < _FIRST_MIB:
        return _FIRST_MIB
    return _LOW if at < _LOW else END


def _cut(start: int, end: int, following: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = min(end, following(start))
        yield start, stop
        start = stop

# SPDX-License-Identifier: MIT
"""Reference models: what ports, memory and bitmaps do, said as plainly as possible and without regard to speed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Entry:
    offset: int
    length: int
    size: int
    reads: bool = True
    writes: bool = True


@dataclass
class Function:
    """A device function: where it is, whether it is shown, when it was last mapped."""

    name: str
    table: list[Entry]
    plain: bool = False
    base: int = 0
    priority: int = 0
    enabled: bool = False
    mapped: int = 0

    def offsets(self) -> set[int]:
        return {e.offset + n for e in self.table for n in range(e.length)}

    def decodes(self, port: int) -> bool:
        return self.enabled and port - self.base in self.offsets()

    def chunk_end(self, port: int) -> int:
        """The first port behind *port* that is not decoded: chunks join where they touch."""
        while self.decodes(port):
            port += 1
        return port

    def entry(self, port: int, size: int, direction: str) -> bool:
        offset = port - self.base
        return any(
            e.size == size and e.offset <= offset < e.offset + e.length and (e.reads if direction == "r" else e.writes)
            for e in self.table
        )


@dataclass
class PortModel:
    """Ports, with each handler call noted as (name, direction, offset, size, value)."""

    wide: str
    functions: list[Function] = field(default_factory=list)
    calls: list[tuple] = field(default_factory=list)
    clock: int = 0
    missed: bool = False

    def mapped_now(self, function: Function) -> None:
        self.clock += 1
        function.mapped = self.clock

    def top(self, port: int) -> Function | None:
        port &= 0xFFFF
        found = [f for f in self.functions if f.decodes(port)]
        return max(found, key=lambda f: (f.priority, f.mapped), default=None)

    def access(self, direction: str, port: int, size: int, value: int = 0) -> int:
        self.missed = False
        data = value.to_bytes(size, "little")
        result = b""
        for first, length in aligned_pieces(port, size):
            part = data[first : first + length]
            result += self.piece(direction, (port + first) & 0xFFFF, part)
        return int.from_bytes(result, "little")

    def piece(self, direction: str, port: int, data: bytes) -> bytes:
        size = len(data)
        function = self.top(port)
        if function is not None and function.entry(port, size, direction):
            return self.call(function, direction, port - function.base, data)
        if size == 1 or (function is None and self.wide == "qemu"):
            self.missed = True
            return b"\xff" * size
        if self.wide == "lanes":
            half = size // 2
            return self.piece(direction, port, data[:half]) + self.piece(direction, (port + half) & 0xFFFF, data[half:])
        if size == 4 and not function.plain:
            self.missed = True
            return b"\xff" * size
        end = function.chunk_end(port)
        result = b""
        for n in range(size):
            at = port + n
            if at >= end and function.plain:
                at = end - 1
            if at < end and function.entry(at, 1, direction):
                result += self.call(function, direction, at - function.base, data[n : n + 1])
            else:
                self.missed = True
                result += b"\xff"
        return result

    def call(self, function: Function, direction: str, offset: int, data: bytes) -> bytes:
        size = len(data)
        value = int.from_bytes(data, "little") if direction == "w" else answer(function.name, offset, size)
        self.calls.append((function.name, direction, offset, size, value))
        return value.to_bytes(size, "little")


def answer(name: str, offset: int, size: int) -> int:
    """What the function called *name* gives when read: different for each name, offset and size."""
    return (sum(name.encode()) * 0x01010101 + offset * 0x9E3779B1 + size) & ((1 << 8 * size) - 1)


def aligned_pieces(address: int, size: int) -> list[tuple[int, int]]:
    """An access as the naturally aligned pieces (first, length) a bus carries, largest first from the left."""
    pieces, at = [], 0
    while at < size:
        length = 4
        while length > size - at or (address + at) % length:
            length //= 2
        pieces.append((at, length))
        at += length
    return pieces


class BitmapModel:
    """A dirty bitmap as a set of page numbers."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.set: set[int] = set()

    def set_range(self, start: int, count: int) -> int:
        new = set(range(start, start + count)) - self.set
        self.set |= new
        return len(new)

    def test_and_clear_range(self, start: int, count: int) -> int:
        gone = set(range(start, start + count)) & self.set
        self.set -= gone
        return len(gone)

    def find(self, start: int, wanted: bool) -> int:
        return next((p for p in range(start, self.pages) if (p in self.set) == wanted), -1)

    def runs(self, start: int, limit: int) -> list[tuple[int, int]]:
        runs: list[tuple[int, int]] = []
        for page in range(start, self.pages):
            if page not in self.set:
                continue
            if runs and sum(runs[-1]) == page and runs[-1][1] < limit:
                runs[-1] = runs[-1][0], runs[-1][1] + 1
            else:
                runs.append((page, 1))
        return runs

    def take_run(self, start: int, limit: int) -> tuple[int, int] | None:
        runs = self.runs(start, limit)
        if not runs:
            return None
        self.test_and_clear_range(*runs[0])
        return runs[0]


@dataclass
class Node:
    """A memory region for :func:`resolve`: its own content, its children, or a window on another region."""

    name: str
    size: int
    content: bool
    address: int = 0
    priority: int = 0
    order: int = 0
    enabled: bool = True
    children: list[Node] = field(default_factory=list)
    target: Node | None = None
    offset: int = 0


def resolve(node: Node, at: int) -> tuple[str, int] | None:
    """Which region's content is seen at offset *at* of *node*, and the offset inside that region."""
    if not node.enabled or not 0 <= at < node.size:
        return None
    for child in sorted(node.children, key=lambda c: (-c.priority, -c.order)):
        seen = resolve(child, at - child.address)
        if seen is not None:
            return seen
    if node.target is not None:
        return resolve(node.target, at + node.offset)
    return (node.name, at) if node.content else None

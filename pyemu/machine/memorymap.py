# SPDX-License-Identifier: MIT
"""Keeps a CPU engine's view of RAM in step with the machine's address space."""

from __future__ import annotations

from dataclasses import dataclass

from ..cpu.engine import CPUEngine
from ..memory import AddressSpace, RAMBlock


@dataclass(frozen=True, slots=True)
class _Mapping:
    gpa: int
    size: int
    pointer: int


class EngineMemory:
    """Listens to the address space on behalf of an engine.

    RAM and ROM ranges are mapped into the engine as they appear; everything else is MMIO. When the
    host writes a RAM block, translated code of each place where that part is mapped is dropped.
    """

    def __init__(self, engine: CPUEngine, space: AddressSpace, blocks: list[RAMBlock]) -> None:
        self._engine = engine
        self._space = space
        self._mappings: dict[int, _Mapping] = {}
        self._listeners = [(block, self._listener(block)) for block in blocks]
        space.add_listener(self)
        for block, listener in self._listeners:
            block.add_write_listener(listener)

    def close(self) -> None:
        self._space.remove_listener(self)
        for block, listener in self._listeners:
            block.remove_write_listener(listener)

    def map_ram(self, gpa: int, size: int, pointer: int, writable: bool) -> None:
        self._mappings[gpa] = _Mapping(gpa, size, pointer)
        self._engine.map_ram(gpa, size, pointer, writable)

    def unmap(self, gpa: int, size: int) -> None:
        self._mappings.pop(gpa, None)
        self._engine.unmap(gpa, size)

    def invalidate_all(self) -> None:
        """RAM was replaced as a whole, e.g. by an incoming migration."""
        for mapping in self._mappings.values():
            self._engine.invalidate(mapping.gpa, mapping.size)

    def _listener(self, block: RAMBlock):  # type: ignore[no-untyped-def]
        base = block.pointer

        def written(offset: int, length: int) -> None:
            start = base + offset
            for mapping in self._mappings.values():
                first = max(start, mapping.pointer)
                last = min(start + length, mapping.pointer + mapping.size)
                if first < last:
                    self._engine.invalidate(mapping.gpa + first - mapping.pointer, last - first)

        return written

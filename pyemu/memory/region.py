# SPDX-License-Identifier: MIT
"""The tree of memory regions and how it is flattened.

A region has a size and a place in at most one container. Where siblings overlap the higher priority
is seen, among equals the one added last. A container shows what lies below it where its own children
leave holes. An alias shows a window of another region somewhere else.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MemoryMapError
from ._dispatch import IoHandler, owner_name
from ._ram import RAMBlock

if TYPE_CHECKING:
    from .space import AddressSpace

MAX_ADDRESS = 1 << 64
ACCESS_SIZES = (1, 2, 4, 8)


class MemoryRegion:
    """A node of the tree; made by :meth:`container`, :meth:`ram`, :meth:`rom`, :meth:`alias` and :meth:`io`.

    Any kind may have subregions, which then cover its own content. A change shows in every address
    space that the region is part of, at once or when the space's transaction ends.

    Attributes:
        kind: ``"container"``, ``"ram"``, ``"rom"``, ``"alias"`` or ``"io"``.
        parent: the container, or None.
        address: inside the container.
        priority: among the container's subregions.
        subregions: topmost first.
    """

    def __init__(self, name: str, size: int, kind: str, owner: Any = None) -> None:
        if not 0 < size <= MAX_ADDRESS:
            raise MemoryMapError(f"region {name}: size {size} is not between 1 and {MAX_ADDRESS}")
        self.name = name
        self.size = size
        self.kind = kind
        self.owner = owner
        self.block: RAMBlock | None = None
        self.target: MemoryRegion | None = None
        #: Of the region's first byte in its RAM block or alias target.
        self.offset = 0
        self.handler: IoHandler | None = None
        self.min_access = 1
        self.max_access = 8
        self.parent: MemoryRegion | None = None
        self.address = 0
        self.priority = 0
        self.enabled = True
        self.subregions: list[MemoryRegion] = []
        # Aliases of this region that are in some container, and spaces it is the root of.
        self._aliases: list[MemoryRegion] = []
        self._spaces: list[AddressSpace] = []

    @classmethod
    def container(cls, name: str, size: int) -> MemoryRegion:
        """A region without content of its own."""
        return cls(name, size, "container")

    def walk(self) -> Iterator[MemoryRegion]:
        """This region and all below it; not what aliases show."""
        yield self
        for region in self.subregions:
            yield from region.walk()

    @classmethod
    def ram(cls, name: str, block: RAMBlock, offset: int = 0, size: int | None = None) -> MemoryRegion:
        """*size* bytes of *block* from *offset* (by default all that follows)."""
        return cls._memory(name, block, offset, size, "ram")

    @classmethod
    def rom(cls, name: str, block: RAMBlock, offset: int = 0, size: int | None = None) -> MemoryRegion:
        """Like :meth:`ram`, but the guest's writes are ignored."""
        return cls._memory(name, block, offset, size, "rom")

    @classmethod
    def _memory(cls, name: str, block: RAMBlock, offset: int, size: int | None, kind: str) -> MemoryRegion:
        length = block.used_length - offset if size is None else size
        if offset < 0 or length < 1 or offset + length > block.used_length:
            raise MemoryMapError(
                f"region {name}: {length} bytes at {offset:#x} are not inside the {block.used_length} bytes"
                f" of RAM block {block.idstr}"
            )
        region = cls(name, length, kind)
        region.block = block
        region.offset = offset
        return region

    @classmethod
    def alias(cls, name: str, target: MemoryRegion, offset: int, size: int) -> MemoryRegion:
        """A window on *size* bytes of *target* from *offset*, wherever the target itself is."""
        if offset < 0 or offset + size > target.size:
            raise MemoryMapError(
                f"region {name}: {size} bytes at {offset:#x} are not inside the {target.size} bytes of {target.name}"
            )
        region = cls(name, size, "alias")
        region.target = target
        region.offset = offset
        return region

    @classmethod
    def io(
        cls,
        name: str,
        size: int,
        read: Callable[[int, int], int] | None = None,
        write: Callable[[int, int, int], None] | None = None,
        *,
        handler: IoHandler | None = None,
        owner: Any = None,
        min_access: int = 1,
        max_access: int = 8,
    ) -> MemoryRegion:
        """A device's registers: ``read(offset, size) -> int`` and ``write(offset, size, value)``, or a handler.

        Handlers see aligned accesses of *min_access* to *max_access* bytes. Wider or misaligned
        accesses are cut up. Of a narrower read the bytes asked for are taken; a narrower write is lost.

        Raises:
            MemoryMapError: the sizes are not possible.
        """
        if min_access not in ACCESS_SIZES or max_access not in ACCESS_SIZES or min_access > max_access:
            raise MemoryMapError(f"region {name}: accesses of {min_access} to {max_access} bytes are not possible")
        if size % min_access:
            raise MemoryMapError(f"region {name}: size {size} is not a multiple of its smallest access {min_access}")
        if handler is not None and (read is not None or write is not None):
            raise MemoryMapError(f"region {name}: takes either a handler or read and write")
        region = cls(name, size, "io", owner if owner is not None else name)
        region.handler = handler if handler is not None else IoHandler.python(read, write, region.owner)
        region.min_access = min_access
        region.max_access = max_access
        return region

    # -- the tree ---------------------------------------------------------------------------------

    def add_subregion(self, offset: int, region: MemoryRegion, priority: int = 0) -> None:
        """Places *region* at *offset*. It may reach beyond this region's end and is cut off there.

        Raises:
            MemoryMapError: it is in a container already, or contains this region.
        """
        if region.parent is not None:
            raise MemoryMapError(
                f"region {self.name}: {region.name} is already in {region.parent.name} at {region.address:#x}"
            )
        if not 0 <= offset < MAX_ADDRESS:
            raise MemoryMapError(f"region {self.name}: no offset {offset:#x} for {region.name}")
        if any(part is self for part in region._parts()):
            raise MemoryMapError(f"region {self.name}: {region.name} contains it")
        region.address = offset
        region.priority = priority
        self._insert(region)
        region.parent = self
        if region.target is not None:
            region.target._aliases.append(region)
        self._changed()

    def remove_subregion(self, region: MemoryRegion) -> None:
        """Takes *region* out.

        Raises:
            MemoryMapError: it is not here.
        """
        if region.parent is not self:
            raise MemoryMapError(f"region {self.name}: {region.name} is not in it")
        self.subregions.remove(region)
        region.parent = None
        if region.target is not None:
            region.target._aliases.remove(region)
        self._changed()

    def set_enabled(self, enabled: bool) -> None:
        """Shows or hides the region and all below it."""
        if enabled != self.enabled:
            self.enabled = enabled
            self._changed()

    def set_address(self, offset: int) -> None:
        """Moves the region inside its container; where it overlaps equals, it is on top afterwards.

        Raises:
            MemoryMapError: no such offset.
        """
        if not 0 <= offset < MAX_ADDRESS:
            raise MemoryMapError(f"region {self.name}: no address {offset:#x}")
        if offset == self.address:
            return
        self.address = offset
        if self.parent is not None:
            self.parent.subregions.remove(self)
            self.parent._insert(self)
            self._changed()

    def _insert(self, region: MemoryRegion) -> None:
        place = 0
        while place < len(self.subregions) and self.subregions[place].priority > region.priority:
            place += 1
        self.subregions.insert(place, region)

    def _parts(self) -> Iterator[MemoryRegion]:
        """This region and everything that shows through it."""
        yield self
        if self.target is not None:
            yield from self.target._parts()
        for region in self.subregions:
            yield from region._parts()

    def _changed(self) -> None:
        spaces: dict[AddressSpace, None] = {}
        seen: set[int] = set()
        waiting: list[MemoryRegion] = [self]
        while waiting:
            region = waiting.pop()
            if id(region) in seen:
                continue
            seen.add(id(region))
            spaces.update(dict.fromkeys(region._spaces))
            waiting.extend(region._aliases)
            if region.parent is not None:
                waiting.append(region.parent)
        for space in spaces:
            space.changed()

    def __repr__(self) -> str:
        state = "" if self.enabled else " disabled"
        return f"<MemoryRegion {self.kind} {self.name} {self.size:#x} bytes at {self.address:#x}{state}>"


@dataclass(frozen=True, slots=True)
class FlatRange:
    """A piece of a flat view: what answers at ``start`` and the ``size`` bytes from there.

    Attributes:
        region: of kind ram, rom or io.
        offset: of the first byte inside *region*.
    """

    start: int
    size: int
    region: MemoryRegion
    offset: int

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def kind(self) -> str:
        """``"ram"``, ``"rom"`` or ``"io"``."""
        return self.region.kind

    @property
    def pointer(self) -> int:
        """Host address of the first byte (ram and rom only)."""
        assert self.region.block is not None
        return self.region.block.pointer + self.region.offset + self.offset

    @property
    def name(self) -> str:
        return owner_name(self.region.owner or self.region)


def flatten(root: MemoryRegion) -> list[FlatRange]:
    """What is seen of the tree below *root*: ranges in address order that do not overlap."""
    ranges: list[FlatRange] = []
    _render(ranges, root, 0, 0, MAX_ADDRESS)
    merged: list[FlatRange] = []
    for part in ranges:
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.end == part.start
            and last.region is part.region
            and last.offset + last.size == part.offset
        ):
            merged[-1] = FlatRange(last.start, last.size + part.size, last.region, last.offset)
        else:
            merged.append(part)
    return merged


def _render(ranges: list[FlatRange], region: MemoryRegion, base: int, low: int, high: int) -> None:
    """Adds what *region*, whose offset 0 is at *base*, shows between *low* and *high*; what is there stays on top."""
    low = max(low, base)
    high = min(high, base + region.size)
    if not region.enabled or low >= high:
        return
    for child in region.subregions:
        _render(ranges, child, base + child.address, low, high)
    if region.target is not None:
        _render(ranges, region.target, base - region.offset, low, high)
    elif region.kind != "container":
        place = bisect.bisect_right(ranges, low, key=lambda part: part.start)
        if place and ranges[place - 1].end > low:
            place -= 1
        while low < high:
            above = ranges[place] if place < len(ranges) else None
            end = min(high, above.start) if above is not None else high
            if low < end:
                ranges.insert(place, FlatRange(low, end - low, region, low - base))
                place += 1
            if above is None:
                break
            low = max(low, above.end)
            place += 1

# SPDX-License-Identifier: MIT
"""Address spaces: a tree of regions as a processor or a device sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..errors import MemoryMapError
from ._mmio import FlatSpace
from .region import FlatRange, MemoryRegion, flatten

PAGE = 4096


class MemoryListener(Protocol):
    """Whoever mirrors the RAM of an address space, e.g. a CPU engine."""

    def map_ram(self, gpa: int, size: int, pointer: int, writable: bool) -> None:
        """*size* bytes at host address *pointer* are seen at *gpa* from now on; all three are whole pages."""

    def unmap(self, gpa: int, size: int) -> None:
        """A range that was mapped with exactly these values is no longer seen."""


class AddressSpace(FlatSpace):
    """What is seen at each guest-physical address.

    Reads of addresses that nothing is mapped at, or where nothing can be read, give all ones and are
    counted in ``unassigned_reads``; lost writes in ``unassigned_writes``, those into ROM in
    ``rom_writes``. Each access counts once. Address 0 follows the last one.

    Args:
        name: for messages.
        root: the tree; changes of it show at once, or when a :meth:`transaction` ends.
    """

    def __init__(self, name: str, root: MemoryRegion) -> None:
        super().__init__(name)
        self.root = root
        self._view: list[FlatRange] = []
        self._listeners: list[MemoryListener] = []
        self._batch = 0
        self._stale = False
        root._spaces.append(self)
        self._commit()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A context in which regions change together; the view follows when the outermost one ends.

        An exception inside does not undo what was changed.
        """
        self._batch += 1
        try:
            yield
        finally:
            self._batch -= 1
            if self._batch == 0 and self._stale:
                self._commit()

    def changed(self) -> None:
        """A region of the tree changed; called by it."""
        if self._batch:
            self._stale = True
        else:
            self._commit()

    def flat_view(self) -> list[FlatRange]:
        """What is seen, in address order; holes are left out."""
        return list(self._view)

    def add_listener(self, listener: MemoryListener) -> None:
        """Tells *listener* of all RAM seen now and of each difference from then on."""
        self._listeners.append(listener)
        for gpa, size, pointer, writable in sorted(_host_pages(self._view)):
            listener.map_ram(gpa, size, pointer, writable)

    def remove_listener(self, listener: MemoryListener) -> None:
        """Stops telling it.

        Raises:
            MemoryMapError: it was never added.
        """
        if listener not in self._listeners:
            raise MemoryMapError(f"address space {self.name}: {listener!r} is no listener of it")
        self._listeners.remove(listener)

    def close(self) -> None:
        """Lets go of the tree, its handlers and its memory. The space is empty afterwards."""
        if self in self.root._spaces:
            self.root._spaces.remove(self)
            self._replace([])

    def _commit(self) -> None:
        self._stale = False
        self._replace(flatten(self.root))

    def _replace(self, view: list[FlatRange]) -> None:
        before = _host_pages(self._view)
        after = _host_pages(view)
        self.install(view)
        self._view = view
        for listener in list(self._listeners):
            for gpa, size, _, _ in sorted(before - after):
                listener.unmap(gpa, size)
            for gpa, size, pointer, writable in sorted(after - before):
                listener.map_ram(gpa, size, pointer, writable)

    def __repr__(self) -> str:
        return f"<AddressSpace {self.name} {len(self._view)} ranges>"


def _host_pages(view: list[FlatRange]) -> set[tuple[int, int, int, bool]]:
    """The whole pages of RAM and ROM in a view as (gpa, size, pointer, writable).

    Pieces of pages, and memory that is shifted against page boundaries, cannot be shown to an engine:
    accesses to them take the way of MMIO.
    """
    pages = set()
    for part in view:
        if part.kind == "io":
            continue
        first = -(-part.start // PAGE) * PAGE
        last = part.end // PAGE * PAGE
        pointer = part.pointer + first - part.start
        if first < last and pointer % PAGE == 0:
            pages.add((first, last - first, pointer, part.kind == "ram"))
    return pages

# SPDX-License-Identifier: MIT
# cython: overflowcheck=False
# Words of bits and of data wrap and are cut by design; bounds stay checked in the checked build.
"""Functions of devices as the port space sees them: a list of ports with one base, cut into chunks."""

cimport cython
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from pyemu.memory._dispatch cimport IoHandler
from pyemu.memory._ports cimport PortSpace, PortUser, port_cell, port_op

from ..errors import MemoryMapError
from ._dispatch import owner_name
from .portio import PORTS, check_table, chunks_of


@cython.final
@cython.no_gc_clear
cdef class PortRegion:
    """One chunk of a mapped function: a run of ports without a hole.

    Attributes:
        owner: of the function.
        name: of the function.
        offset: of the chunk's first port from the function's base.
    """

    def __init__(self):
        raise TypeError("regions come with a PortioList")

    def __dealloc__(self):
        free(self.cells)

    @property
    def start(self):
        """First port."""
        return self.chunk.start

    @property
    def length(self):
        """Number of ports."""
        return self.chunk.length

    @property
    def priority(self):
        return self.chunk.priority

    def __repr__(self):
        return f"<PortRegion {self.name} {self.start:#x}-{self.start + self.length - 1:#x}>"


cdef PortRegion _region(PortioList ports, uint32_t offset, uint32_t length):
    """The cells of one chunk, filled from the function's table."""
    cdef PortRegion region = PortRegion.__new__(PortRegion)
    cdef IoHandler handler
    cdef uint32_t first, end, at
    cdef port_op *op
    region.owner = ports.owner
    region.name = ports.name
    region.offset = offset
    region.handlers = []
    region.chunk.region = <void *>region
    region.chunk.priority = ports.priority
    region.chunk.length = length
    region.chunk.plain = ports.plain
    region.cells = <port_cell *>calloc(length, sizeof(port_cell))
    if region.cells == NULL:
        raise MemoryError(f"{ports.name}: no memory for {length} ports")
    for at in range(length):
        region.cells[at].map = &region.chunk
        region.cells[at].offset = offset + at
    for entry in ports.table:
        if not offset <= entry.offset < offset + length:
            continue
        handler = entry.handler
        if handler is None:
            handler = IoHandler.python(entry.read, entry.write, ports.owner)
        handler = handler.bind(ports.space)
        region.handlers.append(handler)
        first = entry.offset - offset
        end = first + <uint32_t>entry.length
        for at in range(first, end):
            op = &region.cells[at].ops[<unsigned>entry.size >> 1]
            op.read = handler.read_fn
            op.write = handler.write_fn
            op.opaque = handler.opaque
    return region


@cython.final
cdef class PortioList(PortUser):
    """The ports of one device function: any set of offsets, shown, hidden and moved as one.

    The base is held here and nowhere else; handlers see offsets from it. Ports between the entries
    stay free for others. Where functions overlap, the higher priority answers, then the one mapped
    last; a function counts as mapped when its address really changes or when it becomes enabled.

    Args:
        owner: the device, or a name; for messages.
        table: sorted by offset, at least one entry; entries of one size must not overlap.
        name: for messages.
        plain: the ports are one plain region; matters only in a space of kind ``"qemu"``.

    Raises:
        MemoryMapError: the table is not sound.
    """

    def __init__(self, owner, table, str name, *, bint plain=False):
        self.owner = owner
        self.name = name
        self.table = check_table(owner, name, table)
        self.chunks = chunks_of(self.table)
        self.extent = max(entry.offset + entry.length for entry in self.table)
        self.plain = plain

    def set_flush_coalesced(self):
        """Asks that writes an engine holds back are delivered before each access to these ports.

        Raises:
            MemoryMapError: the list is mapped already.
        """
        if self.space is not None:
            raise MemoryMapError(f"{self.called()}: set_flush_coalesced comes before add")
        self.flush_coalesced = True

    def add(self, PortSpace space not None, base, *, int priority=0, bint enabled=True):
        """Maps the function at *base*; with ``enabled=False`` it is placed but not shown.

        Raises:
            MemoryMapError: it does not fit below port 0x10000, or is mapped already.
        """
        if self.space is not None:
            raise MemoryMapError(
                f"{self.called()} cannot be added to {space.name} at {base:#x}:"
                f" it is in {self.space.name} at {self.base:#x}"
            )
        self.base = self.checked(base)
        self.priority = priority
        self.space = space
        try:
            self.regions = [_region(self, offset, length) for offset, length in self.chunks]
        except BaseException:
            self.space = None
            raise
        space.users[self] = None
        self.shown = enabled
        self.changed()

    def remove(self):
        """Takes the function out of the space; it can be added again.

        Raises:
            MemoryMapError: it is in none.
        """
        if self.space is None:
            raise MemoryMapError(f"{self.called()} cannot be removed: it is not mapped")
        self.shown = False
        if self.linked:
            self.hide()
        self.space.keep(self)
        self.space.keep(self.regions)
        del self.space.users[self]
        self.space = None

    def destroy(self):
        """Drops the handlers. The list must have been removed; adding it again makes them anew.

        Raises:
            MemoryMapError: it is still mapped.
        """
        if self.space is not None:
            raise MemoryMapError(f"{self.called()} cannot be destroyed: it is in {self.space.name} at {self.base:#x}")
        self.regions = None

    def set_enabled(self, bint enabled):
        """Shows or hides the function. Its address and the handlers' state are kept."""
        self.shown = enabled
        if self.space is not None:
            self.changed()

    def set_address(self, base):
        """Moves the function; it answers at *base* at once, or there when it is next shown.

        Raises:
            MemoryMapError: it does not fit below port 0x10000.
        """
        self.base = self.checked(base)
        if self.space is not None:
            self.changed()

    @property
    def address(self):
        """The base: where offset 0 is or would be."""
        return self.base

    @property
    def enabled(self):
        return bool(self.shown)

    @property
    def mapped(self):
        """Whether it has been added to a space."""
        return self.space is not None

    def checked(self, base):
        """*base* as an int, if the function fits there."""
        cdef long first
        if 0 <= base < PORTS:
            first = base
            if first + self.extent <= PORTS:
                return first
        raise MemoryMapError(f"{self.called()} does not fit at {base:#x}: {self.extent} ports up to 0xffff")

    def called(self):
        """The function as messages call it."""
        return f"{owner_name(self.owner)}: ports {self.name}"

    def __repr__(self):
        state = "enabled" if self.shown else "disabled"
        return f"<PortioList {self.name} of {owner_name(self.owner)} at {self.base:#x} {state}>"

    # Brings the map in line with what was asked for, now or at the end of the transaction.
    cdef int changed(self) except -1:
        if self.space.batch == 0:
            self.depart()
            return self.arrive()
        if not self.waiting:
            self.waiting = True
            self.space.pending.append(self)
        return 0

    # Hides what is no longer wanted where it is.
    cdef int depart(self) except -1:
        if self.linked and not (self.shown and self.linked_base == self.base):
            self.hide()
        return 0

    # Shows what is wanted and not there.
    cdef int arrive(self) except -1:
        cdef PortRegion region
        cdef uint32_t at = self.base
        if self.space is None or not self.shown or self.linked:
            return 0
        # Leaves first: once linking has begun nothing can fail.
        for region in self.regions:
            self.space.prepare(at + region.offset, region.chunk.length)
        for region in self.regions:
            region.chunk.start = at + region.offset
            self.space.link(&region.chunk, region.cells)
        self.linked = True
        self.linked_base = self.base
        return 0

    cdef int hide(self) except -1:
        cdef PortRegion region
        for region in self.regions:
            self.space.unlink(&region.chunk, region.cells)
        self.linked = False
        return 0

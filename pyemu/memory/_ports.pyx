# SPDX-License-Identifier: MIT
# cython: overflowcheck=False
# Words of bits and of data wrap and are cut by design; bounds stay checked in the checked build.
"""The I/O port space and the functions mapped into it.

A look-up is two loads: 256 leaves of 256 cells, where a cell holds the handlers of one port for each
access size. All leaves that nothing is mapped in are one shared leaf. Each chunk of a function owns
its cells (see _portio.pyx); mapping it threads them into the stacks of its ports, ordered by priority and then by
which was mapped last. Moving a function therefore costs its own ports only and allocates nothing.

Only the machine thread uses a port space. A handler may move, hide, remove or destroy any function,
its own included: what it drops is kept until the outermost access has ended.
"""

cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pyemu.memory._dispatch cimport leave, ones

from ..errors import MemoryMapError
from .portio import PORTS

cdef enum:
    LEAF = 256

cdef port_cell _nothing
cdef port_cell *_empty_leaf[LEAF]
cdef int _n
for _n in range(LEAF):
    _empty_leaf[_n] = &_nothing


@cython.final
cdef class _Transaction:
    """Holds changes of a port space back until the outermost ``with`` block ends, however it ends."""
    cdef PortSpace space

    def __cinit__(self, PortSpace space):
        self.space = space

    def __enter__(self):
        self.space.batch += 1

    def __exit__(self, *exc_info):
        self.space.batch -= 1
        if self.space.batch == 0:
            self.space.commit()


@cython.final
cdef class PortSpace(Space):
    """The 65536 I/O ports of a machine.

    Args:
        name: for messages.
        wide: what becomes of accesses of 2 and 4 bytes. ``"lanes"``, the hardware: an entry of exactly
            that size takes an aligned access, any other is cut into smaller cycles, each decoded for
            itself. ``"qemu"``: an aligned access goes as a whole to the chunk of its first port; there
            a word without an entry of its own becomes two bytes and a dword is lost. In both, a
            misaligned access is cut into aligned ones first, and port 0 follows port 0xffff.

    Reads that nothing answers give all ones and are counted in ``unassigned_reads``, lost writes in
    ``unassigned_writes``: one for each access, however many of its bytes missed.
    """

    def __init__(self, str name="io", str wide="lanes"):
        Space.__init__(self, name)
        self.wide = wide
        self.pending = []
        self.users = {}
        self.batch_context = _Transaction(self)

    def __cinit__(self):
        for leaf in range(LEAF):
            self.leaves[leaf] = _empty_leaf

    def __dealloc__(self):
        for leaf in range(LEAF):
            if self.leaves[leaf] != _empty_leaf:
                free(self.leaves[leaf])

    @property
    def wide(self):
        """What becomes of wide accesses, ``"lanes"`` or ``"qemu"``; a board may set it."""
        return "qemu" if self.qemu_wide else "lanes"

    @wide.setter
    def wide(self, str wide):
        if wide not in ("lanes", "qemu"):
            raise MemoryMapError(f"{self.name}: wide accesses {wide!r} are not one of lanes, qemu")
        self.qemu_wide = wide == "qemu"

    # -- accesses ---------------------------------------------------------------------------------

    # Cannot fail: table look-ups and handlers, which must not raise.
    cdef uint32_t c_in(self, uint32_t port, unsigned size) noexcept nogil:
        cdef port_cell *cell
        cdef port_op *op
        cdef uint32_t value
        cdef bint missed = False
        self.depth += 1
        if size == 1:
            cell = self.leaves[(port >> 8) & 0xff][port & 0xff]
            op = &cell.ops[0]
            if op.read != NULL:
                value = op.read(op.opaque, cell.offset, 1) & 0xff
            else:
                value = 0xff
                missed = True
        else:
            value = _wide_in(self, port, size, &missed)
        self.unassigned_reads += missed
        leave(self)
        return value

    # Cannot fail: see c_in.
    cdef void c_out(self, uint32_t port, unsigned size, uint32_t value) noexcept nogil:
        cdef port_cell *cell
        cdef port_op *op
        cdef bint missed = False
        self.depth += 1
        if size == 1:
            cell = self.leaves[(port >> 8) & 0xff][port & 0xff]
            op = &cell.ops[0]
            if op.write != NULL:
                op.write(op.opaque, cell.offset, 1, value & 0xff)
            else:
                missed = True
        else:
            _wide_out(self, port, size, value, &missed)
        self.unassigned_writes += missed
        leave(self)

    def in_(self, port, unsigned size=1):
        """Reads *size* bytes (1, 2 or 4) at *port*.

        Raises:
            MemoryMapError: no such port or size.
        """
        return self.c_in(_check_access(self, port, size), size)

    def out(self, port, unsigned size, value):
        """Writes the low *size* bytes of *value* at *port*.

        Raises:
            MemoryMapError: no such port or size.
        """
        self.c_out(_check_access(self, port, size), size, value & 0xffffffff)

    read = in_
    write = out

    # -- the map ----------------------------------------------------------------------------------

    def transaction(self):
        """A context in which functions can be moved, hidden and shown; the ports follow when it ends.

        Accesses inside see the old map. A function that is back where it was keeps its rank among
        those that overlap it. Contexts nest; an exception does not undo what was asked for.
        """
        return self.batch_context

    def region_at(self, port):
        """The chunk that answers at *port*, or None."""
        cdef uint32_t n = _check_access(self, port, 1)
        cdef port_cell *cell = self.leaves[n >> 8][n & 0xff]
        return <object>cell.map.region if cell.map != NULL else None

    def regions(self):
        """Every mapped chunk, visible or covered, by port."""
        cdef PortUser user
        mapped = []
        for user in self.users:
            if user.linked:
                mapped.extend(user.regions)
        return sorted(mapped, key=lambda region: region.start)

    def commit(self):
        """Carries out what a transaction held back; called by its end."""
        cdef PortUser user
        waiting, self.pending = self.pending, []
        # All that go leave before any arrives; what is back where it was never left.
        for user in waiting:
            user.waiting = False
            user.depart()
        for user in waiting:
            user.arrive()

    def __repr__(self):
        return f"<PortSpace {self.name} {len(self.users)} functions>"

    # Gives *length* ports leaves of their own.
    cdef int prepare(self, uint32_t start, uint32_t length) except -1:
        cdef uint32_t n
        cdef port_cell **leaf
        for n in range(start >> 8, ((start + length - 1) >> 8) + 1):
            if self.leaves[n] == _empty_leaf:
                leaf = <port_cell **>malloc(sizeof(_empty_leaf))
                if leaf == NULL:
                    raise MemoryError(f"{self.name}: no memory for ports {n << 8:#x}-{(n << 8) + 0xff:#x}")
                memcpy(leaf, _empty_leaf, sizeof(_empty_leaf))
                self.leaves[n] = leaf
        return 0

    # Cannot fail: prepare() came first.
    cdef void link(self, port_map *chunk, port_cell *cells) noexcept:
        cdef uint32_t n, port
        cdef port_cell **slot
        self.order += 1
        chunk.order = self.order
        for n in range(chunk.length):
            port = chunk.start + n
            slot = &self.leaves[port >> 8][port & 0xff]
            # The newcomer is the last mapped: it goes below higher priorities only.
            while slot[0].map != NULL and slot[0].map.priority > chunk.priority:
                slot = &slot[0].below
            cells[n].below = slot[0]
            slot[0] = &cells[n]

    # Cannot fail: each cell is in the stack of its port.
    cdef void unlink(self, port_map *chunk, port_cell *cells) noexcept:
        cdef uint32_t n, port
        cdef port_cell **slot
        for n in range(chunk.length):
            port = chunk.start + n
            slot = &self.leaves[port >> 8][port & 0xff]
            while slot[0] != &cells[n]:
                slot = &slot[0].below
            slot[0] = cells[n].below


cdef uint32_t _check_access(PortSpace space, port, unsigned size) except? 0xffffffff:
    if not 0 <= port < PORTS:
        raise MemoryMapError(f"{space.name}: port {port:#x} is not between 0 and 0xffff")
    if size != 1 and size != 2 and size != 4:
        raise MemoryMapError(f"{space.name}: access of {size} bytes at port {port:#x} is not 1, 2 or 4")
    return port


cdef class PortUser:
    """What a port space has functions of; see :class:`pyemu.memory.PortioList`."""

    cdef int depart(self) except -1:
        raise NotImplementedError

    cdef int arrive(self) except -1:
        raise NotImplementedError


# -- wide accesses: none of these can fail, they cut an access up and call handlers ------------------

cdef inline port_cell *_top(PortSpace space, uint32_t port) noexcept nogil:
    return space.leaves[(port >> 8) & 0xff][port & 0xff]


cdef uint32_t _wide_in(PortSpace space, uint32_t port, unsigned size, bint *missed) noexcept nogil:
    cdef uint32_t low
    if size != 2 and size != 4:
        missed[0] = True
        return 0xffffffff
    if port & (size - 1) == 0:
        return _part_in(space, port, size, missed)
    # One after the other, lowest port first: C leaves the order inside an expression open.
    if port & 1 == 0:
        low = _part_in(space, port, 2, missed)
        return low | _part_in(space, port + 2, 2, missed) << 16
    low = _part_in(space, port, 1, missed)
    if size == 2:
        return low | _part_in(space, port + 1, 1, missed) << 8
    low |= _part_in(space, port + 1, 2, missed) << 8
    return low | _part_in(space, port + 3, 1, missed) << 24


cdef void _wide_out(PortSpace space, uint32_t port, unsigned size, uint32_t value, bint *missed) noexcept nogil:
    if size != 2 and size != 4:
        missed[0] = True
    elif port & (size - 1) == 0:
        _part_out(space, port, size, value, missed)
    elif size == 2:
        _part_out(space, port, 1, value, missed)
        _part_out(space, port + 1, 1, value >> 8, missed)
    elif port & 1 == 0:
        _part_out(space, port, 2, value, missed)
        _part_out(space, port + 2, 2, value >> 16, missed)
    else:
        _part_out(space, port, 1, value, missed)
        _part_out(space, port + 1, 2, value >> 8, missed)
        _part_out(space, port + 3, 1, value >> 24, missed)


# An aligned piece of an access. The port is looked up at each step: a handler may have moved things.
cdef uint32_t _part_in(PortSpace space, uint32_t port, unsigned size, bint *missed) noexcept nogil:
    cdef port_cell *cell = _top(space, port)
    cdef port_op *op = &cell.ops[size >> 1]
    cdef uint32_t low
    if op.read != NULL:
        return <uint32_t>(op.read(op.opaque, cell.offset, size) & ones(size))
    if size == 1 or (space.qemu_wide and cell.map == NULL):
        missed[0] = True
        return <uint32_t>ones(size)
    if space.qemu_wide:
        return _chunk_in(cell, port, size, missed)
    size >>= 1
    low = _part_in(space, port, size, missed)
    return low | _part_in(space, port + size, size, missed) << (8 * size)


cdef void _part_out(PortSpace space, uint32_t port, unsigned size, uint32_t value, bint *missed) noexcept nogil:
    cdef port_cell *cell = _top(space, port)
    cdef port_op *op = &cell.ops[size >> 1]
    if op.write != NULL:
        op.write(op.opaque, cell.offset, size, value & ones(size))
    elif size == 1 or (space.qemu_wide and cell.map == NULL):
        missed[0] = True
    elif space.qemu_wide:
        _chunk_out(cell, port, size, value, missed)
    else:
        size >>= 1
        _part_out(space, port, size, value, missed)
        _part_out(space, port + size, size, value >> (8 * size), missed)


# QEMU's way with an access that has no entry of its size, inside the chunk of its first port: a plain
# region is asked byte for byte, past its end again at its last port; in a table a word becomes two
# bytes and a dword is lost. The chunk's cells outlive the access whatever the handlers do.
cdef uint32_t _chunk_in(port_cell *cell, uint32_t port, unsigned size, bint *missed) noexcept nogil:
    cdef uint32_t left = cell.map.start + cell.map.length - port
    cdef bint plain = cell.map.plain
    cdef uint32_t value = 0
    cdef unsigned n
    cdef port_cell *at
    if size == 4 and not plain:
        missed[0] = True
        return 0xffffffff
    for n in range(size):
        at = cell + (n if n < left else left - 1)
        if (n < left or plain) and at.ops[0].read != NULL:
            value |= <uint32_t>(at.ops[0].read(at.ops[0].opaque, at.offset, 1) & 0xff) << (8 * n)
        else:
            missed[0] = True
            value |= <uint32_t>0xff << (8 * n)
    return value


cdef void _chunk_out(port_cell *cell, uint32_t port, unsigned size, uint32_t value, bint *missed) noexcept nogil:
    cdef uint32_t left = cell.map.start + cell.map.length - port
    cdef bint plain = cell.map.plain
    cdef unsigned n
    cdef port_cell *at
    if size == 4 and not plain:
        missed[0] = True
        return
    for n in range(size):
        at = cell + (n if n < left else left - 1)
        if (n < left or plain) and at.ops[0].write != NULL:
            at.ops[0].write(at.ops[0].opaque, at.offset, 1, (value >> (8 * n)) & 0xff)
        else:
            missed[0] = True

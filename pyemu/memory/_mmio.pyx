# SPDX-License-Identifier: MIT
# cython: overflowcheck=False
# Words of bits and of data wrap and are cut by design; bounds stay checked in the checked build.
"""Dispatch of guest-physical accesses: a sorted array of ranges, binary search, one-entry cache.

Only the machine thread uses an address space. A handler may change the tree it is part of: the array
is looked at again after each call, and handlers that went are kept until the access has ended.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pyemu.memory._dispatch cimport IoHandler, leave, ones
from pyemu.memory._ram cimport RAMBlock

from ..errors import MemoryMapError

cdef uint64_t LAST = ~<uint64_t>0
END = 1 << 64
MAX_BYTES = 1 << 30
KINDS = {"ram": FLAT_RAM, "rom": FLAT_ROM, "io": FLAT_IO}


# Cannot fail: the ranges cover every address.
cdef inline flat_range *_find(FlatSpace space, uint64_t gpa) noexcept nogil:
    cdef flat_range *found = &space.ranges[space.hot]
    cdef size_t low, high, middle
    if found.start <= gpa <= found.last:
        return found
    low = 0
    high = space.count - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if space.ranges[middle].start <= gpa:
            low = middle
        else:
            high = middle - 1
    space.hot = low
    return &space.ranges[low]


cdef class FlatSpace(Space):
    """The compiled half of :class:`pyemu.memory.AddressSpace`: the flat view and accesses to it.

    Attributes:
        rom_writes: writes into ROM, which are ignored.
    """

    def __init__(self, str name):
        Space.__init__(self, name)
        self.owners = []
        self.install([])

    def __dealloc__(self):
        free(self.ranges)

    def install(self, view):
        """Replaces the flat view by *view*, a sequence of FlatRange in address order."""
        cdef flat_range *ranges = <flat_range *>calloc(2 * len(view) + 1, sizeof(flat_range))
        cdef size_t n = 0
        cdef flat_range *at
        cdef IoHandler handler
        if ranges == NULL:
            raise MemoryError(f"{self.name}: no memory for {len(view)} ranges")
        owners = []
        next_start = 0
        for part in view:
            if part.start > next_start:
                ranges[n].start = next_start
                ranges[n].last = part.start - 1
                n += 1
            at = &ranges[n]
            at.start = part.start
            at.last = part.end - 1
            at.kind = KINDS[part.kind]
            region = part.region
            if at.kind == FLAT_IO:
                handler = (<IoHandler>region.handler).bind(self)
                at.offset = part.offset
                at.read = handler.read_fn
                at.write = handler.write_fn
                at.opaque = handler.opaque
                at.min_access = region.min_access
                at.max_access = region.max_access
                owners.append(handler)
            else:
                at.offset = region.offset + part.offset
                at.block = <void *>(<RAMBlock>region.block)
                at.host = (<RAMBlock>region.block).mapping.base + at.offset
                owners.append(region.block)
                owners.append((<RAMBlock>region.block).mapping)
            n += 1
            next_start = part.end
        if next_start <= LAST:
            ranges[n].start = next_start
            ranges[n].last = LAST
            n += 1
        self.keep(self.owners)
        free(self.ranges)
        self.ranges = ranges
        self.count = n
        self.hot = 0
        self.owners = owners

    # -- accesses from Python -----------------------------------------------------------------------

    def load(self, gpa, unsigned size):
        """Reads an integer of *size* bytes (1, 2, 4 or 8), little-endian.

        Raises:
            MemoryMapError: no such address or size.
        """
        return self.c_read(_check(self, gpa, size), size)

    def store(self, gpa, unsigned size, value):
        """Writes the low *size* bytes of *value*, little-endian.

        Raises:
            MemoryMapError: no such address or size.
        """
        self.c_write(_check(self, gpa, size), size, value & LAST)

    def read(self, gpa, length):
        """*length* bytes from *gpa*, at most 1 GiB.

        Raises:
            MemoryMapError: no such range.
        """
        cdef uint64_t first = _check_range(self, gpa, length)
        cdef size_t n = length
        data = PyBytes_FromStringAndSize(NULL, n)
        self.c_read_bytes(first, <unsigned char *>PyBytes_AS_STRING(data), n)
        return data

    def write(self, gpa, data):
        """Stores bytes from *gpa* on: into RAM as a device would, tracked and seen by translated code.

        Raises:
            MemoryMapError: no such range.
        """
        cdef const unsigned char[::1] source = memoryview(data).cast("B")
        cdef uint64_t first = _check_range(self, gpa, source.shape[0])
        if source.shape[0]:
            self.c_write_bytes(first, &source[0], source.shape[0])

    # -- accesses from C: none can fail, handlers must not raise ------------------------------------

    cdef uint64_t c_read(self, uint64_t gpa, unsigned size) noexcept nogil:
        cdef flat_range *at = _find(self, gpa)
        cdef uint64_t value = 0, offset
        if size == 0 or size > 8:
            self.unassigned_reads += 1
            return LAST
        if at.kind == FLAT_IO and at.last - gpa >= size - 1:
            offset = gpa - at.start + at.offset
            if at.read != NULL and at.min_access <= size <= at.max_access and not offset & (size - 1):
                self.depth += 1
                value = at.read(at.opaque, offset, size) & ones(size)
                leave(self)
                return value
        self.c_read_bytes(gpa, <unsigned char *>&value, size)
        return value

    cdef void c_write(self, uint64_t gpa, unsigned size, uint64_t value) noexcept nogil:
        cdef flat_range *at = _find(self, gpa)
        cdef uint64_t offset
        if size == 0 or size > 8:
            self.unassigned_writes += 1
            return
        if at.kind == FLAT_IO and at.last - gpa >= size - 1:
            offset = gpa - at.start + at.offset
            if at.write != NULL and at.min_access <= size <= at.max_access and not offset & (size - 1):
                self.depth += 1
                at.write(at.opaque, offset, size, value & ones(size))
                leave(self)
                return
        self.c_write_bytes(gpa, <unsigned char *>&value, size)

    # Overflow is meant: address 0 follows the last one.
    @cython.overflowcheck(False)
    cdef void c_read_bytes(self, uint64_t gpa, unsigned char *data, size_t length) noexcept nogil:
        cdef flat_range *at
        cdef size_t part
        cdef bint missed = False
        self.depth += 1
        while length:
            at = _find(self, gpa)
            part = length if length - 1 <= at.last - gpa else at.last - gpa + 1
            if at.kind == FLAT_IO and at.read != NULL:
                part = _read_io(at, gpa, data, part)
            elif at.kind == FLAT_RAM or at.kind == FLAT_ROM:
                memcpy(data, at.host + (gpa - at.start), part)
            else:
                memset(data, 0xff, part)
                missed = True
            gpa += part
            data += part
            length -= part
        self.unassigned_reads += missed
        leave(self)

    @cython.overflowcheck(False)
    cdef void c_write_bytes(self, uint64_t gpa, const unsigned char *data, size_t length) noexcept nogil:
        cdef flat_range *at
        cdef size_t part
        cdef bint missed = False, rom = False
        self.depth += 1
        while length:
            at = _find(self, gpa)
            part = length if length - 1 <= at.last - gpa else at.last - gpa + 1
            if at.kind == FLAT_IO and at.write != NULL:
                part = _write_io(at, gpa, data, part, &missed)
            elif at.kind == FLAT_RAM:
                memcpy(at.host + (gpa - at.start), data, part)
                (<RAMBlock>at.block).c_written(at.offset + (gpa - at.start), part)
            elif at.kind == FLAT_ROM:
                rom = True
            else:
                missed = True
            gpa += part
            data += part
            length -= part
        self.unassigned_writes += missed
        self.rom_writes += rom
        leave(self)


# The largest aligned access that begins at *offset*, is not wider than *limit* and fits *room* bytes.
cdef inline unsigned _fitting(uint64_t offset, unsigned limit, size_t room) noexcept nogil:
    cdef unsigned size = 1
    while size < limit and 2 * size <= room and not offset & (2 * size - 1):
        size *= 2
    return size


# One handler call of a read that is cut up; returns how many bytes it gave. Cannot fail.
cdef size_t _read_io(flat_range *at, uint64_t gpa, unsigned char *data, size_t room) noexcept nogil:
    cdef uint64_t offset = gpa - at.start + at.offset, value
    cdef unsigned size = _fitting(offset, at.max_access, room), skip = 0
    if size < at.min_access:
        # The register is wider than what is asked for: read it whole and pick the bytes.
        skip = offset & (at.min_access - 1)
        value = at.read(at.opaque, offset - skip, at.min_access) >> (8 * skip)
        size = at.min_access - skip
        if size > room:
            size = <unsigned>room
    else:
        value = at.read(at.opaque, offset, size)
    memcpy(data, &value, size)
    return size


cdef size_t _write_io(flat_range *at, uint64_t gpa, const unsigned char *data, size_t room, bint *missed) noexcept nogil:
    cdef uint64_t offset = gpa - at.start + at.offset, value = 0
    cdef unsigned size = _fitting(offset, at.max_access, room)
    if size < at.min_access:
        missed[0] = True
        return size
    memcpy(&value, data, size)
    at.write(at.opaque, offset, size, value)
    return size


cdef uint64_t _check(FlatSpace space, gpa, unsigned size) except? 1:
    if not 0 <= gpa <= LAST:
        raise MemoryMapError(f"{space.name}: no address {gpa:#x}")
    if size != 1 and size != 2 and size != 4 and size != 8:
        raise MemoryMapError(f"{space.name}: access of {size} bytes at {gpa:#x} is not 1, 2, 4 or 8")
    return gpa


cdef uint64_t _check_range(FlatSpace space, gpa, length) except? 1:
    if not 0 <= gpa <= LAST or length < 0 or gpa + length > END or length > MAX_BYTES:
        raise MemoryMapError(f"{space.name}: no range of {length} bytes at {gpa:#x}")
    return gpa

# SPDX-License-Identifier: MIT
"""C-level interface of address spaces, for the glue between engines and the core, and for DMA."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from pyemu.memory._dispatch cimport Space, io_read_fn, io_write_fn


cdef enum flat_kind:
    FLAT_NONE
    FLAT_RAM
    FLAT_ROM
    FLAT_IO


# A piece of the flat view. The pieces cover all addresses, holes are pieces of kind FLAT_NONE.
cdef struct flat_range:
    uint64_t start
    uint64_t last
    uint64_t offset
    unsigned char *host
    void *block
    io_read_fn read
    io_write_fn write
    void *opaque
    flat_kind kind
    unsigned min_access
    unsigned max_access


cdef class FlatSpace(Space):
    cdef public uint64_t rom_writes
    cdef flat_range *ranges
    cdef size_t count
    cdef size_t hot
    cdef list owners

    cdef uint64_t c_read(self, uint64_t gpa, unsigned size) noexcept nogil
    cdef void c_write(self, uint64_t gpa, unsigned size, uint64_t value) noexcept nogil
    cdef void c_read_bytes(self, uint64_t gpa, unsigned char *data, size_t length) noexcept nogil
    cdef void c_write_bytes(self, uint64_t gpa, const unsigned char *data, size_t length) noexcept nogil

# SPDX-License-Identifier: MIT
"""C-level interface of the port space, for the glue between engines and the core."""

from libc.stdint cimport uint32_t, uint64_t

from pyemu.memory._dispatch cimport Space, io_read_fn, io_write_fn


cdef struct port_op:
    io_read_fn read
    io_write_fn write
    void *opaque


# The chunk of a function that is (or can be) mapped: what all its ports share.
cdef struct port_map:
    void *region
    int priority
    uint64_t order
    uint32_t start
    uint32_t length
    bint plain


# One port of one chunk. Cells of one port form its stack, topmost first.
cdef struct port_cell:
    port_op ops[3]
    port_cell *below
    port_map *map
    uint32_t offset


cdef class PortUser:
    cdef list regions
    cdef bint linked
    cdef bint waiting

    cdef int depart(self) except -1
    cdef int arrive(self) except -1


cdef class PortSpace(Space):
    cdef port_cell **leaves[256]
    cdef bint qemu_wide
    cdef uint64_t order
    cdef unsigned batch
    cdef list pending
    cdef dict users
    cdef object batch_context

    cdef uint32_t c_in(self, uint32_t port, unsigned size) noexcept nogil
    cdef void c_out(self, uint32_t port, unsigned size, uint32_t value) noexcept nogil
    cdef int prepare(self, uint32_t start, uint32_t length) except -1
    cdef void link(self, port_map *chunk, port_cell *cells) noexcept
    cdef void unlink(self, port_map *chunk, port_cell *cells) noexcept

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


cdef class PortSpace(Space):
    cdef port_cell **leaves[256]
    cdef bint qemu_wide
    cdef uint64_t order
    cdef unsigned batch
    cdef list pending
    cdef dict added
    cdef object batch_context

    cdef uint32_t c_in(self, uint32_t port, unsigned size) noexcept nogil
    cdef void c_out(self, uint32_t port, unsigned size, uint32_t value) noexcept nogil
    cdef int prepare(self, uint32_t start, uint32_t length) except -1
    cdef void link(self, port_map *chunk, port_cell *cells) noexcept
    cdef void unlink(self, port_map *chunk, port_cell *cells) noexcept


cdef class PortRegion:
    cdef port_map chunk
    cdef port_cell *cells
    cdef list handlers
    cdef readonly object owner
    cdef readonly str name
    cdef readonly uint32_t offset


cdef class PortioList:
    cdef readonly object owner
    cdef readonly str name
    cdef readonly tuple table
    cdef readonly tuple chunks
    cdef readonly bint plain
    cdef readonly bint flush_coalesced
    cdef readonly int priority
    cdef PortSpace space
    cdef list regions
    cdef long base
    cdef bint shown
    cdef bint linked
    cdef long linked_base
    cdef bint waiting
    cdef long extent

    cdef int changed(self) except -1
    cdef int apply(self) except -1
    cdef int hide(self) except -1
    cdef int show(self) except -1

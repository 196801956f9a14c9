# SPDX-License-Identifier: MIT
"""C-level interface of port and MMIO dispatch, for the compiled chips of the core."""

from libc.stdint cimport uint32_t, uint64_t

# Must not raise: they run inside a guest instruction, without the GIL.
ctypedef uint64_t (*io_read_fn)(void *opaque, uint64_t offset, unsigned size) noexcept nogil
ctypedef void (*io_write_fn)(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil


cdef class IoHandler:
    """A pair of C handlers with their opaque pointer and the object that keeps it alive."""
    cdef io_read_fn read_fn
    cdef io_write_fn write_fn
    cdef void *opaque
    cdef readonly object owner
    cdef object python_read
    cdef object python_write
    cdef Space space

    @staticmethod
    cdef IoHandler make(object owner, void *opaque, io_read_fn read_fn, io_write_fn write_fn)
    cdef IoHandler bind(self, Space space)


cdef class Space:
    """What port and memory spaces share: faults, counters, and releases that wait for the access to end."""
    cdef readonly str name
    cdef public uint64_t unassigned_reads
    cdef public uint64_t unassigned_writes
    cdef unsigned depth
    cdef bint parked
    cdef list limbo
    cdef object first_fault
    cdef object fault_listener

    cdef void release(self) noexcept nogil
    cdef int keep(self, object owners) except -1
    cdef void record(self, IoHandler handler, str verb, uint64_t offset, unsigned size, error) noexcept


cdef inline uint64_t ones(unsigned size) noexcept nogil:
    # Cannot fail: arithmetic. Sizes are 1 to 8.
    return (<uint64_t>-1) >> (64 - 8 * size)


# An access ended: what was unmapped meanwhile may go. Cannot fail: see Space.release.
cdef inline void leave(Space space) noexcept nogil:
    space.depth -= 1
    if space.parked and space.depth == 0:
        space.release()

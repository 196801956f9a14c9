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

    @staticmethod
    cdef IoHandler make(object owner, void *opaque, io_read_fn read_fn, io_write_fn write_fn)

# SPDX-License-Identifier: MIT
"""C-level interface of RAM blocks."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from pyemu.memory._dirty cimport DirtyBitmap


cdef class Mapping:
    cdef unsigned char *base
    cdef size_t size
    cdef readonly int fd


cdef class RAMBlock:
    cdef readonly str idstr
    cdef readonly size_t used_length
    cdef readonly size_t page_size
    cdef readonly size_t pages
    cdef readonly str backing
    cdef Mapping mapping
    cdef unsigned page_shift
    cdef dict clients
    cdef list listeners
    cdef bint watched

    cdef Mapping memory(self)

    # Must be called after the bytes were stored, with a range inside the block.
    cdef void c_written(self, size_t offset, size_t length) noexcept nogil

# SPDX-License-Identifier: MIT
"""C-level interface of RAM blocks."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from pyemu.memory._dirty cimport DirtyBitmap
from pyemu.memory._mapping cimport Mapping


cdef class RAMBlock:
    cdef readonly str idstr
    cdef readonly size_t used_length
    cdef readonly size_t page_size
    cdef readonly size_t pages
    cdef readonly str backing
    # The file's name, or None.
    cdef readonly object path
    cdef Mapping mapping
    cdef unsigned page_shift
    cdef dict clients
    cdef list listeners
    cdef bint watched
    # The dirty source that has the block write-protected, and the picture being taken of it; None mostly.
    cdef object watcher
    cdef object keeper
    # Over a file: which pages hold data, and how many bytes from the start depend on it no more.
    cdef object present
    cdef size_t settled

    cdef Mapping memory(self)
    cdef leave_file(self, Mapping mapping)
    cdef merge_dirty(self, DirtyBitmap found)

    # Must be called after the bytes were stored, with a range inside the block.
    cdef void c_written(self, size_t offset, size_t length) noexcept nogil

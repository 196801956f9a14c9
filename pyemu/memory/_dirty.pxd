# SPDX-License-Identifier: MIT
"""C-level interface of dirty bitmaps, for whatever writes or reads guest memory without the GIL."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t


cdef class DirtyBitmap:
    cdef uint64_t *bits
    cdef readonly size_t pages
    cdef size_t nwords

    # Ranges must lie inside the bitmap: the C side does not check.
    cdef bint c_set(self, size_t page) noexcept nogil
    cdef bint c_test(self, size_t page) noexcept nogil
    cdef size_t c_set_range(self, size_t start, size_t count) noexcept nogil
    cdef size_t c_clear_range(self, size_t start, size_t count) noexcept nogil
    cdef size_t c_count(self, size_t start, size_t count) noexcept nogil
    cdef size_t c_find(self, size_t start, bint wanted) noexcept nogil
    cdef size_t c_merge(self, DirtyBitmap other) noexcept nogil
    cdef size_t c_take_run(self, size_t start, size_t limit, size_t *first) noexcept nogil

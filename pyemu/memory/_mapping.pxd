# SPDX-License-Identifier: MIT
"""C-level interface of memory mappings."""

from libc.stddef cimport size_t
from posix.types cimport off_t


cdef class Mapping:
    cdef unsigned char *base
    cdef size_t size
    cdef readonly int fd

    # Bytes of whole host pages.
    cdef size_t room(self) noexcept nogil
    cdef int cover(self, int fd, off_t offset) noexcept nogil
    cdef int populate(self, size_t first, size_t end) noexcept nogil
    cdef settle(self, size_t first, size_t length, unsigned page_shift, object bits)

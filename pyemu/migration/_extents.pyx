# SPDX-License-Identifier: MIT
"""Where a file has data, page by page: the holes of a sparse file read as zeros without being looked at."""

from libc.errno cimport ENXIO, errno
from libc.stdint cimport int64_t, uint64_t
from posix.types cimport off_t

import os

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <unistd.h>
    #define pyemu_set_bit(words, n) ((words)[(n) / 64] |= 1ULL << ((n) % 64))
    """
    int SEEK_DATA
    int SEEK_HOLE
    off_t lseek(int fd, off_t offset, int whence) nogil
    void pyemu_set_bit(uint64_t *words, int64_t n) nogil


def mark_data(int fd, int64_t offset, Py_ssize_t page_size, Py_ssize_t pages, uint64_t[::1] words):
    """Sets the bit of each page that the file has data for; a page is any that an extent touches.

    Args:
        fd: of the file; its position changes.
        offset: where page 0 begins in it.
        page_size, pages: the area.
        words: bitmap, a bit a page.

    Returns:
        the number of extents; 1 for the whole area where the file system does not know

    Raises:
        OSError: the file cannot be asked.
    """
    cdef int64_t at = offset, end = offset + pages * page_size, start = 0, stop = 0, page
    cdef Py_ssize_t extents = 0
    cdef int code = 0
    if words.shape[0] < (pages + 63) // 64:
        raise ValueError(f"bitmap of {words.shape[0]} words is too short for {pages} pages")
    with nogil:
        while at < end:
            start = lseek(fd, at, SEEK_DATA)
            if start < 0:
                # ENXIO: nothing but a hole up to the end.
                code = 0 if errno == ENXIO else errno
                break
            if start >= end:
                break
            stop = lseek(fd, start, SEEK_HOLE)
            if stop < 0:
                code = errno
                break
            stop = min(stop, end)
            extents += 1
            for page in range((start - offset) // page_size, (stop - 1 - offset) // page_size + 1):
                pyemu_set_bit(&words[0], page)
            at = stop
    if code:
        raise OSError(code, os.strerror(code))
    return extents

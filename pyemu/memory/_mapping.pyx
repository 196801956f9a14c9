# SPDX-License-Identifier: MIT
"""Memory mappings: what RAM blocks consist of."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport EINVAL, errno
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy, strerror
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE,
    madvise, mmap, munmap,
)
from posix.types cimport off_t
from posix.unistd cimport close, pread

import fcntl
import os
import stat

import numpy

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/mman.h>
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #endif
    static void *pyemu_move(void *from, size_t length, void *to)
    {
        return mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    }
    """
    int MADV_HUGEPAGE
    int MADV_POPULATE_READ
    void *pyemu_move(void *start, size_t length, void *to) nogil

cdef size_t HUGE = 2 << 20
cdef size_t HOST_PAGE = os.sysconf("SC_PAGE_SIZE")
# Of an entry in /proc/self/pagemap: in memory, in swap, a page of a file.
cdef uint64_t PM_PRESENT = <uint64_t>1 << 63
cdef uint64_t PM_SWAP = <uint64_t>1 << 62
cdef uint64_t PM_FILE = <uint64_t>1 << 61


@cython.final
@cython.no_gc_clear
cdef class Mapping:
    """The memory itself. Views hold it, so it lives as long as the last of them."""

    def __cinit__(self):
        self.fd = -1

    def __init__(self, str name, size_t size, bint shared=False, int fd=-1):
        # A descriptor that is given becomes the mapping's, and is closed with it.
        self.fd = fd
        if shared and fd < 0:
            self.fd = os.memfd_create(f"pyemu:{name}", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, size)
        # Room for the block at a multiple of 2 MiB, so that whole huge pages fit; the rest is given back.
        cdef size_t room = (size + HOST_PAGE - 1) // HOST_PAGE * HOST_PAGE
        cdef int flags = (MAP_SHARED if shared else MAP_PRIVATE) | (MAP_ANONYMOUS if self.fd < 0 else 0) | MAP_NORESERVE
        cdef unsigned char *base = _reserve(room)
        if mmap(base, room, PROT_READ | PROT_WRITE, flags | MAP_FIXED, self.fd, 0) == MAP_FAILED:
            failed = errno
            munmap(base, room)
            raise OSError(failed, strerror(failed).decode())
        self.base = base
        self.size = size
        # A hint: without huge pages everything works, only slower.
        madvise(base, room, MADV_HUGEPAGE)

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.room())
        if self.fd >= 0:
            close(self.fd)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.base, self.size, 0, flags)

    cdef size_t room(self) noexcept nogil:
        return (self.size + HOST_PAGE - 1) // HOST_PAGE * HOST_PAGE

    # Over the file *fd*, copied on write, from *offset* on; what was there is gone. 0 or an error number.
    cdef int cover(self, int fd, off_t offset) noexcept nogil:
        if mmap(self.base, self.room(), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | (MAP_ANONYMOUS if fd < 0 else 0), fd, offset) == MAP_FAILED:
            return errno
        if fd < 0:
            madvise(self.base, self.room(), MADV_HUGEPAGE)
        return 0

    # Has the kernel read what is behind some bytes. Cannot fail but by its result, 0 or an error number.
    cdef int populate(self, size_t first, size_t end) noexcept nogil:
        cdef volatile unsigned char _byte
        first = first // HOST_PAGE * HOST_PAGE
        if madvise(self.base + first, end - first, MADV_POPULATE_READ) == 0:
            return 0
        if errno != EINVAL:
            return errno
        # A kernel before 5.14.
        while first < end:
            _byte = self.base[first]
            first += HOST_PAGE
        return 0

    cdef settle(self, size_t first, size_t length, unsigned page_shift, object bits):
        """Copies bytes over a file to anonymous memory, which takes their place. Of *bits* see RAMBlock.map_file.

        Raises:
            OSError: there is no memory.
        """
        cdef unsigned char *fresh = _reserve(length)
        cdef unsigned char *old = self.base + first
        cdef size_t n, page, pages = length // HOST_PAGE
        cdef const uint64_t[::1] present = bits
        cdef bint everything = bits is None
        cdef uint64_t[::1] entries = _pagemap(<uintptr_t>old // HOST_PAGE, pages)
        if mmap(fresh, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) \
                == MAP_FAILED:
            code = errno
            munmap(fresh, length)
            raise OSError(code, strerror(code).decode())
        madvise(fresh, length, MADV_HUGEPAGE)
        # With the GIL, see above.
        for n in range(pages):
            page = (first + n * HOST_PAGE) >> page_shift
            # Neither written nor in the file: holes need not be read.
            if not everything and not present[page >> 6] >> (page & 63) & 1:
                if entries[n] & PM_FILE or not entries[n] & (PM_PRESENT | PM_SWAP):
                    continue
            if not _is_zero(old + n * HOST_PAGE, HOST_PAGE):
                memcpy(fresh + n * HOST_PAGE, old + n * HOST_PAGE, HOST_PAGE)
        if pyemu_move(fresh, length, old) == MAP_FAILED:
            code = errno
            munmap(fresh, length)
            raise OSError(code, strerror(code).decode())


# *length* bytes of address space, whole host pages, that begin at a multiple of 2 MiB.
cdef unsigned char *_reserve(size_t length) except NULL:
    cdef unsigned char *start = <unsigned char *>mmap(
        NULL, length + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if <void *>start == MAP_FAILED:
        raise OSError(errno, strerror(errno).decode())
    cdef size_t ahead = (HUGE - <uintptr_t>start % HUGE) % HUGE
    if ahead:
        munmap(start, ahead)
    if HUGE - ahead:
        munmap(start + ahead + length, HUGE - ahead)
    return start + ahead


cdef inline bint _is_zero(const unsigned char *page, size_t length) noexcept nogil:
    return page[0] == 0 and memcmp(page, page + 1, length - 1) == 0


# Entries of /proc/self/pagemap for some pages; where it cannot be read, such as mean that something is there.
cdef uint64_t[::1] _pagemap(size_t first, size_t pages):
    entries = numpy.full(pages, 1 << 63, dtype=numpy.uint64)
    cdef uint64_t[::1] view = entries
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return view
    if pread(fd, &view[0], pages * 8, first * 8) != <Py_ssize_t>(pages * 8):
        entries[:] = 1 << 63
    os.close(fd)
    return view


def hold(fd):
    """Tells others by a lock that an open file must stay as it is; false if somebody writes it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks; there is nobody to tell.
        pass
    return True


def open_backing(path, size_t size, bint shared):
    """A descriptor of the file behind a block."""
    fd = os.open(path, (os.O_RDWR | os.O_CREAT if shared else os.O_RDONLY) | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(EINVAL, "not a regular file")
        if not hold(fd):
            raise OSError(EINVAL, "the file is being written in place")
        if shared and status.st_size == 0:
            os.ftruncate(fd, size)
        elif status.st_size < size:
            raise OSError(EINVAL, f"the file has only {status.st_size}")
    except BaseException:
        os.close(fd)
        raise
    return fd

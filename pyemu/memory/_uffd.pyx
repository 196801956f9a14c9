# SPDX-License-Identifier: MIT
"""Finds the pages a guest wrote by asynchronous write protection: userfaultfd and PAGEMAP_SCAN.

The kernel drops a page's protection at the first write, without waking anybody; one ioctl then lists
the unprotected pages and protects them again. Writes by system calls (read(2) into guest RAM) and
by KVM are seen as well. Needs Linux 6.7. The numbers below are the kernel's interface, which the
headers of older distributions do not have yet.
"""

cimport cython
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strerror
from posix.fcntl cimport O_CLOEXEC, O_NONBLOCK
from posix.ioctl cimport ioctl
from posix.unistd cimport close

import os

from pyemu.memory._dirty cimport DirtyBitmap
from pyemu.memory._ram cimport Mapping, RAMBlock

from ..errors import MemoryMapError

cdef extern from "sys/syscall.h":
    const long SYS_userfaultfd
cdef extern from "unistd.h":
    long syscall(long number, ...) nogil

cdef enum:
    USER_MODE_ONLY = 1
    FEATURE_WP_HUGETLBFS_SHMEM = 0x1000
    FEATURE_WP_UNPOPULATED = 0x2000
    FEATURE_WP_ASYNC = 0x8000
    REGISTER_MODE_WP = 2
    WRITEPROTECT_MODE_WP = 1
    PAGE_IS_WRITTEN = 0x2
    PM_SCAN_WP_MATCHING = 1
    PM_SCAN_CHECK_WPASYNC = 2
    VECTOR = 4096

cdef unsigned long UFFDIO_API = 0xc018aa3f
cdef unsigned long UFFDIO_REGISTER = 0xc020aa00
cdef unsigned long UFFDIO_UNREGISTER = 0x8010aa01
cdef unsigned long UFFDIO_WRITEPROTECT = 0xc018aa06
cdef unsigned long PAGEMAP_SCAN = 0xc0606610
cdef uint64_t UFFD_API = 0xaa
cdef size_t HOST_PAGE = os.sysconf("SC_PAGE_SIZE")


cdef struct uffdio_api:
    uint64_t api
    uint64_t features
    uint64_t ioctls


cdef struct uffdio_register:
    uint64_t start
    uint64_t length
    uint64_t mode
    uint64_t ioctls


cdef struct uffdio_writeprotect:
    uint64_t start
    uint64_t length
    uint64_t mode


cdef struct page_region:
    uint64_t start
    uint64_t end
    uint64_t categories


cdef struct pm_scan_arg:
    uint64_t size
    uint64_t flags
    uint64_t start
    uint64_t end
    uint64_t walk_end
    uint64_t vec
    uint64_t vec_len
    uint64_t max_pages
    uint64_t category_inverted
    uint64_t category_mask
    uint64_t category_anyof_mask
    uint64_t return_mask


@cython.final
cdef class UserfaultSource:
    """A dirty source for guests that write RAM through plain host mappings.

    Attributes:
        name: ``"uffd"``.
        reason: why this source was chosen.
    """
    cdef readonly str name
    cdef readonly str reason
    cdef int fd
    cdef int pagemap
    cdef list watched
    cdef page_region *found

    def __cinit__(self):
        self.fd = -1
        self.pagemap = -1

    def __init__(self, str reason=""):
        self.name = "uffd"
        self.reason = reason
        self.watched = []

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        if self.pagemap >= 0:
            close(self.pagemap)
        free(self.found)

    def start(self, blocks):
        """Begins to watch *blocks*: the first :meth:`sync` gives what was written since now.

        Raises:
            MemoryMapError: it runs already, or the kernel refuses; nothing is watched then.
        """
        if self.fd >= 0:
            raise MemoryMapError("dirty source uffd is running already")
        try:
            self.open()
            for block in blocks:
                self.watch(block)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Ends watching. May be repeated."""
        cdef uint64_t[2] area
        cdef Mapping mapping
        for _, mapping in self.watched:
            area[0] = <uintptr_t>mapping.base
            area[1] = _length(mapping)
            ioctl(self.fd, UFFDIO_UNREGISTER, area)
        self.watched = []
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1
        if self.pagemap >= 0:
            close(self.pagemap)
            self.pagemap = -1

    def sync(self):
        """Marks the pages written since the last call in all clients of each block; returns how many there were.

        Raises:
            MemoryMapError: it does not run, or the kernel refuses.
        """
        cdef RAMBlock block
        cdef Mapping mapping
        cdef long pages
        cdef long total = 0
        if self.fd < 0:
            raise MemoryMapError("dirty source uffd is not running")
        for block, mapping in self.watched:
            pages = self.scan(block, mapping)
            if pages < 0:
                raise MemoryMapError(f"RAM block {block.idstr}: PAGEMAP_SCAN: {strerror(-pages).decode()}")
            total += pages
        return total

    def data(self, RAMBlock block not None):
        """What a reader of dirty pages must read: the block itself."""
        return block.array

    def __repr__(self):
        return f"<UserfaultSource {'running' if self.fd >= 0 else 'stopped'}>"

    def open(self):
        """Gets the kernel's two file descriptors."""
        cdef uffdio_api api
        self.fd = <int>syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY)
        if self.fd < 0:
            raise MemoryMapError(f"userfaultfd: {strerror(errno).decode()}")
        api.api = UFFD_API
        api.features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED | FEATURE_WP_HUGETLBFS_SHMEM
        api.ioctls = 0
        if ioctl(self.fd, UFFDIO_API, &api) != 0:
            raise MemoryMapError(f"userfaultfd without asynchronous write protection: {strerror(errno).decode()}")
        try:
            self.pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise MemoryMapError(f"/proc/self/pagemap: {error.strerror}") from None
        if self.found == NULL:
            self.found = <page_region *>malloc(VECTOR * sizeof(page_region))
            if self.found == NULL:
                raise MemoryError("no memory for the result of PAGEMAP_SCAN")

    def watch(self, RAMBlock block not None):
        """Registers and protects one block."""
        cdef Mapping mapping = block.memory()
        cdef uffdio_register register
        cdef uffdio_writeprotect protect
        cdef int failed
        register.start = <uintptr_t>mapping.base
        register.length = _length(mapping)
        register.mode = REGISTER_MODE_WP
        register.ioctls = 0
        if ioctl(self.fd, UFFDIO_REGISTER, &register) != 0:
            raise MemoryMapError(f"RAM block {block.idstr}: cannot be watched: {strerror(errno).decode()}")
        self.watched.append((block, mapping))
        protect.start = register.start
        protect.length = register.length
        protect.mode = WRITEPROTECT_MODE_WP
        with nogil:
            failed = ioctl(self.fd, UFFDIO_WRITEPROTECT, &protect)
        if failed:
            raise MemoryMapError(f"RAM block {block.idstr}: cannot be write-protected: {strerror(errno).decode()}")

    # Pages found, or a negative error number.
    cdef long scan(self, RAMBlock block, Mapping mapping) except? -1:
        cdef list clients = list(block.clients.values())
        cdef size_t n = len(clients), i
        cdef void **bitmaps = <void **>malloc((n + 1) * sizeof(void *))
        cdef long pages
        if bitmaps == NULL:
            raise MemoryError(f"no memory for {n} dirty bitmaps")
        for i in range(n):
            bitmaps[i] = <void *>(<DirtyBitmap>clients[i])
        with nogil:
            pages = _scan(self.pagemap, mapping, block.page_shift, self.found, bitmaps, n)
        free(bitmaps)
        return pages


cdef inline size_t _length(Mapping mapping) noexcept nogil:
    return (mapping.size + HOST_PAGE - 1) // HOST_PAGE * HOST_PAGE


# Lists and protects all written pages of a mapping. Cannot fail but by its result.
cdef long _scan(
    int pagemap, Mapping mapping, unsigned shift, page_region *found, void **bitmaps, size_t clients
) noexcept nogil:
    cdef uint64_t base = <uintptr_t>mapping.base
    cdef uint64_t end = base + _length(mapping)
    cdef uint64_t next_page = 0, first, last
    cdef pm_scan_arg scan
    cdef long count, n, pages = 0
    cdef size_t i
    memset(&scan, 0, sizeof(scan))
    scan.size = sizeof(scan)
    scan.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC
    scan.start = base
    scan.end = end
    scan.vec = <uintptr_t>found
    scan.vec_len = VECTOR
    scan.category_mask = PAGE_IS_WRITTEN
    scan.return_mask = PAGE_IS_WRITTEN
    while scan.start < end:
        count = ioctl(pagemap, PAGEMAP_SCAN, &scan)
        if count < 0:
            return -errno
        for n in range(count):
            first = (found[n].start - base) >> shift
            last = (found[n].end - 1 - base) >> shift
            for i in range(clients):
                (<DirtyBitmap>bitmaps[i]).c_set_range(first, last - first + 1)
            # Pages larger than the host's may come in pieces: each counts once.
            if first < next_page:
                first = next_page
            if last >= first:
                pages += last - first + 1
                next_page = last + 1
        scan.start = scan.walk_end
    return pages

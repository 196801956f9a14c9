# SPDX-License-Identifier: MIT
"""Finds the pages a guest wrote by asynchronous write protection: userfaultfd and PAGEMAP_SCAN.

The kernel drops a page's protection at the first write, without waking anybody; one ioctl then lists
the unprotected pages and protects them again. Writes by system calls (read(2) into guest RAM) and
by KVM are seen as well. Needs Linux 6.7.
"""

cimport cython
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strerror
from posix.ioctl cimport ioctl
from posix.unistd cimport close

import os

from pyemu.memory._dirty cimport DirtyBitmap
from pyemu.memory._mapping cimport Mapping
from pyemu.memory._ram cimport RAMBlock

from ..errors import MemoryMapError

cdef extern from "_userfault.h":
    uint64_t PYEMU_UFFD_WP_HUGETLBFS_SHMEM
    uint64_t PYEMU_UFFD_WP_UNPOPULATED
    uint64_t PYEMU_UFFD_WP_ASYNC
    int PYEMU_UFFD_USER_MODE_ONLY
    unsigned long PYEMU_PAGEMAP_SCAN
    int pyemu_uffd_open(uint64_t features, int flags) nogil
    int pyemu_uffd_register(int fd, const void *start, uint64_t length) nogil
    int pyemu_uffd_unregister(int fd, const void *start, uint64_t length) nogil
    int pyemu_uffd_protect(int fd, const void *start, uint64_t length, int on) nogil

cdef enum:
    PAGE_IS_WRITTEN = 0x2
    PM_SCAN_WP_MATCHING = 1
    PM_SCAN_CHECK_WPASYNC = 2
    VECTOR = 4096

cdef size_t HOST_PAGE = os.sysconf("SC_PAGE_SIZE")


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
cdef class _Watch:
    """A block, and the pages found written by the latest scan."""
    cdef RAMBlock block
    cdef Mapping mapping
    cdef DirtyBitmap changed
    # Somebody else protects the block for a while; nothing is seen of it then.
    cdef bint lent


@cython.final
cdef class UserfaultSource:
    """A dirty source for guests that write RAM through plain host mappings.

    A background snapshot takes watched blocks away for its time; when they are back, all their pages count as
    written, once.

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
        cdef _Watch watch
        for watch in self.watched:
            if watch.block.watcher is self:
                watch.block.watcher = None
            if not watch.lent:
                pyemu_uffd_unregister(self.fd, watch.mapping.base, watch.mapping.room())
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
        cdef _Watch watch
        cdef long total = 0
        if self.fd < 0:
            raise MemoryMapError("dirty source uffd is not running")
        for watch in self.watched:
            if not watch.lent:
                total += self.scan(watch)
        return total

    def data(self, RAMBlock block not None):
        """What a reader of dirty pages must read: the block itself."""
        return block.array

    def __repr__(self):
        return f"<UserfaultSource {'running' if self.fd >= 0 else 'stopped'}>"

    def open(self):
        """Gets the kernel's two file descriptors."""
        cdef int fd = pyemu_uffd_open(
            PYEMU_UFFD_WP_ASYNC | PYEMU_UFFD_WP_UNPOPULATED | PYEMU_UFFD_WP_HUGETLBFS_SHMEM, PYEMU_UFFD_USER_MODE_ONLY
        )
        if fd < 0:
            raise MemoryMapError(f"userfaultfd with asynchronous write protection: {strerror(-fd).decode()}")
        self.fd = fd
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
        cdef _Watch watch = _Watch()
        watch.block = block
        watch.mapping = block.memory()
        watch.changed = DirtyBitmap(block.pages)
        self.protect(watch)
        self.watched.append(watch)
        block.watcher = self

    cdef protect(self, _Watch watch):
        cdef int code = pyemu_uffd_register(self.fd, watch.mapping.base, watch.mapping.room())
        if code:
            raise MemoryMapError(
                f"RAM block {watch.block.idstr}: backing {watch.block.backing} cannot be watched: "
                f"{strerror(-code).decode()}{'; settle() it first' if watch.block.backing == 'file-private' else ''}"
            )
        with nogil:
            code = pyemu_uffd_protect(self.fd, watch.mapping.base, watch.mapping.room(), 1)
        if code:
            pyemu_uffd_unregister(self.fd, watch.mapping.base, watch.mapping.room())
            raise MemoryMapError(f"RAM block {watch.block.idstr}: cannot be write-protected: {strerror(-code).decode()}")

    def lend(self, RAMBlock block not None):
        """Lets go of *block* for a while, after a last look."""
        cdef _Watch watch
        for watch in self.watched:
            if watch.block is block and not watch.lent:
                self.scan(watch)
                watch.lent = True
                pyemu_uffd_unregister(self.fd, watch.mapping.base, watch.mapping.room())

    def take_back(self, RAMBlock block not None):
        """Watches *block* again; nobody saw what was written meanwhile, so all of it counts as written."""
        cdef _Watch watch
        for watch in self.watched:
            if watch.block is block and watch.lent:
                self.protect(watch)
                watch.lent = False
                watch.changed.c_set_range(0, watch.changed.pages)

    # Pages found.
    cdef long scan(self, _Watch watch) except -1:
        cdef int code
        cdef size_t found
        with nogil:
            code = _scan(self.pagemap, watch.mapping, watch.block.page_shift, self.found, watch.changed)
        if code < 0:
            raise MemoryMapError(f"RAM block {watch.block.idstr}: PAGEMAP_SCAN: {strerror(-code).decode()}")
        found = watch.changed.c_count(0, watch.changed.pages)
        if found:
            watch.block.merge_dirty(watch.changed)
        return found


# Lists and protects all written pages of a mapping. Cannot fail but by its result, 0 or a negative error number.
cdef int _scan(int pagemap, Mapping mapping, unsigned shift, page_region *found, DirtyBitmap changed) noexcept nogil:
    cdef uint64_t base = <uintptr_t>mapping.base
    cdef uint64_t end = base + mapping.room()
    cdef uint64_t first, last
    cdef pm_scan_arg scan
    cdef long count, n
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
        count = ioctl(pagemap, PYEMU_PAGEMAP_SCAN, &scan)
        if count < 0:
            return -errno
        for n in range(count):
            first = (found[n].start - base) >> shift
            last = (found[n].end - 1 - base) >> shift
            changed.c_set_range(first, last - first + 1)
        scan.start = scan.walk_end
    return 0

# SPDX-License-Identifier: MIT
"""Keeps a picture of RAM while the guest goes on writing it: the memory half of a background snapshot.

Pages are write-protected (userfaultfd, synchronous mode); a thread in C copies each aside before its first
write, see ``_keeper.h``. Needs Linux 5.7 for private memory and 6.4 for memory that nobody has touched yet.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strerror
from posix.unistd cimport close

import os
import threading

import numpy

from pyemu.memory._dirty cimport DirtyBitmap
from pyemu.memory._mapping cimport Mapping
from pyemu.memory._ram cimport RAMBlock

from ..errors import MemoryMapError

cdef extern from "_userfault.h":
    uint64_t PYEMU_UFFD_PAGEFAULT_FLAG_WP
    uint64_t PYEMU_UFFD_WP_HUGETLBFS_SHMEM
    uint64_t PYEMU_UFFD_WP_UNPOPULATED
    int PYEMU_UFFD_USER_MODE_ONLY
    int pyemu_uffd_open(uint64_t features, int flags) nogil
    int pyemu_uffd_register(int fd, const void *start, uint64_t length) nogil
    int pyemu_uffd_unregister(int fd, const void *start, uint64_t length) nogil
    int pyemu_uffd_protect(int fd, const void *start, uint64_t length, int on) nogil

cdef extern from "_keeper.h":
    ctypedef struct pyemu_keeper_range:
        uint8_t *base
        uint8_t *copies
        size_t length
        size_t pages
        size_t page_size
        uint64_t *kept
        uint64_t *pending
        uint64_t *aside
    ctypedef struct pyemu_keeper:
        int fd
        int wake
        int started
        int joined
        pyemu_keeper_range *ranges
        size_t count
        size_t unit
        size_t limit
        size_t reserve
        size_t used
        size_t peak
        uint64_t faults
        uint64_t copied
        uint64_t waits
        int failed
    int pyemu_keeper_start(pyemu_keeper *k) nogil
    void pyemu_keeper_stop(pyemu_keeper *k) nogil
    int pyemu_keeper_open(pyemu_keeper *k, uint8_t *address, size_t length) nogil
    int pyemu_keeper_done(pyemu_keeper *k, pyemu_keeper_range *r, size_t first, size_t count) nogil
    void pyemu_keeper_returned(pyemu_keeper *k, pyemu_keeper_range *r, size_t first, size_t count) nogil
    void pyemu_keeper_away(pyemu_keeper *k, int away) nogil
    int pyemu_keeper_probe(pyemu_keeper *k) nogil

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #endif
    """
    int MADV_NOHUGEPAGE
    int MADV_POPULATE_READ
    int madvise(void *address, size_t length, int advice) nogil

cdef size_t HOST_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Memory for copied pages, in bytes. Writes that find no room there wait for the writer ...
LIMIT = 48 << 20
#: ... and take from this when the writer cannot go on because of them.
RESERVE = 16 << 20


@cython.final
cdef class _Kept:
    """What belongs to one block: its memory, the copies, three bitmaps."""
    cdef RAMBlock block
    cdef Mapping mapping
    cdef Mapping copies
    cdef DirtyBitmap kept
    cdef DirtyBitmap pending
    cdef DirtyBitmap aside


@cython.final
cdef class PageKeeper:
    """Protects blocks at one moment and keeps what they held then until a writer has taken it.

    The writer's side: :meth:`protect` at the moment, guest standing still; then, until :attr:`left` is 0, take runs
    from ``pending(block)``, write those pages and report them with :meth:`done`; in between take runs from
    ``aside(block)``, write those pages out of ``copies(block)`` and report them with :meth:`returned`. What is taken
    from *aside* must be written after what was taken from *pending* before.

    Args:
        limit, reserve: bytes of copies at most, see the module's text.

    Attributes:
        kernel_faults: writes by system calls (``read(2)`` into RAM) are waited for as well. Where the kernel
            reserves that for privileged users they fail with EFAULT; :meth:`RAMBlock.prepare_write` comes first there.
    """
    cdef pyemu_keeper state
    cdef list kept
    cdef readonly bint kernel_faults
    cdef object prober
    cdef object __weakref__

    def __cinit__(self):
        self.state.fd = -1
        self.state.wake = -1

    def __init__(self, *, limit=LIMIT, reserve=RESERVE):
        self.kept = []
        self.state.limit = limit
        self.state.reserve = reserve

    def __dealloc__(self):
        pyemu_keeper_stop(&self.state)
        if self.state.wake >= 0:
            close(self.state.wake)
        free(self.state.ranges)

    def start(self, blocks):
        """Gets ready; nothing is protected yet, and the guest may run.

        Raises:
            MemoryMapError: the kernel lacks what this needs, or a block's backing cannot be protected. All is as before.
        """
        if self.state.fd >= 0:
            raise MemoryMapError("a picture of RAM is being kept already")
        try:
            self.open()
            self.prepare(list(blocks))
            code = pyemu_keeper_start(&self.state)
            if code:
                raise MemoryMapError(f"no thread for write protection: {_text(code)}")
        except BaseException:
            self.stop()
            raise
        self.prober = threading.Thread(target=self.probe, name="snapshot-probe", daemon=True)
        self.prober.start()

    def open(self):
        cdef uint64_t features = (
            PYEMU_UFFD_PAGEFAULT_FLAG_WP | PYEMU_UFFD_WP_HUGETLBFS_SHMEM | PYEMU_UFFD_WP_UNPOPULATED
        )
        cdef int fd = pyemu_uffd_open(features, 0)
        self.kernel_faults = fd >= 0
        if fd < 0:
            fd = pyemu_uffd_open(features, PYEMU_UFFD_USER_MODE_ONLY)
        if fd < 0:
            raise MemoryMapError(
                f"a background snapshot needs the kernel's userfaultfd with write protection (Linux 6.4): {_text(fd)}"
            )
        self.state.fd = fd

    def prepare(self, list blocks):
        """Registers the blocks, and lets go of them whoever else watches them."""
        cdef RAMBlock block
        cdef _Kept kept
        cdef pyemu_keeper_range *r
        cdef int code
        self.state.ranges = <pyemu_keeper_range *>calloc(max(len(blocks), 1), sizeof(pyemu_keeper_range))
        if self.state.ranges == NULL:
            raise MemoryError("no memory for the list of RAM blocks")
        self.state.unit = HOST_PAGE
        for block in blocks:
            kept = _Kept()
            kept.block = block
            kept.mapping = block.memory()
            try:
                kept.copies = Mapping(block.idstr, kept.mapping.size, False)
            except OSError as error:
                raise MemoryMapError(f"RAM block {block.idstr}: no room for copies: {error.strerror}") from None
            # Given back page by page, so that the limit is what it says.
            madvise(kept.copies.base, kept.mapping.room(), MADV_NOHUGEPAGE)
            kept.kept, kept.pending, kept.aside = (DirtyBitmap(block.pages) for _ in range(3))
            kept.pending.set_all()
            if block.page_size > self.state.unit:
                self.state.unit = block.page_size
            if block.watcher is not None:
                block.watcher.lend(block)
            code = pyemu_uffd_register(self.state.fd, kept.mapping.base, kept.mapping.room())
            if code:
                if block.watcher is not None:
                    block.watcher.take_back(block)
                raise MemoryMapError(
                    f"RAM block {block.idstr}: backing {block.backing} cannot be write-protected: {_text(code)}"
                    f"{'; settle() it first' if block.backing == 'file-private' else ''}"
                )
            self.kept.append(kept)
            r = &self.state.ranges[self.state.count]
            self.state.count += 1
            r.base = kept.mapping.base
            r.copies = kept.copies.base
            r.length = kept.mapping.room()
            r.pages = block.pages
            r.page_size = block.page_size
            r.kept = kept.kept.bits
            r.pending = kept.pending.bits
            r.aside = kept.aside.bits
            if block.backing == "anon":
                # Untouched memory gets (huge) pages of zeros, which are protected in one go. A hint.
                with nogil:
                    madvise(r.base, r.length, MADV_POPULATE_READ)

    def protect(self):
        """The moment: what the blocks hold now is kept. The guest must stand still until this returns.

        Raises:
            MemoryMapError: the kernel refused.
        """
        cdef _Kept kept
        cdef size_t n
        cdef int code = 0
        for kept in self.kept:
            kept.kept.set_all()
            kept.block.keeper = self
        with nogil:
            for n in range(self.state.count):
                code = pyemu_uffd_protect(self.state.fd, self.state.ranges[n].base, self.state.ranges[n].length, 1)
                if code:
                    break
        if code:
            raise MemoryMapError(f"RAM cannot be write-protected: {_text(code)}")

    def stop(self):
        """Ends all protection and lets whoever waits go on. Copies not taken yet stay. May be repeated."""
        cdef _Kept kept
        with nogil:
            pyemu_keeper_stop(&self.state)
        prober, self.prober = self.prober, None
        if prober is not None:
            prober.join()
        for kept in self.kept:
            if kept.block.keeper is self:
                kept.block.keeper = None
            if self.state.count and kept.block.watcher is not None:
                kept.block.watcher.take_back(kept.block)
        # The ranges stay registered with nobody; a second stop() finds none.
        self.state.count = 0

    def pending(self, RAMBlock block not None):
        """Pages that the writer has still to begin with; it takes bits out."""
        return self.find(block).pending

    def aside(self, RAMBlock block not None):
        """Pages that were copied aside; the writer takes bits out."""
        return self.find(block).aside

    def copies(self, RAMBlock block not None):
        """The copies, each where the page is in the block: an array of uint8 of the block's size."""
        return numpy.frombuffer(self.find(block).copies, dtype=numpy.uint8)

    def done(self, RAMBlock block not None, const int64_t[:, ::1] runs):
        """These pages have been read; they need not be kept any longer."""
        self.each(block, runs, False)

    def returned(self, RAMBlock block not None, const int64_t[:, ::1] runs):
        """The copies of these pages have been read; their memory is given back."""
        self.each(block, runs, True)

    cdef each(self, RAMBlock block, const int64_t[:, ::1] runs, bint copies):
        cdef _Kept kept = self.find(block)
        cdef pyemu_keeper_range r
        cdef Py_ssize_t i
        cdef int code = 0
        for i in range(runs.shape[0]):
            if runs[i, 0] < 0 or runs[i, 1] < 1 or runs[i, 0] + runs[i, 1] > <int64_t>block.pages:
                raise MemoryMapError(f"RAM block {block.idstr}: no pages {runs[i, 0]} to {runs[i, 0] + runs[i, 1] - 1}")
        r.base = kept.mapping.base
        r.copies = kept.copies.base
        r.page_size = block.page_size
        r.kept = kept.kept.bits
        with nogil:
            for i in range(runs.shape[0]):
                if copies:
                    pyemu_keeper_returned(&self.state, &r, runs[i, 0], runs[i, 1])
                elif self.state.count:
                    code = pyemu_keeper_done(&self.state, &r, runs[i, 0], runs[i, 1])
                    if code:
                        break
        if code:
            raise MemoryMapError(f"RAM block {block.idstr}: write protection does not come off: {_text(code)}")

    def check(self):
        """Raises :class:`~pyemu.errors.MemoryMapError` when the picture had to be given up."""
        if self.state.failed:
            reason = _text(self.state.failed)
            if self.state.failed == 12:  # ENOMEM, which only the limit gives
                reason = (
                    f"the limit of {(self.state.limit + self.state.reserve) >> 20} MiB for copied pages was reached "
                    "while the writer could not go on: a thread that holds Python's lock, or a progress callback, writes RAM"
                )
            raise MemoryMapError(f"the picture of RAM was lost: {reason}")

    def prepare_write(self, RAMBlock block not None, size_t offset, size_t length):
        """Copies aside what is wanted of some bytes and lets them be written, by system calls, too."""
        cdef _Kept kept = self.find(block)
        cdef int code = 0
        with nogil:
            if self.state.count:
                code = pyemu_keeper_open(&self.state, kept.mapping.base + offset, length)
        if code:
            raise MemoryMapError(f"RAM block {block.idstr}: write protection does not come off: {_text(code)}")

    @property
    def pressed(self):
        """More than half of the room for copies is used: the writer had better not rest."""
        return self.state.used > self.state.limit // 2

    @property
    def statistics(self):
        """Faults served, pages copied aside, writes that had to wait for room, and most bytes of copies at a time."""
        return {
            "faults": self.state.faults, "copied": self.state.copied,
            "waits": self.state.waits, "peak": self.state.peak,
        }

    def away(self, bint away):
        """The writer says that it does something else for a while, or is back: a store must not wait for it meanwhile."""
        if self.state.joined or self.state.started:
            pyemu_keeper_away(&self.state, away)

    def probe(self):
        """Thread: comes round when asked, which shows that Python's lock is not held by somebody who waits for a page."""
        cdef int go_on = 1
        while go_on:
            with nogil:
                go_on = pyemu_keeper_probe(&self.state)

    cdef _Kept find(self, RAMBlock block):
        cdef _Kept kept
        for kept in self.kept:
            if kept.block is block:
                return kept
        raise MemoryMapError(f"RAM block {block.idstr} is not in this picture")

    def __repr__(self):
        return f"<PageKeeper of {len(self.kept)} blocks, {self.state.used >> 10} KiB of copies>"


cdef str _text(int code):
    return strerror(abs(code)).decode()

# SPDX-License-Identifier: MIT
"""RAM blocks: host memory that a guest sees, that migration moves and that numpy shows."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, strerror
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE,
    madvise, mmap, munmap,
)
from posix.unistd cimport close, ftruncate

import os

import numpy

from ..errors import ConfigError, MemoryMapError
from ._dispatch import report

cdef enum:
    MADV_HUGEPAGE = 14

cdef size_t HUGE = 2 << 20
cdef size_t HOST_PAGE = os.sysconf("SC_PAGE_SIZE")
MAX_SIZE = 1 << 40
BACKINGS = ("anon", "memfd")


@cython.final
@cython.no_gc_clear
cdef class Mapping:
    """The memory itself. Views hold it, so it lives as long as the last of them."""

    def __cinit__(self):
        self.fd = -1

    def __init__(self, str name, size_t size, bint shared):
        if shared:
            self.fd = os.memfd_create(f"pyemu:{name}", os.MFD_CLOEXEC)
            if ftruncate(self.fd, size) != 0:
                raise OSError(errno, strerror(errno).decode())
        # Room for the block at a multiple of 2 MiB, so that whole huge pages fit; the rest is given back.
        cdef size_t room = (size + HOST_PAGE - 1) // HOST_PAGE * HOST_PAGE
        cdef unsigned char *reserved = <unsigned char *>mmap(
            NULL, room + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if <void *>reserved == MAP_FAILED:
            raise OSError(errno, strerror(errno).decode())
        cdef size_t ahead = (HUGE - <uintptr_t>reserved % HUGE) % HUGE
        cdef int flags = (MAP_SHARED if shared else MAP_PRIVATE | MAP_ANONYMOUS) | MAP_NORESERVE | MAP_FIXED
        cdef void *base = mmap(reserved + ahead, room, PROT_READ | PROT_WRITE, flags, self.fd, 0)
        if base == MAP_FAILED:
            failed = errno
            munmap(reserved, room + HUGE)
            raise OSError(failed, strerror(failed).decode())
        if ahead:
            munmap(reserved, ahead)
        if HUGE - ahead:
            munmap(reserved + ahead + room, HUGE - ahead)
        self.base = <unsigned char *>base
        self.size = size
        # A hint: without huge pages everything works, only slower.
        madvise(base, room, MADV_HUGEPAGE)

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, (self.size + HOST_PAGE - 1) // HOST_PAGE * HOST_PAGE)
        if self.fd >= 0:
            close(self.fd)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.base, self.size, 0, flags)


@cython.final
cdef class RAMBlock:
    """A block of guest RAM.

    Args:
        idstr: its name in migration streams, at most 255 bytes.
        size: a positive multiple of *page_size*, at most 1 TiB. Nothing is touched until used.
        page_size: the unit of dirty tracking and migration.
        backing: ``"anon"`` (private memory, huge pages where the host has them) or ``"memfd"`` (a file
            descriptor, :attr:`fd`, that other processes can map).

    Raises:
        ConfigError: a size, page size, name or backing that is not possible, or no memory.
    """

    def __init__(self, str idstr, size, *, page_size=4096, str backing="anon"):
        if not 0 < len(idstr.encode()) < 256:
            raise ConfigError(f"RAM block name {idstr!r} does not take 1 to 255 bytes")
        if backing not in BACKINGS:
            raise ConfigError(f"RAM block {idstr}: backing {backing!r} is not one of {', '.join(BACKINGS)}")
        if not 4096 <= page_size <= HUGE or page_size & (page_size - 1):
            raise ConfigError(f"RAM block {idstr}: page size {page_size} is not a power of two from 4096 to {HUGE}")
        if not 0 < size <= MAX_SIZE or size % page_size:
            raise ConfigError(
                f"RAM block {idstr}: size {size} is not a positive multiple of {page_size} up to {MAX_SIZE}"
            )
        try:
            self.mapping = Mapping(idstr, size, backing == "memfd")
        except OSError as error:
            raise ConfigError(f"RAM block {idstr}: no {size} bytes of {backing} memory: {error.strerror}") from None
        self.idstr = idstr
        self.used_length = size
        self.page_size = page_size
        self.page_shift = page_size.bit_length() - 1
        self.pages = size // page_size
        self.backing = backing
        self.clients = {}
        self.listeners = []

    @property
    def array(self):
        """The memory as an array of uint8, no copy. It stays valid after :meth:`close`.

        What is written here is seen by the guest and by dirty sources, but not by its translated
        code: for that there is :meth:`write`.
        """
        return numpy.frombuffer(self.memory(), dtype=numpy.uint8)

    @property
    def pointer(self):
        """Host address of the first byte."""
        return <uintptr_t>self.memory().base

    @property
    def fd(self):
        """File descriptor of the memory (``memfd``), or -1."""
        return self.memory().fd

    @property
    def closed(self):
        return self.mapping is None

    def read(self, offset, length):
        """*length* bytes from *offset*.

        Raises:
            MemoryMapError: they are not all in the block.
        """
        cdef Mapping mapping = self.memory()
        cdef size_t first = self.checked(offset, length)
        return PyBytes_FromStringAndSize(<char *>mapping.base + first, length)

    def write(self, offset, data):
        """Stores bytes, marks their pages dirty and tells the write listeners.

        Raises:
            MemoryMapError: they do not all fit into the block.
        """
        cdef Mapping mapping = self.memory()
        cdef const unsigned char[::1] source = memoryview(data).cast("B")
        cdef size_t length = source.shape[0], first = self.checked(offset, length)
        if length:
            with nogil:
                memcpy(mapping.base + first, &source[0], length)
                self.c_written(first, length)

    def mark_dirty(self, offset, length):
        """A device wrote *length* bytes at *offset* behind the block's back: tells clients and listeners."""
        self.memory()
        cdef size_t first = self.checked(offset, length), n = length
        if n:
            self.c_written(first, n)

    # -- clients of the dirty log -----------------------------------------------------------------

    def dirty_client(self, str name):
        """The bitmap of client *name* (``"migration"``, ``"display"``), made all clear when there is none."""
        bitmap = self.clients.get(name)
        if bitmap is None:
            # A new dict, so that threads in the middle of a walk keep theirs.
            bitmap = DirtyBitmap(self.pages)
            self.clients = {**self.clients, name: bitmap}
            self.watched = True
        return bitmap

    def drop_dirty_client(self, str name):
        """Forgets the bitmap of client *name*; one that is not there is fine."""
        self.clients = {key: bitmap for key, bitmap in self.clients.items() if key != name}
        self.watched = bool(self.clients or self.listeners)

    @property
    def dirty_clients(self):
        """Bitmaps by client name."""
        return dict(self.clients)

    def add_write_listener(self, listener):
        """Calls ``listener(offset, length)`` after each write from outside the guest, on the writing thread."""
        self.listeners = [*self.listeners, listener]
        self.watched = True

    def remove_write_listener(self, listener):
        """Stops calling *listener*.

        Raises:
            MemoryMapError: it was never added.
        """
        if listener not in self.listeners:
            raise MemoryMapError(f"RAM block {self.idstr}: {listener!r} is no write listener of it")
        remaining = list(self.listeners)
        remaining.remove(listener)
        self.listeners = remaining
        self.watched = bool(self.clients or self.listeners)

    def close(self):
        """Gives the memory back as soon as no view of it and no address space uses it. May be repeated."""
        self.mapping = None

    def __repr__(self):
        return f"<RAMBlock {self.idstr} {self.used_length} bytes {self.backing}{' closed' if self.closed else ''}>"

    cdef Mapping memory(self):
        if self.mapping is None:
            raise MemoryMapError(f"RAM block {self.idstr} is closed")
        return self.mapping

    def checked(self, offset, length):
        """*offset*, if *length* bytes from there are in the block."""
        if offset < 0 or length < 0 or offset + length > self.used_length:
            raise MemoryMapError(
                f"RAM block {self.idstr}: {length} bytes at {offset:#x} are not inside its {self.used_length} bytes"
            )
        return offset

    # Cannot fail: what listeners raise goes to sys.unraisablehook.
    cdef void c_written(self, size_t offset, size_t length) noexcept nogil:
        if self.watched:
            with gil:
                _tell(self, offset, length)


cdef void _tell(RAMBlock block, size_t offset, size_t length) noexcept:
    cdef size_t first = offset >> block.page_shift
    cdef size_t last = (offset + length - 1) >> block.page_shift
    cdef DirtyBitmap bitmap
    for bitmap in block.clients.values():
        bitmap.c_set_range(first, last - first + 1)
    for listener in block.listeners:
        try:
            listener(offset, length)
        except BaseException as error:
            report(error, listener)

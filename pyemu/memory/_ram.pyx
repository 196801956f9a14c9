# SPDX-License-Identifier: MIT
"""RAM blocks: host memory that a guest sees, that migration moves and that numpy shows."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy, strerror
from posix.unistd cimport close

from pyemu.memory._mapping cimport Mapping

import os

import numpy

from ..errors import ConfigError, MemoryMapError
from ._dispatch import report
from ._mapping import hold, open_backing

cdef size_t HUGE = 2 << 20
cdef size_t HOST_PAGE = os.sysconf("SC_PAGE_SIZE")
MAX_SIZE = 1 << 40
BACKINGS = ("anon", "memfd", "file-shared", "file-private")
# What settle() does at a time: a few milliseconds' worth. Blocks of more pieces than the second number have larger
# ones, for each piece may stay a mapping of its own, and a process has 65,530 of these.
cdef size_t SETTLE_PIECE = 8 << 20
cdef size_t SETTLE_PIECES = 4096


@cython.final
cdef class RAMBlock:
    """A block of guest RAM.

    Args:
        idstr: its name in migration streams, at most 255 bytes.
        size: a positive multiple of *page_size*, at most 1 TiB. Nothing is touched until used.
        page_size: the unit of dirty tracking and migration.
        backing: where the bytes are, see docs/explanation/memory.md: ``"anon"`` (private memory, huge pages where
            the host has them), ``"memfd"`` (a file descriptor, :attr:`fd`, that other processes can map),
            ``"file-shared"`` (a file, written through) or ``"file-private"`` (a file's content, copied on write).
        path: of the file. ``file-shared`` makes one that is missing, and gives an empty one the size; otherwise it
            must be as long as the block at least.

    Raises:
        ConfigError: a size, page size, name, backing or file that is not possible, or no memory.
    """

    def __init__(self, str idstr, size, *, page_size=4096, str backing="anon", path=None):
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
        if (path is None) == backing.startswith("file"):
            raise ConfigError(f"RAM block {idstr}: backing {backing} {'needs a' if path is None else 'has no'} path")
        fd = -1
        try:
            if path is not None:
                fd = open_backing(path, size, backing == "file-shared")
            self.mapping = Mapping(idstr, size, backing in ("memfd", "file-shared"), fd)
        except OSError as error:
            where = f" in {os.fspath(path)}" if path is not None else ""
            raise ConfigError(f"RAM block {idstr}: no {size} bytes of {backing} memory{where}: {error.strerror}") from None
        self.idstr = idstr
        self.used_length = size
        self.page_size = page_size
        self.page_shift = page_size.bit_length() - 1
        self.pages = size // page_size
        self.backing = backing
        self.clients = {}
        self.listeners = []
        self.path = None if path is None else os.fspath(path)

    @property
    def shared(self):
        """Others can see the memory: what this process writes, and this process what they write."""
        return self.backing in ("memfd", "file-shared")

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
        """File descriptor of the memory (``memfd``, files), or -1."""
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

    def prepare_write(self, offset, length):
        """To be called before the kernel is told to store into :attr:`array`, e.g. by ``readinto``.

        While a background snapshot is being taken, pages that it has not got yet are write-protected. Stores of the
        processor are waited for; those of system calls fail with EFAULT where the kernel reserves such waiting for
        privileged users. This has the snapshot take these pages at once. Otherwise it costs nothing.

        Raises:
            MemoryMapError: they are not all in the block.
        """
        self.memory()
        cdef size_t first = self.checked(offset, length)
        if self.keeper is not None and length:
            self.keeper.prepare_write(self, first, length)

    # -- memory over a file -----------------------------------------------------------------------

    def map_file(self, int fd, offset, present):
        """Takes the content of a file for that of the block: mapped copy-on-write, so nothing is read yet.

        What the block held is gone. The backing is ``file-private`` afterwards. The file must not get shorter, or the
        process dies of SIGBUS; it is kept open and locked shared (``flock``) so that writers can know.

        Args:
            fd: an open file; it stays the caller's, and must not be used by anybody else, for its lock is shared.
            offset: position of the block's first byte in it, a multiple of the host's page size.
            present: bitmap in 64-bit words, a bit a page: which pages hold data. The others must read as zeros.

        Raises:
            MemoryMapError: the block is not ``anon``, is watched, or the file is too short or cannot be mapped.
        """
        cdef Mapping mapping = self.memory()
        cdef int own
        if self.backing != "anon" or self.watcher is not None or self.keeper is not None:
            raise MemoryMapError(f"RAM block {self.idstr}: a {self.backing} block cannot be mapped over a file now")
        words = numpy.array(present, dtype=numpy.uint64)
        if <size_t>len(words) != (self.pages + 63) // 64:
            raise MemoryMapError(f"RAM block {self.idstr}: bitmap of {len(words)} words for {self.pages} pages")
        length = os.fstat(fd).st_size
        if offset < 0 or offset % HOST_PAGE or mapping.size % HOST_PAGE or offset + mapping.size > length:
            raise MemoryMapError(
                f"RAM block {self.idstr}: {mapping.size} bytes at {offset:#x} of a file of {length:#x} bytes"
                f" cannot be mapped in pages of {HOST_PAGE}"
            )
        own = os.dup(fd)
        if not hold(own):
            close(own)
            raise MemoryMapError(f"RAM block {self.idstr}: the file is being written in place")
        code = mapping.cover(own, offset)
        if code:
            close(own)
            raise MemoryMapError(f"RAM block {self.idstr}: file not mapped: {strerror(code).decode()}")
        mapping.fd = own
        self.backing = "file-private"
        self.present = words
        self.settled = 0

    def populate(self, const int64_t[:, ::1] runs):
        """Has the kernel read what is behind some pages, and changes nothing.

        Args:
            runs: rows of (first page, number of pages).

        Raises:
            MemoryMapError: they are not all in the block, or the file cannot be read (any more).
        """
        cdef Mapping mapping = self.memory()
        cdef size_t at = 0
        cdef Py_ssize_t i
        cdef int code = 0
        for i in range(runs.shape[0]):
            self.checked(int(runs[i, 0]) << self.page_shift, int(runs[i, 1]) << self.page_shift)
        with nogil:
            for i in range(runs.shape[0]):
                at = <size_t>runs[i, 0] << self.page_shift
                code = mapping.populate(at, <size_t>(runs[i, 0] + runs[i, 1]) << self.page_shift)
                if code:
                    break
        if code:
            raise MemoryMapError(f"RAM block {self.idstr}: file not read at {at:#x}: {strerror(code).decode()}")

    def discard_file(self):
        """Takes a file away from behind the block (``file-private``), which is zero and ``anon`` then.

        Raises:
            MemoryMapError: the block is being watched.
        """
        cdef Mapping mapping = self.memory()
        if self.backing != "file-private":
            return
        if self.watcher is not None or self.keeper is not None:
            raise MemoryMapError(f"RAM block {self.idstr}: cannot be discarded while it is watched")
        code = mapping.cover(-1, 0)
        if code:
            raise MemoryMapError(f"RAM block {self.idstr}: cannot be discarded: {strerror(code).decode()}")
        self.leave_file(mapping)

    cdef leave_file(self, Mapping mapping):
        self.backing = "anon"
        self.present = None
        self.path = None
        close(mapping.fd)
        mapping.fd = -1

    def settle(self, limit=None):
        """Turns memory over a file (``file-private``) into ``anon`` memory that depends on no file.

        Each piece is copied and put in place of the old one in one go, so readers see no difference. But what another
        thread stores during the copy is lost: call it on the machine thread. Threads that hold Python's lock
        while they write are kept out as well.

        Args:
            limit: bytes to settle at most, rounded up to pieces of 8 MiB or more; None for all.

        Returns:
            the bytes that remain to be settled; 0 as well for blocks that need it not.

        Raises:
            MemoryMapError: the block is being watched, or there is no memory; what is settled stays so.
        """
        cdef Mapping mapping = self.memory()
        cdef size_t at_most = self.used_length if limit is None else max(limit, 1)
        if self.backing != "file-private":
            return 0
        if self.watcher is not None or self.keeper is not None:
            raise MemoryMapError(f"RAM block {self.idstr}: cannot settle while it is watched")
        cdef size_t piece = SETTLE_PIECE, room = mapping.room(), end, length
        while room // piece > SETTLE_PIECES:
            piece *= 2
        end = room if limit is None else min(room, self.settled + at_most)
        while self.settled < end:
            length = min(piece, room - self.settled)
            try:
                mapping.settle(self.settled, length, self.page_shift, self.present)
            except OSError as error:
                raise MemoryMapError(f"RAM block {self.idstr}: {length} bytes not settled: {error.strerror}") from None
            self.settled += length
        if self.settled < room:
            return room - self.settled
        self.leave_file(mapping)
        return 0

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

    cdef merge_dirty(self, DirtyBitmap found):
        """What a dirty source found goes to all clients and is cleared."""
        cdef DirtyBitmap bitmap
        for bitmap in self.clients.values():
            bitmap.c_merge(found)
        found.c_clear_range(0, found.pages)

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

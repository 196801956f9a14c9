# SPDX-License-Identifier: MIT
"""RAM blocks: host memory that a guest sees, that migration moves and that numpy shows."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
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

from ..errors import ConfigError, MemoryMapError
from ._dispatch import report

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
MAX_SIZE = 1 << 40
BACKINGS = ("anon", "memfd", "file-shared", "file-private")
# What settle() does at a time: a few milliseconds' worth. Blocks of more pieces than the second number have larger
# ones, for each piece may stay a mapping of its own, and a process has 65,530 of these.
cdef size_t SETTLE_PIECE = 8 << 20
cdef size_t SETTLE_PIECES = 4096
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
                fd = _open_file(path, size, backing == "file-shared")
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
        try:
            fcntl.flock(own, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            close(own)
            raise MemoryMapError(
                f"RAM block {self.idstr}: the file is being written in place, or cannot be locked: {error.strerror}"
            ) from None
        if mmap(mapping.base, mapping.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, own,
                <off_t>offset) == MAP_FAILED:
            code = errno
            close(own)
            raise MemoryMapError(f"RAM block {self.idstr}: file not mapped: {strerror(code).decode()}")
        mapping.fd = own
        self.backing = "file-private"
        self.present = words
        self.settled = 0

    def populate(self, offset, length):
        """Has the kernel read bytes of a file behind the block, and changes nothing.

        Raises:
            MemoryMapError: they are not all in the block, or the file cannot be read (any more).
        """
        cdef Mapping mapping = self.memory()
        cdef size_t first = self.checked(offset, length) // HOST_PAGE * HOST_PAGE, n, end = first + length
        cdef int code = 0
        cdef volatile unsigned char _byte
        with nogil:
            if madvise(mapping.base + first, end - first, MADV_POPULATE_READ) != 0:
                code = errno
        if code == EINVAL:
            # A kernel before 5.14.
            with nogil:
                n = first
                while n < end:
                    _byte = mapping.base[n]
                    n += HOST_PAGE
        elif code:
            raise MemoryMapError(f"RAM block {self.idstr}: file not read at {first:#x}: {strerror(code).decode()}")

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
            self.settle_piece(mapping, self.settled, length)
            self.settled += length
        if self.settled < room:
            return room - self.settled
        self.backing = "anon"
        self.present = None
        self.path = None
        close(mapping.fd)
        mapping.fd = -1
        return 0

    def settle_piece(self, Mapping mapping, size_t first, size_t length):
        cdef unsigned char *fresh = _reserve(length)
        cdef unsigned char *old = mapping.base + first
        cdef size_t n, page, pages = length // HOST_PAGE
        cdef const uint64_t[::1] present = self.present
        cdef bint everything = self.present is None
        cdef uint64_t[::1] entries = _pagemap(<uintptr_t>old // HOST_PAGE, pages)
        if mmap(fresh, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) \
                == MAP_FAILED:
            code = errno
            munmap(fresh, length)
            raise MemoryMapError(f"RAM block {self.idstr}: no {length} bytes of memory: {strerror(code).decode()}")
        madvise(fresh, length, MADV_HUGEPAGE)
        # With the GIL, see above.
        for n in range(pages):
            page = (first + n * HOST_PAGE) >> self.page_shift
            # Neither written nor in the file: holes need not be read.
            if not everything and not present[page >> 6] >> (page & 63) & 1:
                if entries[n] & PM_FILE or not entries[n] & (PM_PRESENT | PM_SWAP):
                    continue
            if not _is_zero(old + n * HOST_PAGE, HOST_PAGE):
                memcpy(fresh + n * HOST_PAGE, old + n * HOST_PAGE, HOST_PAGE)
        if pyemu_move(fresh, length, old) == MAP_FAILED:
            code = errno
            munmap(fresh, length)
            raise MemoryMapError(f"RAM block {self.idstr}: cannot settle: {strerror(code).decode()}")

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


def _open_file(path, size_t size, bint shared):
    """A descriptor of the file behind a block."""
    fd = os.open(path, (os.O_RDWR | os.O_CREAT if shared else os.O_RDONLY) | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(EINVAL, "not a regular file")
        if shared and status.st_size == 0:
            os.ftruncate(fd, size)
        elif status.st_size < size:
            raise OSError(EINVAL, f"the file has only {status.st_size}")
    except BaseException:
        os.close(fd)
        raise
    return fd


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

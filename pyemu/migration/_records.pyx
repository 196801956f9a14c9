# SPDX-License-Identifier: MIT
"""Page records and batches of pages, put together and taken apart without the GIL.

A record is a 64-bit big-endian word, the page's offset in its block with flags in the low bits; the
block's name behind its length unless the word says that the block is the one before; then the page, or
one zero byte for a page of zeros.

Records are copied into one buffer and written from there: eight bytes before each page put every page of
the stream at an odd place, and a gathered write of such pieces was never quicker than this, and often slower.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.types cimport off_t

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void *data, size_t length, off_t offset)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, const void *attributes)
    int pthread_cond_destroy(pthread_cond_t *condition)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_broadcast(pthread_cond_t *condition)

cdef extern from "_zero.h" nogil:
    int pyemu_zero(const uint8_t *data, size_t length)
    int pyemu_zero_select(const char *name)
    void pyemu_bits_set(uint64_t *word, uint64_t mask)

cdef extern from *:
    """
    #define pyemu_be64(x) __builtin_bswap64(x)
    #define pyemu_bit64(n) (1ULL << (n))
    """
    uint64_t pyemu_be64(uint64_t x) nogil
    uint64_t pyemu_bit64(int64_t n) nogil

cdef enum:
    ZERO = 0x002
    PAGE = 0x008
    CONTINUE = 0x020
    FLAGS = 0xfff
    # Largest record beside its page: word (8), length (1) and name (255) of the block, the byte of a zero page.
    OVERHEAD = 265

pyemu_zero_select(NULL)


def select_simd(name=None):
    """As :func:`pyemu.migration._pages.select_simd`, for this module's copy of the zero test."""
    if name is None:
        pyemu_zero_select(NULL)
    elif not pyemu_zero_select(name.encode()):
        raise ValueError(f"zero test {name!r} is not available on this processor")


cdef _check_runs(const int64_t[:, ::1] runs, Py_ssize_t pages):
    cdef Py_ssize_t i
    if runs.shape[1] != 2:
        raise ValueError(f"runs have {runs.shape[1]} columns, not first and count")
    for i in range(runs.shape[0]):
        if runs[i, 0] < 0 or runs[i, 1] < 0 or runs[i, 0] > pages or runs[i, 1] > pages - runs[i, 0]:
            raise ValueError(f"run of {runs[i, 1]} pages at page {runs[i, 0]} is outside of {pages} pages")


cdef _check_numbers(const int64_t[::1] numbers, Py_ssize_t pages):
    cdef Py_ssize_t i
    for i in range(numbers.shape[0]):
        if not 0 <= numbers[i] < pages:
            raise ValueError(f"page {numbers[i]} is outside of {pages} pages")


# Cannot fail: the destination is any eight bytes, at whatever address.
cdef inline void _put(uint8_t *out, uint64_t word) noexcept nogil:
    word = pyemu_be64(word)
    memcpy(out, &word, 8)


# Cannot fail: the source is any eight bytes, at whatever address.
cdef inline uint64_t _word(const uint8_t *data) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, data, 8)
    return pyemu_be64(word)


def gather_records(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const int64_t[:, ::1] runs,
                   Py_ssize_t row, int64_t page, uint8_t[::1] out, const uint8_t[::1] name, bint detect_zero):
    """Writes records of pages to a buffer until it is full or the runs end.

    Args:
        base: host address of page 0; the caller keeps the memory alive.
        pages: pages that the memory has.
        runs: rows of (first page, number of pages).
        row, page: where to go on: pages of that row already done.
        out: the buffer, with room for a record at least.
        name: the block's, if the first record is to carry it; else empty.
        detect_zero: look for zero pages.

    Returns:
        (bytes written, data pages, zero pages, row, pages of that row done)
    """
    _check_runs(runs, pages)
    if out.shape[0] < page_size + OVERHEAD or name.shape[0] > 255:
        raise ValueError(f"buffer of {out.shape[0]} bytes for pages of {page_size}, name of {name.shape[0]}")
    if row < 0 or page < 0:
        raise ValueError(f"cannot go on at page {page} of row {row}")
    cdef const uint8_t *memory = <const uint8_t *>base
    cdef const uint8_t *data
    # Counted beside the pointer: the checked build cannot subtract pointers.
    cdef uint8_t *at = &out[0]
    cdef Py_ssize_t filled = 0, full = out.shape[0] - page_size - OVERHEAD, length
    cdef Py_ssize_t name_length = name.shape[0]
    cdef int64_t normal = 0, zero = 0, number
    cdef uint64_t flags
    cdef bint empty
    with nogil:
        while row < runs.shape[0] and filled <= full:
            if page >= runs[row, 1]:
                row += 1
                page = 0
                continue
            number = runs[row, 0] + page
            data = memory + number * page_size
            empty = detect_zero and pyemu_zero(data, page_size)
            flags = ZERO if empty else PAGE
            _put(at, <uint64_t>(number * page_size) | flags | (0 if name_length else CONTINUE))
            length = 8
            if name_length:
                at[length] = <uint8_t>name_length
                memcpy(at + length + 1, &name[0], name_length)
                length += 1 + name_length
                name_length = 0
            if empty:
                at[length] = 0
                length += 1
                zero += 1
            else:
                memcpy(at + length, data, page_size)
                length += page_size
                normal += 1
            at += length
            filled += length
            page += 1
    return filled, normal, zero, row, page


# How far the records go that begin in the first *begin* bytes and are acceptable: continuing the block, inside of
# *size* bytes of memory, whole within *length*. With *seen*, a bitmap, none of them is for a page that is in it, and
# all get into it. The caller's bitmaps reach as far as the memory.
cdef Py_ssize_t _follow(const uint8_t *data, Py_ssize_t begin, Py_ssize_t length, uint64_t size, uint64_t page_size,
                        uint64_t *seen) noexcept nogil:
    cdef Py_ssize_t at = 0, step
    cdef uint64_t word, flags, number, mask
    while at < begin and length - at >= 9:
        word = _word(data + at)
        flags = word & FLAGS
        word -= flags
        if word >= size or word % page_size:
            break
        if flags == (PAGE | CONTINUE):
            step = 8 + <Py_ssize_t>page_size
            if length - at < step:
                break
        elif flags == (ZERO | CONTINUE) and not data[at + 8]:
            step = 9
        else:
            break
        if seen != NULL:
            number = word // page_size
            mask = pyemu_bit64(number & 63)
            if seen[number >> 6] & mask:
                break
            seen[number >> 6] |= mask
        at += step
    return at


# Does what the records say that _follow() has found good; counts them.
cdef void _scatter(uint8_t *memory, uint64_t page_size, const uint8_t *data, Py_ssize_t length, uint64_t *touched,
                   int64_t *normal, int64_t *zero) noexcept nogil:
    cdef Py_ssize_t at = 0
    cdef uint64_t word, number
    while at < length:
        word = _word(data + at)
        number = (word & ~<uint64_t>FLAGS) // page_size
        if word & PAGE:
            memcpy(memory + number * page_size, data + at + 8, page_size)
            pyemu_bits_set(&touched[number >> 6], pyemu_bit64(number & 63))
            normal[0] += 1
            at += 8 + <Py_ssize_t>page_size
        else:
            if touched[number >> 6] & pyemu_bit64(number & 63):
                memset(memory + number * page_size, 0, page_size)
            zero[0] += 1
            at += 9


def scatter_records(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const uint8_t[::1] data,
                    uint64_t[::1] touched):
    """Copies the pages of records at the beginning of *data* to memory, as long as they continue one block.

    It ends before the first record that carries a name, is of another kind, lies outside of the memory, is
    a zero page whose byte is not 0, or is not there to its end: the caller looks at that one.

    Args:
        base, pages, page_size: the memory, as in :func:`gather_records`.
        data: the stream.
        touched: bitmap of pages that are not known to be zero; data pages are set. A zero page whose bit is
            clear needs nothing.

    Returns:
        (bytes taken, data pages, zero pages)
    """
    if touched.shape[0] < (pages + 63) // 64:
        raise ValueError(f"bitmap of {touched.shape[0]} words is too short for {pages} pages")
    cdef int64_t normal = 0, zero = 0
    cdef Py_ssize_t taken
    if not data.shape[0]:
        return 0, 0, 0
    with nogil:
        taken = _follow(&data[0], data.shape[0], data.shape[0], <uint64_t>pages * <uint64_t>page_size, page_size, NULL)
        _scatter(<uint8_t *>base, page_size, &data[0], taken, &touched[0], &normal, &zero)
    return taken, normal, zero


cdef class FileScatter:
    """Does as :func:`scatter_records` for records in a file, with as many threads as call :meth:`work`.

    The file is read in pieces. Where the records of a piece begin is known when the piece before has been followed
    to its end; that is little work and done in turn, while reading and copying are done at the same time. A page that
    comes a second time ends it, for pieces are copied in any order.

    A file that ends, or that cannot be read, ends it before the record that is not whole.

    Args:
        fd: open for reading; the caller keeps it, as the memory, until all threads are back.
        position: of the first record.
        base, pages, page_size, touched: as for :func:`scatter_records`.
        piece: bytes read at once.

    Attributes:
        end: position of the first record that was not taken.
        normal, zero: data pages and zero pages taken.
    """

    cdef readonly int64_t end, normal, zero
    cdef int _fd
    cdef int64_t _start, _piece, _next, _turn
    cdef uint8_t *_memory
    cdef uint64_t _size, _page_size
    cdef uint64_t[::1] _touched, _seen
    cdef bint _stopped
    cdef pthread_mutex_t _lock
    cdef pthread_cond_t _moved

    def __cinit__(self, int fd, int64_t position, uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size,
                  uint64_t[::1] touched, uint64_t[::1] seen, int64_t piece):
        pthread_mutex_init(&self._lock, NULL)
        pthread_cond_init(&self._moved, NULL)
        if pages <= 0 or min(touched.shape[0], seen.shape[0]) < (pages + 63) // 64:
            raise ValueError(f"bitmaps of {touched.shape[0]} and {seen.shape[0]} words for {pages} pages")
        if piece < 8 + page_size or position < 0:
            raise ValueError(f"pieces of {piece} bytes from position {position} for pages of {page_size}")
        self._fd, self._start, self._piece, self.end = fd, position, piece, position
        self._memory, self._size, self._page_size = <uint8_t *>base, <uint64_t>pages * <uint64_t>page_size, page_size
        self._touched, self._seen = touched, seen

    def __dealloc__(self):
        pthread_cond_destroy(&self._moved)
        pthread_mutex_destroy(&self._lock)

    def work(self):
        """Takes records until there are no more to take. Waits for other threads that are in here."""
        cdef uint8_t *buffer = <uint8_t *>malloc(self._piece + 8 + self._page_size)
        if buffer == NULL:
            raise MemoryError(f"{self._piece} bytes for records")
        with nogil:
            self._work(buffer)
        free(buffer)

    cdef void _work(self, uint8_t *buffer) noexcept nogil:
        cdef int64_t number, normal = 0, zero = 0, skipped, begin
        cdef Py_ssize_t length, taken
        pthread_mutex_lock(&self._lock)
        while not self._stopped:
            number = self._next
            self._next += 1
            pthread_mutex_unlock(&self._lock)
            begin = self._start + number * self._piece
            # A record may begin with the last byte of a piece.
            length = _read(self._fd, buffer, self._piece + 8 + <int64_t>self._page_size, begin)
            pthread_mutex_lock(&self._lock)
            while self._turn != number and not self._stopped:
                pthread_cond_wait(&self._moved, &self._lock)
            if self._stopped:
                break
            skipped = self.end - begin
            taken = 0
            if skipped < length:
                taken = _follow(buffer + skipped, self._piece - skipped, length - skipped, self._size,
                                self._page_size, &self._seen[0])
            self.end += taken
            self._turn += 1
            self._stopped = skipped + taken < self._piece
            pthread_cond_broadcast(&self._moved)
            pthread_mutex_unlock(&self._lock)
            _scatter(self._memory, self._page_size, buffer + skipped, taken, &self._touched[0], &normal, &zero)
            pthread_mutex_lock(&self._lock)
        self.normal += normal
        self.zero += zero
        pthread_mutex_unlock(&self._lock)


# Bytes read, fewer at the file's end and where reading fails: who comes to that place hears of it again.
cdef Py_ssize_t _read(int fd, uint8_t *out, int64_t length, int64_t position) noexcept nogil:
    cdef Py_ssize_t have = 0
    cdef ssize_t done
    while have < length:
        done = pread(fd, out + have, length - have, position + have)
        if done < 0 and errno == EINTR:
            continue
        if done <= 0:
            break
        have += done
    return have


def gather_pages(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const int64_t[::1] numbers,
                 uint8_t[::1] out):
    """Copies pages, given by number, one behind the other into a buffer of exactly their size."""
    _check_numbers(numbers, pages)
    if out.shape[0] != numbers.shape[0] * page_size:
        raise ValueError(f"buffer of {out.shape[0]} bytes for {numbers.shape[0]} pages of {page_size}")
    cdef const uint8_t *memory = <const uint8_t *>base
    cdef Py_ssize_t i
    with nogil:
        for i in range(numbers.shape[0]):
            memcpy(&out[i * page_size], memory + numbers[i] * page_size, page_size)


def scatter_pages(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const int64_t[::1] numbers,
                  const uint8_t[::1] data):
    """The mirror of :func:`gather_pages`."""
    _check_numbers(numbers, pages)
    if data.shape[0] != numbers.shape[0] * page_size:
        raise ValueError(f"{data.shape[0]} bytes for {numbers.shape[0]} pages of {page_size}")
    cdef uint8_t *memory = <uint8_t *>base
    cdef Py_ssize_t i
    with nogil:
        for i in range(numbers.shape[0]):
            memcpy(memory + numbers[i] * page_size, &data[i * page_size], page_size)


def sort_pages(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const int64_t[:, ::1] runs,
               int64_t[::1] data, int64_t[::1] zero):
    """Sorts the pages of runs into those with data and those of zeros, each in the order of the runs.

    Args:
        base, pages, page_size, runs: as in :func:`gather_records`.
        data, zero: take the page numbers; each has room for all.

    Returns:
        (data pages, zero pages)
    """
    _check_runs(runs, pages)
    cdef int64_t total = 0, number, normal = 0, empty = 0
    cdef Py_ssize_t i
    for i in range(runs.shape[0]):
        total += runs[i, 1]
    if data.shape[0] < total or zero.shape[0] < total:
        raise ValueError(f"room for {data.shape[0]} and {zero.shape[0]} of {total} pages")
    cdef const uint8_t *memory = <const uint8_t *>base
    with nogil:
        for i in range(runs.shape[0]):
            for number in range(runs[i, 0], runs[i, 0] + runs[i, 1]):
                if pyemu_zero(memory + number * page_size, page_size):
                    zero[empty] = number
                    empty += 1
                else:
                    data[normal] = number
                    normal += 1
    return normal, empty


def clear_touched(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const int64_t[::1] numbers,
                  const uint64_t[::1] touched):
    """Zeroes those of the pages whose bit in *touched* is set; the others are known to be zero."""
    _check_numbers(numbers, pages)
    if touched.shape[0] < (pages + 63) // 64:
        raise ValueError(f"bitmap of {touched.shape[0]} words is too short for {pages} pages")
    cdef uint8_t *memory = <uint8_t *>base
    cdef Py_ssize_t i
    with nogil:
        for i in range(numbers.shape[0]):
            if touched[numbers[i] >> 6] & pyemu_bit64(numbers[i] & 63):
                memset(memory + numbers[i] * page_size, 0, page_size)


def touch(const int64_t[::1] numbers, uint64_t[::1] touched):
    """Sets the bits of pages; several threads may do so at once."""
    _check_numbers(numbers, touched.shape[0] * 64)
    cdef Py_ssize_t i
    with nogil:
        for i in range(numbers.shape[0]):
            pyemu_bits_set(&touched[numbers[i] >> 6], pyemu_bit64(numbers[i] & 63))

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
from libc.string cimport memcpy, memset
from posix.types cimport off_t


cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void *data, size_t length, off_t offset)

cdef extern from "_zero.h" nogil:
    int pyemu_zero(const uint8_t *data, size_t length)
    int pyemu_zero_select(const char *name)
    void pyemu_bits_set(uint64_t *word, uint64_t mask)
    void pyemu_bits_clear(uint64_t *word, uint64_t mask)

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
    # Records of zero pages that are looked at with one system call, and data pages that are leapt over at a time.
    WINDOW = 32 * 9
    LEAP = 64

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
    cdef uint8_t *memory = <uint8_t *>base
    cdef Py_ssize_t at = 0, length = data.shape[0]
    cdef uint64_t word, flags, size = <uint64_t>pages * <uint64_t>page_size
    cdef int64_t number, normal = 0, zero = 0
    with nogil:
        while length - at >= 9:
            word = _word(&data[at])
            flags = word & FLAGS
            word -= flags
            if word >= size or word % page_size:
                break
            number = word // page_size
            if flags == (PAGE | CONTINUE):
                if length - at < 8 + page_size:
                    break
                memcpy(memory + word, &data[at + 8], page_size)
                pyemu_bits_set(&touched[number >> 6], pyemu_bit64(number & 63))
                normal += 1
                at += 8 + page_size
            elif flags == (ZERO | CONTINUE) and not data[at + 8]:
                if touched[number >> 6] & pyemu_bit64(number & 63):
                    memset(memory + word, 0, page_size)
                zero += 1
                at += 9
            else:
                break
    return at, normal, zero


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


# Returns bytes read, fewer than asked for only at the file's end; -1 for an error, which whoever reads next meets again.
cdef ssize_t _read(int fd, uint8_t *data, Py_ssize_t length, int64_t position) noexcept nogil:
    cdef ssize_t done, have = 0
    while have < length:
        done = pread(fd, data + have, length - have, position + have)
        if done < 0:
            if errno == EINTR:
                continue
            return -1
        if not done:
            break
        have += done
    return have


# 1 if the word is that of a data page with this offset, 0 of a zero page, -1 if of neither. Only arithmetic.
cdef inline int _kind(uint64_t word, uint64_t offset) noexcept nogil:
    if word == (offset | PAGE | CONTINUE):
        return 1
    return 0 if word == (offset | ZERO | CONTINUE) else -1


# Whether at this position a record of the page with this offset seems to begin.
cdef bint _begins(int fd, int64_t position, uint64_t offset) noexcept nogil:
    cdef uint8_t word[8]
    return _read(fd, word, 8, position) == 8 and _kind(_word(word), offset) >= 0


cdef _check_range(int64_t first, int64_t count, Py_ssize_t pages, const uint64_t[::1] touched):
    if first < 0 or count < 0 or first > pages or count > pages - first:
        raise ValueError(f"{count} pages from page {first} on are not all in {pages} pages")
    if touched.shape[0] < (pages + 63) // 64:
        raise ValueError(f"bitmap of {touched.shape[0]} words is too short for {pages} pages")


def scan_records(int fd, int64_t position, Py_ssize_t pages, Py_ssize_t page_size, int64_t first, int64_t most,
                 int64_t data, const uint64_t[::1] touched):
    """Finds where in a file a run of records ends, reading few of them.

    A run is of pages that follow each other and are not known to hold anything. What is found is a guess: page data may
    look like a record. :func:`read_records` finds out.

    Args:
        fd: the file.
        position: of the record of page *first*.
        pages, page_size: the memory's.
        first, most: where the run begins, and how many pages it may have.
        data: how many of them are expected to have data, for a first try.
        touched: bitmap of pages that may not be zero, and end the run.

    Returns:
        (pages, position of the run's end, data pages among them)
    """
    _check_range(first, most, pages, touched)
    cdef int64_t n = 0, normal = 0, at = position, end
    cdef int64_t tries[3]
    cdef uint64_t word
    cdef uint8_t window[WINDOW]
    cdef ssize_t have, used
    cdef int64_t record = 8 + page_size, leap = 0
    cdef int i, kind
    with nogil:
        while n < most and not touched[(first + n) >> 6] & pyemu_bit64((first + n) & 63):
            n += 1
        most, n = n, 0
        tries[0], tries[1], tries[2] = data, most, 0
        for i in range(3):
            if most and 0 <= tries[i] <= most and first + most < pages:
                end = position + most * 9 + tries[i] * (page_size - 1)
                if _begins(fd, end, <uint64_t>(first + most) * page_size):
                    n, at, normal = most, end, tries[i]
                    break
        while n < most:
            have = _read(fd, window, WINDOW, at)
            used = 0
            kind = -1
            while n < most and have - used >= 9:
                word = _word(window + used)
                kind = _kind(word, <uint64_t>(first + n) * page_size)
                if kind:
                    break
                used += 9
                n += 1
            at += used
            if kind < 0 or n == most:
                break
            if kind:
                at += record
                n += 1
                normal += 1
                if n >= leap and most - n >= LEAP:
                    end = at + LEAP * record
                    leap = n + LEAP
                    if _begins(fd, end, <uint64_t>(first + leap) * page_size):
                        n, at, normal = leap, end, normal + LEAP
    return n, at, normal


def read_records(int fd, int64_t position, int64_t end, uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size,
                 int64_t first, int64_t count, uint64_t[::1] touched, uint8_t[::1] buffer):
    """Reads a run of records from a file into memory; several threads may read runs that have no page in common.

    Args:
        fd, position, pages, page_size, first: as for :func:`scan_records`.
        end: the run's end.
        base: host address of page 0; the caller keeps the memory alive.
        count: pages of the run, all known to be zero.
        touched: bitmap in which data pages are set.
        buffer: room to read into; one that stays in the processor's cache is best.

    Returns:
        the number of data pages; -1 if there are other records at that place than these, or none that can be read, and
        then memory and bitmap are what they were.
    """
    _check_range(first, count, pages, touched)
    if buffer.shape[0] < page_size + 8:
        raise ValueError(f"buffer of {buffer.shape[0]} bytes for records of pages of {page_size}")
    cdef uint8_t *memory = <uint8_t *>base
    cdef const uint8_t *record
    cdef int64_t n = 0, normal = 0, number
    cdef Py_ssize_t have, used = 1
    cdef int kind = 0
    with nogil:
        while n < count and used and kind >= 0:
            have = buffer.shape[0]
            if end - position < have:
                have = end - position
            have = _read(fd, &buffer[0], have, position)
            used = 0
            while n < count and have - used >= 9:
                record = &buffer[used]
                number = first + n
                kind = _kind(_word(record), <uint64_t>number * page_size)
                if kind < 0 or (not kind and record[8]):
                    kind = -1
                    break
                if kind:
                    if have - used < 8 + page_size:
                        break
                    memcpy(memory + number * page_size, record + 8, page_size)
                    pyemu_bits_set(&touched[number >> 6], pyemu_bit64(number & 63))
                    normal += 1
                used += 8 + page_size if kind else 9
                n += 1
            position += used
        if n < count or position != end:
            normal = -1
    if normal < 0:
        forget_records(base, pages, page_size, first, count, touched)
    return normal


def forget_records(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, int64_t first, int64_t count,
                   uint64_t[::1] touched):
    """Undoes :func:`read_records`."""
    _check_range(first, count, pages, touched)
    cdef uint8_t *memory = <uint8_t *>base
    cdef int64_t number
    with nogil:
        for number in range(first, first + count):
            if touched[number >> 6] & pyemu_bit64(number & 63):
                memset(memory + number * page_size, 0, page_size)
                pyemu_bits_clear(&touched[number >> 6], pyemu_bit64(number & 63))

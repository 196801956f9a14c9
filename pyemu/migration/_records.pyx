# SPDX-License-Identifier: MIT
"""Page records and batches of pages, put together and taken apart without the GIL.

A record is a 64-bit big-endian word, the page's offset in its block with flags in the low bits; the
block's name behind its length unless the word says that the block is the one before; then the page, or
one zero byte for a page of zeros.

Records are copied into one buffer and written from there: eight bytes before each page put every page of
the stream at an odd place, and a gathered write of such pieces was never quicker than this, and often slower.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset


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

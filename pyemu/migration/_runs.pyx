# SPDX-License-Identifier: MIT
"""Bitmaps as runs: which pages are set, one after the other, in rows of (first page, number of pages)."""

import numpy as np

from libc.stdint cimport int64_t, uint64_t


cdef extern from "_zero.h" nogil:
    uint64_t pyemu_bits_take(uint64_t *word, uint64_t mask)
    uint64_t pyemu_bits_load(const uint64_t *word)

cdef extern from *:
    """
    #define pyemu_ctz64(x) __builtin_ctzll(x)
    #define pyemu_popcount64(x) __builtin_popcountll(x)
    /* Shifts that drop bits, which the checked build would take for overflow. */
    #define pyemu_from_bit(n) (~0ULL << (n))
    #define pyemu_below_bit(n) ((1ULL << (n)) - 1)
    """
    int pyemu_ctz64(uint64_t x) nogil
    int pyemu_popcount64(uint64_t x) nogil
    uint64_t pyemu_from_bit(int64_t n) nogil
    uint64_t pyemu_below_bit(int64_t n) nogil


cdef _check_bits(const uint64_t[::1] bits, Py_ssize_t pages):
    if bits.shape[0] < (pages + 63) // 64:
        raise ValueError(f"bitmap of {bits.shape[0]} words is too short for {pages} pages")


def take_runs(uint64_t[::1] bits, Py_ssize_t pages, int64_t start, int64_t limit):
    """Clears up to *limit* set bits from *start* on, atomically, and returns them as runs.

    A bit is cleared before its page is read: a page written meanwhile is set again and comes back.

    Returns:
        (array of (first, count) rows, page to go on from)
    """
    _check_bits(bits, pages)
    if start < 0 or limit <= 0:
        raise ValueError(f"cannot take {limit} pages from page {start}")
    rows = np.empty((min(limit, max(pages - start, 0)), 2), dtype=np.int64)
    cdef int64_t[:, ::1] out = rows
    cdef uint64_t word, mask
    cdef int64_t n = 0, taken = 0, page = start, first, low, room
    with nogil:
        while page < pages and taken < limit:
            low = page & 63
            mask = pyemu_from_bit(low)
            if pages - (page - low) < 64:
                mask &= pyemu_below_bit(pages - (page - low))
            word = pyemu_bits_load(&bits[page >> 6]) & mask
            if not word:
                page += 64 - low
                continue
            # Keep at most as many of the lowest bits as there is room for.
            room = limit - taken
            if pyemu_popcount64(word) > room:
                mask = word
                while room:
                    mask &= mask - 1
                    room -= 1
                word &= ~mask
            word = pyemu_bits_take(&bits[page >> 6], word)
            first = page - low
            page = first + 64
            while word:
                low = pyemu_ctz64(word)
                room = pyemu_ctz64(~(word >> low)) if ~(word >> low) else 64
                if n and out[n - 1, 0] + out[n - 1, 1] == first + low:
                    out[n - 1, 1] += room
                else:
                    out[n, 0] = first + low
                    out[n, 1] = room
                    n += 1
                taken += room
                if taken >= limit:
                    page = first + low + room
                word = 0 if low + room == 64 else word & pyemu_from_bit(low + room)
    # A view would keep the whole array; most calls fill little of it.
    return rows[:n].copy(), min(page, pages)


def runs_of(const uint64_t[::1] bits, Py_ssize_t pages, bint value=True):
    """All runs of set (or clear) bits among the first *pages*, as (first, count) rows."""
    _check_bits(bits, pages)
    cdef uint64_t flip = 0 if value else ~<uint64_t>0
    cdef int64_t n = 0, page, room, start
    cdef int pass_
    cdef uint64_t word
    rows = np.empty((0, 2), dtype=np.int64)
    cdef int64_t[:, ::1] out = rows
    for pass_ in range(2):
        if pass_:
            rows = np.empty((n, 2), dtype=np.int64)
            out = rows
            n = 0
        with nogil:
            page = 0
            start = -1
            while page < pages:
                word = (bits[page >> 6] ^ flip) >> (page & 63)
                if start < 0:
                    if not word:
                        page = (page | 63) + 1
                        continue
                    page += pyemu_ctz64(word)
                    start = page
                else:
                    word = ~word
                    room = pyemu_ctz64(word) if word else 64
                    if room >= 64 - (page & 63):
                        page = (page | 63) + 1
                        continue
                    page += room
                    if page > pages:
                        break
                    if pass_:
                        out[n, 0] = start
                        out[n, 1] = page - start
                    n += 1
                    start = -1
            if 0 <= start < pages:
                if pass_:
                    out[n, 0] = start
                    out[n, 1] = pages - start
                n += 1
    return rows


def count_bits(const uint64_t[::1] bits, Py_ssize_t pages):
    """How many of the first *pages* bits are set."""
    _check_bits(bits, pages)
    cdef int64_t total = 0
    cdef Py_ssize_t i
    with nogil:
        for i in range(pages // 64):
            total += pyemu_popcount64(bits[i])
        if pages & 63:
            total += pyemu_popcount64(bits[pages // 64] & pyemu_below_bit(pages & 63))
    return total

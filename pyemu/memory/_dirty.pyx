# SPDX-License-Identifier: MIT
# cython: overflowcheck=False
# Words of bits and of data wrap and are cut by design; bounds stay checked in the checked build.
"""Dirty bitmaps: one bit a page, in 64-bit words that any thread may change at any time.

Bits are set with an atomic or and taken with an atomic exchange or and-not, so a page that becomes
dirty while another thread collects is either in what that thread got or still in the bitmap.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport calloc, free

import numpy

from ..errors import MemoryMapError

cdef extern from *:
    """
    #define pyemu_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define pyemu_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
    #define pyemu_and(p, v) __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL)
    #define pyemu_swap(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
    #define pyemu_ones(v) ((size_t)__builtin_popcountll(v))
    #define pyemu_low(v) ((size_t)__builtin_ctzll(v))
    """
    # Each cannot fail: compiler built-ins. pyemu_low needs a value other than 0.
    uint64_t pyemu_load(uint64_t *word) noexcept nogil
    uint64_t pyemu_or(uint64_t *word, uint64_t bits) noexcept nogil
    uint64_t pyemu_and(uint64_t *word, uint64_t bits) noexcept nogil
    uint64_t pyemu_swap(uint64_t *word, uint64_t bits) noexcept nogil
    size_t pyemu_ones(uint64_t bits) noexcept nogil
    size_t pyemu_low(uint64_t bits) noexcept nogil

cdef enum:
    BITS = 64
# 2**48 pages of 4 KiB are all the memory an x86 can address.
cdef size_t MAX_PAGES = <size_t>1 << 40
cdef uint64_t ALL = ~<uint64_t>0


# Shifts push bits out on purpose here and below.
# The bits of [start, end) that lie in word *n*. Cannot fail; the range must touch the word.
@cython.overflowcheck(False)
cdef inline uint64_t _mask(size_t n, size_t start, size_t end) noexcept nogil:
    cdef uint64_t mask = ALL
    if n == start // BITS:
        mask = ALL << (start % BITS)
    if n == (end - 1) // BITS and end % BITS:
        mask &= ALL >> (BITS - end % BITS)
    return mask


@cython.final
@cython.no_gc_clear
@cython.overflowcheck(False)
cdef class DirtyBitmap:
    """One bit for each of *pages* pages, all clear at first.

    Raises:
        MemoryMapError: *pages* is not positive or beyond all memory.
    """

    def __cinit__(self, pages):
        if not 0 < pages <= MAX_PAGES:
            raise MemoryMapError(f"a dirty bitmap of {pages} pages is not possible")
        self.pages = pages
        self.nwords = (self.pages + BITS - 1) // BITS
        self.bits = <uint64_t *>calloc(self.nwords, sizeof(uint64_t))
        if self.bits == NULL:
            raise MemoryError(f"no memory for a dirty bitmap of {pages} pages")

    def __dealloc__(self):
        free(self.bits)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.bits, self.nwords * sizeof(uint64_t), 0, flags)

    @property
    def words(self):
        """The bitmap as an array of uint64, no copy: page n is bit ``n % 64`` of word ``n // 64``."""
        return numpy.frombuffer(self, dtype=numpy.uint64)

    @property
    def pointer(self):
        """Host address of the first word."""
        return <size_t>self.bits

    def __len__(self):
        return self.pages

    # -- one page, or a range ---------------------------------------------------------------------

    def set(self, page):
        """Marks *page*; returns whether it was clear."""
        return bool(self.c_set(self.checked(page)))

    def test(self, page):
        return bool(self.c_test(self.checked(page)))

    def set_range(self, start, count):
        """Marks *count* pages from *start*; returns how many were clear."""
        cdef size_t first = self.checked_range(start, count), n = count, changed
        with nogil:
            changed = self.c_set_range(first, n)
        return changed

    def test_and_clear_range(self, start, count):
        """Clears *count* pages from *start*; returns how many were set."""
        cdef size_t first = self.checked_range(start, count), n = count, changed
        with nogil:
            changed = self.c_clear_range(first, n)
        return changed

    def clear_range(self, start, count):
        """Clears *count* pages from *start*."""
        self.test_and_clear_range(start, count)

    def set_all(self):
        self.set_range(0, self.pages)

    def clear_all(self):
        self.clear_range(0, self.pages)

    # -- questions --------------------------------------------------------------------------------

    def count(self, start=0, n=None):
        """How many of *n* pages from *start* (by default: of all that follow) are set."""
        if n is None:
            n = self.pages - start
        cdef size_t first = self.checked_range(start, n), length = n, total
        with nogil:
            total = self.c_count(first, length)
        return total

    def find_next(self, start=0):
        """The first set page at or after *start*, or -1."""
        return self.search(start, True)

    def find_next_clear(self, start=0):
        """The first clear page at or after *start*, or -1."""
        return self.search(start, False)

    def runs(self, start=0, limit=None):
        """The runs of set pages from *start* on as (first, count), none longer than *limit* pages."""
        cdef size_t longest = self.pages if limit is None else limit
        if longest == 0:
            raise MemoryMapError("runs of 0 pages are not possible")
        first = self.find_next(start)
        while first >= 0:
            end = self.find_next_clear(first)
            if end < 0:
                end = self.pages
            while first < end:
                yield first, min(end - first, longest)
                first += longest
            first = self.find_next(end)

    # -- changes of many pages --------------------------------------------------------------------

    def merge(self, DirtyBitmap other not None):
        """Marks every page that *other* has marked; returns how many were clear.

        Raises:
            MemoryMapError: the bitmaps are of different size.
        """
        if other.pages != self.pages:
            raise MemoryMapError(f"cannot merge a bitmap of {other.pages} pages into one of {self.pages}")
        cdef size_t changed
        with nogil:
            changed = self.c_merge(other)
        return changed

    def take_run(self, start, max_pages):
        """Finds the first run at or after *start*, clears it and returns (first, count), or None.

        At most *max_pages* are taken. Each page is given to one caller only, whoever else takes.
        """
        if max_pages < 1:
            raise MemoryMapError(f"cannot take a run of {max_pages} pages")
        cdef size_t first = 0, count, at, limit = min(max_pages, self.pages)
        if start == self.pages:
            return None
        at = self.checked(start)
        with nogil:
            count = self.c_take_run(at, limit, &first)
        return (first, count) if count else None

    def __repr__(self):
        return f"<DirtyBitmap {self.count()} of {self.pages} pages>"

    # -- argument checks --------------------------------------------------------------------------

    def checked(self, page):
        if not 0 <= page < self.pages:
            raise MemoryMapError(f"page {page} is not one of {self.pages}")
        return page

    def checked_range(self, start, count):
        if start < 0 or count < 0 or start + count > self.pages:
            raise MemoryMapError(f"pages {start} to {start + count - 1} are not all among {self.pages}")
        return start

    def search(self, start, bint wanted):
        if start == self.pages:
            return -1
        cdef size_t at = self.checked(start), found
        with nogil:
            found = self.c_find(at, wanted)
        return found if found < self.pages else -1

    # -- C: none of these can fail, they are loops of atomic operations over words inside the bitmap ----

    cdef bint c_set(self, size_t page) noexcept nogil:
        cdef uint64_t bit = <uint64_t>1 << (page % BITS)
        return pyemu_or(&self.bits[page // BITS], bit) & bit == 0

    cdef bint c_test(self, size_t page) noexcept nogil:
        return (pyemu_load(&self.bits[page // BITS]) >> (page % BITS)) & 1

    cdef size_t c_set_range(self, size_t start, size_t count) noexcept nogil:
        cdef size_t n, end = start + count, changed = 0
        cdef uint64_t mask, word
        if count == 0:
            return 0
        for n in range(start // BITS, (end - 1) // BITS + 1):
            mask = _mask(n, start, end)
            # Words that need no change are not written: other processors keep their copy.
            word = mask & ~pyemu_load(&self.bits[n])
            if word:
                changed += pyemu_ones(mask & ~pyemu_or(&self.bits[n], mask))
        return changed

    cdef size_t c_clear_range(self, size_t start, size_t count) noexcept nogil:
        cdef size_t n, end = start + count, changed = 0
        cdef uint64_t mask
        if count == 0:
            return 0
        for n in range(start // BITS, (end - 1) // BITS + 1):
            mask = _mask(n, start, end)
            if pyemu_load(&self.bits[n]) & mask == 0:
                continue
            if mask == ALL:
                changed += pyemu_ones(pyemu_swap(&self.bits[n], 0))
            else:
                changed += pyemu_ones(mask & pyemu_and(&self.bits[n], ~mask))
        return changed

    cdef size_t c_count(self, size_t start, size_t count) noexcept nogil:
        cdef size_t n, end = start + count, total = 0
        if count == 0:
            return 0
        for n in range(start // BITS, (end - 1) // BITS + 1):
            total += pyemu_ones(pyemu_load(&self.bits[n]) & _mask(n, start, end))
        return total

    # The first page from *start* on that is set (or clear); the number of pages when there is none.
    cdef size_t c_find(self, size_t start, bint wanted) noexcept nogil:
        cdef size_t n, found
        cdef uint64_t word, flip = 0 if wanted else ALL
        for n in range(start // BITS, self.nwords):
            word = pyemu_load(&self.bits[n]) ^ flip
            if n == start // BITS:
                word &= ALL << (start % BITS)
            if word:
                # Bits behind the last page are clear: a search for clear ones may find them.
                found = n * BITS + pyemu_low(word)
                return found if found < self.pages else self.pages
        return self.pages

    cdef size_t c_merge(self, DirtyBitmap other) noexcept nogil:
        cdef size_t n, changed = 0
        cdef uint64_t bits
        for n in range(self.nwords):
            bits = pyemu_load(&other.bits[n])
            if bits & ~pyemu_load(&self.bits[n]):
                changed += pyemu_ones(bits & ~pyemu_or(&self.bits[n], bits))
        return changed

    cdef size_t c_take_run(self, size_t start, size_t limit, size_t *first) noexcept nogil:
        cdef size_t at = start, room, length, taken = 0
        cdef uint64_t word, mask, got
        while at < self.pages:
            if taken == 0:
                at = self.c_find(at, True)
                if at >= self.pages:
                    return 0
                first[0] = at
            # The run's part in this word: ones from the page on, no more than are still wanted.
            word = ~(pyemu_load(&self.bits[at // BITS]) >> (at % BITS))
            length = pyemu_low(word) if word else BITS
            room = BITS - at % BITS
            length = min(min(length, room), limit - taken)
            if length == 0:
                if taken:
                    return taken
                continue
            mask = (ALL >> (BITS - length)) << (at % BITS)
            got = pyemu_and(&self.bits[at // BITS], ~mask) & mask
            if got != mask:
                # Somebody else took part of it meanwhile: keep what is left up to the gap, put the rest back.
                word = ~(got >> (at % BITS))
                length = min(pyemu_low(word), length)
                if length < BITS:
                    pyemu_or(&self.bits[at // BITS], got & ~((((<uint64_t>1) << length) - 1) << (at % BITS)))
                if length == 0 and taken == 0:
                    continue
                return taken + length
            taken += length
            at += length
            if length < room or taken == limit:
                return taken
        return taken

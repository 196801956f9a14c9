# SPDX-License-Identifier: MIT
"""Moving guest pages between memory and a file: the compiled half of :mod:`pyemu.migration.pages`.

Everything that touches page data runs without the GIL, so as many threads as there are channels
work at once. Pages go out in the longest runs that are contiguous in memory, hence in the file.
"""

import os

import numpy as np

from libc.errno cimport EINTR, EINVAL, EIO, EOPNOTSUPP, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.string cimport memset
from posix.types cimport off_t


cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t pwritev(int fd, const iovec *parts, int count, off_t offset)
    ssize_t preadv(int fd, const iovec *parts, int count, off_t offset)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <fcntl.h>
    #include <linux/falloc.h>
    """
    int fallocate(int fd, int mode, off_t offset, off_t length) nogil
    int FALLOC_FL_PUNCH_HOLE
    int FALLOC_FL_KEEP_SIZE

cdef extern from "_zero.h" nogil:
    int pyemu_zero(const uint8_t *data, size_t length)
    const char *pyemu_zero_level
    int pyemu_zero_select(const char *name)
    void pyemu_bits_set(uint64_t *word, uint64_t mask)
    void pyemu_bits_clear(uint64_t *word, uint64_t mask)

cdef extern from *:
    """
    /* n bits from bit low on, 1 <= n <= 64 - low. In C, since the checked build takes shifted-out bits for overflow. */
    #define pyemu_bit_range(low, n) ((~0ULL >> (64 - (n))) << (low))
    """
    uint64_t pyemu_bit_range(int64_t low, int64_t n) nogil

cdef extern from *:
    """
    /* What stands for the pages of a gap that is bridged when writing. */
    #define PYEMU_GAP 0x8000
    static const unsigned char pyemu_zeros[PYEMU_GAP] __attribute__((aligned(4096)));
    """
    const int64_t PYEMU_GAP
    const uint8_t *pyemu_zeros

cdef enum:
    # Longest piece of one system call. It bounds how far a failed write has to be looked back for.
    PIECE = 0x400000
    # Parts of one, data and gaps in turn; the kernel takes 1024.
    PARTS = 1024

pyemu_zero_select(NULL)


def simd():
    """Name of the zero test in use: ``avx2``, ``sse2`` or ``plain``."""
    return pyemu_zero_level.decode()


def select_simd(name=None):
    """Selects a zero test by name, or the best one; for tests and benchmarks.

    Raises:
        ValueError: this processor does not have it.
    """
    cdef bytes encoded
    if name is None:
        pyemu_zero_select(NULL)
        return
    encoded = name.encode()
    if not pyemu_zero_select(encoded):
        raise ValueError(f"zero test {name!r} is not available on this processor")


cdef _check_runs(const int64_t[:, ::1] runs, Py_ssize_t pages):
    cdef Py_ssize_t i
    if runs.shape[1] != 2:
        raise ValueError(f"runs have {runs.shape[1]} columns, not first and count")
    for i in range(runs.shape[0]):
        if runs[i, 0] < 0 or runs[i, 1] < 0 or runs[i, 0] > pages or runs[i, 1] > pages - runs[i, 0]:
            raise ValueError(f"run of {runs[i, 1]} pages at page {runs[i, 0]} is outside of {pages} pages")


cdef _check_bits(const uint64_t[::1] bits, Py_ssize_t pages):
    if bits.shape[0] < (pages + 63) // 64:
        raise ValueError(f"bitmap of {bits.shape[0]} words is too short for {pages} pages")


# Cannot fail: callers have checked that first..first+count lies inside the bitmap.
cdef void _mark(uint64_t *words, int64_t first, int64_t count, bint value) noexcept nogil:
    cdef int64_t low, room, n
    cdef uint64_t mask
    while count > 0:
        low = first & 63
        room = 64 - low
        n = count if count < room else room
        mask = pyemu_bit_range(low, n)
        if value:
            pyemu_bits_set(&words[first >> 6], mask)
        else:
            pyemu_bits_clear(&words[first >> 6], mask)
        first += n
        count -= n


# Returns 0 or an errno. It touches only memory that the caller has checked.
cdef int _write_all(int fd, int buffered, const uint8_t *data, int64_t length, int64_t offset,
                    int64_t *calls) noexcept nogil:
    cdef ssize_t done
    while length > 0:
        done = pwrite(fd, data, length if length < PIECE else PIECE, offset)
        calls[0] += 1
        if done < 0:
            if errno == EINTR:
                continue
            if errno == EINVAL and buffered >= 0:
                # Not aligned as this disk wants it for direct I/O: the page cache takes any place and length.
                fd, buffered = buffered, -1
                continue
            return errno
        if done == 0:
            return EIO
        data += done
        offset += done
        length -= done
    return 0


# Writes or reads parts that lie one behind the other in a file, and uses them up. Returns 0 or an errno, -1 at the
# file's end; moved is where it ended. The caller has checked the memory.
cdef int _move_all(bint reading, int fd, int buffered, iovec *parts, int count, int64_t offset, int64_t *moved,
                   int64_t *calls) noexcept nogil:
    cdef ssize_t done
    cdef int at = 0
    moved[0] = offset
    while at < count:
        if not parts[at].iov_len:
            at += 1
            continue
        if reading:
            done = preadv(fd, parts + at, count - at, moved[0])
        else:
            done = pwritev(fd, parts + at, count - at, moved[0])
        calls[0] += 1
        if done < 0:
            if errno == EINTR:
                continue
            if errno == EINVAL and buffered >= 0:
                fd, buffered = buffered, -1
                continue
            return errno
        if done == 0:
            return -1 if reading else EIO
        moved[0] += done
        while at < count and <size_t>done >= parts[at].iov_len:
            done -= <ssize_t>parts[at].iov_len
            at += 1
        if done:
            parts[at].iov_base = <uint8_t *>parts[at].iov_base + done
            parts[at].iov_len -= done
    return 0


# Pages of a gap that may be bridged: what is asked for, as far as there are zeros for it. Only arithmetic.
cdef int64_t _bridge(int64_t gap, int64_t page_size) noexcept nogil:
    cdef int64_t most = PYEMU_GAP // page_size
    return gap if gap < most else most


def write_pages(int fd, uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, int64_t offset,
                const int64_t[:, ::1] runs, uint64_t[::1] present, uint64_t[::1] written, bint detect_zero,
                int buffered=-1, int64_t gap=0):
    """Writes runs of pages to their fixed places in a file. May run in several threads at once.

    Args:
        fd: open for writing.
        base: host address of page 0; the caller keeps the memory alive.
        pages: pages that the memory has.
        offset: position of page 0 in the file.
        runs: rows of (first page, number of pages).
        present: bitmap in which data pages are set and zero pages cleared.
        written: bitmap in which pages that ever reached the file are set.
        detect_zero: leave zero pages out of the file.
        buffered: where *fd* bypasses the page cache, another descriptor of the file for runs that are not aligned as
            that wants it; -1 for none.
        gap: up to so many zero pages between data pages are written as well, as zeros, to make one long write of two
            short ones; at most 32 KiB of them. They are zero pages all the same, absent by their bit.

    Returns:
        (data pages, zero pages, system calls)

    Raises:
        OSError: a write failed; bits of the pages of that write are unchanged.
    """
    _check_runs(runs, pages)
    _check_bits(present, pages)
    _check_bits(written, pages)
    cdef const uint8_t *memory = <const uint8_t *>base
    cdef uint64_t *present_words = &present[0] if present.shape[0] else NULL
    cdef uint64_t *written_words = &written[0] if written.shape[0] else NULL
    cdef int64_t longest = PIECE // page_size if PIECE > page_size else 1
    cdef int64_t page, end, start, behind, normal = 0, zero = 0, calls = 0, moved = 0
    cdef Py_ssize_t i
    cdef int code = 0, count, n
    cdef iovec parts[PARTS]
    # Where each part begins, as a page; of gaps -1.
    cdef int64_t firsts[PARTS]
    cdef int64_t counts[PARTS]
    gap = _bridge(gap, page_size) if detect_zero else 0
    with nogil:
        for i in range(runs.shape[0]):
            page = runs[i, 0]
            end = page + runs[i, 1]
            while page < end:
                start = page
                if detect_zero:
                    while page < end and pyemu_zero(memory + page * page_size, page_size):
                        page += 1
                    if page > start:
                        _mark(present_words, start, page - start, False)
                        zero += page - start
                        start = page
                    while (page < end and page - start < longest
                           and not pyemu_zero(memory + page * page_size, page_size)):
                        page += 1
                else:
                    page = end if end - page < longest else page + longest
                if page == start:
                    continue
                # Marked before the write: after a short write the file holds some of these bytes.
                _mark(written_words, start, page - start, True)
                firsts[0], counts[0], count = start, page - start, 1
                while gap and page < end and page - start < longest and count + 2 <= PARTS:
                    behind = page
                    while behind < end and behind - page < gap and pyemu_zero(memory + behind * page_size, page_size):
                        behind += 1
                    if behind == page or behind >= end or behind - start >= longest:
                        break
                    if pyemu_zero(memory + behind * page_size, page_size):
                        break
                    firsts[count], counts[count] = -1, behind - page
                    firsts[count + 1] = behind
                    _mark(present_words, page, behind - page, False)
                    zero += behind - page
                    # The page behind the gap has been looked at; the guest may have changed it since.
                    page = behind + 1
                    while (page < end and page - start < longest
                           and not pyemu_zero(memory + page * page_size, page_size)):
                        page += 1
                    counts[count + 1] = page - behind
                    _mark(written_words, behind, page - behind, True)
                    count += 2
                if count == 1:
                    code = _write_all(fd, buffered, memory + start * page_size, (page - start) * page_size,
                                      offset + start * page_size, &calls)
                else:
                    for n in range(count):
                        parts[n].iov_base = <void *>(pyemu_zeros if firsts[n] < 0 else memory + firsts[n] * page_size)
                        parts[n].iov_len = counts[n] * page_size
                    code = _move_all(False, fd, -1, parts, count, offset + start * page_size, &moved, &calls)
                    if code == EINVAL:
                        # Not aligned as this disk wants it. Without the gaps some parts may be, and these need no help.
                        code = 0
                        for n in range(count):
                            if firsts[n] >= 0 and not code:
                                code = _write_all(fd, buffered, memory + firsts[n] * page_size, counts[n] * page_size,
                                                  offset + firsts[n] * page_size, &calls)
                if code:
                    break
                for n in range(count):
                    if firsts[n] >= 0:
                        _mark(present_words, firsts[n], counts[n], True)
                        normal += counts[n]
            if code:
                break
    if code:
        raise OSError(code, os.strerror(code))
    return normal, zero, calls


def read_pages(int fd, uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, int64_t offset,
               const int64_t[:, ::1] runs, int buffered=-1, int64_t gap=0):
    """Reads runs of pages from their fixed places in a file into memory. Threads and *buffered* as in :func:`write_pages`.

    Up to *gap* pages between two runs, at most 32 KiB of them, are read as well, and dropped, to make one long read of
    two short ones.

    Returns:
        the number of pages read

    Raises:
        OSError: a read failed.
        EOFError: the file ends inside a page; the message names page and position.
    """
    _check_runs(runs, pages)
    cdef uint8_t *memory = <uint8_t *>base
    cdef int64_t position = 0, total = 0, page, left, taken, room, length, calls = 0
    cdef int64_t longest = PIECE // page_size if PIECE > page_size else 1
    cdef Py_ssize_t i = 0
    cdef int code = 0, count
    cdef iovec parts[PARTS]
    # One for each thread: what several write to at once goes to and fro between their caches.
    cdef uint8_t room_for_gap[PYEMU_GAP + 4096]
    # Aligned as direct I/O wants it.
    cdef uint8_t *unwanted = room_for_gap + (4096 - <uintptr_t>room_for_gap % 4096) % 4096
    gap = _bridge(gap, page_size)
    with nogil:
        page = runs[0, 0] if runs.shape[0] else 0
        left = runs[0, 1] if runs.shape[0] else 0
        while i < runs.shape[0]:
            # One system call: as much of this run as fits, and of those behind it while the gaps are short.
            count, length, position = 0, 0, offset + page * page_size
            while True:
                room = longest - length
                taken = left if left < room else room
                parts[count].iov_base = memory + page * page_size
                parts[count].iov_len = taken * page_size
                count += 1
                length += taken
                total += taken
                page += taken
                left -= taken
                if left:
                    break
                i += 1
                if i >= runs.shape[0]:
                    break
                room = runs[i, 0] - page
                page, left = runs[i, 0], runs[i, 1]
                if room < 0 or room > gap or not gap or count + 2 > PARTS or length + room >= longest:
                    break
                if room:
                    parts[count].iov_base = unwanted
                    parts[count].iov_len = room * page_size
                    count += 1
                    length += room
            code = _move_all(True, fd, buffered, parts, count, position, &position, &calls)
            if code:
                break
    if code > 0:
        raise OSError(code, os.strerror(code))
    if code < 0:
        raise EOFError(f"page at {(position - offset) // page_size * page_size:#x} ends before its {page_size} bytes, "
                       f"file position {position:#x}")
    return total


def punch_hole(int fd, int64_t position, int64_t length):
    """Makes part of a file a hole, which reads as zeros; false if the file system has no holes.

    Raises:
        OSError: it failed.
    """
    cdef int code = 0
    with nogil:
        while fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, length):
            code = errno
            if code != EINTR:
                break
            code = 0
    if code and code != EOPNOTSUPP:
        raise OSError(code, os.strerror(code))
    return not code


def zero_flags(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const int64_t[:, ::1] runs):
    """For each page of *runs*, in order, 1 if it is all zero: an array of ``uint8``."""
    _check_runs(runs, pages)
    cdef const uint8_t *memory = <const uint8_t *>base
    cdef Py_ssize_t i, total = 0, at = 0
    cdef int64_t page
    for i in range(runs.shape[0]):
        total += runs[i, 1]
    flags = np.empty(total, dtype=np.uint8)
    cdef uint8_t[::1] out = flags
    with nogil:
        for i in range(runs.shape[0]):
            for page in range(runs[i, 0], runs[i, 0] + runs[i, 1]):
                out[at] = pyemu_zero(memory + page * page_size, page_size)
                at += 1
    return flags


def clear_pages(uintptr_t base, Py_ssize_t pages, Py_ssize_t page_size, const int64_t[:, ::1] runs,
                const uint64_t[::1] used=None, int64_t first=0):
    """Zeroes the pages that are not zero yet, and so changes no memory that is zero already.

    Args:
        base, pages, page_size, runs: as for :func:`write_pages`.
        used: bitmap that begins at page *first*; pages whose bit is clear are known to be zero and not even read.
        first: see *used*.

    Returns:
        the number of pages that had to be cleared
    """
    _check_runs(runs, pages)
    cdef uint8_t *memory = <uint8_t *>base
    cdef int64_t page, cleared = 0
    cdef Py_ssize_t i
    cdef bint known = used is not None
    if known:
        for i in range(runs.shape[0]):
            if runs[i, 0] < first or runs[i, 0] + runs[i, 1] - first > used.shape[0] * 64:
                raise ValueError(f"run at page {runs[i, 0]} is outside of the bitmap from page {first}")
    with nogil:
        for i in range(runs.shape[0]):
            for page in range(runs[i, 0], runs[i, 0] + runs[i, 1]):
                if known and not used[(page - first) >> 6] >> ((page - first) & 63) & 1:
                    continue
                if not pyemu_zero(memory + page * page_size, page_size):
                    memset(memory + page * page_size, 0, page_size)
                    cleared += 1
    return cleared

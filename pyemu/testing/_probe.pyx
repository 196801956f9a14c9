# SPDX-License-Identifier: MIT
"""Loops in C over the entry points that CPU engines use, so that a benchmark measures them and not Python."""

from libc.stdint cimport uint32_t

from pyemu.memory._dirty cimport DirtyBitmap
from pyemu.memory._ports cimport PortSpace


def port_reads(PortSpace space not None, uint32_t port, unsigned size, long count):
    """Makes *count* port reads; returns the exclusive or of what they gave."""
    cdef uint32_t value = 0
    cdef long _i
    with nogil:
        for _i in range(count):
            value ^= space.c_in(port, size)
    return value


def port_writes(PortSpace space not None, uint32_t port, unsigned size, uint32_t value, long count):
    """Makes *count* port writes."""
    cdef long _i
    with nogil:
        for _i in range(count):
            space.c_out(port, size, value)


def bitmap_sets(DirtyBitmap bitmap not None, size_t first, size_t step, long count):
    """Sets pages *first*, *first + step* ... round and round, *count* times; returns how many were clear."""
    cdef size_t page = first % bitmap.pages, changed = 0
    cdef long _i
    with nogil:
        for _i in range(count):
            changed += bitmap.c_set(page)
            page = (page + step) % bitmap.pages
    return changed


def bitmap_takes(DirtyBitmap bitmap not None, bint runs, long count):
    """Takes all pages, as one range or run by run, *count* times; returns how many it got."""
    cdef size_t taken = 0, first = 0, at, got
    cdef long _i
    with nogil:
        for _i in range(count):
            if not runs:
                taken += bitmap.c_clear_range(0, bitmap.pages)
                continue
            at = 0
            while at < bitmap.pages:
                got = bitmap.c_take_run(at, bitmap.pages, &first)
                if got == 0:
                    break
                taken += got
                at = first + got
    return taken

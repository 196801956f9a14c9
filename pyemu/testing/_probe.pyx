# SPDX-License-Identifier: MIT
"""Loops in C over the entry points that CPU engines use, so that a benchmark measures them and not Python."""

from libc.stdint cimport uint32_t

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

# SPDX-License-Identifier: MIT
from libc.stdint cimport uint32_t

from pyemu.memory._ports cimport PortSpace, PortUser, port_cell, port_map


cdef class PortRegion:
    cdef port_map chunk
    cdef port_cell *cells
    cdef list handlers
    cdef readonly object owner
    cdef readonly str name
    cdef readonly uint32_t offset


cdef class PortioList(PortUser):
    cdef readonly object owner
    cdef readonly str name
    cdef readonly tuple table
    cdef readonly tuple chunks
    cdef readonly bint plain
    cdef readonly bint flush_coalesced
    cdef readonly int priority
    cdef PortSpace space
    cdef long base
    cdef bint shown
    cdef long linked_base
    cdef long extent

    cdef int changed(self) except -1
    cdef int hide(self) except -1

# SPDX-License-Identifier: MIT
from libc.stdint cimport uint64_t

# Must not raise: called from device code that runs without the GIL.
ctypedef void (*irq_handler_fn)(void *opaque, int n, int level) noexcept nogil


cdef class IRQLine:
    cdef irq_handler_fn handler
    cdef void *opaque
    cdef object owner
    cdef object callback
    cdef object observer
    cdef object fault_listener
    cdef uint64_t sources
    cdef uint64_t taken
    cdef readonly int n
    cdef readonly str name

    @staticmethod
    cdef IRQLine make(str name, int n, object owner, void *opaque, irq_handler_fn handler)
    cdef void report(self, error, int level) noexcept
    cdef void drive(self, uint64_t bit, int level) noexcept nogil


cdef class IRQOut:
    cdef IRQLine target
    cdef uint64_t bit
    cdef int _level
    cdef readonly str name

    cdef void set(self, int level) noexcept nogil

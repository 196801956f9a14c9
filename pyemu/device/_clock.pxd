# SPDX-License-Identifier: MIT
from libc.stdint cimport int64_t


cdef class Timer


cdef class Clock:
    cdef readonly str kind
    cdef bint running
    cdef int64_t base_ns
    cdef int64_t start_ns
    cdef list heap
    cdef long armed
    cdef long serials
    cdef object on_change

    cdef int64_t now(self) noexcept nogil
    cdef void push(self, Timer timer, int64_t deadline_ns)


cdef class Timer:
    cdef readonly Clock clock
    cdef readonly str name
    cdef readonly object callback
    cdef readonly int64_t deadline_ns
    cdef long serial

    cdef void c_arm(self, int64_t deadline_ns) noexcept nogil
    cdef void c_cancel(self) noexcept nogil

# SPDX-License-Identifier: MIT
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from pyemu.device._clock cimport Clock, Timer
from pyemu.device._irq cimport IRQOut


cdef class PITChannel:
    cdef public uint8_t control
    cdef public bint gate
    cdef public bint loaded
    cdef public bint null
    cdef public uint32_t reload
    cdef public uint32_t count
    cdef public int64_t start
    cdef public int64_t load_at
    cdef public int64_t paused_at
    cdef public uint16_t frozen
    cdef public uint8_t write_low
    cdef public bint write_high
    cdef public bint read_high
    cdef public uint16_t latch
    cdef public uint8_t latched
    cdef public uint8_t status
    cdef public bint status_latched

    cdef int mode(self) noexcept nogil
    cdef int64_t modulus(self) noexcept nogil
    cdef int64_t elapsed(self, int64_t t) noexcept nogil
    cdef void sync(self, int64_t t) noexcept nogil
    cdef uint16_t value(self, int64_t t) noexcept nogil
    cdef bint out(self, int64_t t) noexcept nogil
    cdef int64_t run_edge(self, int64_t t) noexcept nogil
    cdef void unload(self, int64_t t) noexcept nogil
    cdef void set_gate(self, bint level, int64_t t) noexcept nogil
    cdef void program(self, uint8_t control, int64_t t) noexcept nogil
    cdef void latch_count(self, int64_t t) noexcept nogil
    cdef void latch_status(self, int64_t t) noexcept nogil
    cdef void commit(self, uint16_t raw, int64_t t) noexcept nogil
    cdef void c_write(self, uint8_t byte, int64_t t) noexcept nogil
    cdef uint8_t c_read(self, int64_t t) noexcept nogil


cdef class PITCore:
    cdef readonly list channels
    cdef readonly Timer irq_timer
    cdef public int64_t look
    cdef public bint look_edge
    cdef public bint irq_level
    cdef readonly Clock clock
    cdef readonly IRQOut pin
    cdef PITChannel _ch0
    cdef PITChannel _ch1
    cdef PITChannel _ch2

    cdef int64_t ticks(self) noexcept nogil
    cdef void service(self, int64_t t) noexcept nogil
    cdef void plan(self, int64_t t) noexcept nogil
    cdef bint c_out(self, int n) noexcept nogil
    cdef void c_set_gate(self, int n, bint level) noexcept nogil
    cdef uint8_t c_read(self, unsigned offset) noexcept nogil
    cdef void c_write(self, unsigned offset, uint8_t value) noexcept nogil

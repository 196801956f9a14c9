# SPDX-License-Identifier: MIT
from libc.stdint cimport uint8_t, uint64_t

from ..device._irq cimport IRQOut


cdef class Latches:
    cdef public uint8_t count, low, mid, high
    cdef public uint8_t previous_count, previous_low, previous_mid, previous_high
    cdef void latch(self, uint64_t offset, uint8_t value) noexcept nogil


cdef class IDECore:
    cdef readonly bytearray buffer
    cdef readonly bytearray statuses
    cdef public unsigned int position
    cdef public unsigned int limit
    cdef public uint8_t phase
    cdef public uint8_t device
    cdef public uint8_t control
    cdef public uint8_t interrupt
    cdef readonly uint8_t present
    cdef uint8_t[::1] _bytes
    cdef uint8_t[::1] _status
    cdef IRQOut _pin
    cdef Latches _first, _second

    cdef void latch(self, uint64_t offset, uint8_t value) noexcept nogil
    cdef uint8_t visible_status(self) noexcept nogil
    cdef bint holds(self, unsigned length) noexcept nogil
    cdef void drive_pin(self) noexcept nogil
    cdef uint64_t read_command(self, uint64_t offset, unsigned size) noexcept nogil
    cdef uint64_t read_data(self, unsigned size) noexcept nogil
    cdef void write_data(self, unsigned size, uint64_t value) noexcept nogil
    cdef void block_end(self) noexcept with gil
    cdef uint64_t read_slow(self, uint64_t offset) noexcept with gil
    cdef void write_slow(self, uint64_t offset, uint64_t value) noexcept with gil

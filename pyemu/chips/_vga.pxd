# SPDX-License-Identifier: MIT
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from pyemu.device._clock cimport Clock


cdef class VGACore:
    cdef readonly bytearray vram
    cdef readonly bytearray sequencer
    cdef readonly bytearray graphics
    cdef readonly bytearray crtc
    cdef readonly bytearray attribute
    cdef readonly bytearray palette
    cdef readonly bytearray dac_latch
    cdef readonly bytearray dispi
    cdef public uint8_t misc
    cdef public uint8_t feature
    cdef public uint8_t sequencer_index
    cdef public uint8_t graphics_index
    cdef public uint8_t crtc_index
    cdef public uint8_t attribute_index
    cdef public uint8_t attribute_data
    cdef public uint8_t pel_mask
    cdef public uint8_t dac_index
    cdef public uint8_t dac_component
    cdef public uint8_t dac_reads
    cdef public uint16_t dispi_index
    cdef public uint8_t dispi_low
    cdef public uint32_t latch
    cdef readonly uint64_t changes
    cdef Clock _clock
    cdef list _pins
    cdef uint8_t *mem
    cdef uint32_t *planes
    cdef uint8_t *seq
    cdef uint8_t *gfx
    cdef uint8_t *cr
    cdef uint8_t *ar
    cdef uint8_t *dac
    cdef uint8_t *cache
    cdef uint8_t *ext

    cdef uint8_t *pin(self, bytearray data) except NULL
    cdef unsigned get_ext(self, unsigned n) noexcept nogil
    cdef void put_ext(self, unsigned n, unsigned value) noexcept nogil
    cdef int64_t locate(self, uint64_t offset) noexcept nogil
    cdef uint8_t read_byte(self, uint64_t offset) noexcept nogil
    cdef void write_byte(self, uint64_t offset, uint8_t value) noexcept nogil
    cdef void c_timing(self, int64_t *line, int64_t *lines) noexcept nogil
    cdef uint8_t status(self) noexcept nogil
    cdef unsigned emulation(self) noexcept nogil
    cdef uint8_t c_read(self, unsigned offset) noexcept nogil
    cdef void c_write(self, unsigned offset, uint8_t value) noexcept nogil
    cdef void write_crtc(self, uint8_t value) noexcept nogil
    cdef void write_attribute(self, uint8_t value) noexcept nogil
    cdef void write_dac(self, uint8_t value) noexcept nogil
    cdef uint8_t read_dac(self) noexcept nogil
    cdef unsigned read_dispi(self) noexcept nogil
    cdef void write_dispi(self, unsigned value) noexcept nogil

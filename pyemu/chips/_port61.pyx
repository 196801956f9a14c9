# SPDX-License-Identifier: MIT
"""Port 61: guests poll it to measure time.

None of the ``noexcept nogil`` functions can fail: they combine bits and ask the timer chip.
"""

from libc.stdint cimport uint8_t, uint64_t

from pyemu.chips._i8254 cimport PITCore
from pyemu.memory._dispatch cimport IoHandler

cdef enum:
    GATE2 = 0x01
    WRITABLE = 0x0F
    REFRESH = 0x10
    OUT2 = 0x20
    REFRESH_CLOCKS = 18         # 15.086 us: one row of DRAM a toggle


cdef class SystemControlBCore:
    """Gate and output of timer channel 2, the speaker bit, and the refresh toggle."""

    cdef public uint8_t latch
    cdef PITCore _pit
    cdef bint _connected

    def __cinit__(self, *args, **kwargs):
        self.connect_pit(None)

    @property
    def pit(self):
        """The timer chip whose channel 2 the port controls, or None."""
        return self._pit if self._connected else None

    def connect_pit(self, PITCore pit):
        """Gives the port its timer chip, or takes it away. To be called while the device is not plugged in."""
        self._connected = pit is not None
        self._pit = pit if pit is not None else PITCore()

    def reset_core(self):
        self.c_write(0)

    def handler(self):
        """The C handlers of the port."""
        return IoHandler.make(self, <void *>self, _read, _write)

    def read(self):
        """A byte read, for tests and Python callers."""
        return self.c_read()

    def write(self, uint8_t value):
        """A byte write, for tests and Python callers."""
        self.c_write(value)

    cdef uint8_t c_read(self) noexcept nogil:
        cdef uint8_t value = self.latch
        if self._pit.ticks() // REFRESH_CLOCKS & 1:
            value |= REFRESH
        if self._pit.c_out(2):
            value |= OUT2
        return value                # parity and channel check never fail: bits 7 and 6 read 0

    cdef void c_write(self, uint8_t value) noexcept nogil:
        self.latch = value & WRITABLE
        self._pit.c_set_gate(2, value & GATE2 != 0)


cdef uint64_t _read(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<SystemControlBCore>opaque).c_read()


cdef void _write(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<SystemControlBCore>opaque).c_write(value & 0xFF)

# SPDX-License-Identifier: MIT
"""The part of an IDE channel that guests hammer: the data port, the status registers, and the latches of a task file.

Everything else is in :mod:`pyemu.chips.ide`, which this calls at the end of each block and for the other registers.
"""

from libc.stdint cimport uint8_t, uint64_t

from ..device._irq cimport IRQOut
from ..memory._dispatch cimport IoHandler

PHASE_IDLE = 0
PHASE_IN = 1  # the host reads the data port
PHASE_OUT = 2  # the host writes it

cdef enum:
    IN = 1
    OUT = 2
    REG_COUNT = 2
    REG_LOW = 3
    REG_MID = 4
    REG_HIGH = 5
    REG_STATUS = 7
    DEVICE_SELECT = 0x10
    CONTROL_NIEN = 0x02
    CONTROL_SRST = 0x04
    CONTROL_HOB = 0x80
    STATUS_BSY = 0x80
    # DD7 is pulled down at the host so that an empty channel does not look busy; the rest of the bus floats high.
    EMPTY_BUS = 0x7F
    BUFFER_LENGTH = 8192  # sixteen sectors: the most that READ MULTIPLE moves between two interrupts
    CONTROL_PORT = 8  # the offset that the Python half sees for the device control register

BUFFER_SIZE = BUFFER_LENGTH


cdef class Latches:
    """Registers 2 to 5 of one device, a byte each, and what was written to them before: a 48-bit command takes both."""

    # Cannot fail: other offsets are left alone.
    cdef void latch(self, uint64_t offset, uint8_t value) noexcept nogil:
        if offset == REG_COUNT:
            self.previous_count, self.count = self.count, value
        elif offset == REG_LOW:
            self.previous_low, self.low = self.low, value
        elif offset == REG_MID:
            self.previous_mid, self.mid = self.mid, value
        elif offset == REG_HIGH:
            self.previous_high, self.high = self.high, value


cdef class IDECore:
    """Sector buffer, data port, status and the interrupt pin of one channel.

    Attributes:
        buffer: the sectors on their way; ``position`` is the next byte of the data port, ``limit`` the end of the block.
        phase: which way the data port moves, ``PHASE_IDLE`` when it does not.
        statuses: the status register of each device.
        device, control: the device/head and the device control register.
        interrupt: whether an interrupt is pending; the pin follows unless nIEN masks it.
        present: bit n is set when device n is there.
    """

    def __cinit__(self, *args, **kwargs):
        self.buffer = bytearray(BUFFER_SIZE)
        self.statuses = bytearray(2)
        # Views also keep anyone from resizing what C code indexes.
        self._bytes = self.buffer
        self._status = self.statuses

    def bind(self, IRQOut pin not None, unsigned present, Latches first not None, Latches second not None):
        """Connects the core to its interrupt pin, says which devices are there, and gives it their registers."""
        self._pin = pin
        self.present = present & 3
        self._first, self._second = first, second

    def command_handler(self):
        """The handler of the eight command ports, data port included."""
        return IoHandler.make(self, <void *>self, _read_command, _write_command)

    def control_handler(self):
        """The handler of the alternate status and device control port."""
        return IoHandler.make(self, <void *>self, _read_control, _write_control)

    def update_pin(self):
        """Drives the interrupt pin from ``interrupt`` and nIEN."""
        self.drive_pin()

    def alternate_status(self):
        """The status that the guest would see, without the effect of reading it."""
        return self.visible_status()

    # Methods of the Python half.

    def block_done(self):
        raise NotImplementedError

    def failed(self, verb, offset, error):
        raise error

    def read_register(self, unsigned offset):
        raise NotImplementedError

    def write_register(self, unsigned offset, unsigned value):
        raise NotImplementedError

    # Cannot fail: handlers exist once bind() has been called; before that nothing is present.
    cdef void latch(self, uint64_t offset, uint8_t value) noexcept nogil:
        # Both devices latch, whichever is selected, unless nobody is there or a reset is held.
        if not self.present or self.control & CONTROL_SRST:
            return
        self.control &= ~<uint8_t>CONTROL_HOB   # any write but to the control port ends the look at the previous values
        self._first.latch(offset, value)
        self._second.latch(offset, value)

    # Cannot fail: the arrays are two bytes long and indexed with one bit.
    cdef uint8_t visible_status(self) noexcept nogil:
        cdef unsigned n = 1 if self.device & DEVICE_SELECT else 0
        if not self.present >> n & 1:
            # Device 0 answers for a device 1 that is not there, with 00. Nobody answers for device 0.
            return 0 if n == 1 and self.present & 1 else EMPTY_BUS
        if self.control & CONTROL_SRST:
            return STATUS_BSY
        return self._status[n]

    # Cannot fail: a pin takes any level.
    cdef void drive_pin(self) noexcept nogil:
        if <void *>self._pin != <void *>None:
            self._pin.set(1 if self.interrupt and not self.control & CONTROL_NIEN else 0)

    # Whether the block has that many bytes left. Checks both ends, because Python code and a loaded stream may set them.
    cdef bint holds(self, unsigned length) noexcept nogil:
        return self.position <= self.limit <= BUFFER_LENGTH and self.limit - self.position >= length

    # Cannot fail: holds() keeps the index inside the buffer.
    cdef uint64_t read_data(self, unsigned size) noexcept nogil:
        cdef uint64_t value = 0
        cdef unsigned n
        cdef unsigned step = size if size > 1 else 2
        if step == 4 and not self.holds(4) and self.holds(2):
            # The port has 16 bits: two cycles, here with the end of a block between them.
            value = self.read_data(2) & 0xFFFF
            return value | (self.read_data(2) & 0xFFFF) << 16
        if self.phase != IN or not self.holds(step):
            return 0xFFFFFF7Fu if not self.present else 0xFFFFFFFFu
        for n in range(step):
            value |= <uint64_t>self._bytes[self.position + n] << (8 * n)
        self.position += step
        if self.position >= self.limit:
            self.block_end()
        # A byte access is still one cycle of the 16-bit port: the upper half is lost.
        return value if size > 1 else value & 0xFF

    # Cannot fail: as read_data.
    cdef void write_data(self, unsigned size, uint64_t value) noexcept nogil:
        cdef unsigned n
        cdef unsigned step = size if size > 1 else 2
        if step == 4 and not self.holds(4) and self.holds(2):
            self.write_data(2, value & 0xFFFF)
            self.write_data(2, value >> 16 & 0xFFFF)
            return
        if self.phase != OUT or not self.holds(step):
            return
        if size == 1:
            value &= 0xFF
        for n in range(step):
            self._bytes[self.position + n] = <uint8_t>(value >> (8 * n))
        self.position += step
        if self.position >= self.limit:
            self.block_end()

    # Cannot fail: dispatches on the offset.
    cdef uint64_t read_command(self, uint64_t offset, unsigned size) noexcept nogil:
        cdef uint8_t status
        if offset == 0:
            return self.read_data(size)
        if offset != REG_STATUS:
            return self.read_slow(offset)
        status = self.visible_status()
        if self.interrupt and self.present >> (1 if self.device & DEVICE_SELECT else 0) & 1:
            self.interrupt = 0
            self.drive_pin()
        return status

    # These three call Python. What is raised there becomes the fault of the access that is under way.
    cdef void block_end(self) noexcept with gil:
        verb = "read" if self.phase == IN else "write"
        try:
            self.block_done()
        except BaseException as error:
            self.failed(verb, 0, error)

    cdef uint64_t read_slow(self, uint64_t offset) noexcept with gil:
        try:
            return self.read_register(offset)
        except BaseException as error:
            self.failed("read", offset, error)
        return 0xFF

    cdef void write_slow(self, uint64_t offset, uint64_t value) noexcept with gil:
        try:
            self.write_register(offset, value)
        except BaseException as error:
            self.failed("write", offset, error)


# Cannot fail: the methods they call cannot, and the handler keeps the core alive.
cdef uint64_t _read_command(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<IDECore>opaque).read_command(offset, size)


cdef void _write_command(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    if offset == 0:
        (<IDECore>opaque).write_data(size, value)
    elif REG_COUNT <= offset <= REG_HIGH:
        (<IDECore>opaque).latch(offset, value & 0xFF)
    else:
        (<IDECore>opaque).write_slow(offset, value & 0xFF)


cdef uint64_t _read_control(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<IDECore>opaque).visible_status()


cdef void _write_control(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<IDECore>opaque).write_slow(CONTROL_PORT, value & 0xFF)

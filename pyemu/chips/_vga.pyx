# SPDX-License-Identifier: MIT
# cython: overflowcheck=False
# Four planes are handled as one word of 32 bits, which is cut and complemented on purpose.
"""The registers and the memory window of a VGA.

Memory is four planes of 64 KiB; the bytes of the planes at one address stand side by side in :attr:`VGACore.vram`, plane
0 first, so a plane address is an index of 32-bit words. Text is at even and odd CPU addresses: character *i* is in plane 0,
its attribute in plane 1, both at plane address *i*, and the line patterns of the characters are in plane 2.

None of the ``noexcept nogil`` functions can fail: they combine bits, and every index is masked to the size of its array.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from pyemu.device._clock cimport Clock
from pyemu.memory._dispatch cimport IoHandler

cdef enum:
    VRAM = 0x40000
    PLANE = 0x10000
    BANK = 0x10000
    SEQUENCER_REGISTERS = 8
    GRAPHICS_REGISTERS = 16
    CRTC_REGISTERS = 32
    ATTRIBUTE_REGISTERS = 32
    DISPI_REGISTERS = 16

    # Offsets from port 3B0.
    CRTC_INDEX = 0x04           # these three 20 higher on a colour screen
    CRTC_DATA = 0x05
    INPUT_STATUS = 0x0A
    ATTRIBUTE_PORT = 0x10
    ATTRIBUTE_READ = 0x11
    MISC_WRITE = 0x12           # reads: input status 0
    SEQUENCER_INDEX = 0x14
    SEQUENCER_DATA = 0x15
    PEL_MASK = 0x16
    DAC_READ_INDEX = 0x17       # reads: which way the DAC was told to go
    DAC_WRITE_INDEX = 0x18
    DAC_DATA = 0x19
    FEATURE_READ = 0x1A
    MISC_READ = 0x1C
    GRAPHICS_INDEX = 0x1E
    GRAPHICS_DATA = 0x1F

    MISC_COLOUR = 0x01
    MISC_RAM = 0x02
    ATTRIBUTE_SOURCE = 0x20     # of the index: the screen is fed from the palette, which cannot be written meanwhile
    STATUS_INACTIVE = 0x01
    STATUS_RETRACE = 0x08
    CR_PROTECT = 0x80           # of register 11: 0 to 7 cannot be written but for the line compare bit

    DISPI_ID = 0
    DISPI_XRES = 1
    DISPI_YRES = 2
    DISPI_BPP = 3
    DISPI_ENABLE = 4
    DISPI_BANK = 5
    DISPI_WIDTH = 6
    DISPI_HEIGHT = 7
    DISPI_X = 8
    DISPI_Y = 9
    DISPI_MEMORY = 10
    DISPI_ON = 0x01
    DISPI_CAPS = 0x02
    DISPI_KEEP = 0x80
    DISPI_VERSION_0 = 0xB0C0
    DISPI_VERSION_1 = 0xB0C1
    DISPI_MAX_X = 640
    DISPI_MAX_Y = 480

VRAM_SIZE = VRAM
WINDOW = 0x20000

cdef uint8_t[9] GRAPHICS_MASK = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF]
cdef uint8_t[5] SEQUENCER_MASK = [0x03, 0x3D, 0x0F, 0x3F, 0x0E]
cdef uint8_t[5] ATTRIBUTE_MASK = [0xEF, 0xFF, 0x3F, 0x0F, 0x0F]     # of registers 10 to 14


# Each of four bits becomes the eight of its plane.
cdef inline uint32_t _spread(unsigned bits) noexcept nogil:
    return ((0xFF if bits & 1 else 0) | (0xFF00 if bits & 2 else 0) | (0xFF0000 if bits & 4 else 0)
            | (0xFF000000u if bits & 8 else 0))


cdef inline uint8_t _rotate(uint8_t value, unsigned by) noexcept nogil:
    return <uint8_t>(value >> by | value << (8 - by)) if by else value


cdef class VGACore:
    """Registers, palette, memory and the memory window.

    Attributes:
        vram: 256 KiB, four planes interleaved by bytes.
        sequencer, graphics, crtc, attribute: the indexed registers.
        palette: 256 entries of red, green, blue, six bits each.
        dac_latch: the components of the palette entry that is being written.
        dispi: the sixteen 16-bit registers of the mode-setting interface at 1CE, little-endian.
        misc, feature: output registers.
        attribute_data: whether the next write to 3C0 is data.
        latch: the four bytes of the last read.
        changes: counts what may alter the picture.
    """

    def __cinit__(self, *args, **kwargs):
        self._pins = []
        self.vram = bytearray(VRAM)
        self.sequencer = bytearray(SEQUENCER_REGISTERS)
        self.graphics = bytearray(GRAPHICS_REGISTERS)
        self.crtc = bytearray(CRTC_REGISTERS)
        self.attribute = bytearray(ATTRIBUTE_REGISTERS)
        self.palette = bytearray(768)
        self.dac_latch = bytearray(3)
        self.dispi = bytearray(2 * DISPI_REGISTERS)
        self.mem = self.pin(self.vram)
        self.planes = <uint32_t *>self.mem
        self.seq = self.pin(self.sequencer)
        self.gfx = self.pin(self.graphics)
        self.cr = self.pin(self.crtc)
        self.ar = self.pin(self.attribute)
        self.dac = self.pin(self.palette)
        self.cache = self.pin(self.dac_latch)
        self.ext = self.pin(self.dispi)
        self.connect_clock(Clock("step"))

    cdef uint8_t *pin(self, bytearray data) except NULL:
        # The view keeps anyone from resizing what C code points into.
        self._pins.append(memoryview(data))
        return <uint8_t *>PyByteArray_AS_STRING(data)

    def connect_clock(self, Clock clock not None):
        """Gives the chip the clock that its retrace bits follow."""
        self._clock = clock

    def reset_core(self):
        """What the reset pin does; memory and palette keep their contents on real chips, here they are cleared."""
        for data in (self.vram, self.sequencer, self.graphics, self.crtc, self.attribute, self.palette, self.dac_latch,
                     self.dispi):
            data[:] = bytes(len(data))
        self.misc = self.feature = 0
        self.sequencer_index = self.graphics_index = self.crtc_index = self.attribute_index = 0
        self.attribute_data = 0
        self.pel_mask = 0xFF
        self.dac_index = self.dac_component = self.dac_reads = 0
        self.latch = 0
        self.dispi_index = self.dispi_low = 0
        self.put_ext(DISPI_ID, DISPI_VERSION_1)
        self.put_ext(DISPI_BPP, 8)
        self.changes += 1

    def touch(self):
        """Says that the picture may have changed by other means than the guest's, e.g. by a loaded state."""
        self.changes += 1

    def window_handler(self):
        """The handler of the 128 KiB from A0000."""
        return IoHandler.make(self, <void *>self, _read_window, _write_window)

    def port_handler(self):
        """The handler of ports 3B0 to 3DF; offsets count from 3B0."""
        return IoHandler.make(self, <void *>self, _read_port, _write_port)

    def dispi_handler(self):
        """The handler of ports 1CE (index, 16 bits) and 1CF-1D0 (data, in bytes)."""
        return IoHandler.make(self, <void *>self, _read_dispi, _write_dispi)

    def timing(self):
        """(line, lines): nanoseconds a line takes and lines a frame has, as the registers say now."""
        cdef int64_t line, lines
        self.c_timing(&line, &lines)
        return line, lines

    # -- memory -----------------------------------------------------------------------------------

    # Where in the window's present size an offset from A0000 falls; -1 where nothing answers.
    cdef int64_t locate(self, uint64_t offset) noexcept nogil:
        cdef unsigned kind = self.gfx[6] >> 2 & 3
        if not self.misc & MISC_RAM:
            return -1
        if kind == 0:
            return offset
        if kind == 1:
            return offset if offset < 0x10000 else -1
        if kind == 2:
            return offset - 0x10000 if 0x10000 <= offset < 0x18000 else -1
        return offset - 0x18000 if offset >= 0x18000 else -1

    cdef uint8_t read_byte(self, uint64_t offset) noexcept nogil:
        cdef int64_t found = self.locate(offset)
        cdef uint32_t at, plane, differ
        if found < 0:
            return 0xFF
        at = <uint32_t>found
        if self.get_ext(DISPI_ENABLE) & DISPI_ON:
            return self.mem[(self.get_ext(DISPI_BANK) * BANK + (at & (BANK - 1))) & (VRAM - 1)]
        if self.seq[4] & 8:
            plane = at & 3
            at >>= 2
        elif self.gfx[5] & 0x10:
            plane = (self.gfx[4] & 2) | (at & 1)
            at >>= 1
        else:
            plane = self.gfx[4] & 3
        self.latch = self.planes[at & (PLANE - 1)]
        if not self.gfx[5] & 8:
            return self.latch >> 8 * plane & 0xFF
        differ = (self.latch ^ _spread(self.gfx[2])) & _spread(self.gfx[7])
        return ~(differ | differ >> 8 | differ >> 16 | differ >> 24) & 0xFF

    cdef void write_byte(self, uint64_t offset, uint8_t value) noexcept nogil:
        cdef int64_t found = self.locate(offset)
        cdef uint32_t at, select, data, keep
        cdef uint8_t mask = self.gfx[8]
        cdef unsigned mode = self.gfx[5] & 3, function = self.gfx[3] >> 3 & 3
        if found < 0:
            return
        at = <uint32_t>found
        self.changes += 1
        if self.get_ext(DISPI_ENABLE) & DISPI_ON:
            self.mem[(self.get_ext(DISPI_BANK) * BANK + (at & (BANK - 1))) & (VRAM - 1)] = value
            return
        if self.seq[4] & 8:
            select = 1 << (at & 3)
            at >>= 2
        elif not self.seq[4] & 4:
            select = 5 << (at & 1)
            at >>= 1
        else:
            select = 15
        select = _spread(select & self.seq[2])
        at &= PLANE - 1
        if mode == 1:
            data = self.latch
        else:
            if mode == 2:
                data = _spread(value & 15)
            else:
                value = _rotate(value, self.gfx[3] & 7)
                if mode == 3:
                    mask &= value
                    data = _spread(self.gfx[0])
                else:
                    data = <uint32_t>value * 0x01010101u
                    keep = _spread(self.gfx[1])
                    data = (data & ~keep) | (_spread(self.gfx[0]) & keep)
            if function == 1:
                data &= self.latch
            elif function == 2:
                data |= self.latch
            elif function == 3:
                data ^= self.latch
            keep = <uint32_t>mask * 0x01010101u
            data = (data & keep) | (self.latch & ~keep)
        self.planes[at] = (self.planes[at] & ~select) | (data & select)

    # -- time -------------------------------------------------------------------------------------

    # Registers of an unset mode give times that mean nothing, but never a line or frame of no length.
    cdef void c_timing(self, int64_t *line, int64_t *lines) noexcept nogil:
        cdef int64_t hertz = 28322000 if self.misc >> 2 & 3 == 1 else 25175000
        cdef int64_t dots = (<int64_t>self.cr[0] + 5) * (8 if self.seq[1] & 1 else 9)
        if self.seq[1] & 8:
            dots *= 2
        line[0] = dots * 1000000000 // hertz
        lines[0] = <int64_t>self.cr[6] + (self.cr[7] & 1) * 256 + (self.cr[7] >> 5 & 1) * 512 + 2

    cdef uint8_t status(self) noexcept nogil:
        cdef int64_t line, lines, now, at, n, start, end, shown
        cdef uint8_t value = 0
        self.c_timing(&line, &lines)
        now = self._clock.now()
        at = (now if now > 0 else 0) % (line * lines)
        n = at // line
        at %= line
        shown = <int64_t>self.cr[0x12] + (self.cr[7] >> 1 & 1) * 256 + (self.cr[7] >> 6 & 1) * 512
        start = <int64_t>self.cr[0x10] + (self.cr[7] >> 2 & 1) * 256 + (self.cr[7] >> 7 & 1) * 512
        # The end is given by four bits: the first line after the start that matches them.
        end = start + (((self.cr[0x11] & 15) - start - 1) & 15) + 1
        if n > shown or at * (<int64_t>self.cr[0] + 5) > line * (<int64_t>self.cr[1] + 1):
            value |= STATUS_INACTIVE
        if start <= n < end:
            value |= STATUS_RETRACE | STATUS_INACTIVE
        return value

    # -- ports ------------------------------------------------------------------------------------

    # How far the ports that differ on colour and monochrome screens are from those of the latter.
    cdef unsigned emulation(self) noexcept nogil:
        return 0x20 if self.misc & MISC_COLOUR else 0

    cdef uint8_t c_read(self, unsigned offset) noexcept nogil:
        if offset == ATTRIBUTE_PORT:
            return self.attribute_index
        if offset == ATTRIBUTE_READ:
            return self.ar[self.attribute_index & 0x1F]
        if offset == MISC_WRITE:
            return 0x10             # a monitor that senses as colour
        if offset == SEQUENCER_INDEX:
            return self.sequencer_index
        if offset == SEQUENCER_DATA:
            return self.seq[self.sequencer_index & 7]
        if offset == PEL_MASK:
            return self.pel_mask
        if offset == DAC_READ_INDEX:
            return 3 if self.dac_reads else 0
        if offset == DAC_WRITE_INDEX:
            return self.dac_index
        if offset == DAC_DATA:
            return self.read_dac()
        if offset == FEATURE_READ:
            return self.feature
        if offset == MISC_READ:
            return self.misc
        if offset == GRAPHICS_INDEX:
            return self.graphics_index
        if offset == GRAPHICS_DATA:
            return self.gfx[self.graphics_index & 15]
        if offset == CRTC_INDEX + self.emulation():
            return self.crtc_index
        if offset == CRTC_DATA + self.emulation():
            return self.cr[self.crtc_index & 0x1F]
        if offset == INPUT_STATUS + self.emulation():
            self.attribute_data = 0
            return self.status()
        return 0xFF

    cdef void c_write(self, unsigned offset, uint8_t value) noexcept nogil:
        self.changes += 1
        if offset == ATTRIBUTE_PORT:
            self.write_attribute(value)
        elif offset == MISC_WRITE:
            self.misc = value & 0xEF
        elif offset == SEQUENCER_INDEX:
            self.sequencer_index = value & 7
        elif offset == SEQUENCER_DATA:
            if self.sequencer_index < 5:
                self.seq[self.sequencer_index] = value & SEQUENCER_MASK[self.sequencer_index]
        elif offset == PEL_MASK:
            self.pel_mask = value
        elif offset == DAC_READ_INDEX or offset == DAC_WRITE_INDEX:
            self.dac_index = value
            self.dac_component = 0
            self.dac_reads = offset == DAC_READ_INDEX
        elif offset == DAC_DATA:
            self.write_dac(value)
        elif offset == GRAPHICS_INDEX:
            self.graphics_index = value & 15
        elif offset == GRAPHICS_DATA:
            if self.graphics_index < 9:
                self.gfx[self.graphics_index] = value & GRAPHICS_MASK[self.graphics_index]
        elif offset == CRTC_INDEX + self.emulation():
            self.crtc_index = value & 0x1F
        elif offset == CRTC_DATA + self.emulation():
            self.write_crtc(value)
        elif offset == INPUT_STATUS + self.emulation():
            self.feature = value & 0x0B

    cdef void write_crtc(self, uint8_t value) noexcept nogil:
        cdef unsigned n = self.crtc_index & 0x1F
        if n > 0x18:
            return
        if n < 8 and self.cr[0x11] & CR_PROTECT:
            if n == 7:
                self.cr[7] = (self.cr[7] & 0xEF) | (value & 0x10)
            return
        self.cr[n] = value

    cdef void write_attribute(self, uint8_t value) noexcept nogil:
        cdef unsigned n = self.attribute_index & 0x1F
        if not self.attribute_data:
            self.attribute_index = value & 0x3F
        elif n < 16:
            if not self.attribute_index & ATTRIBUTE_SOURCE:
                self.ar[n] = value & 0x3F
        elif n < 21:
            self.ar[n] = value & ATTRIBUTE_MASK[n - 16]
        self.attribute_data ^= 1

    cdef void write_dac(self, uint8_t value) noexcept nogil:
        cdef unsigned at = 3 * self.dac_index
        self.cache[self.dac_component] = value & 0x3F
        self.dac_component += 1
        if self.dac_component < 3:
            return
        self.dac_component = 0
        self.dac[at] = self.cache[0]
        self.dac[at + 1] = self.cache[1]
        self.dac[at + 2] = self.cache[2]
        self.dac_index += 1

    cdef uint8_t read_dac(self) noexcept nogil:
        cdef uint8_t value = self.dac[3 * self.dac_index + self.dac_component]
        self.dac_component += 1
        if self.dac_component == 3:
            self.dac_component = 0
            self.dac_index += 1
        return value

    # -- mode-setting interface -------------------------------------------------------------------

    cdef unsigned get_ext(self, unsigned n) noexcept nogil:
        return self.ext[2 * n] | <unsigned>self.ext[2 * n + 1] << 8

    cdef void put_ext(self, unsigned n, unsigned value) noexcept nogil:
        self.ext[2 * n] = value & 0xFF
        self.ext[2 * n + 1] = value >> 8 & 0xFF

    cdef unsigned read_dispi(self) noexcept nogil:
        cdef unsigned n = self.dispi_index
        if n == DISPI_MEMORY:
            return VRAM // BANK
        if n > DISPI_MEMORY:
            return 0
        if self.get_ext(DISPI_ENABLE) & DISPI_CAPS:
            if n == DISPI_XRES:
                return DISPI_MAX_X
            if n == DISPI_YRES:
                return DISPI_MAX_Y
            if n == DISPI_BPP:
                return 8
        return self.get_ext(n)

    cdef void write_dispi(self, unsigned value) noexcept nogil:
        cdef unsigned n = self.dispi_index
        cdef unsigned x = self.get_ext(DISPI_XRES), y = self.get_ext(DISPI_YRES)
        self.changes += 1
        if n == DISPI_ID:
            if value == DISPI_VERSION_0 or value == DISPI_VERSION_1:
                self.put_ext(n, value)
        elif n == DISPI_BANK:
            self.put_ext(n, value & (VRAM // BANK - 1))
        elif n == DISPI_ENABLE:
            if value & DISPI_ON:
                # What does not fit into memory is not set: the interface stays off, which its users check.
                if self.get_ext(DISPI_BPP) != 8 or not x or not y or x % 8 or x * y > VRAM:
                    value &= ~DISPI_ON
                elif not self.get_ext(n) & DISPI_ON:
                    self.put_ext(DISPI_WIDTH, x)
                    self.put_ext(DISPI_HEIGHT, VRAM // x)
                    self.put_ext(DISPI_X, 0)
                    self.put_ext(DISPI_Y, 0)
                    self.put_ext(DISPI_BANK, 0)
                    if not value & DISPI_KEEP:
                        memset(self.mem, 0, VRAM)
            self.put_ext(n, value & (DISPI_ON | DISPI_CAPS | DISPI_KEEP))
        elif n == DISPI_WIDTH:
            if self.get_ext(DISPI_ENABLE) & DISPI_ON and y and x <= value <= VRAM // y:
                self.put_ext(DISPI_WIDTH, value)
                self.put_ext(DISPI_HEIGHT, VRAM // value)
        elif n < DISPI_MEMORY and n != DISPI_HEIGHT:
            if not self.get_ext(DISPI_ENABLE) & DISPI_ON or n == DISPI_X or n == DISPI_Y:
                self.put_ext(n, value)


# Cannot fail: as the methods; the handler keeps the core alive.
cdef uint64_t _read_window(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    cdef uint64_t value = 0
    cdef unsigned n
    for n in range(size):
        value |= <uint64_t>(<VGACore>opaque).read_byte(offset + n) << (8 * n)
    return value


cdef void _write_window(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    cdef unsigned n
    for n in range(size):
        (<VGACore>opaque).write_byte(offset + n, value >> (8 * n) & 0xFF)


cdef uint64_t _read_port(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<VGACore>opaque).c_read(offset)


cdef void _write_port(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<VGACore>opaque).c_write(offset, value & 0xFF)


# The data port is a word at an odd address, which reaches the card as two bytes, the lower one first.
cdef uint64_t _read_dispi(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    if offset == 0:
        return (<VGACore>opaque).dispi_index
    return (<VGACore>opaque).read_dispi() >> (0 if offset == 1 else 8)


cdef void _write_dispi(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    if offset == 0:
        (<VGACore>opaque).dispi_index = value & 0xFFFF
    elif offset == 1:
        (<VGACore>opaque).dispi_low = value & 0xFF
    else:
        (<VGACore>opaque).write_dispi((value & 0xFF) << 8 | (<VGACore>opaque).dispi_low)

# SPDX-License-Identifier: MIT
"""The 8254 timer, computed instead of ticked.

Time here is the number of input clocks (1.193182 MHz) since power-on, got from guest nanoseconds by
one division. A channel knows the input clock at which its counting element was loaded; count and
output at any other clock follow by arithmetic. So nothing runs while nobody looks, and edges never
drift: the n-th one is where n periods put it.

None of the ``noexcept nogil`` functions can fail: they do 64-bit arithmetic (no divisor is ever 0:
a loaded count is at least 1), drive a pin, and arm a timer at a time that is not negative.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from pyemu.device._clock cimport Clock
from pyemu.device._irq cimport IRQOut
from pyemu.memory._dispatch cimport IoHandler

cdef enum:
    HZ = 1193182
    NS = 1000000000
    CONTROL_BCD = 0x01
    POWER_ON = 0x30             # mode 0, low then high byte, no count: the output is low


cdef inline int64_t ns_to_ticks(int64_t ns) noexcept nogil:
    # In two parts: the product of the whole would not fit 64 bits after two hours.
    return ns // NS * HZ + ns % NS * HZ // NS


cdef inline int64_t ticks_to_ns(int64_t ticks) noexcept nogil:
    # The first nanosecond at which ns_to_ticks gives this value.
    return ticks // HZ * NS + (ticks % HZ * NS + HZ - 1) // HZ


cdef class PITChannel:
    """One counter.

    Attributes:
        control: the control word's six low bits, as the status byte shows them.
        loaded: the counting element holds a count of this mode.
        null: the count register was written and not taken over yet.
        reload: the count register, 1 to 65536; 0 when nothing was written since the control word.
        count: what the counting element was loaded with.
        start: the clock at which it was.
        load_at: the clock at which it will be loaded from the count register, -1 for none.
        paused_at: the clock at which the gate stopped it, -1 while it counts.
        frozen: what it shows while not loaded.
        latched: bytes of :attr:`latch` that are still to be read.
    """

    def __cinit__(self):
        self.reset()

    def reset(self):
        self.control = POWER_ON
        self.loaded = self.write_high = self.read_high = self.status_latched = False
        self.null = True
        self.reload = self.count = self.frozen = self.write_low = self.latch = self.latched = self.status = 0
        self.start = 0
        self.load_at = self.paused_at = -1

    cdef int mode(self) noexcept nogil:
        cdef int mode = (self.control >> 1) & 7
        return mode if mode < 6 else mode - 4

    cdef int64_t modulus(self) noexcept nogil:
        return 10000 if self.control & CONTROL_BCD else 65536

    cdef int64_t elapsed(self, int64_t t) noexcept nogil:
        t = (t if self.paused_at < 0 else self.paused_at) - self.start
        return t if t > 0 else 0

    cdef void sync(self, int64_t t) noexcept nogil:
        # Takes over the count register if its clock has come.
        cdef int64_t at = self.load_at
        if at < 0 or t < at:
            return
        cdef int mode = self.mode()
        cdef int64_t start = at
        if mode == 3 and self.loaded and self.paused_at < 0:
            if (at - self.start) % self.count:
                start = at - (self.reload + 1) // 2     # a low half begins: the high one lies before
        self.start = start
        self.count = self.reload
        self.loaded = True
        self.null = False
        self.load_at = -1
        self.paused_at = at if not self.gate and mode != 1 and mode != 5 else -1

    cdef uint16_t value(self, int64_t t) noexcept nogil:
        cdef int64_t v, high
        if not self.loaded:
            return self.frozen
        cdef int mode = self.mode()
        if mode == 2:
            v = self.count - self.elapsed(t) % self.count
        elif mode == 3:
            v = self.elapsed(t) % self.count
            high = (self.count + 1) // 2
            v = (self.count & ~1) - 2 * (v - high if v >= high else v)
        else:
            v = self.count - self.elapsed(t) % self.modulus()
            if v < 0:
                v += self.modulus()
        v %= self.modulus()
        if self.control & CONTROL_BCD:
            v = v // 1000 << 12 | v // 100 % 10 << 8 | v // 10 % 10 << 4 | v % 10
        return <uint16_t>v

    cdef bint out(self, int64_t t) noexcept nogil:
        cdef int mode = self.mode()
        if not self.loaded:
            return mode != 0
        if mode == 0:
            return self.elapsed(t) >= self.count
        if mode == 1:
            return self.elapsed(t) >= self.count
        if self.paused_at >= 0:
            return True
        if mode == 2:
            return self.count == 1 or self.elapsed(t) % self.count != self.count - 1
        if mode == 3:
            return self.elapsed(t) % self.count < (self.count + 1) // 2
        return self.elapsed(t) != self.count

    cdef int64_t run_edge(self, int64_t t) noexcept nogil:
        # The next clock after t at which the output rises, in mode 3 also falls; -1 for none.
        cdef int64_t e, edge
        if not self.loaded or self.paused_at >= 0:
            return -1
        cdef int mode = self.mode()
        e = self.elapsed(t)
        if mode < 2:
            return self.start + self.count if e < self.count else -1
        if mode > 3:
            return self.start + self.count + 1 if e <= self.count else -1
        if self.count == 1:
            return -1
        edge = self.start + (e // self.count + 1) * self.count
        if mode == 3 and e % self.count < (self.count + 1) // 2:
            return edge - self.count // 2
        return edge

    cdef void unload(self, int64_t t) noexcept nogil:
        self.frozen = self.value(t)
        self.loaded = False
        self.load_at = self.paused_at = -1

    cdef void set_gate(self, bint level, int64_t t) noexcept nogil:
        self.sync(t)
        if level == self.gate:
            return
        self.gate = level
        cdef int mode = self.mode()
        if mode == 0 or mode == 4:
            if not self.loaded:
                return
            if not level:
                if mode == 4 and self.elapsed(t) == self.count:
                    self.start -= self.modulus()        # the strobe ends here and does not come again
                self.paused_at = t
            elif self.paused_at >= 0:
                self.start += t - self.paused_at
                self.paused_at = -1
        elif level:
            if self.reload:
                self.load_at = t + 1
        elif mode == 2 or mode == 3:
            if self.loaded:
                if self.paused_at < 0:
                    self.paused_at = t
                self.load_at = -1

    cdef void program(self, uint8_t control, int64_t t) noexcept nogil:
        self.sync(t)
        self.unload(t)
        self.control = control & 0x3F
        self.reload = self.latched = 0
        self.null = True
        self.write_high = self.read_high = self.status_latched = False

    cdef void latch_count(self, int64_t t) noexcept nogil:
        self.sync(t)
        if not self.latched:
            self.latch = self.value(t)
            self.latched = 2 if self.control & 0x30 == 0x30 else 1

    cdef void latch_status(self, int64_t t) noexcept nogil:
        self.sync(t)
        if not self.status_latched:
            self.status_latched = True
            self.status = self.control | (0x80 if self.out(t) else 0) | (0x40 if self.null else 0)

    cdef void commit(self, uint16_t raw, int64_t t) noexcept nogil:
        cdef int64_t n = raw
        if self.control & CONTROL_BCD:
            n = ((raw >> 12) * 1000 + (raw >> 8 & 15) * 100 + (raw >> 4 & 15) * 10 + (raw & 15)) % 10000
        self.reload = n if n else self.modulus()
        self.null = True
        cdef int mode = self.mode()
        if mode == 0:
            self.unload(t)
            self.load_at = t + 1
        elif mode == 4 or (mode != 1 and mode != 5 and not self.loaded):
            self.load_at = t + 1
        elif (mode == 2 or mode == 3) and self.paused_at < 0 and self.load_at < 0:
            # A running generator takes the new count over at the end of its (half) period.
            self.load_at = self.run_edge(t) if self.count > 1 else t + 1

    cdef void c_write(self, uint8_t byte, int64_t t) noexcept nogil:
        cdef int access = self.control >> 4
        self.sync(t)
        if access == 1:
            self.commit(byte, t)
        elif access == 2:
            self.commit(<uint16_t>byte << 8, t)
        elif self.write_high:
            self.write_high = False
            self.commit(<uint16_t>byte << 8 | self.write_low, t)
        else:
            self.write_high = True
            self.write_low = byte
            if self.mode() == 0:
                self.unload(t)      # half a count stops mode 0, and its output goes low

    cdef uint8_t c_read(self, int64_t t) noexcept nogil:
        cdef int access = self.control >> 4
        cdef uint16_t value
        cdef bint high = access == 2
        if self.status_latched:
            self.status_latched = False
            return self.status
        self.sync(t)
        if self.latched:
            self.latched -= 1
            value = self.latch
        else:
            value = self.value(t)
        if access == 3:
            high = self.read_high
            self.read_high = not high
        return value >> 8 if high else value & 0xFF


cdef class PITCore:
    """Three channels. Channel 0's output drives an interrupt pin.

    A timer is armed for the next clock at which that output matters, always computed from where the
    counting began. If the host comes late, the pin makes one rising edge for what was due, however
    many periods have passed, and goes on from the present: a guest that was held up loses ticks, as it
    does on a real machine that leaves interrupts off, and never meets a storm of them.

    Attributes:
        look: the clock for which the timer is armed, -1 for none.
        look_edge: the output rises (in mode 3: changes) then.
        irq_level: what the pin was driven to last.
    """

    def __cinit__(self, *args, **kwargs):
        self._ch0 = PITChannel()
        self._ch1 = PITChannel()
        self._ch2 = PITChannel()
        self.channels = [self._ch0, self._ch1, self._ch2]
        self.attach(Clock("step"), IRQOut("pit.irq"))
        self.reset_core()

    def attach(self, Clock clock not None, IRQOut pin not None):
        """Gives the chip its clock and its interrupt pin."""
        self.clock = clock
        self.pin = pin
        self.irq_timer = clock.timer(self._due, "pit channel 0")

    def reset_core(self):
        """The state before anyone programs the chip: mode 0 without a count, outputs low, gate 2 off."""
        for channel in self.channels:
            channel.reset()
        self._ch0.gate = self._ch1.gate = True
        self._ch2.gate = False
        self.irq_timer.cancel()
        self.look = -1
        self.look_edge = self.irq_level = False
        self.pin.set(0)

    def handler(self):
        """The C handlers of the four ports."""
        return IoHandler.make(self, <void *>self, _read, _write)

    def read(self, unsigned offset):
        """A byte read, for tests and Python callers."""
        return self.c_read(offset)

    def write(self, unsigned offset, uint8_t value):
        """A byte write, for tests and Python callers."""
        self.c_write(offset, value)

    def output(self, int n):
        """The output pin of channel *n*: 0 or 1."""
        return int(self.c_out(n))

    def set_gate(self, int n, bint level):
        """Drives the gate pin of channel *n*."""
        self.c_set_gate(n, level)

    def counter(self, int n):
        """The counting element of channel *n* as the guest would latch it."""
        cdef PITChannel channel = self.channels[n]
        channel.sync(self.ticks())
        return channel.value(self.ticks())

    def refresh(self):
        """Drives the pin as it was saved. The timer's deadline is part of the state."""
        self.pin.set(self.irq_level)

    def _due(self):
        cdef int64_t t = self.ticks()
        if self.look >= 0 and self.look <= t:
            self.service(t)
            self.plan(t)

    cdef int64_t ticks(self) noexcept nogil:
        return ns_to_ticks(self.clock.now())

    cdef void service(self, int64_t t) noexcept nogil:
        # Brings the pin to where channel 0's output is at clock t.
        cdef bint edge = self.look_edge and self.look >= 0 and self.look <= t
        self._ch0.sync(t)
        cdef bint level = self._ch0.out(t)
        if edge and level and self.irq_level:
            self.pin.set(0)
        self.irq_level = level
        self.pin.set(level)
        self.look = -1

    cdef void plan(self, int64_t t) noexcept nogil:
        # Arms the timer for the next clock at which the pin may change.
        cdef int64_t look = self._ch0.run_edge(t)
        self.look_edge = look >= 0
        if self._ch0.load_at >= 0 and (look < 0 or self._ch0.load_at < look):
            look = self._ch0.load_at
            self.look_edge = False
        self.look = look
        if look < 0:
            self.irq_timer.c_cancel()
        else:
            self.irq_timer.c_arm(ticks_to_ns(look))

    cdef bint c_out(self, int n) noexcept nogil:
        cdef int64_t t = self.ticks()
        if n == 0:
            self._ch0.sync(t)
            return self._ch0.out(t)
        if n == 1:
            self._ch1.sync(t)
            return self._ch1.out(t)
        self._ch2.sync(t)
        return self._ch2.out(t)

    cdef void c_set_gate(self, int n, bint level) noexcept nogil:
        cdef int64_t t = self.ticks()
        if n == 0:
            self.service(t)
            self._ch0.set_gate(level, t)
            self.service(t)
            self.plan(t)
        elif n == 1:
            self._ch1.set_gate(level, t)
        else:
            self._ch2.set_gate(level, t)

    cdef uint8_t c_read(self, unsigned offset) noexcept nogil:
        cdef int64_t t = self.ticks()
        offset &= 3
        if offset == 0:
            return self._ch0.c_read(t)
        if offset == 1:
            return self._ch1.c_read(t)
        if offset == 2:
            return self._ch2.c_read(t)
        return 0xFF                 # the control word cannot be read

    cdef void c_write(self, unsigned offset, uint8_t value) noexcept nogil:
        cdef int64_t t = self.ticks()
        cdef int select = value >> 6
        offset &= 3
        cdef int counts
        if offset == 3 and (select == 3 or value & 0x30 == 0):
            # Read-back names any number of channels, latch one; neither touches the counting.
            if select < 3:
                counts = 2 << select
            elif value & 0x20:
                counts = 0
            else:
                counts = value & 0x0E
            if counts & 0x02:
                self._ch0.latch_count(t)
            if counts & 0x04:
                self._ch1.latch_count(t)
            if counts & 0x08:
                self._ch2.latch_count(t)
            if select == 3 and not value & 0x10:
                if value & 0x02:
                    self._ch0.latch_status(t)
                if value & 0x04:
                    self._ch1.latch_status(t)
                if value & 0x08:
                    self._ch2.latch_status(t)
            return
        if (select if offset == 3 else offset) == 0:
            self.service(t)         # an edge that is due comes before the change
            if offset == 3:
                self._ch0.program(value, t)
            else:
                self._ch0.c_write(value, t)
            self.service(t)
            self.plan(t)
        elif offset == 3:
            if select == 1:
                self._ch1.program(value, t)
            else:
                self._ch2.program(value, t)
        elif offset == 1:
            self._ch1.c_write(value, t)
        else:
            self._ch2.c_write(value, t)


cdef uint64_t _read(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<PITCore>opaque).c_read(offset)


cdef void _write(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<PITCore>opaque).c_write(offset, value & 0xFF)

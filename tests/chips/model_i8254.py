# SPDX-License-Identifier: MIT
"""An 8254 that counts every clock, as the data sheet tells it: what the computed one is compared with."""

from __future__ import annotations


class Counter:
    """One channel. ``clock()`` is one pulse of its input."""

    def __init__(self, gate: bool) -> None:
        self.gate = gate
        self.control = 0x30
        self.mode, self.bcd, self.access = 0, False, 3
        self.register: int | None = None  # the count register
        self.period = 0  # what the counting element was loaded with
        self.element = 0
        self.counting = False  # the element holds a count of this mode
        self.load = False  # it will be loaded at the next clock
        self.struck = False  # modes 0, 4, 5: terminal count was reached since the load
        self.null = True
        self.out = 0
        self.shown = 0  # while not counting
        self.low: int | None = None  # first half of a two-byte write
        self.high_next = False
        self.latched = 0  # bytes that are left of a latched count
        self.latch_value = 0
        self.status: int | None = None
        self.rises = 0

    @property
    def modulus(self) -> int:
        return 10000 if self.bcd else 65536

    def drive(self, level: int) -> None:
        self.rises += level > self.out
        self.out = level

    def value(self) -> int:
        if not self.counting:
            return self.shown
        value = self.element % self.modulus
        return int(str(value), 16) if self.bcd else value

    def stop(self) -> None:
        self.shown = self.value()
        self.counting = self.load = False

    # -- clocks -----------------------------------------------------------------------------------

    def clock(self) -> None:
        if self.load:
            self.load = False
            self.counting, self.struck = True, False
            self.take_over()
            self.drive(0 if self.mode in (0, 1) else 1)
            return
        if not self.counting or (self.mode in (0, 2, 3, 4) and not self.gate):
            return
        if self.mode == 2:
            if self.element == 1:
                self.take_over()
                self.drive(1)
            else:
                self.element -= 1
                self.drive(0 if self.element == 1 else 1)
        elif self.mode == 3:
            self.square()
        else:
            if self.mode in (4, 5) and self.struck and not self.out:
                self.drive(1)
            self.element = (self.element - 1) % self.modulus
            if self.element == 0 and not self.struck:
                self.struck = True
                self.drive(1 if self.mode in (0, 1) else 0)

    def square(self) -> None:
        if self.period % 2 and self.out:
            # Odd: the high half has one clock more, spent at 0.
            if self.element:
                self.element -= 2
                return
        else:
            self.element -= 2
            if self.element:
                return
        level = 1 - self.out
        self.take_over()
        self.drive(level)

    def take_over(self) -> None:
        self.period = self.register
        self.element = self.period & ~1 if self.mode == 3 else self.period
        self.null = False

    # -- pins and ports ---------------------------------------------------------------------------

    def set_gate(self, level: bool) -> None:
        if level == self.gate:
            return
        self.gate = level
        if self.mode == 4 and self.counting and not level:
            self.drive(1)
        elif self.mode in (1, 5):
            self.load = self.load or (level and self.register is not None)
        elif self.mode in (2, 3):
            if level:
                self.load = self.register is not None
            elif self.counting:
                self.load = False
                self.drive(1)

    def program(self, control: int) -> None:
        self.stop()
        self.control = control & 0x3F
        self.access, self.bcd = control >> 4 & 3, bool(control & 1)
        self.mode = {6: 2, 7: 3}.get(control >> 1 & 7, control >> 1 & 7)
        self.register, self.low, self.high_next = None, None, False
        self.latched, self.status, self.null = 0, None, True
        self.drive(0 if self.mode == 0 else 1)

    def write(self, byte: int) -> None:
        if self.access == 3 and self.low is None:
            self.low = byte
            if self.mode == 0:
                self.stop()
                self.drive(0)
            return
        raw = byte if self.access == 1 else byte << 8 | (self.low or 0)
        self.low = None
        if self.bcd:
            raw = sum((raw >> 4 * i & 15) * 10**i for i in range(4))
        self.register = raw % self.modulus or self.modulus
        self.null = True
        if self.mode == 0:
            self.stop()
            self.drive(0)
            self.load = True
        elif self.mode == 4 or (self.mode in (2, 3) and not self.counting):
            self.load = True

    def read(self) -> int:
        if self.status is not None:
            status, self.status = self.status, None
            return status
        value = self.value()
        if self.latched:
            self.latched -= 1
            value = self.latch_value
        high = self.access == 2
        if self.access == 3:
            high, self.high_next = self.high_next, not self.high_next
        return value >> 8 if high else value & 0xFF

    def latch_count(self) -> None:
        if not self.latched:
            self.latched = 2 if self.access == 3 else 1
            self.latch_value = self.value()

    def latch_status(self) -> None:
        if self.status is None:
            self.status = self.out << 7 | self.null << 6 | self.control


class PITModel:
    def __init__(self) -> None:
        self.counters = [Counter(True), Counter(True), Counter(False)]

    def clock(self) -> None:
        for counter in self.counters:
            counter.clock()

    def control(self, value: int) -> None:
        select = value >> 6
        if select == 3:
            for n, counter in enumerate(self.counters):
                if value & 2 << n:
                    if not value & 0x20:
                        counter.latch_count()
                    if not value & 0x10:
                        counter.latch_status()
        elif value & 0x30:
            self.counters[select].program(value)
        else:
            self.counters[select].latch_count()

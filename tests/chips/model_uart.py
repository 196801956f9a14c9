# SPDX-License-Identifier: MIT
"""A 16550A without pacing, written to be read: what the compiled one is compared with."""

from __future__ import annotations

DATA_READY, OVERRUN, FRAMING, BREAK, IDLE, FIFO_ERROR = 0x01, 0x02, 0x08, 0x10, 0x60, 0x80
ERRORS = 0x1E
CTS, DSR, RING, CARRIER = 0x10, 0x20, 0x40, 0x80


class UARTModel:
    """Registers by name; ``sent`` collects what leaves the chip."""

    def __init__(self) -> None:
        self.divisor, self.scratch, self.last = 12, 0, 0
        self.ier = self.fcr = self.lcr = self.mcr = 0
        self.received: list[list[int]] = []
        self.errors = 0
        self.empty_noted = False
        self.timed_out = False
        self.deadline: int | None = None
        self.outside = CTS | DSR | CARRIER
        self.modem, self.deltas = self.outside, 0
        self.sent = bytearray()
        self.now = 0

    # -- what follows from the registers ----------------------------------------------------------

    @property
    def fifos(self) -> bool:
        return bool(self.fcr & 1)

    @property
    def loop(self) -> bool:
        return bool(self.mcr & 0x10)

    @property
    def lsr(self) -> int:
        value = IDLE | self.errors
        if self.received:
            value |= DATA_READY
        if self.fifos and any(flags for _, flags in self.received):
            value |= FIFO_ERROR
        return value

    @property
    def cause(self) -> int:
        trigger = {0: 1, 1: 4, 2: 8, 3: 14}[self.fcr >> 6] if self.fifos else 1
        if self.ier & 4 and self.errors:
            return 6
        if self.ier & 1 and len(self.received) >= trigger:
            return 4
        if self.ier & 1 and self.timed_out:
            return 12
        if self.ier & 2 and self.empty_noted:
            return 2
        if self.ier & 8 and self.deltas:
            return 0
        return 1

    @property
    def pin(self) -> int:
        return int(self.cause != 1 and bool(self.mcr & 8))

    @property
    def character_ns(self) -> int:
        data = 5 + (self.lcr & 3)
        stop = 1.0 if not self.lcr & 4 else 1.5 if data == 5 else 2.0
        bits = 1 + data + (1 if self.lcr & 8 else 0) + stop
        return int(bits * 2) * (self.divisor or 1) * 10**9 // (2 * 115200)

    # -- the line ---------------------------------------------------------------------------------

    def arrive(self, byte: int, flags: int = 0) -> None:
        if len(self.received) >= (16 if self.fifos else 1):
            self.errors |= OVERRUN
            if self.fifos:
                return
            self.received.clear()
        self.received.append([byte, flags])
        if len(self.received) == 1:
            self.errors |= flags
        if self.fifos:
            self.deadline = self.now + 4 * self.character_ns

    def set_line(self, bit: int, level: bool) -> None:
        self.outside = self.outside | bit if level else self.outside & ~bit
        self.modem_changed()

    def modem_changed(self) -> None:
        new = self.outside
        if self.loop:
            pairs = ((0x01, DSR), (0x02, CTS), (0x04, RING), (0x08, CARRIER))
            new = sum(line for control, line in pairs if self.mcr & control)
        for line, delta in ((CTS, 1), (DSR, 2), (CARRIER, 8)):
            if (new ^ self.modem) & line:
                self.deltas |= delta
        if self.modem & RING and not new & RING:
            self.deltas |= 4
        self.modem = new

    def advance(self, ns: int) -> None:
        self.now += ns
        if self.deadline is not None and self.now >= self.deadline:
            self.timed_out = True
            self.deadline = None

    # -- ports ------------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        latch = bool(self.lcr & 0x80)
        if offset == 0:
            return self.divisor & 0xFF if latch else self.take()
        if offset == 1:
            return self.divisor >> 8 if latch else self.ier
        if offset == 2:
            cause = self.cause
            if cause == 2:
                self.empty_noted = False
            return cause | (0xC0 if self.fifos else 0)
        if offset == 5:
            value = self.lsr
            self.errors = 0
            if self.received and value & ERRORS:
                self.received[0][1] = 0
            return value
        if offset == 6:
            value = self.modem | self.deltas
            self.deltas = 0
            return value
        return {3: self.lcr, 4: self.mcr, 7: self.scratch}[offset]

    def take(self) -> int:
        if not self.received:
            return self.last
        self.last = self.received.pop(0)[0]
        self.timed_out = False
        self.deadline = None
        if self.received:
            self.errors |= self.received[0][1]
            self.deadline = self.now + 4 * self.character_ns
        return self.last

    def write(self, offset: int, value: int) -> None:
        latch = bool(self.lcr & 0x80)
        if offset == 0 and latch:
            self.divisor = self.divisor & 0xFF00 | value
        elif offset == 0:
            if self.loop:
                self.arrive(value)
            else:
                self.sent.append(value)
            self.empty_noted = True
        elif offset == 1 and latch:
            self.divisor = self.divisor & 0xFF | value << 8
        elif offset == 1:
            if value & 2 and not self.ier & 2:
                self.empty_noted = True
            self.ier = value & 0x0F
        elif offset == 2:
            toggled = (value ^ self.fcr) & 1
            if toggled or value & 2:
                self.received.clear()
                self.timed_out, self.deadline = False, None
            self.fcr = value & 0xC9 if value & 1 else 0
        elif offset == 3:
            if self.loop and value & 0x40 and not self.lcr & 0x40:
                self.arrive(0, BREAK | FRAMING)
            self.lcr = value
        elif offset == 4:
            self.mcr = value & 0x1F
            self.modem_changed()
        elif offset == 7:
            self.scratch = value

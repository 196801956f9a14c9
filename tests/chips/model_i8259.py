# SPDX-License-Identifier: MIT
"""Two 8259A in cascade, written to be read: what the compiled pair is compared with."""

from __future__ import annotations


class Chip:
    """One controller; sets of input numbers instead of bit masks."""

    def __init__(self, cascade: int | None = None) -> None:
        self.cascade = cascade
        self.high: set[int] = set()
        self.risen: set[int] = set()
        self.elcr: set[int] = set()
        self.base = 0
        self.restart(0)
        self.expected: list[str] = []

    def restart(self, icw1: int) -> None:
        self.risen.clear()
        self.serving: set[int] = set()
        self.masked: set[int] = set()
        self.order = list(range(8))
        self.all_level = bool(icw1 & 8)
        self.single = bool(icw1 & 2)
        self.auto_eoi = self.auto_rotate = self.nested = self.special = self.show_serving = self.poll = False
        self.expected = ["base"] + ["wiring"] * (not self.single) + ["mode"] * bool(icw1 & 1)

    def requests(self) -> set[int]:
        return {n for n in range(8) if n in (self.high if self.all_level or n in self.elcr else self.risen)}

    def drive(self, n: int, level: bool) -> None:
        if level and n not in self.high:
            self.high.add(n)
            self.risen.add(n)
        elif not level:
            self.high.discard(n)
            self.risen.discard(n)

    def winner(self) -> int | None:
        for n in self.order:
            in_service = n in self.serving and not (self.special and n in self.masked)
            if in_service and not (self.nested and n == self.cascade):
                return None
            if n in self.requests() and n not in self.masked:
                return n
            if in_service:
                return None
        return None

    def serve(self, n: int) -> None:
        self.risen.discard(n)
        if not self.auto_eoi:
            self.serving.add(n)
        elif self.auto_rotate:
            self.lowest(n)

    def lowest(self, n: int) -> None:
        self.order = [(n + 1 + i) % 8 for i in range(8)]

    def end(self, ocw2: int) -> None:
        rotate, specific, eoi, n = ocw2 & 0x80, ocw2 & 0x40, ocw2 & 0x20, ocw2 & 7
        if not eoi and not specific:
            self.auto_rotate = bool(rotate)
        elif not eoi:
            if rotate:
                self.lowest(n)
        else:
            if not specific:
                served = [m for m in self.order if m in self.serving and not (self.special and m in self.masked)]
                if not served:
                    return
                n = served[0]
            self.serving.discard(n)
            if rotate:
                self.lowest(n)

    def write(self, port: int, value: int) -> None:
        if port == 0 and value & 0x10:
            self.restart(value)
        elif port == 0 and value & 8:
            if value & 2:
                self.show_serving = bool(value & 1)
            if value & 0x40:
                self.special = bool(value & 0x20)
            self.poll = bool(value & 4)
        elif port == 0:
            self.end(value)
        elif self.expected:
            word = self.expected.pop(0)
            if word == "base":
                self.base = value & 0xF8
            elif word == "mode":
                self.auto_eoi, self.nested = bool(value & 2), bool(value & 0x10)
        else:
            self.masked = members(value)

    def read(self, port: int) -> tuple[int, bool]:
        """The value, and whether an interrupt was taken by polling."""
        if self.poll:
            self.poll = False
            n = self.winner()
            if n is None:
                return 0, False
            self.serve(n)
            return 0x80 | n, True
        if port:
            return mask(self.masked), False
        return mask(self.serving if self.show_serving else self.requests()), False


class PairModel:
    def __init__(self) -> None:
        self.master, self.slave = Chip(2), Chip()

    def settle(self) -> None:
        self.master.drive(2, self.slave.winner() is not None)

    @property
    def intr(self) -> int:
        return int(self.master.winner() is not None)

    def line(self, n: int, level: bool) -> None:
        if n != 2:
            (self.master if n < 8 else self.slave).drive(n % 8, level)
            self.settle()

    def write(self, chip: int, port: int, value: int) -> None:
        if chip == 2:
            (self.slave if port else self.master).elcr = members(value & (0xDE if port else 0xF8))
        else:
            (self.slave if chip else self.master).write(port, value)
        self.settle()

    def read(self, chip: int, port: int) -> int:
        if chip == 2:
            return mask((self.slave if port else self.master).elcr)
        value, taken = (self.slave if chip else self.master).read(port)
        if taken and chip:
            self.master.drive(2, False)
        self.settle()
        return value

    def ack(self) -> int:
        n = self.master.winner()
        if n is None:
            return self.master.base + 7
        self.master.serve(n)
        vector = self.master.base + n
        if n == 2 and not self.master.single:
            n = self.slave.winner()
            vector = self.slave.base + (7 if n is None else n)
            if n is not None:
                self.slave.serve(n)
                self.master.drive(2, False)
        self.settle()
        return vector


def members(bits: int) -> set[int]:
    return {n for n in range(8) if bits >> n & 1}


def mask(numbers: set[int]) -> int:
    return sum(1 << n for n in numbers)

# SPDX-License-Identifier: MIT
"""The real-time clock and its battery-backed memory."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import ClassVar

from ..device import ISADevice, Property, Register, RegisterTable, VMState, vmstate
from ..errors import ConfigError, MigrationError
from ._mc146818 import RTCCore
from .nvram import NVRAMFile
from .superio import PRIORITY_CORE

#: Limits of a saved time, so that sums of them stay in 64 bits: guest time of some 140 years.
_FARTHEST = {"base_second": 1 << 40, "base_ns": 1 << 62, "seen_ns": 1 << 62}


CMOS_SIZE = 128
#: The bytes before it are the clock's own: time, alarm and control.
FIRST_FREE = 0x0E
REGISTERS = RegisterTable(
    (Register(0, "CMOS index", 0, 0x7F, source="index", effect="write-only; data follows at 71"),
     Register(1, "CMOS data", 0, source="selected", effect="reading register C ends the interrupt")),
    name="CMOS", size=2,
)  # fmt: skip


class RTC(RTCCore, ISADevice):
    """An MC146818 at 70 (index, write-only) and 71 (data), on interrupt line 8, with 128 bytes of CMOS.

    :attr:`cmos` is the memory itself; boards put there what a BIOS looks for. It survives a reset, as the
    time does. The time runs with the machine's clock from what the property ``base`` says.
    """

    type_name = "mc146818"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("base", "str", "utc", "time at power-on: utc, localtime, or a date as 2026-01-31T12:00:00"),
        Property("nvram", "host", None, "file that keeps the memory from run to run"),
    )
    vmstate = VMState(
        "mc146818",
        fields=(
            vmstate.buffer("cmos", 128),
            vmstate.uint8("index", limit=0x7F),
            vmstate.int64("base_second"),
            vmstate.int64("base_ns"),
            vmstate.uint8("weekday_shift", limit=6),
            vmstate.int64("seen_ns"),
            vmstate.timer("event_timer"),
        ),
    )
    register_tables = (REGISTERS,)
    volatile: ClassVar[frozenset[str]] = frozenset({"clock", "pin", "base", "nvram", "file"})
    base: str
    nvram: str | None

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.file: NVRAMFile | None = None

    def realize(self) -> None:
        from ..memory import PortioEntry

        self.attach(self.bus.clock, self.new_irq("irq", 8))
        self.add_ports((PortioEntry(0, 2, 1, handler=self.handler()),), 0x70, priority=PRIORITY_CORE)
        if self.nvram is not None and self.file is None:
            self.file = NVRAMFile(self.nvram, 2 * CMOS_SIZE)
            self.cmos[FIRST_FREE:] = self.file.load()[FIRST_FREE:CMOS_SIZE]
        self.reset_core()
        self.set_epoch_ns(self._start())

    def unrealize(self) -> None:
        if self.file is not None:
            self.file.keep(self, 0, bytes(self.cmos))
        self.event_timer.cancel()
        super().unrealize()

    @property
    def selected(self) -> int:
        """The byte that the index selects, as it lies in memory."""
        return self.cmos[self.index & 0x7F]

    def reset(self) -> None:
        self.reset_core()

    def post_load(self, version: int) -> None:
        for name in ("base_second", "base_ns", "seen_ns"):
            value = getattr(self, name)
            if abs(value) > _FARTHEST[name]:
                raise MigrationError(f"{self.id}: {name}={value} is more than {_FARTHEST[name]} away from 0")
        self.refresh()

    def _start(self) -> int:
        """The time at power-on, in ns since 1970 of whatever zone the clock is to show."""
        if self.base == "utc":
            return time.time_ns()
        if self.base == "localtime":
            return time.time_ns() + (time.localtime().tm_gmtoff or 0) * 1_000_000_000
        try:
            moment = datetime.fromisoformat(self.base)
        except ValueError:
            raise ConfigError(f"{self.id}: base={self.base!r} is not utc, localtime or a date") from None
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000_000_000)

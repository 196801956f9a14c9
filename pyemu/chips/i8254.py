# SPDX-License-Identifier: MIT
"""The interval timer."""

from __future__ import annotations

from typing import ClassVar

from ..device import ISADevice, Property, VMState, vmstate
from ..errors import MigrationError
from . import _registers
from ._i8254 import PITChannel, PITCore
from .superio import PRIORITY_CORE

#: Input clocks that fit guest time in 64-bit nanoseconds.
_LATEST = 1 << 53

_CHANNEL = VMState(
    "i8254-channel",
    fields=(
        vmstate.uint8("control", limit=0x3F),
        vmstate.boolean("gate"),
        vmstate.boolean("loaded"),
        vmstate.boolean("null"),
        vmstate.uint32("reload", limit=65536),
        vmstate.uint32("count", limit=65536),
        vmstate.int64("start"),
        vmstate.int64("load_at"),
        vmstate.int64("paused_at"),
        vmstate.uint16("frozen"),
        vmstate.uint8("write_low"),
        vmstate.boolean("write_high"),
        vmstate.boolean("read_high"),
        vmstate.uint16("latch"),
        vmstate.uint8("latched", limit=2),
        vmstate.uint8("status"),
        vmstate.boolean("status_latched"),
    ),
)


class PIT(PITCore, ISADevice):
    """An 8254 at 40-43: all six modes, binary and BCD, latches and read-back, on the machine's clock.

    Channel 0 drives interrupt line 0; :meth:`set_gate` and :meth:`output` of channel 2 are for port 61.
    """

    type_name = "i8254"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("iobase", "int", 0x40, "first of its four ports", minimum=0, maximum=0xFFFC),
    )
    vmstate = VMState(
        "i8254",
        fields=(
            vmstate.nested("channels", _CHANNEL, count=3),
            vmstate.int64("look"),
            vmstate.boolean("look_edge"),
            vmstate.boolean("irq_level"),
            vmstate.timer("irq_timer"),
        ),
    )
    register_tables = (_registers.PIT,)
    volatile = frozenset({"clock", "pin", "iobase"})
    iobase: int

    def realize(self) -> None:
        from ..memory import PortioEntry

        pin = self.new_irq()
        pin.connect(self.bus.irqs[0])
        self.attach(self.bus.clock, pin)
        self.add_ports((PortioEntry(0, 4, 1, handler=self.handler()),), self.iobase, priority=PRIORITY_CORE)

    def unrealize(self) -> None:
        self.irq_timer.cancel()
        super().unrealize()

    def reset(self) -> None:
        self.reset_core()

    def post_load(self, version: int) -> None:
        for n, channel in enumerate(self.channels):
            self._check_channel(n, channel)
        if not -1 <= self.look <= _LATEST:
            raise MigrationError(f"{self.id}: next edge at clock {self.look}")
        self.refresh()

    def _check_channel(self, n: int, channel: PITChannel) -> None:
        """What the arithmetic relies on: no count is 0, and all clocks are within the range of time."""
        if (channel.loaded and not channel.count) or (channel.load_at >= 0 and not channel.reload):
            raise MigrationError(f"{self.id}: channel {n} counts from {channel.count}, reload {channel.reload}")
        for name in ("start", "load_at", "paused_at"):
            value = getattr(channel, name)
            if not -_LATEST <= value <= _LATEST:
                raise MigrationError(f"{self.id}: channel {n}: {name}={value} is not a clock of this machine")

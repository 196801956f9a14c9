# SPDX-License-Identifier: MIT
"""System control port A."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ..device import IRQOut, ISADevice, VMState, vmstate
from . import _registers
from .superio import PRIORITY_CORE

FAST_RESET = 0x01
A20 = 0x02


class SystemControlA(ISADevice):
    """Port 92: bit 1 opens the A20 gate, a rising bit 0 resets the processor.

    Attributes:
        a20_out: pin that is high while the gate is to be open.
        on_reset: called without arguments when the guest asks for a reset; given by the board.
    """

    type_name = "port92"
    vmstate = VMState("port92", fields=(vmstate.uint8("latch"),))
    register_tables = (_registers.PORT92,)
    volatile: ClassVar[frozenset[str]] = frozenset({"a20_out", "on_reset"})

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.latch = 0
        self.a20_out = IRQOut("port92.a20")
        self.on_reset: Callable[[], object] | None = None

    def realize(self) -> None:
        from ..memory import PortioEntry

        entry = PortioEntry(0, 1, 1, read=self.io_read, write=self.io_write)
        self.add_ports((entry,), 0x92, priority=PRIORITY_CORE)

    def reset(self) -> None:
        self.latch = 0
        self.a20_out.set_level(0)

    def post_load(self, version: int) -> None:
        self.a20_out.set_level(1 if self.latch & A20 else 0)

    def io_read(self, offset: int, size: int) -> int:
        return self.latch

    def io_write(self, offset: int, size: int, value: int) -> None:
        pulse = value & ~self.latch & FAST_RESET
        self.latch = value
        self.a20_out.set_level(1 if value & A20 else 0)
        if pulse and self.on_reset is not None:
            self.on_reset()

# SPDX-License-Identifier: MIT
"""The reset control register at CF9."""

from __future__ import annotations

from collections.abc import Callable

from ..device import ISADevice, VMState, vmstate
from ..memory import PortioEntry
from . import _registers

PORT = 0xCF9

HARD_RESET = 0x02  # the kind of reset: with it the whole system, without it the processor
RESET_NOW = 0x04  # its rising edge resets
FULL_RESET = 0x08  # also cycles the power
WRITABLE = HARD_RESET | FULL_RESET


class ResetControl(ISADevice):
    """Port CF9.

    Attributes:
        on_reset: called with whether a hard reset was asked for, each time the guest sets bit 2.
    """

    type_name = "reset-control"
    register_tables = (_registers.CF9,)
    vmstate = VMState("reset-control", fields=(vmstate.uint8("value", limit=0x0E),))
    volatile = frozenset({"on_reset"})

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.value = 0
        self.on_reset: Callable[[bool], None] | None = None

    def realize(self) -> None:
        self.add_ports([PortioEntry(0, 1, 1, self._read, self._write)], PORT)

    def reset(self) -> None:
        self.value = 0

    def _read(self, offset: int, size: int) -> int:
        return self.value

    def _write(self, offset: int, size: int, value: int) -> None:
        rising = value & ~self.value & RESET_NOW
        self.value = value & (WRITABLE | RESET_NOW)
        if rising and self.on_reset is not None:
            self.on_reset(bool(value & HARD_RESET))

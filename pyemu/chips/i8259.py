# SPDX-License-Identifier: MIT
"""The pair of interrupt controllers."""

from __future__ import annotations

from typing import ClassVar

from ..device import ISADevice, VMState, vmstate
from . import _registers
from ._i8259 import PICPairCore
from .superio import PRIORITY_CORE

_CHIP = VMState(
    "i8259",
    fields=(
        vmstate.uint8("levels"),
        vmstate.uint8("edges"),
        vmstate.uint8("isr"),
        vmstate.uint8("imr"),
        vmstate.uint8("base"),
        vmstate.uint8("first", limit=7),
        vmstate.uint8("elcr"),
        vmstate.uint8("icw_step", limit=4),
        vmstate.boolean("needs_icw4"),
        vmstate.boolean("single"),
        vmstate.boolean("level_triggered"),
        vmstate.boolean("auto_eoi"),
        vmstate.boolean("auto_rotate"),
        vmstate.boolean("fully_nested"),
        vmstate.boolean("special_mask"),
        vmstate.boolean("read_isr"),
        vmstate.boolean("poll"),
    ),
)


class PICPair(PICPairCore, ISADevice):
    """Two 8259A in cascade, with edge/level control, at 20, A0 and 4D0.

    It exists before the bus whose lines it is: make it, make the bus with its :attr:`lines`, plug it in.
    The input levels are part of its state, so that the order in which a saved machine's devices are
    loaded does not matter: a device that drives its line again causes no second edge.
    """

    type_name = "i8259"
    vmstate = VMState("i8259-pair", fields=(vmstate.nested("master", _CHIP), vmstate.nested("slave", _CHIP)))
    register_tables = _registers.PICS
    volatile: ClassVar[frozenset[str]] = frozenset({"lines", "intr"})

    def realize(self) -> None:
        from ..memory import PortioEntry

        for base, handler in zip((0x20, 0xA0, 0x4D0), self.handlers(), strict=True):
            self.add_ports((PortioEntry(0, 2, 1, handler=handler),), base, priority=PRIORITY_CORE)

    def reset(self) -> None:
        self.reset_core()

    def post_load(self, version: int) -> None:
        self.refresh()

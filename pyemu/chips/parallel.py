# SPDX-License-Identifier: MIT
"""The parallel port: data, status and control, in the modes SPP and PS/2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ..device import ISAFunction, Property, VMState, vmstate

if TYPE_CHECKING:
    from ..device import Chardev
    from ..memory import PortioEntry

DATA, STATUS, CONTROL = 0, 1, 2

STATUS_NOT_BUSY = 0x80
STATUS_NOT_ACK = 0x40
STATUS_SELECT = 0x10
STATUS_NOT_ERROR = 0x08
#: Bits 2-0: bit 0 is the EPP time-out, the others are not connected and read 0, as QEMU has bit 0 set at first.
STATUS_IDLE = STATUS_NOT_BUSY | STATUS_NOT_ACK | STATUS_SELECT | STATUS_NOT_ERROR

CONTROL_STROBE = 0x01
CONTROL_INIT = 0x04
CONTROL_SELECT = 0x08
CONTROL_IRQ = 0x10
CONTROL_INPUT = 0x20
CONTROL_ALWAYS = 0xC0
CONTROL_WRITABLE = 0x3F

MODES = ("spp", "ps2", "epp", "ecp")


class ParallelPort(ISAFunction):
    """A parallel port at 378 (or 278, 3BC, or wherever its SuperIO puts it).

    A byte is printed on the falling edge of STROBE: it goes to the character backend, and the printer's
    acknowledge pulse follows at once, which is an interrupt where the guest enabled it.

    In mode ``spp`` the data lines always drive; in the others control bit 5 turns them round, and reads then
    see the open pins (FF). Registers 4 to 7 belong to EPP and answer only in that mode.
    """

    type_name = "isa-parallel"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("chardev", "chardev", None, "where printed bytes go"),
        Property("iobase", "int", 0x378, "first of its ports", minimum=0, maximum=0xFFF8),
        Property("irq", "int", 7, "interrupt line, 0 for none", minimum=0, maximum=15),
        Property("mode", "choice", "ps2", "operating mode", choices=MODES),
        Property("window", "int", 8, "ports it decodes: 4 or 8", minimum=4, maximum=8),
    )
    vmstate = VMState(
        "parallel",
        fields=(
            vmstate.uint8("data"),
            vmstate.uint8("control", limit=CONTROL_WRITABLE),
            vmstate.boolean("acknowledged"),
        ),
    )
    volatile: ClassVar[frozenset[str]] = frozenset({"chardev", "mode", "window"})

    chardev: Chardev | None
    mode: str
    window: int

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.data = 0
        self.control = CONTROL_INIT | CONTROL_SELECT
        self.acknowledged = False

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (PortioEntry(0, self.window, 1, read=self.io_read, write=self.io_write),)

    def set_mode(self, mode: str) -> None:
        """``spp``, ``ps2``, ``epp`` or ``ecp``; an empty string leaves it as it is."""
        if mode:
            self.mode = mode

    def reset(self) -> None:
        self.data = 0
        self.control = CONTROL_INIT | CONTROL_SELECT
        self.acknowledged = False
        self._drive()

    def post_load(self, version: int) -> None:
        self._drive()

    def io_read(self, offset: int, size: int) -> int:
        if offset == DATA:
            turned = self.mode != "spp" and self.control & CONTROL_INPUT
            return 0xFF if turned else self.data
        if offset == STATUS:
            # Reading the status ends the acknowledge that raised the interrupt.
            self.acknowledged = False
            self._drive()
            return STATUS_IDLE | 0x01 if self.mode == "epp" else STATUS_IDLE
        if offset == CONTROL:
            return self.control | CONTROL_ALWAYS
        return 0xFF

    def io_write(self, offset: int, size: int, value: int) -> None:
        if offset == DATA:
            self.data = value
        elif offset == CONTROL:
            falling = self.control & ~value & CONTROL_STROBE
            self.control = value & CONTROL_WRITABLE
            # STROBE is inverted on the wire: the printer takes the byte when the bit goes back to 0.
            if falling and not value & CONTROL_INPUT:
                if self.chardev is not None:
                    self.chardev.write(bytes((self.data,)))
                self.acknowledged = bool(value & CONTROL_IRQ)
            if not value & CONTROL_IRQ:
                self.acknowledged = False
            self._drive()
        else:
            self.warn_once(f"write-{offset}", "write of %#04x to register %d, which mode %s lacks", value, offset, self.mode)

    def _drive(self) -> None:
        self.irq_out.set_level(1 if self.acknowledged else 0)

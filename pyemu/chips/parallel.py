# SPDX-License-Identifier: MIT
"""The parallel port: data, status and control, in the modes SPP and PS/2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ..device import ISAFunction, Property, VMState, vmstate

if TYPE_CHECKING:
    from ..device import Chardev
    from ..memory import PortioEntry, PortioList

DATA, STATUS, CONTROL = 0, 1, 2

STATUS_NOT_BUSY = 0x80
STATUS_NOT_ACK = 0x40
STATUS_SELECT = 0x10
STATUS_NOT_ERROR = 0x08
STATUS_NO_IRQ = 0x04
#: Reserved, and bit 0: the EPP time-out. Drivers take a time-out that they cannot clear for "no EPP here".
STATUS_ALWAYS = 0x03
STATUS_IDLE = STATUS_NOT_BUSY | STATUS_NOT_ACK | STATUS_SELECT | STATUS_NOT_ERROR | STATUS_ALWAYS

CONTROL_STROBE = 0x01
CONTROL_INIT = 0x04
CONTROL_SELECT = 0x08
CONTROL_IRQ = 0x10
CONTROL_INPUT = 0x20
CONTROL_ALWAYS = 0xC0
CONTROL_WRITABLE = 0x3F

MODES = ("spp", "ps2", "epp", "ecp")
#: Registers 0 to 3 are there in each mode, 4 to 7 belong to EPP.
LOWER, UPPER = 4, 8


class ParallelPort(ISAFunction):
    """A parallel port at 378 (or 278, 3BC, or wherever its SuperIO puts it).

    A byte is printed on the falling edge of STROBE: it goes to the character backend, and the printer's
    acknowledge pulse follows at once, which is an interrupt where the guest enabled it.

    In mode ``spp`` the data lines always drive; in the others control bit 5 turns them round, and reads then
    see the open pins (FF). Mode ``epp`` decodes eight ports, the others four: what lies behind, such as the
    display's registers behind 3BC, is not covered. The registers that EPP and ECP add are not there: reads
    give FF, and drivers find neither.
    """

    type_name = "isa-parallel"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("chardev", "chardev", None, "where printed bytes go"),
        Property("iobase", "int", 0x378, "first of its ports", minimum=0, maximum=0xFFF8),
        Property("irq", "int", 7, "interrupt line, 0 for none", minimum=0, maximum=15),
        Property("mode", "choice", "ps2", "operating mode", choices=MODES),
        Property("window", "choice", "mode", "ports it decodes: as its mode says, or always 8", choices=("mode", "8")),
    )
    vmstate = VMState(
        "parallel",
        fields=(
            vmstate.uint8("data"),
            vmstate.uint8("control", limit=CONTROL_WRITABLE),
            vmstate.boolean("acknowledged"),
        ),
    )
    volatile: ClassVar[frozenset[str]] = frozenset({"chardev", "mode", "window", "upper"})

    chardev: Chardev | None
    mode: str
    window: str

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.data = 0
        self.control = CONTROL_INIT | CONTROL_SELECT
        self.acknowledged = False
        self.upper: PortioList | None = None

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (PortioEntry(0, LOWER, 1, read=self.io_read, write=self.io_write),)

    def realize(self) -> None:
        from ..memory import PortioEntry

        super().realize()
        entry = PortioEntry(LOWER, UPPER - LOWER, 1, read=self.io_read, write=self.io_write)
        self.upper = self.add_ports((entry,), self.iobase, f"{self.id}.epp", enabled=self._shows_upper())

    def unrealize(self) -> None:
        self.upper = None
        super().unrealize()

    def set_enabled(self, enabled: bool) -> None:
        super().set_enabled(enabled)
        if self.upper is not None:
            self.upper.set_enabled(self._shows_upper())

    def set_base(self, base: int) -> None:
        if self.upper is not None:
            self.upper.set_address(base)
        super().set_base(base)

    def set_mode(self, mode: str) -> None:
        """Chooses ``spp``, ``ps2``, ``epp`` or ``ecp``."""
        self.mode = mode
        if self.upper is not None:
            self.upper.set_enabled(self._shows_upper())

    def _shows_upper(self) -> bool:
        return self.enabled and (self.window == "8" or self.mode == "epp")

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
            status = STATUS_IDLE if self.acknowledged else STATUS_IDLE | STATUS_NO_IRQ
            self.acknowledged = False
            self._drive()
            return status
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

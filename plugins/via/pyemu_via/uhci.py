# SPDX-License-Identifier: MIT
"""PCI functions 2 and 3: the USB controllers, with two root ports each."""

from __future__ import annotations

from typing import Any, ClassVar

from pyemu import vmstate
from pyemu.chips.uhci import UHCI, UHCIController
from pyemu.device import Register, VMState, pci_state

from .functions import (
    COMMAND_IO,
    COMMAND_MASTER,
    REG_CAPABILITIES,
    REG_COMMAND,
    REG_LINE,
    REG_PIN,
    REG_STATUS,
    STATUS_W1C,
    ViaFunction,
)

REG_LEGACY = 0xC0
#: Bit 13 of the legacy support register lets the interrupt out.
LEGACY_INTERRUPT = 0x20


class ViaUSB(ViaFunction):
    """A UHCI controller. The board connects it with its ports of the USB."""

    type_name = "via-uhci"
    device_id = 0x3038
    class_code = 0x0C0300
    vmstate: ClassVar[VMState] = pci_state("via-uhci", vmstate.nested("uhci", UHCIController.vmstate))
    register_tables = (UHCI,)
    config_registers = (
        Register(REG_COMMAND, "command", 0, COMMAND_IO | COMMAND_MASTER | 0x0010, size=2),
        Register(REG_STATUS, "status", 0x0210, 0, size=2, clear=STATUS_W1C),
        Register(REG_CAPABILITIES, "capabilities pointer", 0x80, 0),
        Register(REG_LINE, "interrupt line", effect="routes the function's interrupt to this ISA line"),
        Register(REG_PIN, "interrupt pin", 4, 0),
        Register(0x41, "miscellaneous control", 0x10),
        Register(0x60, "USB release", 0x10, 0),
        Register(0x6A, "power capability", 0x01),
        Register(0x80, "power management capability", 0x00020001, 0, size=4),
        Register(REG_LEGACY, "legacy support", 0x2000, size=2, effect="bit 13 lets the interrupt out"),
    )

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.uhci = UHCIController(self.irq_out, lambda: bool(self.command & COMMAND_MASTER), self)
        self.register_bar(4, self.uhci.ports(), 32, "io")

    def realize(self) -> None:
        super().realize()
        self.uhci.attach(self.bus.clock, self.bus.memory)

    def unrealize(self) -> None:
        self.uhci.detach()
        super().unrealize()

    def reset(self) -> None:
        self.uhci.reset()
        super().reset()

    def post_load(self, version: int) -> None:
        super().post_load(version)
        self.uhci.check()

    def interrupt_line(self) -> int | None:
        return super().interrupt_line() if self.config[REG_LEGACY + 1] & LEGACY_INTERRUPT else None

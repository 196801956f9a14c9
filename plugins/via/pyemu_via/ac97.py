# SPDX-License-Identifier: MIT
"""PCI function 5: AC'97 audio."""

from __future__ import annotations

from typing import Any, ClassVar

from pyemu.device import Register, RegisterBlock, RegisterTable, VMState, pci_state

from .functions import (
    COMMAND_IO,
    COMMAND_MASTER,
    REG_CAPABILITIES,
    REG_COMMAND,
    REG_LINE,
    REG_PIN,
    REG_STATUS,
    REG_SUBSYSTEM,
    STATUS_W1C,
    ViaFunction,
)


class ViaAudio(ViaFunction):
    """Function 5, AC'97 audio: identity, configuration space and its three port ranges, silent."""

    type_name = "via-ac97"
    device_id = 0x3058
    class_code = 0x040100
    #: Sound Blaster, FM and MIDI ranges by base register.
    ranges: ClassVar[tuple[int, ...]] = (256, 4, 4)
    vmstate: ClassVar[VMState] = pci_state("via-ac97")
    config_registers = (
        Register(REG_COMMAND, "command", 0x0004, COMMAND_IO | COMMAND_MASTER, size=2),
        Register(REG_STATUS, "status", 0x0210, 0, size=2, clear=STATUS_W1C),
        Register(REG_CAPABILITIES, "capabilities pointer", 0xC0, 0),
        Register(REG_LINE, "interrupt line", effect="routes the function's interrupt to this ISA line"),
        Register(REG_PIN, "interrupt pin", 3, 0),
        Register(0x40, "AC link status", 0x01, 0, effect="bit 0: the codec is ready"),
        Register(0x43, "legacy base, interrupt and DMA", 0x1C),
    )

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        for number, size in enumerate(self.ranges):
            table = RegisterTable((), name=f"base register {number}", size=size)
            self.register_bar(number, RegisterBlock(table).ports(), size, "io")

    def config_write(self, register: int, size: int, value: int) -> None:
        # While bit 5 of 42 is set the subsystem id takes what firmware writes.
        for at in range(REG_SUBSYSTEM, REG_SUBSYSTEM + 4):
            self.wmask[at] = 0xFF if self.config[0x42] & 0x20 else 0
        super().config_write(register, size, value)

# SPDX-License-Identifier: MIT
"""PCI functions 2 and 3: the USB controllers."""

from __future__ import annotations

from typing import Any, ClassVar

from pyemu import vmstate
from pyemu.device import Register, RegisterBlock, RegisterTable, VMState, block_field, pci_state, touches

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

UHCI_COMMAND, UHCI_STATUS, UHCI_INTERRUPTS, UHCI_FRAME = 0x00, 0x02, 0x04, 0x06
UHCI_LIST, UHCI_SOF, UHCI_PORTS = 0x08, 0x0C, (0x10, 0x12)
UHCI_RUN, UHCI_RESET = 0x01, 0x02
UHCI_FRAME_MASK = 0x07FF
FRAME_NS = 1_000_000
UHCI_HALTED = 0x20

UHCI = RegisterTable(
    (
        Register(UHCI_COMMAND, "USB command", 0, 0x00FF, size=2, effect="bit 0 runs the schedule, bit 1 resets the controller"),
        Register(UHCI_STATUS, "USB status", UHCI_HALTED, 0, size=2, clear=0x001F),
        Register(UHCI_INTERRUPTS, "USB interrupt enable", 0, 0x000F, size=2),
        Register(UHCI_FRAME, "frame number", 0, UHCI_FRAME_MASK, size=2, effect="counts milliseconds while running"),
        Register(UHCI_LIST, "frame list base", 0, 0xFFFFF000, size=4),
        Register(UHCI_SOF, "SOF modify", 0x40, 0x7F),
        # Bit 7 always reads 1. With nothing attached neither connect (0) nor enable (2) can be set.
        *(Register(at, f"port {n}", 0x0080, 0x1240, size=2, clear=0x000A) for n, at in enumerate(UHCI_PORTS, 1)),
    ),
    name="UHCI", size=32,
)  # fmt: skip


class ViaUSB(ViaFunction):
    """Functions 2 and 3: UHCI registers with two empty root ports."""

    type_name = "via-uhci"
    device_id = 0x3038
    class_code = 0x0C0300
    vmstate: ClassVar[VMState] = pci_state("via-uhci", block_field("registers", UHCI), vmstate.int64("frame_origin"))
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
        Register(0xC0, "legacy support", 0x2000, size=2),
    )

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        #: Guest time at which the running frame counter was 0.
        self.frame_origin = 0
        self.registers = RegisterBlock(UHCI, self)
        self.register_bar(4, self.registers.ports(self._read, self._write), 32, "io")

    def reset(self) -> None:
        self.registers.reset()
        self.frame_origin = 0
        super().reset()

    def _running(self) -> bool:
        return bool(self.registers.data[UHCI_COMMAND] & UHCI_RUN)

    def _count_frames(self) -> None:
        """Brings the frame number up to date: it counts milliseconds while the controller runs."""
        if self._running():
            frames = (self.bus.clock.now_ns - self.frame_origin) // FRAME_NS
            self.registers.put(UHCI_FRAME, 2, frames & UHCI_FRAME_MASK)

    def _read(self, offset: int, size: int) -> int:
        self._count_frames()
        return self.registers.get(offset, size)

    def _write(self, offset: int, size: int, value: int) -> None:
        self._count_frames()
        was_running = self._running()
        self.registers.write(offset, size, value)
        if self.registers.data[UHCI_COMMAND] & UHCI_RESET:
            self.registers.reset()
            return
        if touches(offset, size, UHCI_FRAME, 2) or not was_running:
            self.frame_origin = self.bus.clock.now_ns - self.registers.get(UHCI_FRAME, 2) * FRAME_NS
        status = self.registers.get(UHCI_STATUS, 2) & ~UHCI_HALTED
        self.registers.put(UHCI_STATUS, 2, status | (0 if self._running() else UHCI_HALTED))

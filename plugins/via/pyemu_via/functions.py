# SPDX-License-Identifier: MIT
"""What PCI functions 1 to 6 have in common, and the modem, which has nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pyemu import IRQOut, ISABus, PCIDevice, Property
from pyemu.chips.superio import legal_irq
from pyemu.device import Register, VMState, pci_state

from .superio import RESET_STYLE

if TYPE_CHECKING:
    from .bridge import ViaBridge

VENDOR_VIA = 0x1106
#: Vendor and id of every function's subsystem under emulators.
QEMU_SUBSYSTEM = (0x1AF4, 0x1100)

REG_COMMAND, REG_STATUS, REG_SUBSYSTEM = 0x04, 0x06, 0x2C
REG_CAPABILITIES, REG_LINE, REG_PIN = 0x34, 0x3C, 0x3D
COMMAND_IO, COMMAND_MASTER = 0x0001, 0x0004
STATUS_W1C = 0xF900
PRIVATE = range(0x40, 0x100)
#: Lines above this one belong to the IDE channels.
LAST_ROUTABLE_LINE = 14


class ViaFunction(PCIDevice):
    """A function inside the chip: function 0 can hide it, and its interrupt line register routes it.

    Unlike a card's, its interrupt does not travel over a PCI pin: register 3C is the wire.

    Attributes:
        hidden: nothing of it answers; set by function 0.
        irq_out: its interrupt pin.
    """

    vendor_id = VENDOR_VIA
    config_registers = (Register(PRIVATE.start, "storage", size=len(PRIVATE)),)
    properties: ClassVar[tuple[Property, ...]] = (
        RESET_STYLE,
        Property("revision", "int", 0, "revision register", 0, 0xFF),
    )
    volatile: ClassVar[frozenset[str]] = frozenset({"hidden", "isa", "bridge", "irq_out"})

    reset_style: str

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.hidden = False
        self.isa: ISABus | None = None
        self.bridge: ViaBridge | None = None
        self.irq_out = IRQOut(f"{self.type_name}.irq")
        if self.reset_style == "qemu":
            self.define(REG_SUBSYSTEM, 4, QEMU_SUBSYSTEM[1] << 16 | QEMU_SUBSYSTEM[0])

    def wire(self, isa: ISABus, bridge: ViaBridge) -> None:
        """Connects the function with the ISA side of the chip."""
        self.isa, self.bridge = isa, bridge

    def unrealize(self) -> None:
        self.irq_out.connect(None)
        super().unrealize()

    def set_hidden(self, hidden: bool) -> None:
        """Takes the function off the bus, its ports included, or brings it back as it was."""
        if hidden != self.hidden:
            self.hidden = hidden
            self.update_mappings()

    def bar_decodes(self, number: int) -> bool:
        return not self.hidden

    def config_read(self, register: int, size: int) -> int:
        return (1 << 8 * size) - 1 if self.hidden else super().config_read(register, size)

    def config_write(self, register: int, size: int, value: int) -> None:
        if not self.hidden:
            super().config_write(register, size, value)
            self.follow()

    def reset(self) -> None:
        super().reset()
        self.follow()

    def post_load(self, version: int) -> None:
        super().post_load(version)
        self.follow()

    def interrupt_line(self) -> int | None:
        """The ISA line that the function interrupts on."""
        line = self.config[REG_LINE]
        return legal_irq(line) if line <= LAST_ROUTABLE_LINE else None

    def follow(self) -> None:
        """Brings what hangs on the configuration space in line with it; idempotent."""
        if self.isa is not None:
            self.irq_out.connect(None if self.hidden else self.isa.irq_line(self.interrupt_line()))


class ViaModem(ViaFunction):
    """Function 6, MC'97 modem: identity and configuration space."""

    type_name = "via-mc97"
    device_id = 0x3068
    class_code = 0x078000
    vmstate: ClassVar[VMState] = pci_state("via-mc97")
    config_registers = (
        Register(REG_COMMAND, "command", 0x0030, COMMAND_IO, size=2),
        Register(REG_STATUS, "status", 0x0200, 0, size=2, clear=STATUS_W1C),
        Register(REG_LINE, "interrupt line", effect="routes the function's interrupt to this ISA line"),
        Register(REG_PIN, "interrupt pin", 3, 0),
    )

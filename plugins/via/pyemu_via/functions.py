# SPDX-License-Identifier: MIT
"""What PCI functions 1 to 6 have in common, and the simple ones: USB, audio, modem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pyemu import IRQOut, ISABus, PCIDevice, Property, vmstate
from pyemu.chips.superio import legal_irq
from pyemu.device import VMState, pci_state

from .registers import Block, touches
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
        self.define(PRIVATE.start, len(PRIVATE), wmask=(1 << 8 * len(PRIVATE)) - 1)

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


UHCI_COMMAND, UHCI_STATUS, UHCI_INTERRUPTS, UHCI_FRAME = 0x00, 0x02, 0x04, 0x06
UHCI_LIST, UHCI_SOF, UHCI_PORTS = 0x08, 0x0C, (0x10, 0x12)
UHCI_RUN, UHCI_RESET = 0x01, 0x02
UHCI_FRAME_MASK = 0x07FF
FRAME_NS = 1_000_000
UHCI_HALTED = 0x20


class ViaUSB(ViaFunction):
    """Functions 2 and 3: UHCI registers with two empty root ports."""

    type_name = "via-uhci"
    device_id = 0x3038
    class_code = 0x0C0300
    vmstate: ClassVar[VMState] = pci_state("via-uhci", vmstate.buffer("registers.data", 32), vmstate.int64("frame_origin"))

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.define(REG_COMMAND, 2, 0, wmask=COMMAND_IO | COMMAND_MASTER | 0x0010)
        self.define(REG_STATUS, 2, 0x0210, w1c=STATUS_W1C)
        self.define(REG_CAPABILITIES, 1, 0x80)
        self.define(REG_LINE, 1, 0, wmask=0xFF)
        self.define(REG_PIN, 1, 4)
        self.define(0x41, 1, 0x10, wmask=0xFF)
        self.define(0x60, 1, 0x10)
        self.define(0x6A, 1, 0x01, wmask=0xFF)
        self.define(0x80, 4, 0x00020001)
        self.define(0xC0, 2, 0x2000, wmask=0xFFFF)
        #: Guest time at which the running frame counter was 0.
        self.frame_origin = 0
        self.registers = Block(32)
        self.registers.define(UHCI_COMMAND, 2, wmask=0x00FF)
        self.registers.define(UHCI_STATUS, 2, UHCI_HALTED, w1c=0x001F)
        self.registers.define(UHCI_INTERRUPTS, 2, wmask=0x000F)
        self.registers.define(UHCI_FRAME, 2, wmask=UHCI_FRAME_MASK)
        self.registers.define(UHCI_LIST, 4, wmask=0xFFFFF000)
        self.registers.define(UHCI_SOF, 1, 0x40, wmask=0x7F)
        for port in UHCI_PORTS:
            # Bit 7 always reads 1. With nothing attached neither connect (0) nor enable (2) can be set.
            self.registers.define(port, 2, 0x0080, wmask=0x1240, w1c=0x000A)
        self.register_bar(4, self.registers.table(self._read, self._write), 32, "io")

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


class ViaAudio(ViaFunction):
    """Function 5, AC'97 audio: identity, configuration space and its three port ranges, silent."""

    type_name = "via-ac97"
    device_id = 0x3058
    class_code = 0x040100
    #: Sound Blaster, FM and MIDI ranges by base register.
    ranges: ClassVar[tuple[int, ...]] = (256, 4, 4)
    vmstate: ClassVar[VMState] = pci_state("via-ac97")

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.define(REG_COMMAND, 2, 0x0004, wmask=COMMAND_IO | COMMAND_MASTER)
        self.define(REG_STATUS, 2, 0x0210, w1c=STATUS_W1C)
        self.define(REG_CAPABILITIES, 1, 0xC0)
        self.define(REG_LINE, 1, 0, wmask=0xFF)
        self.define(REG_PIN, 1, 3)
        self.define(0x40, 1, 0x01)  # the codec is ready
        self.define(0x43, 1, 0x1C, wmask=0xFF)
        for number, size in enumerate(self.ranges):
            self.register_bar(number, Block(size).table(), size, "io")

    def config_write(self, register: int, size: int, value: int) -> None:
        # While bit 5 of 42 is set the subsystem id takes what firmware writes.
        for at in range(REG_SUBSYSTEM, REG_SUBSYSTEM + 4):
            self.wmask[at] = 0xFF if self.config[0x42] & 0x20 else 0
        super().config_write(register, size, value)


class ViaModem(ViaFunction):
    """Function 6, MC'97 modem: identity and configuration space."""

    type_name = "via-mc97"
    device_id = 0x3068
    class_code = 0x078000
    vmstate: ClassVar[VMState] = pci_state("via-mc97")

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.define(REG_COMMAND, 2, 0x0030, wmask=COMMAND_IO)
        self.define(REG_STATUS, 2, 0x0200, w1c=STATUS_W1C)
        self.define(REG_LINE, 1, 0, wmask=0xFF)
        self.define(REG_PIN, 1, 3)

# SPDX-License-Identifier: MIT
"""PCI function 0 of the VIA south bridges: the ISA bridge.

It routes PCI interrupts to ISA lines, opens the SuperI/O's configuration ports, holds its routing
registers and hides the chip's other functions. Each register acts by its byte, whatever the size of
the write that reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from pyemu import IRQOut, ISABus, PCIDevice
from pyemu.chips.cmos_bank import CMOSBanks
from pyemu.chips.superio import legal_irq
from pyemu.device import Register

from .functions import (
    PRIVATE,
    QEMU_SUBSYSTEM,
    REG_CAPABILITIES,
    REG_COMMAND,
    REG_STATUS,
    REG_SUBSYSTEM,
    STATUS_W1C,
    VENDOR_VIA,
    ViaFunction,
)
from .superio import RESET_STYLE, SuperIO686, SuperIO8231, ViaSuperIO

REG_SUBSYSTEM_WRITE = 0x70
#: Bits 3 to 0 turn INTA to INTD round before they reach their lines.
REG_POLARITY = 0x54
COMMAND_SPECIAL = 0x0008


class Bit(NamedTuple):
    """One bit of configuration space."""

    register: int
    mask: int

    def of(self, config: bytes | bytearray) -> bool:
        return bool(config[self.register] & self.mask)


#: Which nibble of 55-57 routes INTA to INTD: register and shift.
PIRQ_NIBBLES = ((0x55, 4), (0x56, 0), (0x56, 4), (0x57, 4))


#: Either shows CMOS ports 74 and 75.
SECOND_CMOS_PAIR = (Bit(0x48, 0x08), Bit(0x5B, 0x02))


def pirq_layout(config: bytes | bytearray) -> tuple[int | None, ...]:
    """The ISA lines of INTA to INTD, None for those routed nowhere."""
    return tuple(legal_irq(config[register] >> shift & 0x0F) for register, shift in PIRQ_NIBBLES)


class ViaBridge(PCIDevice):
    """Common to the three chips.

    Class attributes:
        resets_qemu: registers 40-FF whose values after a reset differ under QEMU.
        opens: the bit that opens the SuperI/O's configuration ports.
        hides: the bits that hide functions.
        ide_routing: the register that picks the lines of the IDE channels.
        superio_type: the SuperI/O inside.

    Attributes:
        pirqs: the pins that carry INTA to INTD to the interrupt controller.
        levels: of INTA to INTD, as the PCI bus has them.
    """

    vendor_id = VENDOR_VIA
    class_code = 0x060100
    multifunction = True
    properties = (RESET_STYLE,)
    config_registers = (
        # What a PC bridge must do is wired on in the command register; only special cycles are optional.
        Register(REG_COMMAND, "command", 0x0087, COMMAND_SPECIAL, size=2),
        Register(REG_STATUS, "status", 0x0200, 0, size=2, clear=STATUS_W1C),
        Register(REG_CAPABILITIES, "capabilities pointer", 0xC0, 0),
        Register(PRIVATE.start, "storage", size=len(PRIVATE)),
        Register(REG_POLARITY, "PIRQ polarity", effect="3 to 0: INTA to INTD are turned round"),
        Register(0x55, "INTA, MIRQ0 routing", effect="7-4: the ISA line of INTA"),
        Register(0x56, "INTC, INTB routing", effect="7-4, 3-0: their ISA lines"),
        Register(0x57, "INTD, MIRQ1 routing", effect="7-4: the ISA line of INTD"),
        Register(REG_SUBSYSTEM_WRITE, "subsystem id write path", size=4, effect="changes the subsystem id"),
    )
    volatile: ClassVar[frozenset[str]] = frozenset({"pirqs", "levels", "isa", "superio", "functions", "banks"})
    resets_qemu: ClassVar[Mapping[int, int]] = {}
    opens: ClassVar[Bit]
    hides: ClassVar[Mapping[int, Bit]]
    ide_routing: ClassVar[int]
    superio_type: ClassVar[type[ViaSuperIO]]

    reset_style: str

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.levels = [0] * 4
        self.pirqs = tuple(IRQOut(f"{self.type_name}.int{letter}") for letter in "ABCD")
        self.isa: ISABus | None = None
        self.superio: ViaSuperIO | None = None
        self.functions: dict[int, ViaFunction] = {}
        self.banks: CMOSBanks | None = None
        qemu = self.reset_style == "qemu"
        if qemu:
            self.define(REG_COMMAND, 2, 0x0008, wmask=COMMAND_SPECIAL)
            self.define(REG_SUBSYSTEM, 4, QEMU_SUBSYSTEM[1] << 16 | QEMU_SUBSYSTEM[0])
            for register, value in self.resets_qemu.items():
                self.define(register, 1, value, wmask=0xFF)

    def wire(self, isa: ISABus, superio: ViaSuperIO, functions: Mapping[int, ViaFunction], banks: CMOSBanks) -> None:
        """Connects function 0 with what it controls; all of it is plugged in."""
        self.isa, self.superio, self.functions, self.banks = isa, superio, dict(functions), banks
        superio.bridge = self
        for function in self.functions.values():
            function.wire(isa, self)
        self.bus.route_irqs(self._set_pirq, lambda device, pin: self.slot_line(device.slot or 0, pin))
        self._follow()

    def slot_line(self, slot: int, pin: int) -> int:
        """The PIRQ, 0 to 3, that *pin* of a card in *slot* is wired to. The board's choice; override it there."""
        return (slot + pin) & 3

    def unrealize(self) -> None:
        for pirq in self.pirqs:
            pirq.connect(None)
        super().unrealize()

    def reset(self) -> None:
        super().reset()
        self._follow()

    def post_load(self, version: int) -> None:
        super().post_load(version)
        self._follow()

    def config_write(self, register: int, size: int, value: int) -> None:
        super().config_write(register, size, value)
        if register + size <= PRIVATE.start:
            return
        for at in range(register, register + size):
            if REG_SUBSYSTEM_WRITE <= at < REG_SUBSYSTEM_WRITE + 4:
                self.config[REG_SUBSYSTEM + at - REG_SUBSYSTEM_WRITE] = self.config[at]
        self._follow()

    def _set_pirq(self, line: int, level: int) -> None:
        self.levels[line] = level
        self._drive_pirqs()

    def _drive_pirqs(self) -> None:
        for n, (pirq, level) in enumerate(zip(self.pirqs, self.levels, strict=True)):
            pirq.set_level(level ^ (self.config[REG_POLARITY] >> 3 - n & 1))

    def _follow(self) -> None:
        """Brings everything that the configuration space controls in line with it; idempotent."""
        if self.isa is None or self.superio is None:
            return
        for pirq, line in zip(self.pirqs, pirq_layout(self.config), strict=True):
            pirq.connect(self.isa.irq_line(line))
        self._drive_pirqs()
        for number, function in self.functions.items():
            hide = self.hides.get(number)
            function.set_hidden(hide is not None and hide.of(self.config))
            function.follow()
        if self.banks is not None:
            self.banks.show_second(any(bit.of(self.config) for bit in SECOND_CMOS_PAIR))
        self.superio.set_open(self.opens.of(self.config))
        self.superio.apply()


_HIDES_686 = {1: Bit(0x48, 0x02), 2: Bit(0x48, 0x04), 3: Bit(0x85, 0x10), 5: Bit(0x85, 0x04), 6: Bit(0x85, 0x08)}


class VT82C686B(ViaBridge):
    """Function 0 of the VT82C686B."""

    type_name = "vt82c686b-isa"
    device_id = 0x0686
    revision = 0x40
    config_registers = (
        Register(0x40, "ISA bus control"),
        Register(0x41, "ROM and bus timing"),
        Register(0x43, "ROM decode control"),
        Register(0x44, "keyboard control"),
        Register(0x45, "type F DMA control"),
        Register(0x46, "miscellaneous control 1"),
        Register(0x47, "miscellaneous control 2"),
        Register(0x48, "miscellaneous control 3", 0x01, effect="1 hides IDE, 2 the first USB; 3 shows ports 74 and 75"),
        Register(0x49, "reserved", 0, 0),
        Register(0x4A, "IDE interrupt routing", 0x04, effect="3-2 secondary, 1-0 primary: 14, 15, 10 or 11"),
        Register(0x4B, "reserved", 0, 0),
        Register(0x4F, "PCI bus and CPU interface control", 0x03),
        Register(0x50, "SuperI/O DMA routing", 0x0E, effect="3-2 parallel, 1-0 floppy"),
        Register(0x51, "parallel and floppy interrupts", effect="7-4 parallel, 3-0 floppy"),
        Register(0x52, "serial interrupts", effect="7-4 serial 2, 3-0 serial 1"),
        Register(0x53, "reserved", 0, 0),
        Register(0x58, "I/O APIC control"),
        Register(0x59, "MIRQ pin configuration", 0x04),
        Register(0x5A, "keyboard, mouse and clock", 0x04),
        Register(0x5B, "internal clock test", effect="1 shows CMOS ports 74 and 75"),
        Register(0x5D, "reserved", 0, 0, size=2),
        Register(0x5F, "MIRQ2 configuration", 0x04),
        Register(0x60, "distributed DMA bases", size=16),
        Register(0x74, "GPIO and chip selects", size=10),
        Register(0x80, "programmable chip select mask"),
        Register(0x81, "positive decode", size=4),
        Register(0x85, "extended function enable", effect="1 opens 3F0 and 3F1; 2, 3, 4 hide audio, modem, second USB"),
        Register(0x90, "reserved", 0, 0, size=0x70),
    )
    resets_qemu: ClassVar[Mapping[int, int]] = {0x50: 0x2D, 0x77: 0x10}
    opens = Bit(0x85, 0x02)
    hides = _HIDES_686
    ide_routing = 0x4A
    superio_type = SuperIO686


class VT82C686A(VT82C686B):
    """Function 0 of the VT82C686A; drivers tell the two apart by the revision alone."""

    type_name = "vt82c686a-isa"
    revision = 0x14


class VT8231(ViaBridge):
    """Function 0 of the VT8231."""

    type_name = "vt8231-isa"
    device_id = 0x8231
    revision = 0x10
    config_registers = (
        Register(0x40, "ISA bus control"),
        Register(0x41, "ROM decode control"),
        Register(0x44, "SuperI/O DMA routing", effect="3-2 parallel, 1-0 floppy"),
        Register(0x45, "parallel and floppy interrupts", effect="7-4 parallel, 3-0 floppy"),
        Register(0x46, "serial interrupt", effect="3-0 serial 1"),
        Register(0x47, "second serial interrupt"),
        Register(0x48, "miscellaneous control 3", effect="3 shows CMOS ports 74 and 75"),
        Register(0x4C, "IDE interrupt routing", 0x04, effect="3-2 secondary, 1-0 primary: 14, 15, 10 or 11"),
        Register(0x50, "function control 1", effect="2 opens 3F0 and 3F1; 3 to 7 hide IDE, both USB, audio, modem"),
        Register(0x51, "function control 2"),
        Register(0x58, "miscellaneous control 0", 0x40),
        Register(0x5B, "internal clock test", effect="1 shows CMOS ports 74 and 75"),
        Register(0x67, "PCI arbitration", 0x08),
        Register(0x6B, "PCI I/O cycle control", 0x01),
        Register(0x6C, "decode control", size=4, effect="kept; every range that a function has decodes"),
    )
    opens = Bit(0x50, 0x04)
    hides: ClassVar[Mapping[int, Bit]] = {
        1: Bit(0x50, 0x08), 2: Bit(0x50, 0x10), 3: Bit(0x50, 0x20), 5: Bit(0x50, 0x40), 6: Bit(0x50, 0x80),
    }  # fmt: skip
    ide_routing = 0x4C
    superio_type = SuperIO8231

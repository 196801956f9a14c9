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
        resets: registers 40-FF that are not 0 after a reset; ``resets_qemu`` where QEMU differs.
        read_only: those of 40-FF that cannot be written.
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
    volatile: ClassVar[frozenset[str]] = frozenset({"pirqs", "levels", "isa", "superio", "functions", "banks"})
    resets: ClassVar[Mapping[int, int]] = {}
    resets_qemu: ClassVar[Mapping[int, int]] = {}
    read_only: ClassVar[frozenset[int]] = frozenset()
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
        # What a PC bridge must do is wired on in the command register; only special cycles are optional.
        self.define(REG_COMMAND, 2, 0x0008 if qemu else 0x0087, wmask=COMMAND_SPECIAL)
        self.define(REG_STATUS, 2, 0x0200, w1c=STATUS_W1C)
        self.define(REG_CAPABILITIES, 1, 0xC0)
        if qemu:
            self.define(REG_SUBSYSTEM, 4, QEMU_SUBSYSTEM[1] << 16 | QEMU_SUBSYSTEM[0])
        self.define(PRIVATE.start, len(PRIVATE), wmask=(1 << 8 * len(PRIVATE)) - 1)
        for register in self.read_only:
            self.define(register, 1)
        for register, value in {**self.resets, **(self.resets_qemu if qemu else {})}.items():
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
_RESETS_686 = {0x48: 0x01, 0x4A: 0x04, 0x4F: 0x03, 0x50: 0x0E, 0x59: 0x04, 0x5A: 0x04, 0x5F: 0x04}


class VT82C686B(ViaBridge):
    """Function 0 of the VT82C686B."""

    type_name = "vt82c686b-isa"
    device_id = 0x0686
    revision = 0x40
    resets = _RESETS_686
    resets_qemu: ClassVar[Mapping[int, int]] = {0x50: 0x2D, 0x77: 0x10}
    read_only = frozenset((0x49, 0x4B, 0x53, 0x5D, 0x5E, *range(0x90, 0x100)))
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
    resets: ClassVar[Mapping[int, int]] = {0x4C: 0x04, 0x58: 0x40, 0x67: 0x08, 0x6B: 0x01}
    opens = Bit(0x50, 0x04)
    hides: ClassVar[Mapping[int, Bit]] = {
        1: Bit(0x50, 0x08), 2: Bit(0x50, 0x10), 3: Bit(0x50, 0x20), 5: Bit(0x50, 0x40), 6: Bit(0x50, 0x80),
    }  # fmt: skip
    ide_routing = 0x4C
    superio_type = SuperIO8231

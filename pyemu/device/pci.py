# SPDX-License-Identifier: MIT
"""The PCI bus and its configuration ports (mechanism #1: address at CF8, data at CFC)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ..errors import ConfigError
from ._irq import IRQLine
from .bus import Bus
from .device import Device
from .pci_device import CONFIG_SIZE, PCIDevice
from .properties import Property
from .registers import Register, RegisterTable
from .vmstate import VMState, uint32

if TYPE_CHECKING:
    from ..memory import AddressSpace, PortioList, PortSpace
    from ._clock import Clock

PCI_PINS = 4
PCI_SLOTS = 32

MapIRQ = Callable[[PCIDevice, int], int]
SetPIRQ = Callable[[int, int], None]

_ADDRESS = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,2})(?:\.([0-7]))?\Z")


def swizzle(device: PCIDevice, pin: int) -> int:
    """The usual wiring of slots: pin INTx of slot *s* arrives at line (s + x) modulo 4."""
    return ((device.slot or 0) + pin) % PCI_PINS


def parse_address(text: str) -> int:
    """The devfn of ``SLOT`` or ``SLOT.FUNCTION``; the slot is hexadecimal.

    Raises:
        ConfigError: it is neither.
    """
    match = _ADDRESS.match(text)
    if match is None or int(match[1], 16) >= PCI_SLOTS:
        raise ConfigError(f"PCI address {text!r} is not SLOT or SLOT.FUNCTION with slots 0-1f and functions 0-7")
    return int(match[1], 16) << 3 | int(match[2] or "0")


class PCIBus(Bus):
    """A PCI bus: up to 32 slots of 8 functions, four interrupt lines.

    Args:
        ports: the I/O space that base registers decode in.
        memory: the address space that base registers decode in; None for a bus without.
        clock: guest time.
        set_pirq: ``set_pirq(line, level)`` with lines 0-3, called when a line changes. A south bridge
            that is plugged in later sets it with :meth:`route_irqs`.
        map_irq: ``map_irq(device, pin) -> line`` with pins 0-3 for INTA-INTD.
        name: unique in the machine.
        number: bus number, for section names.
    """

    kind = "pci"

    def __init__(
        self,
        ports: PortSpace,
        memory: AddressSpace | None,
        clock: Clock,
        set_pirq: SetPIRQ | None = None,
        map_irq: MapIRQ = swizzle,
        name: str = "pci.0",
        number: int = 0,
    ) -> None:
        super().__init__(name)
        self.ports = ports
        self.memory = memory
        self.clock = clock
        self.number = number
        self.by_devfn: dict[int, PCIDevice] = {}
        self._map_irq = map_irq
        self._set_pirq = set_pirq
        self.lines = tuple(IRQLine(f"{name}.pirq{n}", n, self._line_changed) for n in range(PCI_PINS))

    @property
    def path(self) -> str:
        """Domain and bus number as they stand in section names."""
        return f"0000:{self.number:02x}"

    # -- interrupts -------------------------------------------------------------------------------

    def route_irqs(self, set_pirq: SetPIRQ | None, map_irq: MapIRQ | None = None) -> None:
        """Sends the four lines to *set_pirq*, which learns their present levels at once."""
        if self._set_pirq is not None:
            for line in self.lines:
                if line.level:
                    self._set_pirq(line.n, 0)
        self._set_pirq = set_pirq
        if map_irq is not None:
            self._map_irq = map_irq
            for device in self.by_devfn.values():
                device.update_mappings()
        if set_pirq is not None:
            for line in self.lines:
                set_pirq(line.n, line.level)

    def map_irq(self, device: PCIDevice, pin: int) -> int:
        """The line, 0-3, that *pin* (0-3) of *device* arrives at."""
        return self._map_irq(device, pin) % PCI_PINS

    def interrupt_lines(self) -> Sequence[IRQLine]:
        return self.lines

    def irq_line(self, device: PCIDevice, pin: int) -> IRQLine:
        return self.lines[self.map_irq(device, pin)]

    def _line_changed(self, n: int, level: int) -> None:
        if self._set_pirq is not None:
            self._set_pirq(n, level)

    # -- plugging ---------------------------------------------------------------------------------

    def plug(self, device: Device, id: str | None = None, devfn: int | None = None) -> Device:
        """Plugs *device* in at *devfn*, at its ``addr`` property, or in the first free slot.

        Raises:
            ConfigError: the place is taken or the slot's function 0 says it has one function only.
        """
        plugged_in = device.bus is not None
        if not isinstance(device, PCIDevice) or plugged_in:
            return super().plug(device, id)
        if devfn is None:
            devfn = parse_address(device.addr) if device.addr is not None else self._free_slot(device)
        self._check_place(device, devfn)
        device.devfn = devfn
        self.by_devfn[devfn] = device
        try:
            return super().plug(device, id)
        except BaseException:
            self._vacate(device)
            raise

    def unplug(self, device: Device) -> None:
        super().unplug(device)
        if isinstance(device, PCIDevice):
            self._vacate(device)

    def _vacate(self, device: PCIDevice) -> None:
        if device.devfn is not None and self.by_devfn.get(device.devfn) is device:
            del self.by_devfn[device.devfn]
        device.devfn = None

    def _free_slot(self, device: PCIDevice) -> int:
        used = {devfn >> 3 for devfn in self.by_devfn}
        for slot in range(PCI_SLOTS):
            if slot not in used:
                return slot << 3
        raise ConfigError(f"{device.type_name}: all {PCI_SLOTS} slots of {self.name} are taken")

    def _check_place(self, device: PCIDevice, devfn: int) -> None:
        where = f"{devfn >> 3:x}.{devfn & 7}"
        if not 0 <= devfn < PCI_SLOTS * 8:
            raise ConfigError(f"{device.type_name}: devfn {devfn:#x} is not between 0 and 0xff")
        if devfn in self.by_devfn:
            raise ConfigError(f"{device.type_name}: {where} of {self.name} is taken by {self.by_devfn[devfn].id}")
        base = devfn & ~7
        first = self.by_devfn.get(base)
        if devfn != base and first is not None and not first.multifunction:
            raise ConfigError(f"{device.type_name}: {where} of {self.name}: {first.id} has a single function")
        if devfn == base and not device.multifunction and any(base + n in self.by_devfn for n in range(1, 8)):
            raise ConfigError(f"{device.type_name}: {where} of {self.name} needs a multi-function device")

    # -- configuration space ----------------------------------------------------------------------

    def config_read(self, devfn: int, register: int, size: int) -> int:
        """What a configuration read of 1, 2 or 4 bytes gives; all ones where nobody answers."""
        device = self.by_devfn.get(devfn)
        if device is None or register < 0 or register + size > CONFIG_SIZE:
            return (1 << 8 * size) - 1
        return device.config_read(register, size)

    def config_write(self, devfn: int, register: int, size: int, value: int) -> None:
        """A configuration write of 1, 2 or 4 bytes; lost where nobody answers."""
        device = self.by_devfn.get(devfn)
        if device is not None and register >= 0 and register + size <= CONFIG_SIZE:
            device.config_write(register, size, value & ((1 << 8 * size) - 1))


class PCIConfigPorts(Device):
    """Configuration mechanism #1 of a host bridge.

    Only a dword access at CF8 reaches the address register; byte and word accesses there belong to
    whatever else decodes those ports, e.g. the reset control register at CF9. CFC-CFF pass bytes, words
    and dwords on to the register that CF8 selects, if its bit 31 is set and the bus number is ours.
    """

    type_name = "pci-config-ports"
    bus_kind = "pci"
    properties = (Property("iobase", "int", 0xCF8, "first of the eight ports", 0, 0xFFF8),)
    vmstate = VMState("pci-config-ports", fields=(uint32("address"),))
    register_tables = (
        RegisterTable(
            (
                Register(0, "configuration address", 0, 0x80FFFFFC, size=4, source="address",
                         effect="dwords only; 31 enables, 23-16 bus, 15-8 device and function; data at 4 to 7"),
            ),
            name="PCI configuration mechanism 1", size=8,
        ),
    )  # fmt: skip
    volatile: ClassVar[frozenset[str]] = frozenset({"_list"})
    bus: PCIBus
    iobase: int

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.address = 0
        self._list: PortioList | None = None

    def realize(self) -> None:
        from ..memory import PortioEntry, PortioList

        table = [
            PortioEntry(0, 1, 4, self._read_address, self._write_address),
            PortioEntry(4, 4, 1, self._read_data, self._write_data),
            PortioEntry(4, 3, 2, self._read_data, self._write_data),
            PortioEntry(4, 1, 4, self._read_data, self._write_data),
        ]
        self._list = PortioList(self, table, self.id)
        self._list.add(self.bus.ports, self.iobase)

    def unrealize(self) -> None:
        if self._list is not None:
            self._list.remove()
            self._list.destroy()
            self._list = None

    def reset(self) -> None:
        self.address = 0

    def _read_address(self, offset: int, size: int) -> int:
        return self.address

    def _write_address(self, offset: int, size: int, value: int) -> None:
        # Bits 30-24 and 1-0 are wired to 0.
        self.address = value & 0x80FFFFFC

    def _selected(self) -> int | None:
        if not self.address >> 31 or self.address >> 16 & 0xFF != self.bus.number:
            return None
        return self.address >> 8 & 0xFF

    def _read_data(self, offset: int, size: int) -> int:
        devfn = self._selected()
        if devfn is None:
            return (1 << 8 * size) - 1
        return self.bus.config_read(devfn, (self.address & 0xFC) + offset - 4, size)

    def _write_data(self, offset: int, size: int, value: int) -> None:
        devfn = self._selected()
        if devfn is not None:
            self.bus.config_write(devfn, (self.address & 0xFC) + offset - 4, size, value)

# SPDX-License-Identifier: MIT
"""Surroundings for a device under test: ports, memory, interrupt lines and a clock that only the test moves."""

from __future__ import annotations

import random
from typing import Any

from ..device import Bus, Clock, Device, IRQLine, ISABus, PCIBus, PCIConfigPorts, PCIDevice
from ..memory import AddressSpace, MemoryRegion, PortSpace, RAMBlock

RAM_SIZE = 1 << 20


class Fixture:
    """What all surroundings have; subclasses add the bus.

    Attributes:
        ports, clock, memory: as in a machine; the clock is of kind ``step``.
        ram: 1 MiB of memory at address 0.
        bus: where the device is plugged in.
        lines: the interrupt lines of the bus.
        edges: ``(line, level)`` of each change of a line, in order.
    """

    bus: Bus
    lines: list[IRQLine]

    def __init__(self) -> None:
        self.ports = PortSpace("io")
        self.clock = Clock("step")
        self.edges: list[tuple[int, int]] = []
        self.ram = RAMBlock("ram", RAM_SIZE)
        root = MemoryRegion.container("system", 1 << 32)
        root.add_subregion(0, MemoryRegion.ram("ram", self.ram))
        self.memory = AddressSpace("memory", root)

    def _changed(self, n: int, level: int) -> None:
        self.edges.append((n, level))

    def plug(self, device: Device) -> Any:
        """Puts *device* on the bus."""
        return self.bus.plug(device)

    def mapped(self) -> list[int]:
        """Every port that something answers at, ascending."""
        return sorted({p for r in self.ports.regions() for p in range(r.start, r.start + r.length)})

    def read(self, port: int, size: int = 1) -> int:
        """Reads a port; what a device raises comes out here.

        Raises:
            DeviceError: a handler failed.
        """
        value = self.ports.read(port, size)
        self._raise_fault()
        return int(value)

    def write(self, port: int, value: int, size: int = 1) -> None:
        """Writes a port; what a device raises comes out here.

        Raises:
            DeviceError: a handler failed.
        """
        self.ports.write(port, size, value)
        self._raise_fault()

    def poke(self, chance: random.Random) -> Any:
        """One random access to whatever the guest can reach of the device; what a read gave, or None."""
        ranges = self._pokable()
        if not ranges:
            return None
        start, length = chance.choices(ranges, weights=[length for _, length in ranges])[0]
        port, size = start + chance.randrange(length), chance.choice((1, 1, 1, 2, 4))
        if chance.random() < 0.5:
            return self.read(port, size)
        self.write(port, chance.getrandbits(8 * size), size)
        return None

    def _pokable(self) -> list[tuple[int, int]]:
        """(first port, how many) of what :meth:`poke` chooses from; ascending, whatever was mapped first."""
        return sorted((region.start, region.length) for region in self.ports.regions())

    def _raise_fault(self) -> None:
        fault = self.ports.take_fault() or self.memory.take_fault()
        if fault is not None:
            raise fault


class ISAFixture(Fixture):
    """An ISA bus with nothing on it and sixteen lines."""

    bus: ISABus

    def __init__(self) -> None:
        super().__init__()
        self.lines = [IRQLine(f"irq{n}", n, self._changed) for n in range(16)]
        self.bus = ISABus(self.ports, self.memory, self.clock, self.lines)


class PCIFixture(Fixture):
    """A PCI bus with nothing on it but its configuration ports at CF8, and four lines."""

    bus: PCIBus

    def __init__(self) -> None:
        super().__init__()
        self.bus = PCIBus(self.ports, self.memory, self.clock, self._changed)
        self.lines = list(self.bus.lines)
        self.config = PCIConfigPorts()
        self.bus.plug(self.config)

    def mapped(self) -> list[int]:
        """Every port that something answers at, the configuration ports left out."""
        return [port for port in super().mapped() if not 0xCF8 <= port <= 0xCFF]

    def _pokable(self) -> list[tuple[int, int]]:
        # The address at CF8 is no state of the device under test.
        return [part for part in super()._pokable() if not 0xCF8 <= part[0] <= 0xCFF]

    def config_read(self, device: PCIDevice, register: int, size: int = 4) -> int:
        """A configuration read, the way a guest makes it."""
        self.write(0xCF8, self._address(device, register), 4)
        return self.read(0xCFC + register % 4, size)

    def config_write(self, device: PCIDevice, register: int, value: int, size: int = 4) -> None:
        """A configuration write, the way a guest makes it."""
        self.write(0xCF8, self._address(device, register), 4)
        self.write(0xCFC + register % 4, value, size)

    def poke(self, chance: random.Random) -> Any:
        """Half of the accesses go to the configuration space, the rest to what it has mapped."""
        ports = self.mapped()
        devices = list(self.bus.by_devfn.values())
        if not devices or (ports and chance.random() < 0.5):
            return super().poke(chance)
        windows = [(at, size) for d in devices for _, kind, size, at in d.bars if kind == "mem32" and at is not None]
        if windows and chance.random() < 0.5:
            return self._poke_memory(chance, *chance.choice(windows))
        device, register, size = chance.choice(devices), chance.randrange(256), chance.choice((1, 1, 2, 4))
        register -= register % size
        if chance.random() < 0.5:
            return self.config_read(device, register, size)
        self.config_write(device, register, chance.getrandbits(8 * size), size)
        return None

    def _poke_memory(self, chance: random.Random, at: int, length: int) -> Any:
        size = chance.choice((1, 2, 4))
        address = at + chance.randrange(0, length, size)
        value = None
        if chance.random() < 0.5:
            value = self.memory.load(address, size)
        else:
            self.memory.store(address, size, chance.getrandbits(8 * size))
        self._raise_fault()
        return value

    @staticmethod
    def _address(device: PCIDevice, register: int) -> int:
        assert device.devfn is not None, f"{device.id} is not plugged in"
        return 0x80000000 | device.devfn << 8 | register & 0xFC

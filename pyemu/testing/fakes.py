# SPDX-License-Identifier: MIT
"""Surroundings for a device under test: ports, interrupt lines and a clock that only the test moves."""

from __future__ import annotations

from ..device import Clock, Device, IRQLine, ISABus
from ..memory import AddressSpace, MemoryRegion, PortSpace, RAMBlock

RAM_SIZE = 1 << 20


class ISAFixture:
    """An ISA bus with nothing on it.

    Attributes:
        ports, clock, memory, bus: as in a machine; the clock is of kind ``step``.
        ram: 1 MiB of memory at address 0.
        lines: the sixteen interrupt lines.
        edges: ``(line, level)`` of each change of a line, in order.
    """

    def __init__(self) -> None:
        self.ports = PortSpace("io")
        self.clock = Clock("step")
        self.edges: list[tuple[int, int]] = []
        self.lines = [IRQLine(f"irq{n}", n, lambda n, level: self.edges.append((n, level))) for n in range(16)]
        self.ram = RAMBlock("ram", RAM_SIZE)
        root = MemoryRegion.container("system", 1 << 32)
        root.add_subregion(0, MemoryRegion.ram("ram", self.ram))
        self.memory = AddressSpace("memory", root)
        self.bus = ISABus(self.ports, self.memory, self.clock, self.lines)

    def plug(self, device: Device) -> Device:
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

    def _raise_fault(self) -> None:
        fault = self.ports.take_fault()
        if fault is not None:
            raise fault

# SPDX-License-Identifier: MIT
"""The ISA bus, devices on it, and functions that a SuperIO chip can move and hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ..errors import ConfigError, MemoryMapError
from ._irq import IRQLine, IRQOut
from .bus import Bus
from .device import Device
from .dma import DMAClient, DMAController, DMARequest

if TYPE_CHECKING:
    from ..memory import AddressSpace, MemoryRegion, PortioEntry, PortioList, PortSpace
    from ._clock import Clock

ISA_LINES = 16


class ISABus(Bus):
    """An ISA bus: ports, memory, sixteen interrupt lines, DMA channels and the clock.

    Args:
        ports: the I/O space its devices live in.
        memory: for devices with ROMs or windows; may be None.
        clock: guest time.
        irqs: lines 0 to 15 of the interrupt controller.
        dma: the DMA controller, or None; may be set later, before devices are plugged in.
        name: unique in the machine.
    """

    kind = "isa"

    def __init__(
        self,
        ports: PortSpace,
        memory: AddressSpace | None,
        clock: Clock,
        irqs: Sequence[IRQLine],
        dma: DMAController | None = None,
        name: str = "isa.0",
    ) -> None:
        if len(irqs) != ISA_LINES:
            raise ConfigError(f"{name}: has {len(irqs)} interrupt lines, an ISA bus has {ISA_LINES}")
        super().__init__(name)
        self.ports = ports
        self.memory = memory
        self.clock = clock
        self.irqs = tuple(irqs)
        self.dma = dma

    def interrupt_lines(self) -> Sequence[IRQLine]:
        return self.irqs

    def irq_line(self, n: int | None) -> IRQLine | None:
        """Line *n*, or None for None and 0: SuperIO registers say 0 for "no interrupt", and line 0 is the PIT's.

        Raises:
            ConfigError: the bus has no such line.
        """
        if not n:
            return None
        if not 0 < n < ISA_LINES:
            raise ConfigError(f"{self.name}: interrupt line {n} is not between 0 and {ISA_LINES - 1}")
        return self.irqs[n]


class ISADevice(Device):
    """A device on an ISA bus; what it claims here is given back by :meth:`unrealize`."""

    bus_kind = "isa"
    volatile: ClassVar[frozenset[str]] = frozenset({"placed_by", "_ports", "_pins", "_windows"})
    bus: ISABus

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        #: The part that places this device, e.g. its SuperIO; None when the board or the user does.
        #: Ports of a device that another one places may overlap others, ports of the rest may not.
        self.placed_by: Device | None = None
        self._ports: list[PortioList] = []
        self._pins: list[IRQOut] = []
        self._windows: list[MemoryRegion] = []

    def add_ports(
        self,
        table: Sequence[PortioEntry],
        base: int,
        name: str | None = None,
        priority: int = 0,
        enabled: bool = True,
        exclusive: bool | None = None,
        plain: bool = False,
    ) -> PortioList:
        """Maps a table of port handlers at *base*; they see offsets from it wherever the list is moved.

        Args:
            table: sorted by offset.
            base: first port.
            name: for messages; the device's id when not given.
            priority: higher ones win ports that several lists cover.
            enabled: whether the ports answer from the start.
            exclusive: whether an overlap with ports of another owner, at the same priority, is an
                error. By default it is, unless :attr:`placed_by` is set.
            plain: see :class:`~pyemu.memory.PortioList`.

        Raises:
            MemoryMapError: names both owners and both ranges.
        """
        from ..memory import PortioList

        ports = PortioList(self, table, name or self.id, plain=plain)
        if enabled and (exclusive if exclusive is not None else self.placed_by is None):
            self._check_free(ports, base, priority)
        ports.add(self.bus.ports, base, priority=priority, enabled=enabled)
        self._ports.append(ports)
        return ports

    def _check_free(self, ports: PortioList, base: int, priority: int) -> None:
        mine = [(base + offset, base + offset + length) for offset, length in ports.chunks]
        for other in self.bus.ports.regions():
            if other.owner is self or other.priority != priority:
                continue
            for first, end in mine:
                if first < other.start + other.length and other.start < end:
                    raise MemoryMapError(
                        f"{self.id}: ports {first:#x}-{end - 1:#x} overlap"
                        f" {getattr(other.owner, 'id', other.owner)} at"
                        f" {other.start:#x}-{other.start + other.length - 1:#x}"
                    )

    def new_irq(self, name: str = "irq", n: int | None = None) -> IRQOut:
        """An interrupt output pin, connected to line *n* of the bus when that is given."""
        pin = IRQOut(f"{self.id}.{name}", self.bus.irq_line(n) if n is not None else None)
        self._pins.append(pin)
        return pin

    def add_memory(self, region: MemoryRegion, base: int, priority: int = 1) -> None:
        """Maps a memory region (a ROM, a window) at guest-physical *base*.

        Raises:
            ConfigError: the bus has no memory.
        """
        if self.bus.memory is None:
            raise ConfigError(f"{self.id}: {self.bus.name} has no memory to map {region.name} into")
        self.bus.memory.root.add_subregion(base, region, priority)
        self._windows.append(region)

    def unrealize(self) -> None:
        """Frees the ports and windows and cuts the pins off. State stays."""
        for ports in self._ports:
            ports.remove()
            ports.destroy()
        self._ports.clear()
        for pin in self._pins:
            pin.connect(None)
        self._pins.clear()
        if self.bus is not None and self.bus.memory is not None:
            for region in self._windows:
                self.bus.memory.root.remove_subregion(region)
        self._windows.clear()


class ISAFunction(ISADevice):
    """A function that can be moved, hidden and shown at any time and keeps its state.

    Subclasses declare properties ``iobase``, ``irq`` and, where they use it, ``dma`` with their own
    defaults, and give :meth:`table`. Those attributes are what was *asked for*: read them freely, change
    them through the ``set_`` methods only.

    A hidden function decodes no port and drives neither its interrupt line nor its DMA channel; its
    pins keep their level and come back with it. A base or a line set while hidden counts from when
    it is shown.

    Attributes:
        enabled: whether the function is shown. May be set before plugging in.
        pio: its ports, once realized.
        irq_out: its interrupt pin. Exists from construction, so that cores can drive it at any time.
        dma_request: its DMA pin; only for a device that is a :class:`~pyemu.device.DMAClient`.
    """

    volatile: ClassVar[frozenset[str]] = frozenset({"enabled", "iobase", "irq", "dma", "pio", "irq_out", "dma_request"})
    #: Its ports are one plain region; matters only for wide accesses in a port space of kind ``"qemu"``.
    plain_ports: ClassVar[bool] = False
    iobase: int = 0
    irq: int | None = None
    dma: int | None = None

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.enabled = True
        self.pio: PortioList | None = None
        self.irq_out = IRQOut(f"{self.type_name}.irq")
        self.dma_request = DMARequest(self, f"{self.type_name}.dma") if isinstance(self, DMAClient) else None

    def table(self) -> Sequence[PortioEntry]:
        """The function's ports as offsets from its base."""
        raise NotImplementedError

    def realize(self) -> None:
        self.bus.irq_line(self.irq)
        self.pio = self.add_ports(self.table(), self.iobase, enabled=self.enabled, plain=self.plain_ports)
        self._connect()

    def unrealize(self) -> None:
        self.irq_out.connect(None)
        if self.dma_request is not None:
            self.dma_request.connect(None, None)
        self.pio = None
        super().unrealize()

    def set_enabled(self, enabled: bool) -> None:
        """Shows or hides the function."""
        enabled = bool(enabled)
        if enabled == self.enabled:
            return
        self.enabled = enabled
        if self.pio is None:
            return
        if not enabled:
            self._connect()
        self.pio.set_enabled(enabled)
        if enabled:
            self._connect()

    def set_base(self, base: int) -> None:
        """Moves the function: the old ports are free at once and the new ones answer at once.

        Raises:
            MemoryMapError: its ports would not fit below 0x10000; nothing has moved then.
        """
        if self.pio is not None:
            self.pio.set_address(base)
        self.iobase = base

    def set_irq(self, irq: int | None) -> None:
        """Moves the interrupt pin to another line of the bus; None and 0 mean none.

        Raises:
            ConfigError: the bus has no such line.
        """
        if self.pio is not None:
            self.bus.irq_line(irq)
        self.irq = irq
        self._connect()

    def set_dma(self, dma: int | None) -> None:
        """Moves the DMA pin to another channel; None means none.

        Raises:
            ConfigError: the controller has no such channel.
        """
        previous, self.dma = self.dma, dma
        try:
            self._connect()
        except ConfigError:
            self.dma = previous
            raise

    def set_mode(self, mode: str) -> None:
        """Chooses among a function's operating modes; most functions have one only and ignore this."""

    def _connect(self) -> None:
        shown = self.pio is not None and self.enabled
        self.irq_out.connect(self.bus.irq_line(self.irq) if shown else None)
        if self.dma_request is not None:
            self.dma_request.connect(self.bus.dma if shown else None, self.dma)

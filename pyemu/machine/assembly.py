# SPDX-License-Identifier: MIT
"""What a machine consists of, and how a board puts it together."""

from __future__ import annotations

import contextlib
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..cpu.engine import CPUEngine
from ..device import (
    BlockBackend,
    Bus,
    Chardev,
    Clock,
    Device,
    Display,
    IRQLine,
    Keyboard,
    MediaChanger,
    assign_indexes,
    open_chardev,
    open_drive,
    portable_options,
)
from ..device._cpuhost import make_cpu_host
from ..device._cpupin import cpu_interrupt_line
from ..device.properties import parse_properties, parse_size
from ..errors import ConfigError, DeviceError, PluginError, PyemuError
from ..memory import AddressSpace, MemoryBackend, MemoryRegion, PortSpace, RAMBlock
from ..plugin import PluginManager, default_manager
from .memorymap import EngineMemory

#: The physical address space of the machines we model.
ADDRESS_SPACE_SIZE = 1 << 40
MAX_MEMORY = 1 << 40


class Assembly(ABC):
    """The parts of a machine and the methods that boards build it with. :class:`~pyemu.Machine` is the only one.

    Args: those of :class:`~pyemu.Machine`.
    """

    def __init__(
        self,
        board: str,
        *,
        memory: int | str | None,
        cpu: str | None,
        properties: Mapping[str, Any] | None,
        devices: Sequence[str | tuple[str, Mapping[str, Any]]],
        serial: Sequence[str | Chardev],
        clock: str,
        memory_backend: str | None,
        plugins: PluginManager | None,
    ) -> None:
        self.plugins = plugins if plugins is not None else default_manager()
        self._record = self.plugins.get("board", board)
        self.board: str = self._record.name
        self.properties = parse_properties(f"board {board}", self._record.properties, properties or {})
        self.memory_size = self._memory_size(memory)
        self.cpu_name = self._cpu_name(cpu)
        self._memory_backend = MemoryBackend.parse(memory_backend) if memory_backend is not None else None

        self.clock = Clock(clock)
        self.ports = PortSpace("io")
        self.system_memory = MemoryRegion.container("system", ADDRESS_SPACE_SIZE)
        self.memory = AddressSpace("memory", self.system_memory)
        self.ram: dict[str, RAMBlock] = {}
        self.buses: dict[str, Bus] = {}
        self.devices: dict[str, Device] = {}
        self.serial: list[Chardev] = []
        self.engine: CPUEngine | None = None
        self._given_serial = list(serial)
        self._given_devices = [_device_spec(d) for d in devices]
        self._drives: list[BlockBackend] = []
        self._drive_specs: list[str] = []
        self._reset_hooks: list[Callable[[], None]] = []
        self._pic: Any = None
        self._engine_memory: EngineMemory | None = None

    @abstractmethod
    def notify(self, function: Callable[[], Any]) -> None:
        """Queues *function* for the machine thread."""

    @abstractmethod
    def _line_failed(self, error: DeviceError) -> None:
        """A Python handler of an interrupt line raised."""

    # -- description ------------------------------------------------------------------------------

    def _memory_size(self, memory: int | str | None) -> int:
        try:
            size = self._record.default_memory if memory is None else parse_size(memory)
        except ValueError as error:
            raise ConfigError(f"memory: {error}") from None
        if isinstance(memory, str) and memory.strip().isdigit():
            size <<= 20  # a bare number on the command line counts mebibytes, as in QEMU
        if not 0 < size <= MAX_MEMORY or size % 4096:
            raise ConfigError(f"memory of {size} bytes: must be from 4096 to {MAX_MEMORY} in steps of 4096")
        return size

    def _cpu_name(self, cpu: str | None) -> str:
        if self._record.arch == "none":
            if cpu not in (None, "none"):
                raise ConfigError(f"board {self.board} has no processor, cpu={cpu!r} cannot be used")
            return "none"
        return cpu if cpu is not None else self._record.default_cpu

    def portable_properties(self) -> dict[str, Any]:
        """The board's options that mean the same on another host."""
        return portable_options(self._record.properties, self.properties)

    def portable_devices(self) -> list[list[Any]]:
        """The further devices with those options that mean the same on another host."""
        return [
            [name, portable_options(self.plugins.resolve(self.plugins.get("device", name)).properties, options)]
            for name, options in self._given_devices
        ]

    # -- building ---------------------------------------------------------------------------------

    def _assemble(self, drives: Sequence[str | BlockBackend]) -> None:
        for drive in drives:
            self._drives.append(open_drive(drive) if isinstance(drive, str) else drive)
        assign_indexes(self._drives)
        self._drive_specs = [drive.spec for drive in self._drives]
        build = self.plugins.resolve(self._record)
        with blaming(f"board {self.board}", "factory"):
            build(self, **{p.attribute: self.properties[p.name] for p in self._record.properties})
        if self._memory_backend is not None:
            raise ConfigError(f"board {self.board} has no RAM block of {self.memory_size} bytes for a memory backend")
        for name, options in self._given_devices:
            self._create_named(name, options)
        for index, spec in enumerate(self._given_serial):
            if index >= len(self.serial) and spec not in ("none", "null"):
                raise ConfigError(f"serial {index}: {spec} has no port; board {self.board} uses {len(self.serial)}")
        self._keep_overlays()
        if self.cpu_name != "none":
            self._create_engine()

    def block_backends(self) -> dict[str, BlockBackend]:
        """Every drive by its name: interface and number, or the device and property that it was given to."""
        found = {f"{drive.interface}{drive.index}": drive for drive in self._drives}
        for id, device in self.devices.items():
            for name in (p.attribute for p in type(device).properties if p.kind == "drive"):
                drive = getattr(device, name)
                if isinstance(drive, BlockBackend) and drive not in found.values():
                    found[f"{id}.{name}"] = drive
        return found

    def change_medium(self, name: str, path: str | os.PathLike[str] | None, force: bool = False) -> None:
        """Machine thread only: puts another image into the CD-ROM drive *name*, or opens its tray for None.

        Args:
            name: as :meth:`block_backends` calls it, e.g. ``ide2``.
            path: the image.
            force: also when the guest has locked the drive.

        Raises:
            ConfigError: no such drive, one with a fixed medium or a locked one, or the image cannot be opened.
        """
        present = self.block_backends().get(name)
        changers = (d for d in self.devices.values() if isinstance(d, MediaChanger) and present in d.media())
        changer = next(changers, None)
        if present is None or changer is None or present not in self._drives:
            raise ConfigError(f"drive {name}: {'its medium cannot be changed' if present else 'there is none'}")
        if path is None:
            changer.replace_medium(present, None, force)
            return
        medium = BlockBackend(path, interface=present.interface, index=present.index, media="cdrom")
        try:
            changer.replace_medium(present, medium, force)
        except BaseException:
            medium.close()
            raise
        at = self._drives.index(present)
        self._drives[at], self._drive_specs[at] = medium, medium.spec
        present.close()

    def unprotected_drives(self) -> list[BlockBackend]:
        """Drives that the guest writes in place: a saved machine would find them changed when it comes back."""
        return [drive for drive in self.block_backends().values() if not drive.read_only and not drive.snapshot]

    def _keep_overlays(self) -> None:
        """What snapshots of drives hold is part of the machine: it is saved and comes back with RAM."""
        for name, drive in self.block_backends().items():
            block = drive.overlay(f"{name}.overlay")
            if block is not None:
                self.ram[block.idstr] = block

    def add_ram(self, idstr: str, size: int, **options: Any) -> RAMBlock:
        """A RAM block that the machine owns and migrates; the board maps it into :attr:`system_memory`."""
        if idstr in self.ram:
            raise ConfigError(f"board {self.board}: RAM block {idstr} exists twice")
        backend = self._memory_backend
        if backend is not None and size == self.memory_size and not options:
            # The user's choice is for the RAM that the user asked for, not for firmware or screens.
            options, self._memory_backend = backend.options(), None
        block = RAMBlock(idstr, size, **options)
        self.ram[idstr] = block
        return block

    def add_bus(self, bus: Bus) -> None:
        """Makes *bus* known by its kind, so that ``--device`` finds it."""
        self.buses.setdefault(bus.kind, bus)
        for line in bus.interrupt_lines():
            self.watch_line(line)

    def watch_line(self, line: IRQLine) -> None:
        """Makes a failure of *line*'s Python handler stop the machine, as that of a port handler does."""
        line.set_fault_listener(self._line_failed)

    def add_device(self, device: Device, bus: Bus, id: str | None = None) -> Device:
        """Plugs *device* into *bus* under a unique id."""
        if id is None:
            id = self._free_id(type(device).type_name)
        elif id in self.devices:
            raise ConfigError(f"device id {id} exists twice: {self.devices[id]!r} and {device!r}")
        for backend in device.backends():
            if isinstance(backend, Chardev):
                backend.attach(self.notify)
        try:
            with blaming(f"device {id}", "realize"):
                bus.plug(device, id)
        except BaseException:
            device.close()
            raise
        self.devices[id] = device
        return device

    def create_device(self, type_name: str, bus: Bus, id: str | None = None, **properties: Any) -> Device:
        """A device by its plugin name."""
        factory = self.plugins.resolve(self.plugins.get("device", type_name))
        with blaming(f"device {type_name}", "factory"):
            device = factory(**properties)
        if not isinstance(device, Device):
            raise PluginError(f"device {type_name}: its factory made {device!r}, which is no device")
        return self.add_device(device, bus, id)

    def _create_named(self, name: str, options: Mapping[str, Any]) -> None:
        record = self.plugins.get("device", name)
        if record.bus not in self.buses:
            have = ", ".join(sorted(self.buses)) or "none"
            raise ConfigError(f"device {name} needs a bus of kind {record.bus}; board {self.board} has: {have}")
        options = dict(options)
        id = options.pop("id", None)
        self.create_device(name, self.buses[record.bus], id, **options)

    def _free_id(self, type_name: str) -> str:
        return next(
            name
            for name in (f"{type_name}.{n}" if n else type_name for n in itertools.count())
            if name not in self.devices
        )

    def serial_chardev(self, n: int) -> Chardev:
        """The backend of serial port *n*; a null backend when the user gave none."""
        while len(self.serial) <= n:
            index = len(self.serial)
            spec = self._given_serial[index] if index < len(self._given_serial) else "null"
            chardev = open_chardev("null" if spec == "none" else spec) if isinstance(spec, str) else spec
            chardev.attach(self.notify)
            self.serial.append(chardev)
        return self.serial[n]

    def drives(self, interface: str) -> list[BlockBackend]:
        """The user's drives on *interface* (``ide``, ``floppy``), by index."""
        return sorted((d for d in self._drives if d.interface == interface), key=lambda d: d.index or 0)

    @property
    def displays(self) -> list[Display]:
        """The devices with a screen, in the order they were plugged in."""
        return [device for device in self.devices.values() if isinstance(device, Display)]

    @property
    def keyboards(self) -> list[Keyboard]:
        """The devices that keys can be typed on, in the order they were plugged in."""
        return [device for device in self.devices.values() if isinstance(device, Keyboard)]

    def connect_cpu_interrupt(self, pic: Any) -> None:
        """Makes *pic* the processor's interrupt controller: its ``intr`` pin and its acknowledge cycle."""
        self._pic = pic

    def on_reset(self, hook: Callable[[], None]) -> None:
        """Calls *hook* at each reset, after all devices were reset and before memory is loaded."""
        self._reset_hooks.append(hook)

    def set_a20(self, enabled: bool) -> None:
        """Opens or closes the processor's A20 gate."""
        if self.engine is not None:
            self.engine.set_a20(enabled)

    def _create_engine(self) -> None:
        record = self.plugins.get("engine", self.cpu_name)
        arch = self._record.arch
        if arch not in record.arches:
            raise ConfigError(f"engine {record.name} runs {', '.join(record.arches)}; board {self.board} needs {arch}")
        ack = self._pic.ack_capsule() if self._pic is not None else (lambda: 0xFF)
        host = make_cpu_host(self.ports, self.memory, self.clock, ack)
        engine: CPUEngine = self.plugins.resolve(record)(arch, host)
        self.engine = engine
        self._engine_memory = EngineMemory(engine, self.memory, list(self.ram.values()))
        if self._pic is not None:
            capsule = engine.engine_capsule()
            if capsule is None:
                line = IRQLine("cpu.intr", 0, lambda n, level: engine.set_irq(level))
            else:
                line = cpu_interrupt_line(capsule, engine)
            self._pic.intr.connect(line)

    def ram_blocks(self) -> Sequence[RAMBlock]:
        """All RAM that migrates."""
        return list(self.ram.values())

    def ram_ranges(self) -> list[tuple[int, int]]:
        """Guest-physical RAM as (start, length) pairs, ascending, neighbours joined."""
        merged: list[tuple[int, int]] = []
        for part in self.memory.flat_view():
            if part.kind != "ram":
                continue
            if merged and sum(merged[-1]) == part.start:
                merged[-1] = (merged[-1][0], merged[-1][1] + part.size)
            else:
                merged.append((part.start, part.size))
        return merged

    def _release(self) -> None:
        """Gives every part back, in the reverse order of building; also of a machine half built."""
        if self._engine_memory is not None:
            self._engine_memory.close()
        if self.engine is not None:
            if self._pic is not None:
                self._pic.intr.connect(None)
            self.engine.close()
        for device in reversed(self.devices.values()):
            device.unrealize()
            device.close()
        for chardev in self.serial:
            chardev.close()
        for drive in self._drives:
            drive.close()
        for block in self.ram.values():
            block.close()


@contextlib.contextmanager
def blaming(what: str, step: str) -> Iterator[None]:
    """Turns what a plugin's code raises into an error that names the plugin's part; our own errors pass."""
    try:
        yield
    except (PyemuError, OSError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{what}: {step} failed: {type(error).__name__}: {error}") from error


def _device_spec(spec: str | tuple[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    if not isinstance(spec, str):
        return spec[0], dict(spec[1])
    name, *options = spec.split(",")
    values: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise ConfigError(f"device {name}: option {option!r} is not of the form key=value")
        values[key] = value
    return name, values

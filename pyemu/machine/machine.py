# SPDX-License-Identifier: MIT
"""The machine: what a board assembles and what everything else drives."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import uuid as uuid_module
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from ..cpu.engine import CPUEngine, Exit, ExitReason
from ..cpu.x86 import CPU_STATE, StateView
from ..device import (
    BlockBackend,
    Bus,
    Chardev,
    Clock,
    Device,
    IRQLine,
    assign_indexes,
    open_chardev,
    open_drive,
    portable_options,
)
from ..device._cpuhost import make_cpu_host
from ..device._cpupin import cpu_interrupt_line
from ..device.properties import parse_properties, parse_size
from ..errors import ConfigError, DeviceError, MigrationError, PluginError, PyemuError
from ..memory import AddressSpace, MemoryRegion, PortSpace, RAMBlock
from ..migration import MigrationController
from ..migration.host import DeviceSection
from ..plugin import PluginManager, default_manager
from .events import EventSource, Listener
from .linuxboot import LinuxImage
from .loop import Loop
from .memorymap import EngineMemory
from .save import SaveReport, save

T = TypeVar("T")
_log = logging.getLogger("pyemu.machine")

#: The physical address space of the machines we model.
ADDRESS_SPACE_SIZE = 1 << 40
MAX_MEMORY = 1 << 40


class Machine:
    """A board with its devices, memory and processor, on a thread of its own.

    A machine is assembled in the constructor and then waits, paused; :meth:`cont` lets it run.
    Everything that touches devices happens on the machine's thread: :meth:`call` gets a function
    there. A machine is a context manager; leaving it closes the machine.

    Args:
        board: name of a board that a plugin provides.
        memory: RAM size in bytes, or text such as ``"64M"``; None for the board's default.
        cpu: name of a CPU engine, ``"none"`` for a board without a processor, None for the board's default.
        properties: options of the board.
        devices: further devices, each ``"name"``, ``"name,k=v"`` or ``(name, {k: v})``.
        serial: character backends of the serial ports, e.g. ``["stdio"]``.
        drives: block backends, e.g. ``["file=disk.img,if=ide,index=0"]``.
        kernel, append, initrd: an image to start by the 32-bit Linux boot protocol.
        bios: a firmware image for boards that have a place for one.
        loaders: ``(file, address)`` pairs of raw files copied into RAM at each reset.
        uuid: of the machine, as text.
        clock: ``"host"``, or ``"step"`` for a clock that moves only by ``clock_step``.
        incoming: wait for a migration instead of starting.
        plugins: the plugin manager to use; the process's own by default.

    Raises:
        ConfigError: something in the description does not exist or does not fit; nothing is left behind.
        PluginError: a plugin that the description names is missing, broken or ambiguous.
    """

    def __init__(
        self,
        board: str,
        *,
        memory: int | str | None = None,
        cpu: str | None = None,
        properties: Mapping[str, Any] | None = None,
        devices: Sequence[str | tuple[str, Mapping[str, Any]]] = (),
        serial: Sequence[str | Chardev] = (),
        drives: Sequence[str | BlockBackend] = (),
        kernel: str | os.PathLike[str] | None = None,
        append: str = "",
        initrd: str | os.PathLike[str] | None = None,
        bios: str | os.PathLike[str] | None = None,
        loaders: Sequence[tuple[str | os.PathLike[str], int]] = (),
        uuid: str | None = None,
        clock: str = "host",
        incoming: bool = False,
        plugins: PluginManager | None = None,
    ) -> None:
        self.plugins = plugins if plugins is not None else default_manager()
        self._record = self.plugins.get("board", board)
        self.board: str = self._record.name
        self.name: str = self._record.name
        self.properties = parse_properties(f"board {board}", self._record.properties, properties or {})
        self.memory_size = self._memory_size(memory)
        self.cpu_name = self._cpu_name(cpu)
        self.append = append
        self.kernel = Path(kernel) if kernel is not None else None
        self.initrd = Path(initrd) if initrd is not None else None
        self.bios = Path(bios) if bios is not None else None
        self.loaders = [(Path(path), address) for path, address in loaders]
        self._uuid = _parse_uuid(uuid)

        self.clock = Clock(clock)
        self.ports = PortSpace("io")
        self.system_memory = MemoryRegion.container("system", ADDRESS_SPACE_SIZE)
        self.memory = AddressSpace("memory", self.system_memory)
        self.ram: dict[str, RAMBlock] = {}
        self.buses: dict[str, Bus] = {}
        self.devices: dict[str, Device] = {}
        self.serial: list[Chardev] = []
        self.engine: CPUEngine | None = None
        self.fault: PyemuError | None = None
        self._line_fault: DeviceError | None = None
        self.events = EventSource()
        self.exited = threading.Event()
        self.shutdown_reason: str | None = None
        self._given_serial = list(serial)
        self._given_devices = [_device_spec(d) for d in devices]
        self._drives: list[BlockBackend] = []
        self._drive_specs: list[str] = []
        self._reset_hooks: list[Callable[[], None]] = []
        self._pic: Any = None
        self._engine_memory: EngineMemory | None = None
        self._cpu_view = StateView()
        self._state = "inmigrate" if incoming else "prelaunch"
        self._closed = False
        self._waiting_change = threading.Condition()
        self._loop = Loop(self.clock, on_exit=self._engine_exit, on_error=self._fail, check=self.take_fault)

        try:
            self._assemble(drives)
        except BaseException:
            self._release()
            raise
        self.migration = MigrationController(self, self.plugins)
        self.ports.set_fault_listener(self._kick_engine)
        self.memory.set_fault_listener(self._kick_engine)
        self._loop.start()

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

    def description(self) -> dict[str, Any]:
        """What :func:`pyemu.restore` rebuilds the machine from; it travels in the stream's JSON description."""
        return {
            "format": 1,
            "board": self.board,
            "properties": dict(self.properties),
            "memory": self.memory_size,
            "cpu": self.cpu_name,
            "devices": [
                [name, portable_options(self.plugins.resolve(self.plugins.get("device", name)).properties, options)]
                for name, options in self._given_devices
            ],
            "drives": list(self._drive_specs),
            "serial": len(self.serial),
            "kernel": str(self.kernel) if self.kernel else None,
            "append": self.append,
            "initrd": str(self.initrd) if self.initrd else None,
            "bios": str(self.bios) if self.bios else None,
            "uuid": str(uuid_module.UUID(bytes=self._uuid)) if self._uuid else None,
        }

    # -- assembly, used by boards -----------------------------------------------------------------

    def _assemble(self, drives: Sequence[str | BlockBackend]) -> None:
        for drive in drives:
            self._drives.append(open_drive(drive) if isinstance(drive, str) else drive)
        assign_indexes(self._drives)
        self._drive_specs = [drive.spec for drive in self._drives]
        build = self.plugins.resolve(self._record)
        with _blaming(f"board {self.board}", "factory"):
            build(self, **{p.attribute: self.properties[p.name] for p in self._record.properties})
        for name, options in self._given_devices:
            self._create_named(name, options)
        for index, spec in enumerate(self._given_serial):
            if index >= len(self.serial) and spec not in ("none", "null"):
                raise ConfigError(f"serial {index}: {spec} has no port; board {self.board} uses {len(self.serial)}")
        if self.cpu_name != "none":
            self._create_engine()
        for path, address in self.loaders:
            if not path.is_file():
                raise ConfigError(f"loader file {path}: no such file")
            if address < 0 or address + path.stat().st_size > ADDRESS_SPACE_SIZE:
                raise ConfigError(f"loader file {path}: address {address:#x} is outside the address space")
        self._image = LinuxImage.read(self.kernel) if self.kernel is not None and not self._incoming else None
        if self._image is not None and self.cpu_name == "none":
            raise ConfigError(f"kernel {self.kernel}: a machine without a processor cannot start one")
        self._reset_all()

    @property
    def _incoming(self) -> bool:
        return self._state == "inmigrate"

    def add_ram(self, idstr: str, size: int, **options: Any) -> RAMBlock:
        """A RAM block that the machine owns and migrates; the board maps it into :attr:`system_memory`."""
        if idstr in self.ram:
            raise ConfigError(f"board {self.board}: RAM block {idstr} exists twice")
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
            with _blaming(f"device {id}", "realize"):
                bus.plug(device, id)
        except BaseException:
            device.close()
            raise
        self.devices[id] = device
        return device

    def create_device(self, type_name: str, bus: Bus, id: str | None = None, **properties: Any) -> Device:
        """A device by its plugin name."""
        factory = self.plugins.resolve(self.plugins.get("device", type_name))
        with _blaming(f"device {type_name}", "factory"):
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
        self._loop.engine = engine

    # -- life -------------------------------------------------------------------------------------

    @property
    def run_state(self) -> str:
        """QEMU's name of what the machine is doing: prelaunch, running, paused, inmigrate, postmigrate ..."""
        return self._state

    @property
    def running(self) -> bool:
        return self._loop.running

    def cont(self) -> None:
        """Lets the guest run (in the background).

        Raises:
            ConfigError: the machine waits for a migration, has failed, or has shut down.
        """
        self.call(self._cont)

    def _cont(self) -> None:
        if self._state == "inmigrate":
            raise ConfigError("the machine waits for an incoming migration")
        if self._state in ("internal-error", "shutdown"):
            raise ConfigError(f"the machine is in state {self._state}: reset it first")
        if not self.running:
            self.vm_start()

    def stop(self) -> None:
        """Pauses the guest; returns when it stands still."""
        self.call(lambda: self.vm_stop("paused"))

    def reset(self) -> None:
        """System reset, as by the button."""
        self.call(lambda: self._reset(guest=False, reason="host-qmp-system-reset"))

    def run(self, until: Any = None, timeout: float | None = None) -> bool:
        """Runs the guest until a condition holds, then pauses it.

        Args:
            until: a callable that answers true when done, e.g. ``m.serial[0].contains(b"login:")``; None
                runs until the guest shuts down.
            timeout: seconds of host time.

        Returns:
            True if the condition came true, False on timeout or when the guest stopped by itself.

        Raises:
            DeviceError: a device failed.
        """
        done = threading.Event()
        listener = lambda event: done.set() if event.name in ("STOP", "SHUTDOWN") else None  # noqa: E731
        self.events.add(listener)
        subscribe = getattr(until, "subscribe", None)
        if subscribe is not None:
            subscribe(done.set)
        try:
            self.call(lambda: self._cont() if self.fault is None else None)
            met = self._wait_for(until, done, timeout, poll=until is not None and subscribe is None)
        finally:
            self.events.remove(listener)
            if subscribe is not None:
                until.unsubscribe(done.set)
        # Asked for on the machine thread, which may be in the middle of stopping.
        fault = self.call(lambda: self.fault)
        if fault is not None:
            raise fault
        if self.running:
            self.stop()
        return met

    def _wait_for(self, until: Any, done: threading.Event, timeout: float | None, poll: bool) -> bool:
        import time

        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if until is not None and until():
                return True
            if self.fault is not None or not self.running or self.exited.is_set():
                return until is not None and bool(until())
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            if poll:
                left = 0.01 if left is None else min(left, 0.01)
            done.wait(left)
            done.clear()

    def close(self) -> None:
        """Stops the guest, ends the machine thread, closes backends. The machine cannot be used afterwards."""
        if self._closed:
            return
        self._closed = True
        if self.migration is not None:
            self.migration.close()
        self._loop.running = False
        self._loop.stop()
        self._release()
        self.exited.set()

    def _release(self) -> None:
        self._closed = True
        if self._engine_memory is not None:
            self._engine_memory.close()
        if self.engine is not None:
            if self._pic is not None:
                self._pic.intr.connect(None)
            self._loop.engine = None
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

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Machine {self.board} {self.memory_size >> 20} MiB {self._state}>"

    # -- work on the machine thread ---------------------------------------------------------------

    def call(self, function: Callable[[], T]) -> T:
        """Runs *function* on the machine thread, between two guest instructions, and returns its result."""
        return self._loop.call(function)

    def post(self, function: Callable[[], T]) -> Future[T]:
        """Queues *function* for the machine thread."""
        return self._loop.post(function)

    def notify(self, function: Callable[[], Any]) -> None:
        """Queues *function*; what it raises is a fault of the machine. Ignored once the machine is closed."""
        if not self._closed:
            self._loop.notify(function)

    def on_event(self, listener: Listener) -> None:
        """Calls *listener* with each :class:`~pyemu.machine.Event`, on the thread that caused it."""
        self.events.add(listener)

    def emit(self, event: str, data: dict[str, Any] | None = None) -> None:
        self.events.emit(event, data)

    def vm_start(self) -> None:
        """Machine thread only: lets the guest run."""
        self.fault = None
        self._state = "running"
        self.clock.start()
        self._loop.running = True
        self.emit("RESUME")

    def vm_stop(self, state: str) -> None:
        """Machine thread only: stops the guest and sets the run state."""
        was_running = self.running
        self._loop.running = False
        self.clock.stop()
        self._state = state
        if was_running:
            self.emit("STOP")

    def set_run_state(self, state: str) -> None:
        self._state = state

    def request_reset(self, reason: str = "guest-reset") -> None:
        """Asks for a reset; for devices, which must not be reset from inside their own handlers."""
        self.notify(lambda: self._reset(guest=True, reason=reason))

    def request_shutdown(self, reason: str = "guest-shutdown", guest: bool = True) -> None:
        """Asks for the end of the machine."""
        self.notify(lambda: self._shutdown(guest, reason))

    def incoming_failed(self, error: MigrationError) -> None:
        """A load failed that was to end the program then; any thread."""
        self.fault = error
        self.request_shutdown("host-error", guest=False)

    def _shutdown(self, guest: bool, reason: str) -> None:
        self.vm_stop("shutdown")
        self.shutdown_reason = reason
        self.emit("SHUTDOWN", {"guest": guest, "reason": reason})
        self.exited.set()

    def _reset(self, guest: bool, reason: str) -> None:
        self._reset_all()
        if self._state in ("internal-error", "shutdown"):
            self._state = "paused"
        self.fault = None
        self.emit("RESET", {"guest": guest, "reason": reason})

    def _reset_all(self) -> None:
        for name, device in self.devices.items():
            with _blaming(f"device {name}", "reset"):
                device.reset()
        if self.engine is not None:
            self.engine.reset()
        for hook in self._reset_hooks:
            hook()
        if self._incoming:
            return
        for path, address in self.loaders:
            self._load_bytes(path.read_bytes(), address, f"loader file {path}")
        if self._image is not None:
            self._start_kernel(self._image)

    def _load_bytes(self, data: bytes, gpa: int, what: str) -> None:
        """Copies *data* into RAM, refusing ranges that are not RAM."""
        end = gpa + len(data)
        if not any(start <= gpa and end <= start + length for start, length in self.ram_ranges()):
            raise ConfigError(f"{what}: {gpa:#x}-{end - 1:#x} is not RAM of this machine")
        self.memory.write(gpa, data)

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

    def _start_kernel(self, image: LinuxImage) -> None:
        assert self.engine is not None
        try:
            initrd = self.initrd.read_bytes() if self.initrd is not None else b""
        except OSError as error:
            raise ConfigError(f"initrd {self.initrd}: {error.strerror}") from None
        # The first MiB holds the BIOS area on a PC; the kernel is told the conventional split.
        usable = [r for start, length in self.ram_ranges() for r in _without_pc_hole(start, length)]
        for segment in image.layout(self.append, usable, initrd):
            self._load_bytes(segment.data, segment.gpa, f"kernel {image.path}")
        state = self.engine.get_state()
        state.update(image.registers())
        self.engine.set_state(state)
        self.set_a20(True)

    # -- faults -----------------------------------------------------------------------------------

    def _kick_engine(self) -> None:
        if self.engine is not None:
            self.engine.kick()

    def _line_failed(self, error: DeviceError) -> None:
        if self._line_fault is None:
            self._line_fault = error
        self._kick_engine()

    def take_fault(self) -> PyemuError | None:
        """Machine thread only: stops the machine if a device failed since the last look, and says how."""
        fault: PyemuError | None = self.ports.take_fault() or self.memory.take_fault() or self._line_fault
        self._line_fault = None
        if fault is not None:
            self._fail(fault)
        return fault

    def _fail(self, error: BaseException) -> None:
        """Stops the machine for good (until a reset); the process and the control sockets live on."""
        if isinstance(error, PyemuError):
            self.fault = error
        else:
            self.fault = DeviceError(f"{type(error).__name__}: {error}")
            self.fault.__cause__ = error
        _log.error("%s", self.fault)
        self.vm_stop("internal-error")

    def _engine_exit(self, reason: ExitReason) -> None:
        if reason.exit is Exit.SHUTDOWN:
            self._reset(guest=True, reason="guest-reset")
        else:
            self._fail(PyemuError(f"engine {self.cpu_name}: {reason.detail}"))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        mapped_ram: bool = False,
        multifd: int = 0,
        direct_io: bool = False,
        progress: Callable[[Any], None] | None = None,
    ) -> SaveReport:
        """Saves the machine to a file; a running guest runs on, except for the last few milliseconds.

        The file is written under a temporary name, made durable and then renamed: *path* always holds
        either the old file or the whole new one.

        Args:
            path: the file.
            mapped_ram: give each page a fixed place, which bounds the file's size whatever the guest rewrites.
            multifd: number of writer threads, 0 for none beside the migration thread's.
            direct_io: write pages past the page cache.
            progress: called with a :class:`~pyemu.migration.Progress` now and then, on the migration thread.

        Raises:
            MigrationError: what failed, with the file's name; the guest goes on as before.
        """
        return save(self, path, mapped_ram=mapped_ram, multifd=multifd, direct_io=direct_io, progress=progress)

    # -- migration host ---------------------------------------------------------------------------

    @property
    def machine_name(self) -> str:
        return self.name

    @property
    def uuid(self) -> bytes | None:
        return self._uuid

    def ram_blocks(self) -> Sequence[RAMBlock]:
        return list(self.ram.values())

    def ram_changed(self) -> None:
        if self._engine_memory is not None:
            self._engine_memory.invalidate_all()

    def sections(self) -> Sequence[DeviceSection]:
        """One section a device with state, then the processor."""
        counts: dict[str, int] = {}
        out = []
        for device in self.devices.values():
            if device.vmstate is None:
                continue
            name = device.section_name
            instance = counts.get(name, 0)
            counts[name] = instance + 1
            out.append(DeviceSection(name, instance, device.vmstate, device, device.pre_save, device.post_load))
        if self.engine is not None:
            out.append(DeviceSection("cpu", 0, CPU_STATE, self._cpu_view, self._fetch_cpu, self._put_cpu))
        return out

    def _fetch_cpu(self) -> None:
        assert self.engine is not None
        for name, value in self.engine.get_state().items():
            setattr(self._cpu_view, name, value)

    def _put_cpu(self, version: int) -> None:
        assert self.engine is not None
        self.engine.set_state(self._cpu_view.as_dict())


@contextlib.contextmanager
def _blaming(what: str, step: str) -> Iterator[None]:
    """Turns what a plugin's code raises into an error that names the plugin's part; our own errors pass."""
    try:
        yield
    except (PyemuError, OSError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{what}: {step} failed: {type(error).__name__}: {error}") from error


def _without_pc_hole(start: int, length: int) -> list[tuple[int, int]]:
    low = (start, min(start + length, 0x9FC00) - start)
    high_start = max(start, 0x100000)
    high = (high_start, start + length - high_start)
    return [r for r in (low, high) if r[1] > 0]


def _parse_uuid(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return uuid_module.UUID(text).bytes
    except ValueError:
        raise ConfigError(f"uuid {text!r} is not of the form 8-4-4-4-12 hexadecimal digits") from None


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

# SPDX-License-Identifier: MIT
"""The machine: what a board assembles and what everything else drives."""

from __future__ import annotations

import logging
import os
import threading
import uuid as uuid_module
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from ..cpu.engine import Exit, ExitReason
from ..device import BlockBackend, Chardev
from ..errors import ConfigError, DeviceError, MigrationError, PyemuError
from ..migration import MigrationController
from ..migration.host import DeviceSection
from ..migration.lazy import settle
from ..plugin import PluginManager
from .assembly import Assembly, blaming
from .boot import BootImages
from .events import EventSource, Listener
from .loop import Loop
from .move import MoveReport, move
from .save import SaveReport, save
from .sections import cpu_sections, device_sections
from .throttle import MAXIMUM

T = TypeVar("T")
_log = logging.getLogger("pyemu.machine")


class Machine(Assembly):
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
        incoming: wait for a migration instead of starting: where to receive it, a URI or a channel list, or True to
            be told later (``machine.migration.incoming()``). The guest runs on if it ran when it left.
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
        incoming: bool | str | Sequence[Any] = False,
        plugins: PluginManager | None = None,
    ) -> None:
        super().__init__(
            board,
            memory=memory,
            cpu=cpu,
            properties=properties,
            devices=devices,
            serial=serial,
            clock=clock,
            plugins=plugins,
        )
        self.name: str = self.board
        self._images = BootImages(kernel=kernel, append=append, initrd=initrd, bios=bios, loaders=loaders)
        self.kernel, self.append, self.initrd = self._images.kernel, self._images.append, self._images.initrd
        self.bios, self.loaders = self._images.bios, self._images.loaders
        self._uuid = _parse_uuid(uuid)

        self.fault: PyemuError | None = None
        self._line_fault: DeviceError | None = None
        self.events = EventSource()
        self.exited = threading.Event()
        self.shutdown_reason: str | None = None
        waits = incoming is not False
        self._state = "inmigrate" if waits else "prelaunch"
        self._closed = False
        self._loop = Loop(self.clock, on_exit=self._engine_exit, on_error=self._fail, check=self.take_fault)

        try:
            self._assemble(drives)
            self._images.check(self.cpu_name, incoming=waits)
            self._loop.engine = self.engine
            self._reset_all()
        except BaseException:
            self._release()
            raise
        self.migration = MigrationController(self, self.plugins)
        self.ports.set_fault_listener(self._kick_engine)
        self.memory.set_fault_listener(self._kick_engine)
        self._loop.start()
        if not isinstance(incoming, bool):
            try:
                self.migration.incoming(incoming if isinstance(incoming, str) else list(incoming))
            except BaseException:
                self.close()
                raise

    # -- description ------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """What :func:`pyemu.restore` rebuilds the machine from; it travels in the stream's JSON description."""
        return {
            "format": 1,
            "board": self.board,
            "properties": self.portable_properties(),
            "memory": self.memory_size,
            "cpu": self.cpu_name,
            "devices": self.portable_devices(),
            "drives": list(self._drive_specs),
            "serial": len(self.serial),
            "kernel": str(self.kernel) if self.kernel else None,
            "append": self.append,
            "initrd": str(self.initrd) if self.initrd else None,
            "bios": str(self.bios) if self.bios else None,
            "uuid": str(uuid_module.UUID(bytes=self._uuid)) if self._uuid else None,
        }

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

    @property
    def cpu_throttle(self) -> int:
        """Percent of its time that the processor rests instead of running guest code."""
        return self._loop.throttle.percent

    def set_cpu_throttle(self, percent: int) -> None:
        """Slows the processor down; devices, timers and control go on as before. Any thread.

        Args:
            percent: of its time that the processor rests, 0 to 99.

        Raises:
            ConfigError: another number.
        """
        if not 0 <= percent <= MAXIMUM:
            raise ConfigError(f"cpu throttle of {percent} %: must be from 0 to {MAXIMUM}")
        self._loop.set_throttle(percent)

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
        self._loop.engine = None
        super()._release()

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
            with blaming(f"device {name}", "reset"):
                device.reset()
        if self.engine is not None:
            self.engine.reset()
        for hook in self._reset_hooks:
            hook()
        if self._state != "inmigrate":
            self._images.load(self)

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
        background: bool = False,
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
            background: save the machine as it is at this moment, and let it run on while that is written: it
                stands still for milliseconds at the beginning, and no page is written twice. Not with *multifd*.
            progress: called with a :class:`~pyemu.migration.Progress` now and then, on the migration thread.

        Raises:
            MigrationError: what failed, with the file's name; the guest goes on as before.
        """
        return save(
            self,
            path,
            mapped_ram=mapped_ram,
            multifd=multifd,
            direct_io=direct_io,
            background=background,
            progress=progress,
        )

    def migrate(
        self,
        where: str | Sequence[Any],
        *,
        multifd: int = 0,
        compression: str = "none",
        max_bandwidth: int = 0,
        downtime_ms: int = 300,
        progress: Callable[[Any], None] | None = None,
    ) -> MoveReport:
        """Moves the machine to one that waits for it; the guest runs on here until its last pages go over.

        Returns when all has been sent; the machine is then in run state ``postmigrate``. To let it happen in the
        background, or to cancel it, see :attr:`migration`.

        Args:
            where: ``tcp:HOST:PORT``, ``unix:PATH``, ``fd:N``, ``exec:COMMAND``, ..., or a list of channels.
            multifd: connections that carry pages beside the main one; the other side needs capability ``multifd``,
                and takes as many as come.
            compression: of those pages, ``none``, ``zlib`` or ``zstd``; the other side needs the same.
            max_bandwidth: bytes a second until the guest is stopped, 0 for as many as go.
            downtime_ms: how long the guest may stand still in the end, as far as that can be estimated.
            progress: called with a :class:`~pyemu.migration.Progress` now and then.

        Raises:
            MigrationError: it failed or was cancelled; the guest goes on here as before.
        """
        return move(
            self,
            where,
            multifd=multifd,
            compression=compression,
            max_bandwidth=max_bandwidth,
            downtime_ms=downtime_ms,
            progress=progress,
        )

    def settle(self) -> None:
        """Makes RAM independent of the file that the machine was restored from lazily; the guest runs meanwhile.

        It stands still for a few milliseconds for each 8 MiB. A machine restored otherwise is left as it is.

        Raises:
            MemoryMapError: RAM is being watched by a save, or there is no memory; what is settled stays so.
        """
        if self.migration.lazy is not None:
            self.migration.lazy.stop()
        settle(self, lambda: None)

    # -- migration host ---------------------------------------------------------------------------

    @property
    def machine_name(self) -> str:
        return self.name

    @property
    def uuid(self) -> bytes | None:
        return self._uuid

    def ram_changed(self) -> None:
        if self._engine_memory is not None:
            self._engine_memory.invalidate_all()

    def sections(self) -> Sequence[DeviceSection]:
        """One section a device with state, then the processor."""
        return [*device_sections(self.devices.values()), *cpu_sections(self.engine)]


def _parse_uuid(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return uuid_module.UUID(text).bytes
    except ValueError:
        raise ConfigError(f"uuid {text!r} is not of the form 8-4-4-4-12 hexadecimal digits") from None

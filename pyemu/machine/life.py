# SPDX-License-Identifier: MIT
"""The life of a machine: running, pausing, resets, faults, and work on its thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..cpu.engine import Exit, ExitReason
from ..errors import ConfigError, DeviceError, PyemuError
from .assembly import Assembly, blaming
from .boot import BootImages
from .events import EventSource, Listener
from .loop import Loop
from .throttle import MAXIMUM

T = TypeVar("T")
_log = logging.getLogger("pyemu.machine")


class Life(Assembly):
    """What a machine does once it is assembled. :class:`~pyemu.Machine` is the only one.

    Args:
        board: and the keywords of :class:`~pyemu.machine.assembly.Assembly`.
        images: put into memory at each reset.
        waits: for a migration, instead of for being started.
    """

    def __init__(self, board: str, images: BootImages, *, waits: bool, **parts: Any) -> None:
        super().__init__(board, **parts)
        self._images = images
        self.fault: PyemuError | None = None
        self._line_fault: DeviceError | None = None
        self.events = EventSource()
        self.exited = threading.Event()
        self.shutdown_reason: str | None = None
        self._state = "inmigrate" if waits else "prelaunch"
        self._closed = False
        self._loop = Loop(self.clock, on_exit=self._engine_exit, on_error=self._fail, check=self.take_fault)

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
        if self._state == "finish-migrate":
            # Its last pages are on their way; what it wrote from here on would not be among them.
            raise ConfigError("Migration is not finalized yet")
        if self._state in ("internal-error", "shutdown"):
            raise ConfigError(f"the machine is in state {self._state}: reset it first")
        if not self.running:
            self.vm_start()

    def stop(self) -> None:
        """Pauses the guest; returns when it stands still. One that does not run stays in the state that it is in."""
        self.call(lambda: self.vm_stop("paused") if self.running else None)

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

    def _shutdown(self, guest: bool, reason: str) -> None:
        self.vm_stop("shutdown")
        self.shutdown_reason = reason
        self.emit("SHUTDOWN", {"guest": guest, "reason": reason})
        self.exited.set()

    def _reset(self, guest: bool, reason: str) -> None:
        self._reset_all()
        if self._state in ("internal-error", "shutdown"):
            self._state = "paused"
        elif self._state == "postmigrate":
            self._state = "prelaunch"
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

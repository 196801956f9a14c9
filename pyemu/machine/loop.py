# SPDX-License-Identifier: MIT
"""The machine thread: one thread that runs queued work, due timers and the processor, in that order.

Everything that touches a device happens here. Other threads hand in functions with :meth:`Loop.post`
or :meth:`Loop.call`; that kicks the processor out of guest code, so the function runs within
microseconds. While the guest is halted, stopped, or there is no processor, the thread sleeps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from ..cpu.engine import Exit, ExitReason
from ..errors import PyemuError
from .throttle import Throttle

if TYPE_CHECKING:
    from ..cpu.engine import CPUEngine
    from ..device import Clock

T = TypeVar("T")
_log = logging.getLogger("pyemu.machine")


class Loop:
    """One machine thread.

    Args:
        clock: guest time; its timers fire on this thread.
        on_exit: called on this thread with each :class:`ExitReason` but kicks and halts.
        on_error: called on this thread with whatever a timer or a posted notification raised.
        check: called on this thread after guest code ran and after timers and queued work; it looks for
            device faults.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_exit: Callable[[ExitReason], None],
        on_error: Callable[[BaseException], None],
        check: Callable[[], Any],
    ) -> None:
        self.clock = clock
        self.engine: CPUEngine | None = None
        self.running = False
        self.throttle = Throttle()
        self._on_exit = on_exit
        self._on_error = on_error
        self._check = check
        self._queue: deque[tuple[Callable[[], Any], Future[Any] | None]] = deque()
        self._wake = threading.Event()
        self._quit = False
        self._thread: threading.Thread | None = None
        self._alarm = _Alarm(self._kick)
        clock.change_listener = self._deadline_moved

    # -- from any thread --------------------------------------------------------------------------

    @property
    def on_machine_thread(self) -> bool:
        return self._thread is None or threading.current_thread() is self._thread

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="pyemu-machine", daemon=True)
        self._thread.start()

    def post(self, function: Callable[[], T]) -> Future[T]:
        """Queues *function* for the machine thread and returns at once.

        Raises:
            PyemuError: the machine is closed.
        """
        future: Future[T] = Future()
        self._enqueue(function, future)
        return future

    def notify(self, function: Callable[[], Any]) -> None:
        """Like :meth:`post` for callers that do not wait: what the function raises stops the machine."""
        self._enqueue(function, None)

    def call(self, function: Callable[[], T]) -> T:
        """Runs *function* on the machine thread and returns its result or raises what it raised."""
        if self.on_machine_thread:
            return function()
        return self.post(function).result()

    def set_throttle(self, percent: int) -> None:
        """Sets the share of its time that the processor rests, in percent; takes effect at once."""
        self.throttle.percent = percent
        self._kick()

    def stop(self) -> None:
        """Ends the thread after the work queued so far; returns when it has ended."""
        if self._thread is None:
            return
        self._quit = True
        self._kick()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._alarm.stop()

    def _enqueue(self, function: Callable[[], Any], future: Future[Any] | None) -> None:
        if self._quit:
            raise PyemuError("the machine is closed")
        self._queue.append((function, future))
        self._kick()
        # The thread may have drained the queue for the last time between the test and the append.
        if self._ended():
            self._refuse_rest()

    def _ended(self) -> bool:
        return self._quit and not self.alive

    def _kick(self) -> None:
        self._wake.set()
        engine = self.engine
        if engine is not None:
            engine.kick()

    def _deadline_moved(self) -> None:
        # A device armed a timer from inside guest code, or set the clock: the alarm must know.
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._kick()
        elif self.running and self.engine is not None:
            self._set_alarm()

    # -- the machine thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self._drain()
            if self._quit:
                break
            if self.clock.is_running:  # a stopped machine's timers wait with it
                try:
                    self.clock.run_due()
                # A device's timer: the machine stops, the thread lives.
                except BaseException as error:  # noqa: BLE001
                    self._on_error(error)
            self._check()
            if self._queue:
                continue
            if self.running and self.engine is not None:
                rest = self.throttle.rest_left(time.monotonic()) if self.throttle.percent else 0.0
                if rest > 0:
                    self._sleep(rest)
                    continue
                reason = self._run_engine(self.engine)
                self._check()
                if reason.exit is Exit.HALT:
                    self._sleep()
                elif reason.exit is not Exit.KICK:
                    self._on_exit(reason)
            else:
                self._sleep()
        self._refuse_rest()

    def _run_engine(self, engine: CPUEngine) -> ExitReason:
        self._set_alarm()
        if not self.throttle.percent:
            return engine.run()
        begin = time.monotonic()
        reason = engine.run()
        self.throttle.worked(begin, time.monotonic())
        return reason

    def _drain(self) -> None:
        # Only what is there now: work that queues more work must not starve the guest.
        for _ in range(len(self._queue)):
            function, future = self._queue.popleft()
            if future is not None and not future.set_running_or_notify_cancel():
                continue
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the result
                if future is None:
                    self._on_error(error)
                else:
                    future.set_exception(error)
            else:
                if future is not None:
                    future.set_result(result)

    def _refuse_rest(self) -> None:
        while self._queue:
            _, future = self._queue.popleft()
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(PyemuError("the machine is closed"))

    def _sleep(self, longest: float | None = None) -> None:
        """Waits for a kick, the next timer, or until *longest* seconds have passed."""
        self._alarm.set(None)
        timeout = self._until_timer()
        if longest is not None:
            timeout = longest if timeout is None else min(timeout, longest)
        if timeout is None or timeout > 0:
            self._wake.wait(timeout)

    def _set_alarm(self) -> None:
        timeout = self._until_timer()
        if self.throttle.percent:
            slice_ = self.throttle.work_left()
            timeout = slice_ if timeout is None else min(timeout, slice_)
        self._alarm.set(None if timeout is None else time.monotonic() + timeout)

    def _until_timer(self) -> float | None:
        """Seconds until the next timer is due; None if there is none, or if guest time stands still."""
        due = self.clock.next_deadline()
        if due < 0 or not self.clock.is_running:
            return None
        return (due - self.clock.now_ns) / 1e9


class _Alarm:
    """The clock thread: calls back once when a moment of ``time.monotonic()`` has come."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._condition = threading.Condition(threading.Lock())
        self._at: float | None = None
        self._armed_for: float | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    def set(self, at: float | None) -> None:
        # Unchanged or later deadlines need no wake-up: the thread looks again when it wakes.
        with self._condition:
            self._at = at
            if at is None:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pyemu-clock", daemon=True)
                self._thread.start()
            elif self._armed_for is None or at < self._armed_for:
                self._condition.notify()

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        with self._condition:
            while not self._stopped:
                if self._at is None:
                    self._armed_for = None
                    self._condition.wait()
                    continue
                left = self._at - time.monotonic()
                if left > 0:
                    self._armed_for = self._at
                    self._condition.wait(left)
                    continue
                self._at = None
                self._ring()

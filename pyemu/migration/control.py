# SPDX-License-Identifier: MIT
"""What a running migration and those who steer it share: cancelling, continuing, failing, throttling."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..errors import MigrationError
from ..memory import DirtySource
from .host import MigrationHost
from .interrupt import Cancelled, Interrupt
from .status import StatusBoard


class OutgoingControl:
    """Steers one outgoing migration; made anew for each.

    Args:
        host: whose processor is throttled.
        board: where statuses and events go.
        interrupt: what all waiting for this migration is done with.
        capabilities: that are on; they cannot change while the migration runs.
        parameter: the present value of a parameter.
        dirty_source: the dirty source to use; called when the guest is first seen running.
    """

    def __init__(
        self,
        host: MigrationHost,
        board: StatusBoard,
        interrupt: Interrupt,
        capabilities: frozenset[str],
        parameter: Callable[[str], Any],
        dirty_source: Callable[[], DirtySource],
    ) -> None:
        self.capabilities = capabilities
        self.parameter = parameter
        self.dirty_source = dirty_source
        self._host = host
        self._board = board
        self._continue = threading.Event()
        self._committed = False
        self.interrupt = interrupt
        self._interrupts: list[Callable[[], object]] = []

    # -- for those who steer ----------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancels unless everything has been handed over already."""
        with self._board.lock:
            if self._committed or not self._board.under_way:
                return
            if self._board.status != "cancelling":
                self._board.note("cancelling")
        self._end(Cancelled("the migration was cancelled"))
        self._board.announce()

    def fail(self, error: MigrationError) -> None:
        """Ends the migration with *error*, from another thread than its own; the first one counts."""
        self._end(error)

    def _end(self, reason: MigrationError) -> None:
        self.interrupt.set(reason)
        self._continue.set()
        with self._board.lock:
            interrupts = list(self._interrupts)
        for interrupt in interrupts:
            interrupt()

    def continue_(self, state: str) -> None:
        """Lets a migration go on that waits in *state*, which is ``pre-switchover``.

        Raises:
            MigrationError: it is in another state.
        """
        with self._board.lock:
            if self._board.status != state or state != "pre-switchover":
                raise MigrationError(f"Migration not in expected state: {self._board.status}")
            self._continue.set()

    # -- for the migration ------------------------------------------------------------------------

    def on_interrupt(self, function: Callable[[], object]) -> None:
        """Calls *function*, from another thread, when the migration is to end early.

        It makes a system call return that waits for the other side. Called at once if that has come already.
        """
        with self._board.lock:
            self._interrupts.append(function)
            ended = self.interrupt.is_set
        if ended:
            function()

    def check(self) -> None:
        """Raises when the migration was cancelled or has failed elsewhere."""
        self.interrupt.check()

    def pause(self, seconds: float) -> None:
        """Sleeps, or raises at once when the migration is to end early."""
        self.interrupt.sleep(seconds)

    def enter(self, status: str) -> None:
        """Changes the status, unless the migration is being cancelled."""
        with self._board.lock:
            if self._board.status != "cancelling":
                self._board.note(status)
        self._board.announce()

    def dirty_sync(self, count: int) -> None:
        """The dirty log was read for the *count*-th time."""
        self._board.event("MIGRATION_PASS", {"pass": count})

    def before_switchover(self) -> None:
        """The guest has been stopped; waits for permission to go on where that was asked for."""
        if "pause-before-switchover" in self.capabilities:
            self.enter("pre-switchover")
            self._continue.wait()
            self.check()

    def point_of_no_return(self) -> None:
        """Everything was written; from here on it cannot be cancelled. Raises if it was already."""
        with self._board.lock:
            self.check()
            self._committed = True

    def throttle(self, percent: int) -> None:
        """Takes *percent* of the processor's time away from the guest."""
        self._host.set_cpu_throttle(percent)

# SPDX-License-Identifier: MIT
"""The status of one machine's migration, and the events that say how it changed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

#: Statuses of a migration that is under way.
ACTIVE = frozenset({"setup", "active", "pre-switchover", "device", "cancelling"})


class StatusBoard:
    """Where a migration writes how far it is and clients read it. All methods may be called from any thread.

    Changes are noted under the lock and announced without it, in the order in which they were noted,
    for those who listen may ask for the status from other threads.

    Args:
        emit: gets each event's name and data.
    """

    def __init__(self, emit: Callable[[str, dict[str, Any]], object]) -> None:
        self.lock = threading.RLock()
        self._done = threading.Condition(self.lock)
        self._emit = emit
        self._status = self._announced = "none"
        self._events: deque[tuple[str, dict[str, Any], str | None]] = deque()
        self._emitting = threading.Lock()

    @property
    def status(self) -> str:
        return self._status

    @property
    def under_way(self) -> bool:
        return self._status in ACTIVE

    def note(self, status: str) -> None:
        """Changes the status; :meth:`announce` has to follow, without the lock."""
        with self.lock:
            self._status = status
            self._events.append(("MIGRATION", {"status": status}, status))

    def set(self, status: str) -> None:
        """Changes the status and announces it; the lock must not be held."""
        self.note(status)
        self.announce()

    def event(self, name: str, data: Mapping[str, Any]) -> None:
        """Announces something that is no status."""
        self._events.append((name, dict(data), None))
        self.announce()

    def announce(self) -> None:
        """Emits what has been noted, in that order, whichever thread comes first."""
        while self._events and self._emitting.acquire(blocking=False):
            try:
                while self._events:
                    name, data, status = self._events.popleft()
                    self._emit(name, data)
                    if status is not None:
                        with self._done:
                            self._announced = status
                            self._done.notify_all()
            finally:
                self._emitting.release()

    def wait(self, timeout: float | None = None) -> str:
        """Waits until no migration is under way and its end has been announced; returns the status."""
        with self._done:
            self._done.wait_for(lambda: self._announced == self._status and not self.under_way, timeout)
            return self._status

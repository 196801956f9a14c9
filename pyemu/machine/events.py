# SPDX-License-Identifier: MIT
"""Events of a machine: STOP, RESUME, RESET, SHUTDOWN, MIGRATION ... with QEMU's names and data."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger("pyemu.machine")
Listener = Callable[["Event"], None]


@dataclass(frozen=True, slots=True)
class Event:
    """One event with the host time at which it happened (seconds since the epoch)."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


class EventSource:
    """Delivers events to listeners in the order they happened. Any thread may emit or listen."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._lock = threading.RLock()

    def add(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def emit(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Calls each listener; one that raises is logged and does not keep the others from hearing."""
        event = Event(name, data or {})
        with self._lock:
            for listener in tuple(self._listeners):
                try:
                    listener(event)
                except Exception:  # noqa: BLE001
                    _log.exception("a listener of event %s failed", name)

# SPDX-License-Identifier: MIT
"""What the guest wrote to a chardev, and conditions on it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

DEFAULT_CAPTURE = 64 << 10


class Condition:
    """Becomes true when a pattern has come by, and stays true.

    It sees every byte, so neither a pattern that arrives in pieces nor one that has left the ring again
    is missed. Calling it says whether the pattern came; :meth:`subscribe` saves the polling.
    """

    def __init__(self, pattern: bytes) -> None:
        self.pattern = bytes(pattern)
        self._tail = b""
        self._found = False
        self._callbacks: list[Callable[[], object]] = []

    def __call__(self) -> bool:
        return self._found

    def subscribe(self, callback: Callable[[], object]) -> None:
        """Calls *callback* once when the pattern comes, on the machine thread; at once if it came already."""
        self._callbacks.append(callback)
        if self._found:
            self._wake()

    def unsubscribe(self, callback: Callable[[], object]) -> None:
        """Forgets *callback*, if it was not called yet."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def _scan(self, data: bytes) -> bool:
        window = self._tail + data
        if self.pattern in window:
            self._found = True
            self._tail = b""
        else:
            keep = len(self.pattern) - 1
            self._tail = window[-keep:] if keep else b""
        return self._found

    def _wake(self) -> None:
        while self._callbacks:
            self._callbacks.pop()()

    def __repr__(self) -> str:
        return f"<Condition {self.pattern!r} {'met' if self._found else 'waiting'}>"


class Capture:
    """A bounded record of bytes: the last *limit* of them, and how many there ever were.

    Written on the machine thread, read on any.
    """

    def __init__(self, limit: int = DEFAULT_CAPTURE) -> None:
        self.limit = limit
        #: Bytes that were ever added.
        self.total = 0
        self._ring = bytearray()
        self._lock = threading.Lock()
        self._watching: tuple[weakref.ref[Condition], ...] = ()

    def add(self, data: bytes) -> None:
        found: list[Condition] = []
        with self._lock:
            self._ring += data
            # Trimmed in large steps, so that single bytes cost no copy of the ring.
            if len(self._ring) > 2 * self.limit:
                del self._ring[: len(self._ring) - self.limit]
            self.total += len(data)
            if self._watching:
                left = []
                for reference in self._watching:
                    condition = reference()
                    if condition is None:
                        continue
                    if condition._scan(data):
                        found.append(condition)
                    else:
                        left.append(reference)
                self._watching = tuple(left)
        for condition in found:
            condition._wake()

    def data(self, since: int = 0) -> bytes:
        """The bytes that are still held, from the *since*-th ever added on."""
        with self._lock:
            return self._data(since)

    def text(self, since: int = 0) -> str:
        """The same as text; bytes that are no UTF-8 show as replacement characters."""
        return self.data(since).decode("utf-8", "replace")

    def contains(self, pattern: bytes, *, since: int = 0) -> Condition:
        """A condition that is true once *pattern* is among the bytes from the *since*-th on.

        Raises:
            ValueError: the pattern is empty.
        """
        if not pattern:
            raise ValueError("an empty pattern is everywhere")
        condition = Condition(pattern)
        with self._lock:
            if not condition._scan(self._data(since)):
                self._watching = (*self._watching, weakref.ref(condition))
        return condition

    def _data(self, since: int) -> bytes:
        held = min(len(self._ring), self.limit, max(0, self.total - since))
        return bytes(self._ring[len(self._ring) - held :])

    def __len__(self) -> int:
        return min(len(self._ring), self.limit)

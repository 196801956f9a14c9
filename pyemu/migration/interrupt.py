# SPDX-License-Identifier: MIT
"""Waiting that another thread can end."""

from __future__ import annotations

import os
import select
import threading
import time
import weakref

from ..errors import MigrationError


class Cancelled(MigrationError):
    """The migration was cancelled."""


class Interrupt:
    """Ends the waiting of all who wait with it, now and from then on.

    Everything in a channel that may take long waits through one: connecting, accepting, a peer that does
    not read, a child that does not end. Whoever cancels sets it from another thread. Interrupts form a
    tree: setting one sets those below it too, so one connection can be ended alone and a migration as a whole.
    """

    def __init__(self, above: Interrupt | None = None) -> None:
        self._reason: MigrationError | None = None
        self._lock = threading.Lock()
        self._below: weakref.WeakSet[Interrupt] = weakref.WeakSet()
        #: Made by the first of those who wait at a time and closed by the last.
        self._fd = -1
        self._waiting = 0
        # Held from below, for those between are known to the ones above only as long as somebody needs them.
        self._above = above
        if above is not None:
            above._add(self)

    def below(self) -> Interrupt:
        """An interrupt that ends with this one, and can end before it."""
        return Interrupt(self)

    def _add(self, other: Interrupt) -> None:
        with self._lock:
            self._below.add(other)
            reason = self._reason
        if reason is not None:
            other.set(reason)

    @property
    def is_set(self) -> bool:
        return self._reason is not None

    def set(self, reason: MigrationError) -> None:
        """Ends all waiting with *reason*, of which the first one counts. Any thread, never blocks."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            below = list(self._below)
            if self._waiting:
                os.eventfd_write(self._fd, 1)
        for other in below:
            other.set(reason)

    def check(self) -> None:
        """Raises the reason, in a copy of its own for each thread, if there is one."""
        if self._reason is not None:
            raise type(self._reason)(str(self._reason), desc=self._reason.desc)

    def wait(self, fd: int, events: int, timeout: float | None = None) -> bool:
        """Waits until *fd* is ready; false when *timeout* seconds have passed.

        Args:
            fd: a descriptor that can be polled.
            events: ``select.POLLIN``, ``select.POLLOUT``.

        Raises:
            MigrationError: this was set.
        """
        return bool(self.wait_any({fd: events}, timeout))

    def wait_any(self, fds: dict[int, int], timeout: float | None = None) -> dict[int, int]:
        """As :meth:`wait` for several descriptors; returns the events of those that are ready."""
        with self._lock:
            self.check()
            if not self._waiting:
                self._fd = os.eventfd(0, os.EFD_CLOEXEC)
            self._waiting += 1
        try:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            for fd, events in fds.items():
                poll.register(fd, events)
            ready = dict(poll.poll(None if timeout is None else max(timeout, 0) * 1000))
            ready.pop(self._fd, None)
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    os.close(self._fd)
        self.check()
        return ready

    def sleep(self, seconds: float) -> None:
        """Sleeps, or raises as soon as this is set."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.wait_any({}, left)
        self.check()

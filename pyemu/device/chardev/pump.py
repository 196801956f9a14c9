# SPDX-License-Identifier: MIT
"""The I/O thread of chardevs that are backed by file descriptors."""

from __future__ import annotations

import logging
import os
import select
import threading
import time

from .base import Chardev
from .capture import DEFAULT_CAPTURE

#: Output that waits for the host; past it the oldest bytes are dropped.
OUTPUT_LIMIT = 1 << 20
#: Seconds that closing waits for a host that does not take pending output.
DRAIN_SECONDS = 1.0
CHUNK = 4096

_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_log = logging.getLogger("pyemu.device")


class FdChardev(Chardev):
    """One thread that waits for the descriptors, so that neither reading nor writing holds up the machine.

    Subclasses set :attr:`_reader` and :attr:`_writer` and call :meth:`_start`.
    """

    def __init__(self, name: str = "", *, capture: int = DEFAULT_CAPTURE) -> None:
        super().__init__(name, capture=capture)
        self._reader: int | None = None
        self._writer: int | None = None
        self._output = bytearray()
        self._in_flight = b""
        self._asleep = False
        self._deadline: float | None = None
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._thread: threading.Thread | None = None

    # -- any thread -------------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._deadline = time.monotonic() + DRAIN_SECONDS
            self._wake()
        if self._thread is None:
            self._finish()
            return
        if threading.current_thread() is not self._thread:
            # A thread that is stuck in a write to a dead terminal is left behind; it is a daemon.
            self._thread.join(DRAIN_SECONDS + 0.5)

    def _send(self, data: bytes) -> None:
        with self._lock:
            if self.closed:
                self.dropped += len(data)
                return
            self._output += data
            over = len(self._output) - OUTPUT_LIMIT
            if over > 0:
                del self._output[:over]
                self.dropped += over
            if self._asleep:
                self._wake()

    def _input_taken(self) -> None:
        with self._lock:
            if self._asleep:
                self._wake()

    def _wake(self) -> None:
        """With the lock held, so that the pipe is not closed, nor its number used by others, meanwhile."""
        self._asleep = False
        if self._wake_out < 0:
            return
        try:
            os.write(self._wake_out, b"\0")
        except BlockingIOError:  # a full pipe wakes the thread as well
            pass

    # -- the I/O thread ---------------------------------------------------------------------------

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"pyemu-chardev-{self.kind}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._done():
                self._turn()
        finally:
            self._finish()

    def _done(self) -> bool:
        with self._lock:
            if not self._in_flight and self._output and self._writer is not None:
                self._in_flight = bytes(self._output[:CHUNK])
                del self._output[:CHUNK]
            if self._deadline is None:
                return False
            return not self._in_flight or self._writer is None or time.monotonic() >= self._deadline

    def _turn(self) -> None:
        interest = dict(self._extra_interest())
        if self._reader is not None and self._room() > 0 and not self.closed:
            interest[self._reader] = interest.get(self._reader, 0) | select.POLLIN
        if self._writer is not None and self._in_flight:
            interest[self._writer] = interest.get(self._writer, 0) | select.POLLOUT
        poller = select.poll()
        poller.register(self._wake_in, select.POLLIN)
        for fd, events in interest.items():
            poller.register(fd, events)
        with self._lock:
            # Whoever adds output or makes room from here on wakes us. What came before is seen now.
            ready_now = (self._output and not self._in_flight and self._writer is not None) or (
                self._reader is not None and self._reader not in interest and self._room() > 0 and not self.closed
            )
            self._asleep = not ready_now
        timeout = 0 if ready_now else None
        if self._deadline is not None:
            timeout = max(0, int((self._deadline - time.monotonic()) * 1000) + 1)
        happenings: dict[int, int] = dict(poller.poll(timeout))
        with self._lock:
            self._asleep = False
        if happenings.pop(self._wake_in, 0):
            try:
                os.read(self._wake_in, 4096)
            except BlockingIOError:  # somebody else's wake-up was taken along with ours
                pass
        for fd, happened in happenings.items():
            if fd == self._reader and interest[fd] & select.POLLIN and happened & _READABLE:
                self._read(fd)
            if fd == self._writer and interest[fd] & select.POLLOUT and self._in_flight:
                self._write(fd)
            if fd not in (self._reader, self._writer):
                self._extra_event(fd)

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, min(CHUNK, max(1, self._room())))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._input_ended(error)
            return
        if not data:
            self._input_ended(None)
            return
        data = self._filter(data)
        if data:
            self._queue_input(data)

    def _write(self, fd: int) -> None:
        try:
            sent = os.write(fd, self._in_flight)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._output_failed(error)
            return
        self._in_flight = self._in_flight[sent:]

    def _finish(self) -> None:
        with self._lock:
            self.dropped += len(self._output) + len(self._in_flight)
            self._output.clear()
            self._in_flight = b""
            self._reader = self._writer = None
        self._release()
        with self._lock:
            os.close(self._wake_in)
            os.close(self._wake_out)
            self._wake_in = self._wake_out = -1

    # -- for subclasses ---------------------------------------------------------------------------

    def _filter(self, data: bytes) -> bytes:
        """What of the input goes to the guest."""
        return data

    def _extra_interest(self) -> dict[int, int]:
        """More descriptors to wait for, with their poll events."""
        return {}

    def _extra_event(self, fd: int) -> None:
        """One of those is ready."""

    def _input_ended(self, error: OSError | None) -> None:
        """The host closed its end (error None) or reading failed: no more input."""
        self._reader = None

    def _output_failed(self, error: OSError) -> None:
        """Writing failed: later output is dropped."""
        _log.warning("%s: cannot write: %s; output is dropped from now on", self.name, error.strerror)
        self._writer = None
        with self._lock:
            self.dropped += len(self._in_flight)
            self._in_flight = b""

    def _release(self) -> None:
        """Closes what the subclass opened. On the I/O thread, or on the caller's if it never ran."""

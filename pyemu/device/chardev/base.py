# SPDX-License-Identifier: MIT
"""What every character backend does: capture output, queue input, hand it over on the machine thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar, Self

from ...errors import PyemuError
from .capture import DEFAULT_CAPTURE, Capture, Condition

#: Input that waits for the guest; a backend reads no more from the host while this much is waiting.
INPUT_LIMIT = 64 << 10

Post = Callable[[Callable[[], None]], Any]


class Chardev:
    """A stream of bytes between a device (the front end) and the host.

    The front end calls :meth:`write`, :meth:`set_receiver` and :meth:`accept_input` on the machine
    thread; none of them blocks. Input from the host is handed to the receiver on the machine thread
    too, by way of the ``post`` that :meth:`attach` was given. What the front end has no room for
    waits here, then at the host.

    Class attributes:
        kind: the first word of its spec.

    Attributes:
        name: for messages.
        spec: the text it was opened from.
        capture: the last bytes the guest wrote.
        dropped: bytes of the guest that were thrown away because the host took too long, or left.
    """

    kind: ClassVar[str] = ""

    def __init__(self, name: str = "", *, capture: int = DEFAULT_CAPTURE) -> None:
        self.name = name or self.kind
        self.spec = self.kind
        self.capture = Capture(capture)
        self.dropped = 0
        self.closed = False
        self._lock = threading.Lock()
        self._input = bytearray()
        self._post: Post | None = None
        self._receive: Callable[[bytes], Any] | None = None
        self._can_receive: Callable[[], int] | None = None
        self._posted = False
        self._delivering = False

    # -- for the front end ------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Takes bytes from the guest, all of them; returns how many there were.

        Past a limit the oldest that the host has not taken yet are dropped and counted.
        """
        data = bytes(data)
        self.capture.add(data)
        self._send(data)
        return len(data)

    def set_receiver(
        self, receive: Callable[[bytes], Any] | None, can_receive: Callable[[], int] | None = None
    ) -> None:
        """Sets who gets input: *receive* is never given more bytes than *can_receive* just allowed.

        None takes the receiver away; input then waits.
        """
        self._receive = receive
        self._can_receive = can_receive
        self._schedule()

    def accept_input(self) -> None:
        """The front end has room again. Input follows later, never from inside this call when attached."""
        self._schedule()

    def contains(self, pattern: bytes, *, since: int = 0) -> Condition:
        """A condition for ``machine.run(until=...)``: *pattern* was written by the guest.

        Args:
            since: look only from this byte of all output on; ``chardev.capture.total`` means from now.
        """
        return self.capture.contains(pattern, since=since)

    @property
    def pending(self) -> int:
        """Bytes of input that the front end has not taken yet."""
        return len(self._input)

    # -- for the machine --------------------------------------------------------------------------

    def attach(self, post: Post | None) -> None:
        """Sets how work gets to the machine thread: ``post(function)``, from any thread, without waiting."""
        self._post = post
        self._schedule()

    def close(self) -> None:
        """Gives host resources back, after a short chance for pending output. May be called twice."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- for subclasses ---------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        """Passes output on to the host without blocking."""

    def _room(self) -> int:
        return INPUT_LIMIT - len(self._input)

    def _input_taken(self) -> None:
        """There is room for input again; machine thread."""

    def _queue_input(self, data: bytes) -> None:
        """Queues input from the host; any thread. No more than :meth:`_room` says."""
        with self._lock:
            self._input += data
        self._schedule()

    # -- delivery ---------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._input:
            return
        with self._lock:
            if self._post is None or self._receive is None or self._posted or self.closed:
                return
            self._posted = True
            post = self._post
        try:
            post(self._deliver)
        except PyemuError:  # the machine was closed first: nobody is left to take input
            self._posted = False

    def _deliver(self) -> None:
        with self._lock:
            self._posted = False
            if self._delivering:
                return
            self._delivering = True
        try:
            while self._receive is not None and self._input and not self.closed:
                room = self._can_receive() if self._can_receive is not None else len(self._input)
                if room <= 0:
                    break
                with self._lock:
                    chunk = bytes(self._input[:room])
                    del self._input[:room]
                self._receive(chunk)
        finally:
            self._delivering = False
            self._input_taken()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

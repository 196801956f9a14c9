# SPDX-License-Identifier: MIT
"""The return path: what a destination tells the source, on the connection that the stream comes on.

A message is a type and a length of 16 bits each, then its data, all big-endian. Without a return path a
source never learns what became of the machine that it sent; with one it is done when the destination
says that everything has been loaded, and lets its own guest run on as soon as it hears otherwise.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

from ..errors import MigrationError
from .channel import InputChannel, OutputChannel
from .framing import StreamReader

SHUT = 1
PONG = 2
SWITCHOVER_ACK = 7

#: Names and data lengths of the messages of a precopy migration.
_MESSAGES = {SHUT: ("SHUT", 4), PONG: ("PONG", 4), SWITCHOVER_ACK: ("SWITCHOVER_ACK", 0)}
#: Seconds to wait for the destination's word after a write to it has failed. The connection is gone by
#: then, so what it sent is here or lost; only a peer that closed half of it can make this time pass.
_LAST_WORD = 1.0


class ReturnPath:
    """The source's end: a thread that listens to the destination.

    Args:
        channel: the way back; closed by :meth:`close`.
        fail: ends the migration with an error, called from the listening thread.
    """

    def __init__(self, channel: InputChannel, fail: Callable[[MigrationError], object]) -> None:
        self._channel = channel
        self._stream = StreamReader(channel)
        self._fail = fail
        self._closed = False
        self._changed = threading.Event()
        self.failure: MigrationError | None = None
        #: The stream's end is on its way, so the destination may say that it has everything.
        self.complete = False
        #: The destination has everything and is about to let its guest run.
        self.done = False
        #: The destination agrees to the switchover (capability ``switchover-ack``).
        self.acknowledged = False
        #: Token of the last PONG.
        self.answered: int | None = None
        self._thread = threading.Thread(target=self._listen, name="migration-return-path", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while not self.done:
                self._message()
        except MigrationError as error:
            self.failure = error
        self._changed.set()
        if self.failure is not None and not self._closed:
            self._fail(self.failure)

    def _message(self) -> None:
        if self._stream.at_end():
            raise MigrationError("the destination closed the connection before it had loaded everything")
        kind = self._stream.u16("the return path")
        length = self._stream.u16("the return path")
        name, expected = _MESSAGES.get(kind, (f"type {kind:#x}", -1))
        if length != expected:
            raise MigrationError(f"return path: message {name} of {length} bytes is not part of a precopy migration")
        data = self._stream.read(length, "the return path")
        if kind == PONG:
            self.answered = int.from_bytes(data, "big")
        elif kind == SWITCHOVER_ACK:
            self.acknowledged = True
        else:
            status = int.from_bytes(data, "big")
            if status:
                raise MigrationError(f"the destination failed to load the machine (return path: status {status})")
            if not self.complete:
                raise MigrationError("return path: the destination is done before it was sent everything")
            self.done = True

    def wake(self) -> None:
        """Ends :meth:`wait`."""
        self._changed.set()

    def wait(self) -> None:
        """Waits until the destination has everything, or has failed, or somebody calls :meth:`wake`."""
        self._changed.wait()

    def reason(self, error: MigrationError, *, wait: bool) -> MigrationError:
        """Why the migration failed when it ended with *error*: the destination's own word, if there is one.

        Args:
            error: of a write, most likely.
            wait: the word may still be on its way.
        """
        if wait:
            self._thread.join(_LAST_WORD)
        return error if self.failure is None else self.failure

    def close(self) -> None:
        """Ends the listening. Never raises."""
        self._closed = True
        self._channel.close()
        self._thread.join()


class Replies:
    """The destination's end.

    Args:
        channel: the way back; it ends with the channel that the stream comes on.
    """

    def __init__(self, channel: OutputChannel) -> None:
        self._channel = channel
        self._shut = False

    def pong(self, token: int) -> None:
        """Answers a PING."""
        self._send(PONG, struct.pack(">I", token))

    def acknowledge_switchover(self) -> None:
        """Nothing here objects to the switchover."""
        self._send(SWITCHOVER_ACK)

    def shut(self, status: int) -> None:
        """Says how the load ended, 0 for well; the last message. Only the first call counts."""
        if not self._shut:
            self._shut = True
            self._send(SHUT, struct.pack(">I", status))

    def _send(self, kind: int, data: bytes = b"") -> None:
        self._channel.write(struct.pack(">HH", kind, len(data)) + data)

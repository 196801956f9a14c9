# SPDX-License-Identifier: MIT
"""Channels that keep their bytes in memory, with further connections."""

from __future__ import annotations

import threading

from pyemu.errors import MigrationError
from pyemu.migration import InputChannel, OutputChannel


class MemoryOutput(OutputChannel):
    """Keeps what is written; :attr:`further` are the connections made besides."""

    multiple = True

    def __init__(self):
        self.data = bytearray()
        self.further = []
        self.aborted = False

    def write(self, data):
        if self.aborted:
            raise MigrationError("the channel was closed")
        self.data += data

    @property
    def position(self):
        return len(self.data)

    def open_more(self):
        self.further.append(MemoryOutput())
        return self.further[-1]

    def commit(self):
        pass

    def abort(self):
        self.aborted = True


class MemoryInput(InputChannel):
    """Reads *data*, and has further connections that read *further*; who waits for one more waits until it is closed."""

    multiple = True

    def __init__(self, data, further=()):
        self.data = memoryview(data)
        self.at = 0
        self.further = [MemoryInput(d) for d in further]
        self.closed = threading.Event()

    def readinto(self, view):
        # Never all at once, as with a socket.
        length = min(len(view), len(self.data) - self.at, 100_000)
        view[:length] = self.data[self.at : self.at + length]
        self.at += length
        return length

    @property
    def position(self):
        return self.at

    def more(self):
        if self.further:
            return self.further.pop(0)
        assert self.closed.wait(30)
        raise MigrationError("the channel was closed")

    def close(self):
        self.closed.set()

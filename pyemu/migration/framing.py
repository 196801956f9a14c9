# SPDX-License-Identifier: MIT
"""Buffered reading and writing of a stream's numbers, strings and section frames."""

from __future__ import annotations

import struct

from . import wire
from .channel import Buffer, InputChannel, OutputChannel
from .faults import load_fault, truncated

_WRITE_BUFFER = 256 << 10
_READ_BUFFER = 1 << 20


class StreamWriter:
    """Writes a stream to a channel.

    Attributes:
        transferred: bytes given to the channel or buffered so far; holes do not count.
    """

    def __init__(self, channel: OutputChannel) -> None:
        self.channel = channel
        self.transferred = 0
        self._buffer = bytearray()

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self.channel.position + len(self._buffer)

    def write(self, data: Buffer) -> None:
        self.transferred += len(data)
        if len(data) >= _WRITE_BUFFER:
            self.flush()
            self.channel.write(data)
            return
        self._buffer += data
        if len(self._buffer) >= _WRITE_BUFFER:
            self.flush()

    def flush(self) -> None:
        """Hands everything buffered to the channel."""
        if self._buffer:
            buffer, self._buffer = self._buffer, bytearray()
            self.channel.write(buffer)

    def seek(self, position: int) -> None:
        """Goes on at another position of a file."""
        self.flush()
        self.channel.seek(position)

    def u8(self, value: int) -> None:
        self.write(bytes((value,)))

    def u16(self, value: int) -> None:
        self.write(struct.pack(">H", value))

    def u32(self, value: int) -> None:
        self.write(struct.pack(">I", value))

    def u64(self, value: int) -> None:
        self.write(struct.pack(">Q", value))

    def counted(self, text: str) -> None:
        """A string of 1 to 255 bytes behind its length."""
        data = text.encode()
        if not 0 < len(data) < 256:
            raise ValueError(f"name {text!r} has {len(data)} bytes, not 1 to 255")
        self.write(bytes((len(data),)) + data)

    def section(self, kind: int, section_id: int, name: str = "", instance_id: int = 0, version: int = 0) -> None:
        """A section's header; START and FULL carry the name."""
        self.write(struct.pack(">BI", kind, section_id))
        if kind in (wire.SECTION_START, wire.SECTION_FULL):
            self.counted(name)
            self.write(struct.pack(">II", instance_id & 0xFFFFFFFF, version))

    def footer(self, section_id: int) -> None:
        self.write(struct.pack(">BI", wire.FOOTER, section_id))

    def command(self, number: int, data: bytes = b"") -> None:
        self.write(struct.pack(">BHH", wire.COMMAND, number, len(data)) + data)


class StreamReader:
    """Reads a stream from a channel; every shortage is a :class:`~pyemu.errors.MigrationError`."""

    def __init__(self, channel: InputChannel) -> None:
        self.channel = channel
        #: Bytes that came from the channel; what a seek left behind does not count.
        self.transferred = 0
        self._buffer = memoryview(bytearray(_READ_BUFFER))
        #: What was read and not yet taken lies between these.
        self._at = self._end = 0

    @property
    def position(self) -> int:
        """Where the next byte comes from."""
        return self.channel.position - (self._end - self._at)

    @property
    def size(self) -> int | None:
        """Position behind the last byte, if known."""
        return self.channel.size

    def _fill(self, length: int) -> bool:
        """Has *length* bytes in the buffer, or says that the stream ends before."""
        have = self._end - self._at
        if have >= length:
            return True
        size = self.channel.size
        if size is not None and self.channel.position + length - have > size:
            return False
        self._buffer[:have] = self._buffer[self._at : self._end]
        self._at, self._end = 0, have
        while self._end < length:
            if self._end == len(self._buffer):
                # Grows as data comes in: a length that a stream claims allocates nothing by itself.
                larger = memoryview(bytearray(2 * len(self._buffer)))
                larger[: self._end] = self._buffer
                self._buffer = larger
            done = self.channel.readinto(self._buffer[self._end :])
            if not done:
                return False
            self._end += done
            self.transferred += done
        return True

    def read(self, length: int, what: str = "a section") -> bytes:
        """Exactly *length* bytes."""
        if length > self._end - self._at and not self._fill(length):
            raise truncated(what)
        data = bytes(self._buffer[self._at : self._at + length])
        self._at += length
        return data

    def peek(self, length: int) -> bytes:
        """Up to *length* bytes without taking them; fewer only at the end of the stream."""
        if not self._fill(length):
            size = self.channel.size
            if size is not None:
                self._fill(max(min(length, size - self.position), 0))
        return bytes(self._buffer[self._at : min(self._at + length, self._end)])

    def read_into(self, view: memoryview, what: str = "a page") -> None:
        """Fills *view*, past the buffer where that saves a copy."""
        have = min(len(view), self._end - self._at)
        view[:have] = self._buffer[self._at : self._at + have]
        self._at += have
        while have < len(view):
            done = self.channel.readinto(view[have:])
            if not done:
                raise truncated(what)
            have += done
            self.transferred += done

    def buffered(self, least: int = 1) -> memoryview:
        """All that can be had at once: *least* bytes or more, fewer only at the end. Does not take it.

        What is returned holds until something else is read.
        """
        if self._end - self._at < least and not self._fill(least):
            self.peek(least)
        return self._buffer[self._at : self._end]

    def skip(self, length: int, what: str = "a page") -> None:
        """Leaves *length* bytes out, by seeking where the channel can."""
        have = self._end - self._at
        if length <= have:
            self._at += length
            return
        if self.channel.seekable:
            self.seek(self.position + length, what)
            return
        while length:
            length -= len(self.read(min(length, _READ_BUFFER), what))

    def seek(self, position: int, what: str = "a page area") -> None:
        """Goes on at another position of a file, at most at its end."""
        size = self.channel.size
        if size is not None and position > size:
            raise truncated(what)
        self.transferred -= self._end - self._at
        self._at = self._end = 0
        self.channel.seek(position)

    def passed(self, length: int) -> None:
        """Leaves *length* bytes of a file out that were read from its descriptor."""
        self.seek(self.position + length)
        self.transferred += length

    def u8(self, what: str = "a section") -> int:
        return self.read(1, what)[0]

    def u16(self, what: str = "a section") -> int:
        return int.from_bytes(self.read(2, what), "big")

    def u32(self, what: str = "a section") -> int:
        return int.from_bytes(self.read(4, what), "big")

    def u64(self, what: str = "a section") -> int:
        return int.from_bytes(self.read(8, what), "big")

    def counted(self, what: str = "a name") -> str:
        """A string behind its length, which must not be 0."""
        length = self.u8(what)
        if not length:
            raise load_fault(f"empty {what}")
        return text_of(self.read(length, what), what)

    def at_end(self) -> bool:
        """Nothing follows."""
        return not self.peek(1)


def text_of(data: bytes, what: str) -> str:
    """Bytes of a name as text.

    Raises:
        MigrationError: they are not UTF-8 or hold what cannot be printed.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise load_fault(f"{what} {data!r} is not text") from None
    if not text.isprintable():
        raise load_fault(f"{what} {text!r} cannot be printed")
    return text

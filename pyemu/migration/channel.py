# SPDX-License-Identifier: MIT
"""What carries the bytes of a migration, and the URIs that say so.

A channel is a plugin: one :class:`ChannelType` a URI scheme. Channels differ in what else they can
do, and say it in attributes, so that layouts and carriers of pages can refuse what would not work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import MigrationError
from .descriptors import Descriptors
from .interrupt import Interrupt

Buffer = bytes | bytearray | memoryview

#: Bytes below which a buffer is copied rather than written by itself, and about as many are put together.
_SMALL = 64 << 10
_TOGETHER = 256 << 10

_NO_MORE = "Migration requires multi-channel URIs (e.g. tcp)"


@dataclass(frozen=True, slots=True)
class ChannelContext:
    """What a channel is opened with.

    Attributes:
        interrupt: whatever may take long waits with it, for the whole life of the channel.
        descriptors: those that were given to the machine, by name and in sets.
        further: connections that the migration makes besides the main one. When there are any, those that
            come in have to be told apart.
    """

    interrupt: Interrupt
    descriptors: Descriptors
    further: int = 0


class OutputChannel(ABC):
    """The writing end of one migration. One thread writes; :meth:`abort` may come from another.

    Attributes:
        seekable: :meth:`seek`, :meth:`fileno` and :meth:`open_again` work.
        multiple: :meth:`open_more` works.
    """

    seekable: bool = False
    multiple: bool = False

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Writes all of *data* or raises :class:`~pyemu.errors.MigrationError`."""

    @property
    @abstractmethod
    def position(self) -> int:
        """Where the next byte goes; in a file, counted from the beginning of the file."""

    def finish(self) -> None:
        """All was written: waits until what carries it has taken it. Ends early when the interrupt is set.

        Raises:
            MigrationError: it did not arrive.
        """

    @abstractmethod
    def commit(self) -> None:
        """Comes after :meth:`finish`: makes what was written durable and visible, and closes."""

    @abstractmethod
    def abort(self) -> None:
        """Closes and leaves nothing behind that looks like a migration. Legal at any time; never raises."""

    def writev(self, buffers: Sequence[Buffer]) -> None:
        """Writes all of *buffers*, one behind the other, as :meth:`write` does.

        By default small ones are put together, for a call costs more than copying them.
        """
        small: list[Buffer] = []
        size = 0
        for buffer in buffers:
            length = memoryview(buffer).nbytes
            if length < _SMALL:
                small.append(buffer)
                size += length
                if size < _TOGETHER:
                    continue
            if small:
                self.write(b"".join(small))
                small, size = [], 0
            if length >= _SMALL:
                self.write(buffer)
        if small:
            self.write(b"".join(small))

    def open_more(self) -> OutputChannel:
        """Makes a further connection to the same destination; waits until it is made.

        Its user commits or aborts it; the end of the main channel ends it as well.
        """
        raise MigrationError(_NO_MORE)

    def reply(self) -> InputChannel | None:
        """The way back from the destination; None where bytes go one way only. Closed with this channel."""
        return None

    def seek(self, position: int) -> None:
        """Moves the place of the next byte."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")

    def fileno(self) -> int:
        """A descriptor for positioned writes; it stays the channel's."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")

    def open_again(self, *, direct: bool = False) -> int:
        """A further descriptor of the same file, the caller's to close; *direct* bypasses the page cache."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")


class InputChannel(ABC):
    """The reading end of one migration; attributes as in :class:`OutputChannel`, :meth:`more` being its mirror."""

    seekable: bool = False
    multiple: bool = False

    @abstractmethod
    def readinto(self, view: memoryview) -> int:
        """Reads at least one byte unless the stream has ended; returns how many."""

    @property
    @abstractmethod
    def position(self) -> int:
        """Where the next byte comes from."""

    @property
    def size(self) -> int | None:
        """Position behind the last byte, if that is known beforehand."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Closes, with all connections that came through :meth:`more`. Legal at any time, from any thread, whose
        reading ends with a :class:`~pyemu.errors.MigrationError`; never raises."""

    def finish(self) -> None:
        """The stream was read to its end and is good.

        Raises:
            MigrationError: what carried it says that it is not: the command that produced it failed.
        """

    def more(self) -> InputChannel:
        """The next further connection that the source makes; waits for it. They come in any order."""
        raise MigrationError(_NO_MORE)

    def reply(self) -> OutputChannel | None:
        """The way back to the source; None where bytes go one way only. Closed with this channel."""
        return None

    def seek(self, position: int) -> None:
        """Moves the place of the next byte."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")

    def fileno(self) -> int:
        """A descriptor for positioned reads; it stays the channel's."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")

    def open_again(self, *, direct: bool = False) -> int:
        """A further descriptor of the same file, the caller's to close; *direct* bypasses the page cache."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")


class Listener(ABC):
    """Waits for a source to connect."""

    @property
    def addresses(self) -> Sequence[Mapping[str, Any]]:
        """Where it listens, as control protocols write it; empty where nobody connects."""
        return ()

    @property
    def uris(self) -> Sequence[str]:
        """The same as URIs that a source can be given."""
        return ()

    @abstractmethod
    def accept(self) -> InputChannel:
        """Waits for the source's main connection. The listener lives until it is closed or that channel is."""

    @abstractmethod
    def close(self) -> None:
        """Stops listening. Legal at any time, from any thread, whose :meth:`accept` ends; never raises."""


class _Opened(Listener):
    """Of channels that are there at once."""

    def __init__(self, channel: InputChannel) -> None:
        self._channel = channel

    def accept(self) -> InputChannel:
        return self._channel

    def close(self) -> None:
        self._channel.close()


class ChannelType(ABC):
    """Makes channels of one URI scheme.

    Attributes:
        seekable: its channels are; known before one is opened, so a migration can be refused early.
        multiple: its channels are.
        one_way: none of its channels has a :meth:`~OutputChannel.reply`; others may have one or not.
        connects: opening an output waits for somebody else, so it is not for the thread that gave the command.
    """

    seekable: bool = False
    multiple: bool = False
    one_way: bool = False
    connects: bool = False

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Reads the part behind ``scheme:``. What it returns is handed to the methods below.

        Raises:
            MigrationError: *text* is malformed.
        """

    def parse_object(self, address: Mapping[str, Any]) -> Any:
        """Reads the address object of a control protocol's channel list.

        Raises:
            MigrationError: a member is missing, unknown or of another type.
        """
        raise MigrationError(f"{type(self).__name__} has no address objects")

    @abstractmethod
    def open_output(self, address: Any, context: ChannelContext) -> OutputChannel:
        """Begins a migration to *address*."""

    def open_input(self, address: Any, context: ChannelContext) -> InputChannel:
        """Receives a migration from *address*, where nobody has to connect."""
        raise MigrationError(f"{type(self).__name__} has no input")

    def listen(self, address: Any, context: ChannelContext) -> Listener:
        """Gets ready to receive a migration at *address*. Does not wait for anybody."""
        return _Opened(self.open_input(address, context))


class PluginSource(Protocol):
    """What migration asks of a plugin host; :class:`~pyemu.plugin.PluginManager` is one."""

    def backends(self) -> dict[str, Any]: ...

    def channels(self) -> dict[str, Any]: ...

    def get(self, kind: str, name: str) -> Any: ...

    def resolve(self, record: Any) -> Any: ...

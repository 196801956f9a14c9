# SPDX-License-Identifier: MIT
"""What carries the bytes of a migration, and the URIs that say so.

A channel is a plugin: one :class:`ChannelType` a URI scheme. Channels differ in what else they can
do, and say it in attributes, so that layouts and carriers of pages can refuse what would not work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

from ..errors import MigrationError, PluginError

Buffer = bytes | bytearray | memoryview


class OutputChannel(ABC):
    """The writing end of one migration.

    Attributes:
        seekable: :meth:`seek`, :meth:`fileno` and :meth:`open_again` work.
        multiple: further connections to the same destination can be made.
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

    @abstractmethod
    def commit(self) -> None:
        """All was written: makes it durable and visible, and closes."""

    @abstractmethod
    def abort(self) -> None:
        """Closes and leaves nothing behind that looks like a migration. Legal at any time; never raises."""

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
    """The reading end of one migration; attributes as in :class:`OutputChannel`."""

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
        """Closes. Legal at any time; never raises."""

    def seek(self, position: int) -> None:
        """Moves the place of the next byte."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")

    def fileno(self) -> int:
        """A descriptor for positioned reads; it stays the channel's."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")

    def open_again(self, *, direct: bool = False) -> int:
        """A further descriptor of the same file, the caller's to close; *direct* bypasses the page cache."""
        raise MigrationError("Migration requires seekable transport (e.g. file)")


class ChannelType(ABC):
    """Makes channels of one URI scheme.

    Attributes:
        seekable: its channels are; known before one is opened, so a migration can be refused early.
        multiple: its channels are.
    """

    seekable: bool = False
    multiple: bool = False

    @abstractmethod
    def check(self, address: str) -> None:
        """Raises :class:`~pyemu.errors.MigrationError` if the part behind ``scheme:`` is malformed."""

    @abstractmethod
    def open_output(self, address: str) -> OutputChannel:
        """Begins a migration to *address*."""

    @abstractmethod
    def open_input(self, address: str) -> InputChannel:
        """Receives a migration from *address*."""


class PluginSource(Protocol):
    """What migration asks of a plugin host; :class:`~pyemu.plugin.PluginManager` is one."""

    def backends(self) -> dict[str, Any]: ...

    def channels(self) -> dict[str, Any]: ...

    def get(self, kind: str, name: str) -> Any: ...

    def resolve(self, record: Any) -> Any: ...


def parse_uri(uri: str, plugins: PluginSource) -> tuple[ChannelType, str]:
    """The channel type of a migration URI and the address behind the scheme.

    Raises:
        MigrationError: no plugin provides the scheme, or the address is malformed.
    """
    scheme, colon, address = uri.partition(":")
    record = next((r for r in plugins.channels().values() if colon and (r.scheme or r.name) == scheme), None)
    if record is None:
        known = ", ".join(sorted(r.scheme or r.name for r in plugins.channels().values())) or "none"
        raise MigrationError(
            f"unknown migration protocol: {uri} (known: {known})", desc=f"unknown migration protocol: {uri}"
        )
    try:
        channel: ChannelType = plugins.resolve(record)()
    except PluginError as error:
        raise MigrationError(str(error)) from error
    channel.check(address)
    return channel, address

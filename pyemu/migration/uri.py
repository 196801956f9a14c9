# SPDX-License-Identifier: MIT
"""The two ways to name where a migration goes: a URI, or a control protocol's list of channels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MigrationError, PluginError
from .channel import ChannelType, PluginSource

#: Where the members of an address object are in the arguments of a command.
_PATH = "channels[0].addr."
_JSON_NAMES = {str: "string", int: "integer", bool: "boolean", list: "array"}


@dataclass(frozen=True, slots=True)
class Destination:
    """A channel type and the address it has read."""

    channel: ChannelType
    address: Any


def find_destination(where: str | Sequence[Any], plugins: PluginSource) -> Destination:
    """Where a URI or a list with one main channel leads.

    Raises:
        MigrationError: no plugin provides the scheme or transport, or the address is malformed.
    """
    if isinstance(where, str):
        _check_text("URI", where)
        scheme, colon, text = where.partition(":")
        channel = _channel_of_scheme(plugins, scheme if colon else "", where)
        return Destination(channel, channel.parse(text))
    address = AddressMembers(_main_address(where))
    kind, transport = "transport", address.text("transport")
    if transport == "socket":
        kind, transport = "type", f"socket:{address.text('type')}"
    records = {_name_of(r, "transport"): r for r in plugins.channels().values()}
    records.pop("", None)
    if transport not in records:
        text = f"Parameter '{kind}' does not accept value '{transport.removeprefix('socket:')}'"
        raise MigrationError(f"{text} (known: {', '.join(sorted(records)) or 'none'})", desc=text)
    channel = _resolved(plugins, records[transport])
    return Destination(channel, channel.parse_object(address.left))


def _channel_of_scheme(plugins: PluginSource, scheme: str, where: str) -> ChannelType:
    records = {_name_of(r, "scheme"): r for r in plugins.channels().values()}
    if scheme not in records:
        text = f"unknown migration protocol: {where}"
        raise MigrationError(f"{text} (known: {', '.join(sorted(records)) or 'none'})", desc=text)
    return _resolved(plugins, records[scheme])


def _resolved(plugins: PluginSource, record: Any) -> ChannelType:
    try:
        channel: ChannelType = plugins.resolve(record)()
    except PluginError as error:
        raise MigrationError(str(error)) from error
    return channel


def _name_of(record: Any, kind: str) -> str:
    return str(record.transport if kind == "transport" else record.scheme or record.name)


def _main_address(channels: Sequence[Any]) -> Mapping[str, Any]:
    main: Mapping[str, Any] | None = None
    for number, entry in enumerate(channels):
        where = f"channels[{number}]"
        if not isinstance(entry, Mapping):
            raise _wrong_type(where, "object", entry)
        for name in ("channel-type", "addr"):
            if name not in entry:
                raise MigrationError(f"Parameter '{where}.{name}' is missing")
        if unknown := sorted(set(entry) - {"channel-type", "addr"}):
            raise MigrationError(f"Parameter '{where}.{unknown[0]}' is unexpected")
        if entry["channel-type"] != "main":
            text = f"Parameter 'channel-type' does not accept value '{entry['channel-type']}'"
            raise MigrationError(f"{text} (known: main)", desc=text)
        if not isinstance(entry["addr"], Mapping):
            raise _wrong_type(f"{where}.addr", "object", entry["addr"])
        if main is not None:
            raise MigrationError("Channel list has more than one main entry")
        main = entry["addr"]
    if main is None:
        raise MigrationError("Channel list has no main entry")
    return main


def _check_text(what: str, text: str) -> None:
    """The system takes neither zero bytes nor characters that have no bytes in its encoding."""
    try:
        if "\0" not in text:
            os.fsencode(text)
            return
    except UnicodeEncodeError:
        pass  # a lone surrogate
    raise MigrationError(f"{what} {text!r} has characters that no name of the system has")


def _wrong_type(where: str, expected: str, value: Any) -> MigrationError:
    text = f"Invalid parameter type for '{where}', expected: {expected}"
    return MigrationError(f"{text}, not {value!r}", desc=text)


class AddressMembers:
    """Takes the members of an address object, each of the type it has to be.

    Raises:
        MigrationError: by all methods; a member is missing, of another type, or nobody asked for it.
    """

    def __init__(self, address: Mapping[str, Any]) -> None:
        #: What has not been taken yet.
        self.left = dict(address)

    def text(self, name: str) -> str:
        value = self._take(name, str)
        _check_text(f"Parameter '{_PATH}{name}'", value)
        return str(value)

    def number(self, name: str, default: int | None = None) -> int:
        if default is not None and name not in self.left:
            return default
        return int(self._take(name, int))

    def flag(self, name: str) -> bool | None:
        return bool(self._take(name, bool)) if name in self.left else None

    def texts(self, name: str) -> list[str]:
        values = self._take(name, list)
        for number, value in enumerate(values):
            if type(value) is not str:
                raise _wrong_type(f"{_PATH}{name}[{number}]", "string", value)
            _check_text(f"Parameter '{_PATH}{name}[{number}]'", value)
        return list(values)

    def end(self) -> None:
        """All has been taken."""
        if self.left:
            raise MigrationError(f"Parameter '{_PATH}{min(self.left)}' is unexpected")

    def _take(self, name: str, kind: type) -> Any:
        if name not in self.left:
            raise MigrationError(f"Parameter '{_PATH}{name}' is missing")
        value = self.left.pop(name)
        if type(value) is not kind:
            raise _wrong_type(_PATH + name, _JSON_NAMES[kind], value)
        return value

# SPDX-License-Identifier: MIT
"""The two ways to name where a migration goes: a URI, or a control protocol's list of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MigrationError, PluginError
from .channel import ChannelType, PluginSource


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
        scheme, colon, text = where.partition(":")
        channel = _channel_of(plugins, "scheme", scheme if colon else "", where)
        return Destination(channel, channel.parse(text))
    address = _main_address(where)
    transport = address.get("transport")
    if transport == "socket":
        transport = f"socket:{address.get('type')}"
    channel = _channel_of(plugins, "transport", str(transport), str(transport))
    told = ("transport", "type") if address["transport"] == "socket" else ("transport",)
    return Destination(channel, channel.parse_object({n: v for n, v in address.items() if n not in told}))


def _channel_of(plugins: PluginSource, kind: str, name: str, where: str) -> ChannelType:
    records = {_name_of(r, kind): r for r in plugins.channels().values()}
    records.pop("", None)
    record = records.get(name)
    if record is None:
        known = ", ".join(sorted(records)) or "none"
        text = f"unknown migration protocol: {where}"
        raise MigrationError(f"{text} (known: {known})", desc=text)
    try:
        channel: ChannelType = plugins.resolve(record)()
    except PluginError as error:
        raise MigrationError(str(error)) from error
    return channel


def _name_of(record: Any, kind: str) -> str:
    return str(record.transport if kind == "transport" else record.scheme or record.name)


def _main_address(channels: Sequence[Any]) -> Mapping[str, Any]:
    main: Mapping[str, Any] | None = None
    for entry in channels:
        if not isinstance(entry, Mapping):
            raise MigrationError(f"Invalid parameter type for 'channels', expected: object, got {entry!r}")
        kind = entry.get("channel-type")
        if kind != "main":
            raise MigrationError(f"Parameter 'channel-type' does not accept value '{kind}' here, only 'main'")
        if main is not None:
            raise MigrationError("Channel list has more than one main entry")
        main = entry
    if main is None:
        raise MigrationError("Channel list has no main entry")
    address = main.get("addr")
    if not isinstance(address, Mapping):
        raise MigrationError(f"Parameter 'addr' of the main channel must be an object, got {address!r}")
    return address


class AddressMembers:
    """Takes the members of an address object, each of the type it has to be.

    Raises:
        MigrationError: by all methods; a member is missing, of another type, or nobody asked for it.
    """

    def __init__(self, address: Mapping[str, Any]) -> None:
        self._left = dict(address)

    def text(self, name: str) -> str:
        value = self._take(name, str)
        if "\0" in value:
            raise MigrationError(f"Parameter '{name}' {value!r} holds a zero byte")
        return str(value)

    def number(self, name: str, default: int | None = None) -> int:
        if default is not None and name not in self._left:
            return default
        return int(self._take(name, int))

    def flag(self, name: str) -> bool | None:
        return bool(self._take(name, bool)) if name in self._left else None

    def texts(self, name: str) -> list[str]:
        values = self._take(name, list)
        if not all(isinstance(v, str) and "\0" not in v for v in values):
            raise MigrationError(f"Parameter '{name}' must be a list of strings, got {values!r}")
        return list(values)

    def end(self) -> None:
        """All has been taken."""
        if self._left:
            raise MigrationError(f"Parameter '{min(self._left)}' is unexpected")

    def _take(self, name: str, kind: type) -> Any:
        if name not in self._left:
            raise MigrationError(f"Parameter '{name}' is missing")
        value = self._left.pop(name)
        if type(value) is not kind:
            known = {str: "string", int: "integer", bool: "boolean", list: "array"}[kind]
            raise MigrationError(f"Invalid parameter type for '{name}', expected: {known}")
        return value

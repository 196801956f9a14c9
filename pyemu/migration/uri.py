# SPDX-License-Identifier: MIT
"""The two ways to name where a migration goes: a URI, or a control protocol's list of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import MigrationError


def address_of(where: str | Sequence[Any]) -> str:
    """A URI, also from a list with one main channel.

    Raises:
        MigrationError: the list is malformed, or its transport has no URI.
    """
    if isinstance(where, str):
        return where
    if len(where) != 1 or not isinstance(where[0], Mapping):
        raise MigrationError(f"Channel list must have one entry, has {len(where)}")
    entry = where[0]
    if entry.get("channel-type") != "main":
        raise MigrationError(f"Channel list has no 'main' channel, but {entry.get('channel-type')!r}")
    address = entry.get("addr")
    if not isinstance(address, Mapping):
        raise MigrationError("channel 'main': 'addr' must be an object")
    transport = address.get("transport")
    if transport == "file":
        name, offset = address.get("filename"), address.get("offset", 0)
        if not isinstance(name, str) or type(offset) is not int or offset < 0:
            raise MigrationError(f"channel 'main': file {name!r} at offset {offset!r} cannot be used")
        return f"file:{name},offset={offset}" if offset or ",offset=" in name else f"file:{name}"
    raise MigrationError(f"unknown migration protocol: {transport}")

# SPDX-License-Identifier: MIT
"""Declared properties: what a user may write after ``-M board,`` or ``--device name,``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ConfigError

Kind = Literal["int", "bool", "str", "size", "choice", "chardev", "drive", "file", "host"]
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)([kKmMgGtT]?)[bB]?\Z")
_SUFFIX = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_BOOL = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


def parse_size(text: str | int) -> int:
    """Bytes from ``64M``, ``0x1000``, ``512``; suffixes k, M, G and T are powers of 1024.

    Raises:
        ValueError: the text is none of these.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f"size {text!r} is not a number with an optional suffix k, M, G or T")
    return int(match[1], 0) << _SUFFIX[match[2].lower()]


@dataclass(frozen=True, slots=True)
class Property:
    """One declared option of a device or board.

    Args:
        name: as the user writes it.
        kind: ``int`` (decimal or 0x), ``bool`` (on/off), ``str``, ``size`` (bytes), ``choice``,
            ``chardev`` (a character backend) or ``drive`` (a block backend); these two take an object or
            the spec of one, e.g. ``file:/tmp/log`` or ``file=disk.img,snapshot=on``; ``file`` (path of a file that
            is read, such as an option ROM: restoring a saved machine that names one needs a trusted writer); ``host``
            (text that names something of the host, such as a file to write: it is never part of a saved machine).
        default: used when the user gives nothing.
        help: one line.
        minimum, maximum: inclusive limits of an ``int`` or ``size``.
        choices: the accepted values of a ``choice``.
    """

    name: str
    kind: Kind
    default: Any = None
    help: str = ""
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def attribute(self) -> str:
        """The attribute of the device that holds the value."""
        return self.name.replace("-", "_")

    def parse(self, owner: str, value: Any) -> Any:
        """The value as the device sees it; the spec of a backend is opened.

        Raises:
            ConfigError: names *owner*, the property, the value and what is accepted.
        """

        def bad(wanted: str) -> ConfigError:
            return ConfigError(f"{owner}: property {self.name}={value!r} is not {wanted}")

        if value is None:
            return None
        if self.kind in ("int", "size"):
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                raise bad("a number")
            try:
                number = int(value, 0) if isinstance(value, str) and self.kind == "int" else parse_size(value)
            except ValueError:
                raise bad("a number") from None
            low = self.minimum if self.minimum is not None else number
            high = self.maximum if self.maximum is not None else number
            if not low <= number <= high:
                raise bad(f"between {self.minimum} and {self.maximum}")
            return number
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            if str(value).lower() not in _BOOL:
                raise bad("on or off")
            return _BOOL[str(value).lower()]
        if self.kind == "choice":
            if str(value) not in self.choices:
                raise bad(f"one of {', '.join(self.choices)}")
            return str(value)
        if self.kind in _OPENERS:
            opener, method = _OPENERS[self.kind]
            if isinstance(value, str):
                return opener(owner, value)
            if not hasattr(value, method):
                raise bad(f"a {self.kind} or the spec of one")
            return value
        return str(value)


def parse_properties(
    owner: str, declared: Sequence[Property], given: Mapping[str, Any], opened: list[Any] | None = None
) -> dict[str, Any]:
    """All declared properties with the user's values or the defaults.

    Backends that are given as specs are opened last, and closed again should one of them fail.

    Args:
        owner: for messages.
        declared: what there is.
        given: what the user wrote; ``_`` stands for ``-`` too.
        opened: gets the backends that were opened here; closing them is the caller's matter.

    Raises:
        ConfigError: a name is not declared (the message lists those that are) or a value does not fit.
    """
    known = {p.name: p for p in declared}
    values = {p.name: p.default for p in declared}
    for name, value in given.items():
        key = name if name in known else name.replace("_", "-")
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"{owner}: unknown property {name}={value!r}; it has: {names}")
        values[key] = value
    backends = [p for p in declared if p.kind in _OPENERS and isinstance(values[p.name], str)]
    for prop in declared:
        if prop not in backends:
            values[prop.name] = prop.parse(owner, values[prop.name])
    fresh: list[Any] = []
    try:
        for prop in backends:
            values[prop.name] = prop.parse(owner, values[prop.name])
            fresh.append(values[prop.name])
    except BaseException:
        for backend in fresh:
            backend.close()
        raise
    if opened is not None:
        opened += fresh
    return values


def portable_options(declared: Sequence[Property], given: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options of a device may stand in a saved machine, and may be believed when read from one.

    Chardevs and what is named by properties of kind ``host`` are the host's: they are given anew, and a file
    must not name what to open or overwrite.
    Drives are named by their specs.
    """
    kinds = {name: p.kind for p in declared for name in (p.name, p.attribute)}
    return {
        name: value.spec if kinds.get(name) == "drive" and not isinstance(value, str) else value
        for name, value in given.items()
        if kinds.get(name) not in ("chardev", "host")
    }


def _open_chardev(owner: str, spec: str) -> Any:
    # Here and below: listing plugins reads this module, and should not load what only machines need.
    from .chardev import open_chardev

    return open_chardev(spec, owner)


def _open_drive(owner: str, spec: str) -> Any:
    from .block import open_drive

    return open_drive(spec)


# What opens a spec, and a method that tells a backend from anything else.
_OPENERS: dict[str, tuple[Callable[[str, str], Any], str]] = {
    "chardev": (_open_chardev, "set_receiver"),
    "drive": (_open_drive, "read"),
}

# SPDX-License-Identifier: MIT
"""Comma-separated option strings, as in ``file=disk.img,if=ide``."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import ConfigError


def split_commas(text: str) -> list[str]:
    """The parts of *text* between single commas; a doubled comma stands for one inside a part."""
    parts = [""]
    i = 0
    while i < len(text):
        if text[i] != ",":
            parts[-1] += text[i]
        elif text[i + 1 : i + 2] == ",":
            parts[-1] += ","
            i += 1
        else:
            parts.append("")
        i += 1
    return parts


def parse_options(owner: str, parts: Collection[str], known: Collection[str]) -> dict[str, str]:
    """``key=value`` parts as a dictionary; a bare ``key`` means ``key=on``.

    Raises:
        ConfigError: a key is unknown (the message lists those there are), given twice or empty.
    """
    options: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if key not in known:
            raise ConfigError(f"{owner}: unknown option {part!r}; it has: {', '.join(sorted(known)) or 'none'}")
        if key in options:
            raise ConfigError(f"{owner}: option {key} is given twice: {options[key]!r} and {value!r}")
        options[key] = value if equals else "on"
    return options


def parse_switch(owner: str, key: str, value: str) -> bool:
    """``on`` or ``off``.

    Raises:
        ConfigError: it is neither.
    """
    if value not in ("on", "off"):
        raise ConfigError(f"{owner}: option {key}={value!r} is not on or off")
    return value == "on"


def escape_commas(text: str) -> str:
    """*text* as it stands in an option string."""
    return text.replace(",", ",,")

# SPDX-License-Identifier: MIT
"""The ``name,key=value,...`` notation of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ..device.properties import parse_size


def split_commas(text: str) -> list[str]:
    """The parts between single commas; ``,,`` stands for one comma inside a part."""
    parts = [""]
    position = 0
    while position < len(text):
        if text.startswith(",,", position):
            parts[-1] += ","
            position += 2
        elif text[position] == ",":
            parts.append("")
            position += 1
        else:
            parts[-1] += text[position]
            position += 1
    return parts


def key_values(parts: Iterable[str], of: str) -> dict[str, str]:
    """A dict from ``key=value`` parts.

    Raises:
        argparse.ArgumentTypeError: a part has no ``=``, or a key is given twice.
    """
    values: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise argparse.ArgumentTypeError(f"{of}: {part!r} is not key=value")
        if key in values:
            raise argparse.ArgumentTypeError(f"{of}: {key} is given twice")
        values[key] = value
    return values


def named(text: str) -> tuple[str, dict[str, str]]:
    """``name,key=value,...``; ``name,help`` gives ``{"help": ""}``."""
    name, *rest = split_commas(text)
    if not name or "=" in name:
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with a name")
    if rest in (["help"], ["?"]):
        return name, {"help": ""}
    return name, key_values(rest, name)


def size(text: str) -> int:
    """Bytes; a plain number is MiB, as ``-m`` has it everywhere."""
    try:
        return parse_size(text + "M" if text.isdigit() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def number(text: str) -> int:
    """A decimal or 0x number."""
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def loader(text: str) -> tuple[str, int]:
    """``file=F,addr=N`` as (file, address)."""
    values = key_values(split_commas(text), "--loader")
    if set(values) != {"file", "addr"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not file=F,addr=N")
    return values["file"], number(values["addr"])


def settings(text: str) -> dict[str, str]:
    """``K=V,K=V`` as a dict."""
    return key_values(split_commas(text), "--migration")

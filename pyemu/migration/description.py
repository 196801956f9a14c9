# SPDX-License-Identifier: MIT
"""The JSON text at the end of a stream.

QEMU's loader skips it. Ours carries one more key, ``pyemu``: what is needed to build the machine again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from typing import Any

from . import wire
from .channel import InputChannel
from .channels import open_file
from .configuration import Configuration, read_configuration
from .faults import load_fault, truncated
from .framing import StreamReader, StreamWriter
from .sections import EncodedSection

#: The key of ours, and what is in it beside the host's description.
OWN_KEY = "pyemu"
MIGRATION_KEY = "migration"
#: In there: what the file holds for absent pages.
ABSENT_KEY = "absent-pages"
ABSENT_ZERO = "zero"

#: How much of a file's end is looked at first; each further look is for twice as much.
_STEP = 64 << 10


def write_description(
    stream: StreamWriter,
    configuration: Configuration,
    sections: Sequence[EncodedSection],
    machine: dict[str, Any],
    migration: dict[str, Any],
) -> None:
    """Writes end byte and description."""
    document = {
        "configuration": configuration.describe(),
        "page_size": wire.PAGE_SIZE,
        "devices": [section.description for section in sections],
        OWN_KEY: {**machine, MIGRATION_KEY: migration},
    }
    text = json.dumps(document).encode()
    if len(text) > wire.MAX_DESCRIPTION:
        raise ValueError(f"description of {len(text)} bytes is over the limit of {wire.MAX_DESCRIPTION}")
    stream.u8(wire.END_OF_STREAM)
    stream.u8(wire.DESCRIPTION)
    stream.u32(len(text))
    stream.write(text)


def parse_description(text: bytes) -> dict[str, Any]:
    """The description as a dictionary.

    Raises:
        MigrationError: it is no JSON object.
    """
    try:
        document = json.loads(text)
    # Deep nesting exhausts the parser's recursion; that is a property of the input, too.
    except (ValueError, RecursionError) as error:
        raise load_fault(f"the description is no JSON text: {error}") from error
    if not isinstance(document, dict):
        raise load_fault(f"the description is a JSON {type(document).__name__}, not an object")
    return document


def read_tail(stream: StreamReader) -> dict[str, Any] | None:
    """Reads the description behind the end byte; None where a writer left it out."""
    head = stream.peek(5)
    if not head or head[0] != wire.DESCRIPTION:
        return None
    if len(head) < 5:
        raise truncated("the description")
    length = int.from_bytes(head[1:], "big")
    if length > wire.MAX_DESCRIPTION:
        raise load_fault(f"description of {length} bytes is over the limit of {wire.MAX_DESCRIPTION}")
    stream.read(5)
    return parse_description(stream.read(length, "the description"))


def find_description(channel: InputChannel) -> dict[str, Any] | None:
    """Looks for the description from the end of a file; None if there is none.

    Sections store no lengths, so this is the way to it that needs no machine. The one that is found is
    the right one: the text ends where the file ends, and JSON text holds no NUL byte, so no other
    candidate can begin inside of it.
    """
    end = channel.size
    if end is None:
        raise load_fault("this channel has no end to look for a description from")
    lowest = max(channel.position, end - wire.MAX_DESCRIPTION - 6)
    tail = b""
    start, most = end, _STEP
    while start > lowest:
        step = min(most, start - lowest)
        start -= step
        most *= 2
        # One byte of overlap would do for the mark; the length behind it needs the rest of the head.
        piece = _read_at(channel, start, step)
        tail = piece + tail
        at = tail.rfind(b"\0\x06", 0, step + 6)
        while at >= 0:
            begin = at + 6
            length = int.from_bytes(tail[at + 2 : begin], "big")
            if length and begin + length == len(tail):
                return parse_description(tail[begin:])
            at = tail.rfind(b"\0\x06", 0, at + 1)
    return None


def absent_is_zero(document: dict[str, Any] | None) -> bool:
    """The writer said that the file holds zeros, holes mostly, for the pages that are not in it."""
    found: Any = document
    for key in (OWN_KEY, MIGRATION_KEY, ABSENT_KEY):
        found = found.get(key) if isinstance(found, dict) else None
    return bool(found == ABSENT_ZERO)


def _read_at(channel: InputChannel, position: int, length: int) -> bytes:
    channel.seek(position)
    data = bytearray(length)
    view = memoryview(data)
    while view:
        done = channel.readinto(view)
        if not done:
            raise truncated("the file, which has shrunk")
        view = view[done:]
    return bytes(data)


def read_header(path: str | os.PathLike[str], offset: int = 0) -> Configuration:
    """The head of a saved machine: machine type, capabilities, UUID.

    Raises:
        MigrationError: *path* cannot be read or is no migration stream.
    """
    with open_file(path, offset) as channel:
        return read_configuration(StreamReader(channel))


def read_description(path: str | os.PathLike[str], offset: int = 0) -> dict[str, Any] | None:
    """What a saved machine says about the machine to build: board, options, memory, devices, drives.

    Returns:
        None for a file of another program, QEMU above all.

    Raises:
        MigrationError: *path* cannot be read, is no migration stream, or ends too early.
    """
    with open_file(path, offset) as channel:
        read_configuration(StreamReader(channel))
        channel.seek(offset)
        document = find_description(channel)
    if document is None:
        why = "the file is truncated or was written without one"
        if stat.S_ISBLK(os.stat(path).st_mode):
            why = "on a block device it stands where the stream ends; build the machine, and load it with --incoming"
        raise load_fault(f"{os.fspath(path)}: no description at the end; {why}", 5)
    own = document.get(OWN_KEY)
    if own is not None and not isinstance(own, dict):
        raise load_fault(f"{os.fspath(path)}: the description's key '{OWN_KEY}' is no object")
    return own

# SPDX-License-Identifier: MIT
"""Screen and keyboard over QMP."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.display import FORMATS
from ..device.keys import KEYS
from ..errors import ControlError

if TYPE_CHECKING:
    from ..device import Display
    from ..machine import Machine


def find(machine: Machine, device: str | None, command: str) -> Display:
    """The display device of that id, the first one for None.

    Raises:
        ControlError: there is none.
    """
    displays = machine.displays
    if device is not None:
        if device not in machine.devices:
            raise ControlError(f"Device '{device}' not found", error_class="DeviceNotFound")
        displays = [display for display in displays if getattr(display, "id", None) == device]
        if not displays:
            raise ControlError(f"{command}: device {device} has no screen")
    if not displays:
        raise ControlError("There is no console to take a screendump from")
    return displays[0]


def dump(machine: Machine, path: Path, kind: str, device: str | None, head: int) -> None:
    """Writes the picture as *path*, which appears whole or not at all.

    Raises:
        ControlError: no such format, device or head, or the file cannot be written.
    """
    if kind not in FORMATS:
        raise ControlError(f"screendump: format {kind!r} is not one of {', '.join(FORMATS)}")
    display = find(machine, device, "screendump")
    if head:
        raise ControlError(f"screendump: head {head} does not exist, the screen is head 0")
    write_whole(path, FORMATS[kind](machine.call(display.picture)))


def write_whole(path: Path, data: bytes) -> None:
    """Replaces the file *path* in one step.

    Raises:
        ControlError: the system refuses; the old file is as it was.
    """
    temporary = None
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(fd, "wb") as out:
            out.write(data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise ControlError(f"{path}: {error.strerror}") from None


def text(machine: Machine, device: str | None) -> dict[str, Any]:
    """The characters on the screen and where the cursor is."""
    shown = machine.call(find(machine, device, "query-screen-text").text)
    if shown is None:
        return {"mode": "graphics-or-off"}
    cursor = {} if shown.cursor is None else {"cursor": {"row": shown.cursor[0], "column": shown.cursor[1]}}
    return {"mode": "text", "columns": shown.columns, "lines": list(shown.lines), **cursor}


def send_key(machine: Machine, keys: list[Any]) -> None:
    """Types a chord of keys, each ``{"type": "qcode", "data": NAME}``.

    Raises:
        ControlError: an unknown key, no keyboard, or a keyboard that takes none now.
    """
    names = [key.get("data") if isinstance(key, dict) and key.get("type") == "qcode" else None for key in keys]
    unknown = [key for key, name in zip(keys, names, strict=True) if not isinstance(name, str) or name not in KEYS]
    if unknown or not keys:
        raise ControlError(f"send-key: {unknown[0] if unknown else 'an empty list'} is no key of the form qcode NAME")
    if not machine.keyboards:
        raise ControlError("send-key: the machine has no keyboard")
    keyboard = machine.keyboards[0]
    if not machine.call(lambda: keyboard.press_keys([name for name in names if name is not None])):
        raise ControlError("send-key: the keyboard is switched off, or its queue has no room for so many keys")

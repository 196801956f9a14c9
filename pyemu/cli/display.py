# SPDX-License-Identifier: MIT
"""``pyemu run --display``: the machine's screen in the terminal, or kept as a picture in a file."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..control.screen import write_whole
from ..device.keys import keys_for
from ..errors import ConfigError, PyemuError

if TYPE_CHECKING:
    from ..device import Display, Text
    from ..machine import Machine

#: Seconds between two looks at the screen.
TERMINAL_INTERVAL, PICTURE_INTERVAL = 0.05, 0.5
#: What ends the program from the keyboard: Ctrl-], as in telnet; everything else is the guest's.
QUIT = b"\x1d"

_SEQUENCES = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end",
    "1~": "home", "2~": "insert", "3~": "delete", "4~": "end", "5~": "pgup", "6~": "pgdn", "7~": "home", "8~": "end",
    "11~": "f1", "12~": "f2", "13~": "f3", "14~": "f4", "15~": "f5", "17~": "f6", "18~": "f7", "19~": "f8", "20~": "f9",
    "21~": "f10", "23~": "f11", "24~": "f12",
}  # fmt: skip
_SS3 = {"P": "f1", "Q": "f2", "R": "f3", "S": "f4", "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}


def parse(text: str) -> tuple[str, Path | None]:
    """``terminal``, ``none`` or ``png:FILE`` as (kind, file).

    Raises:
        ConfigError: it is none of these.
    """
    kind, _, name = text.partition(":")
    if kind in ("terminal", "none") and not name:
        return kind, None
    if kind == "png" and name:
        return kind, Path(name)
    raise ConfigError(f"display {text!r} is not terminal, png:FILE or none")


@contextlib.contextmanager
def shown(machine: Machine, text: str, keyboard: bool) -> Iterator[None]:
    """Shows the machine's first screen while the context lasts.

    Args:
        machine: the machine.
        text: see :func:`parse`.
        keyboard: whether keys of the terminal go to the guest.

    Raises:
        ConfigError: the board has no screen, or there is no terminal.
        ControlError: the picture cannot be written.
    """
    kind, path = parse(text)
    if kind == "none":
        yield
        return
    if not machine.displays:
        raise ConfigError(f"display {text}: board {machine.board} has no screen")
    view: PNGFile | Terminal
    if path is not None:
        view = PNGFile(machine, machine.displays[0], path)
    else:
        view = Terminal(machine, machine.displays[0], keyboard)
    thread = threading.Thread(target=view.run, name="pyemu-display", daemon=True)
    with view:
        thread.start()
        try:
            yield
        finally:
            view.ended.set()
            thread.join()


class PNGFile:
    """Keeps a file equal to the screen, and leaves the last picture behind."""

    def __init__(self, machine: Machine, display: Display, path: Path) -> None:
        self.ended = threading.Event()
        self._machine = machine
        self._display = display
        self._path = path
        self._seen = -1

    def __enter__(self) -> None:
        self._write()  # what is wrong with the file shows now

    def __exit__(self, *exc: object) -> None:
        self._write()

    def run(self) -> None:
        while not self.ended.wait(PICTURE_INTERVAL):
            try:
                self._write()
            except PyemuError:
                # A full disk, or a machine that is being closed: the picture at the end says so if it lasts.
                continue

    def _write(self) -> None:
        changes = self._display.changes
        if changes != self._seen:
            write_whole(self._path, self._machine.call(self._display.picture).png())
            self._seen = changes


class Terminal:
    """Draws the text screen with ANSI sequences, and types what the user types."""

    def __init__(self, machine: Machine, display: Display, keyboard: bool) -> None:
        if not sys.stdout.isatty() or (keyboard and not sys.stdin.isatty()):
            raise ConfigError("display terminal: standard input and output are not a terminal")
        self.ended = threading.Event()
        self._machine = machine
        self._display = display
        self._keys: deque[tuple[str, ...]] = deque()
        self._keyboard = machine.keyboards[0] if keyboard and machine.keyboards else None
        self._saved: list[Any] | None = None
        self._drawn: list[str] = []
        self._size: os.terminal_size | None = None
        self._seen = -1

    def __enter__(self) -> None:
        if self._keyboard is not None:
            self._saved = termios.tcgetattr(sys.stdin)
            tty.setraw(sys.stdin)
        self._put("\x1b[?1049h\x1b[?25l\x1b[2J")

    def __exit__(self, *exc: object) -> None:
        self._put("\x1b[0m\x1b[?25h\x1b[?1049l")
        if self._saved is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)

    def _put(self, text: str) -> None:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]

    def run(self) -> None:
        while not self.ended.is_set():
            self._read_keys()
            try:
                self._type()
                self._draw()
            except PyemuError:
                return  # the machine is being closed

    # -- keys -------------------------------------------------------------------------------------

    def _read_keys(self) -> None:
        interval = TERMINAL_INTERVAL / 5 if self._keys else TERMINAL_INTERVAL
        if self._keyboard is None:
            self.ended.wait(interval)
            return
        if select.select([sys.stdin], [], [], interval)[0]:
            data = os.read(sys.stdin.fileno(), 4096)
            if QUIT in data or not data:
                self._machine.request_shutdown("host-ui", guest=False)
                self.ended.set()
            self._keys.extend(decode(data.decode("utf-8", "replace")))

    def _type(self) -> None:
        """Hands over one chord, once the guest has taken what there was: its keyboard's queue is short."""
        keyboard = self._keyboard
        if keyboard is None or not self._keys:
            return

        def press() -> bool:
            takes = keyboard.takes_keys()
            if takes:
                keyboard.press_keys(self._keys[0])
            return takes is not False  # what is typed into a keyboard that is off is lost, as on a real one

        if self._machine.call(press):
            self._keys.popleft()

    # -- picture ----------------------------------------------------------------------------------

    def _draw(self) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        if self._display.changes == self._seen and size == self._size:
            return
        self._seen = self._display.changes
        text = self._machine.call(self._display.text)
        rows = render(text, size.columns, size.lines) if text is not None else ["(no text on the screen)"]
        if size != self._size:
            self._put("\x1b[0m\x1b[2J")
            self._drawn, self._size = [], size
        out = [
            f"\x1b[{n};1H{row}\x1b[0m\x1b[K"
            for n, row in enumerate(rows, 1)
            if n > len(self._drawn) or self._drawn[n - 1] != row
        ]
        if len(rows) < len(self._drawn):
            out.append(f"\x1b[{len(rows) + 1};1H\x1b[J")
        where = text.cursor if text is not None else None
        if where is not None and where[0] < size.lines and where[1] < size.columns:
            out.append(f"\x1b[{where[0] + 1};{where[1] + 1}H\x1b[?25h")
        else:
            out.append("\x1b[?25l")
        self._put("".join(out))
        self._drawn = rows


def decode(text: str) -> list[tuple[str, ...]]:
    """The chords that a terminal's input stands for; what a PC keyboard cannot type is left out."""
    chords = []
    at = 0
    while at < len(text):
        names: tuple[str, ...] = ()
        length = 1
        if text[at] == "\x1b" and text[at + 1 : at + 2] in ("[", "O"):
            end = at + 2
            if text[at + 1] == "[":
                while end < len(text) and not "@" <= text[end] <= "~":
                    end += 1
            code = text[at + 2 : end + 1]
            name = (_SEQUENCES if text[at + 1] == "[" else _SS3).get(code)
            names, length = (name,) if name is not None else (), end + 1 - at
        elif text[at] == "\x1b" and at + 1 < len(text) and keys_for(text[at + 1]):
            names, length = ("alt", *keys_for(text[at + 1])), 2
        else:
            names = keys_for(text[at])
        if names:
            chords.append(names)
        at += length
    return chords


def render(text: Text, columns: int, lines: int) -> list[str]:
    """The rows of a text screen as strings with 24-bit colour sequences, cut to the terminal's size."""
    rows = []
    for n, line in enumerate(text.lines[:lines]):
        attributes = text.attributes[n * text.columns :]
        parts = []
        before = -1
        for character, attribute in zip(line[:columns], attributes, strict=False):
            if attribute != before:
                front, back = (";".join(map(str, text.colours[c])) for c in (attribute & 15, attribute >> 4))
                parts.append(f"\x1b[38;2;{front};48;2;{back}m")
                before = attribute
            parts.append(character)
        rows.append("".join(parts))
    return rows

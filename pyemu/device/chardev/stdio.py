# SPDX-License-Identifier: MIT
"""The chardev on the process's own terminal."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ...errors import ConfigError
from .capture import DEFAULT_CAPTURE
from .pump import FdChardev

ESCAPE = 0x01  # Ctrl-A
HELP = b"\r\nCtrl-A x  quit    Ctrl-A c  send Ctrl-C    Ctrl-A Ctrl-A  send Ctrl-A    Ctrl-A h  this help\r\n"
_DISABLED = b"\0"
#: Guests hide the cursor and leave colours on: normal text, cursor shown.
_SANE_SCREEN = b"\x1b[0m\x1b[?25h"
_FATAL = (signal.SIGTERM, signal.SIGHUP)

# The terminal belongs to the process, so only one machine of the process can have it.
_in_use = threading.Lock()


class StdioChardev(FdChardev):
    """``stdio[,signal=off]``: standard input and output.

    On a terminal, keys go to the guest one by one and unechoed, except Ctrl-A, which begins a command,
    and Ctrl-C, which interrupts the program (unless ``signal=off``; Ctrl-A c sends one to the guest in any
    case). The terminal's settings come back when the chardev is closed, when the process exits, and when
    SIGTERM or SIGHUP kills it.

    Args:
        signals: whether Ctrl-C interrupts the program.
        reader, writer: the descriptors.

    Attributes:
        on_quit: called on the I/O thread after Ctrl-A x; by default the process gets SIGINT.

    Raises:
        ConfigError: another chardev has the terminal.
    """

    kind = "stdio"

    def __init__(
        self,
        *,
        signals: bool = True,
        name: str = "",
        capture: int = DEFAULT_CAPTURE,
        reader: int = 0,
        writer: int = 1,
    ) -> None:
        if not _in_use.acquire(blocking=False):
            raise ConfigError("chardev stdio: another chardev of this process has the terminal")
        try:
            super().__init__(name, capture=capture)
            self.on_quit: Callable[[], Any] = _interrupt
            self._escaped = False
            self._input_fd = reader
            self._saved: list[Any] | None = None
            self._handlers: dict[signal.Signals, Any] = {}
            self._make_raw(signals)
        except BaseException:
            _in_use.release()
            raise
        self._reader, self._writer = reader, writer
        self._output_fd = writer
        self._start()

    def close(self) -> None:
        first = not self.closed
        super().close()
        if first:
            self._restore()
            self._restore_handlers()
            atexit.unregister(self._restore)
            _in_use.release()

    # -- the terminal -----------------------------------------------------------------------------

    def _make_raw(self, signals: bool) -> None:
        if not os.isatty(self._input_fd):
            return
        saved = termios.tcgetattr(self._input_fd)
        raw = termios.tcgetattr(self._input_fd)
        raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON)
        # Output processing stays on: other parts of the program print to the same terminal.
        raw[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        if not signals:
            raw[3] &= ~termios.ISIG
        characters = raw[6]
        # Only Ctrl-C keeps its meaning: stopped by Ctrl-Z, the shell would be left with a raw terminal.
        for key in (termios.VQUIT, termios.VSUSP):
            characters[key] = _DISABLED
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        self._saved = saved
        atexit.register(self._restore)
        termios.tcsetattr(self._input_fd, termios.TCSANOW, raw)
        # Handlers of the program come first; only where a signal would just kill us do we step in.
        if threading.current_thread() is threading.main_thread():
            for number in _FATAL:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, self._killed)

    def _restore(self) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            return
        try:
            # Not after draining: output that the terminal holds back must not keep us here.
            termios.tcsetattr(self._input_fd, termios.TCSANOW, saved)
            if os.isatty(self._output_fd):
                os.write(self._output_fd, _SANE_SCREEN)
        except (termios.error, OSError):  # the terminal is gone, and its settings with it
            pass

    def _restore_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._handlers.items():
            if signal.getsignal(number) == self._killed:
                signal.signal(number, before)
        self._handlers.clear()

    def _killed(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    # -- the escape key ---------------------------------------------------------------------------

    def _filter(self, data: bytes) -> bytes:
        if self._saved is None:  # a pipe or a file: every byte is the guest's
            return data
        passed = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                passed += self._command(byte)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                passed.append(byte)
        return bytes(passed)

    def _command(self, byte: int) -> bytes:
        key = bytes((byte,)).lower()
        if key == b"x":
            self.on_quit()
        elif key == b"h":
            self._send(HELP)
        elif key == b"c":
            return b"\x03"
        elif byte == ESCAPE:
            return bytes((ESCAPE,))
        return b""


def _interrupt() -> None:
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGINT)

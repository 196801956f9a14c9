# SPDX-License-Identifier: MIT
"""The channel ``exec``: a command that takes the stream from us, or produces it.

A stream that a command has carried is good only if the command says so with its exit status.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import MigrationError
from .channel import Buffer, ChannelContext, ChannelType, InputChannel, OutputChannel
from .connection import PipeConnection, StreamInput, StreamOutput
from .faults import load_fault
from .given import widen
from .interrupt import Interrupt
from .uri import AddressMembers

#: Seconds that a command has to end after it was asked to, before it is killed.
GRACE = 1.0


class ExecChannel(ChannelType):
    """``exec:COMMAND``, run by the shell; a channel list gives the words of a command that is run directly."""

    one_way = True

    def parse(self, text: str) -> tuple[str, ...]:
        if not text.strip() or "\0" in text:
            raise MigrationError(f"exec: {text!r} is no command")
        return ("/bin/sh", "-c", text)

    def parse_object(self, address: Mapping[str, Any]) -> tuple[str, ...]:
        members = AddressMembers(address)
        words = tuple(members.texts("args"))
        members.end()
        if not words or not words[0]:
            raise MigrationError("exec: 'args' must begin with a program")
        return words

    def open_output(self, address: tuple[str, ...], context: ChannelContext) -> OutputChannel:
        return ExecOutput(address, context.interrupt)

    def open_input(self, address: tuple[str, ...], context: ChannelContext) -> InputChannel:
        return ExecInput(address, context.interrupt)


class Command:
    """A running command, in a process group of its own so that all of a pipeline can be ended."""

    def __init__(self, words: Sequence[str], interrupt: Interrupt, *, takes: bool) -> None:
        self.name = words[2] if words[:2] == ("/bin/sh", "-c") else shlex.join(words)
        self._interrupt = interrupt
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                words, bufsize=0, process_group=0, stdin=pipe if takes else null, stdout=null if takes else pipe
            )
        except OSError as error:
            raise MigrationError(
                f"exec: cannot run '{self.name}': {error.strerror}",
                desc=f"Failed to execute child process \u201c{words[0]}\u201d ({error.strerror})",
            ) from error
        ours = self._process.stdin or self._process.stdout
        assert ours is not None
        widen(ours.fileno())
        self.connection = PipeConnection(os.dup(ours.fileno()), interrupt)
        ours.close()
        try:
            # Nobody has waited for the process yet, so the number is certainly its.
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as error:
            self._pidfd = -1
            self._process.kill()
            self._process.wait()
            self.connection.close()
            raise MigrationError(f"exec: cannot watch '{self.name}': {error.strerror}") from error

    def wait(self, timeout: float | None = None) -> str | None:
        """Waits for the end of the command.

        Returns:
            How it failed, None if it did not, or if *timeout* seconds have passed.
        """
        if self._process.returncode is None:
            if not self._interrupt.wait(self._pidfd, select.POLLIN, timeout):
                return None
            self._process.wait()
        code = self._process.returncode
        if not code:
            return None
        how = f"exited with status {code}" if code > 0 else f"was ended by {_signal_name(-code)}"
        return f"exec: command '{self.name}' {how}"

    def end(self) -> None:
        """Ends it if it still runs, whatever it does, and closes. Never raises."""
        if self._pidfd < 0:
            return
        if self._process.returncode is None:
            # Before its pipe is closed, for that would look like the end of a good stream.
            self._signal(signal.SIGTERM)
            if not self._ended(GRACE):
                self._signal(signal.SIGKILL)
            if self._ended(GRACE):
                # The rest of a pipeline; until its leader is waited for, the group's number is certainly its.
                self._signal(signal.SIGKILL)
                self._process.wait()
            else:
                # It runs as somebody else. It is not waited for here, but must not stay a zombie.
                threading.Thread(target=self._process.wait, name="migration-exec", daemon=True).start()
        self.connection.close()
        os.close(self._pidfd)
        self._pidfd = -1

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _ended(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ExecOutput(StreamOutput):
    """The command reads the stream from its input; what it prints is discarded."""

    def __init__(self, words: Sequence[str], interrupt: Interrupt) -> None:
        self._command = Command(words, interrupt, takes=True)
        super().__init__(self._command.connection)

    def write(self, data: Buffer) -> None:
        self._explained(lambda: super(ExecOutput, self).write(data))

    def writev(self, buffers: Sequence[Buffer]) -> None:
        self._explained(lambda: super(ExecOutput, self).writev(buffers))

    def _explained(self, write: Callable[[], None]) -> None:
        try:
            write()
        except MigrationError as error:
            # Its input is closed, so it has ended or is about to: how says more than the broken pipe.
            how = self._command.wait(GRACE)
            if how is not None:
                raise MigrationError(how) from error
            raise

    def finish(self) -> None:
        self._command.connection.close()
        how = self._command.wait()
        if how is not None:
            raise MigrationError(how)

    def commit(self) -> None:
        self._command.end()

    def abort(self) -> None:
        self._command.end()


class ExecInput(StreamInput):
    """The command writes the stream to its output."""

    def __init__(self, words: Sequence[str], interrupt: Interrupt) -> None:
        self._command = Command(words, interrupt, takes=False)
        super().__init__(self._command.connection, owner=self._command.end)

    def readinto(self, view: memoryview) -> int:
        done = super().readinto(view)
        if not done:
            self._check()
        return done

    def finish(self) -> None:
        rest = memoryview(bytearray(1 << 16))
        while super().readinto(rest):
            pass  # behind the stream's end; the command may not end before it is read
        self._check()

    def _check(self) -> None:
        how = self._command.wait()
        if how is not None:
            raise load_fault(how, 5)

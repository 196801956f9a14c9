# SPDX-License-Identifier: MIT
"""The channel ``fd``: a descriptor that was handed to the machine, by name or by number.

What it is decides how it is used. A socket or a pipe is written and read in order, and closing it tells
the other side. A regular file or block device is written from its present position on, in place: the
magic comes last, after all else is on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Mapping
from typing import Any

from ..errors import MigrationError
from .channel import Buffer, ChannelContext, ChannelType, InputChannel, OutputChannel
from .connection import Connection, PipeConnection, SocketConnection, StreamInput, StreamOutput
from .disk import in_use, locked, unlock, write_at
from .faults import write_fault
from .interrupt import Interrupt
from .uri import AddressMembers
from .wire import MAGIC

#: What a pipe is made to hold, if the system lets us: a write then seldom waits for the reader.
PIPE_SIZE = 1 << 20
#: The process's own input, output and error stay open when a migration through them is over.
_STANDARD = 3


class FDChannel(ChannelType):
    """``fd:NAME`` from ``getfd``, or ``fd:N``, a descriptor that the process inherited."""

    def parse(self, text: str) -> str:
        if not text:
            raise MigrationError("invalid file descriptor address")
        return text

    def parse_object(self, address: Mapping[str, Any]) -> str:
        members = AddressMembers(address)
        name = members.text("str")
        members.end()
        return self.parse(name)

    def open_output(self, address: str, context: ChannelContext) -> OutputChannel:
        fd = _take(address, context)
        try:
            mode = _mode(fd, address, os.O_RDONLY)
            if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
                return GivenFileOutput(fd, address)
            connection = connection_of(fd, mode, address, context.interrupt, os.O_WRONLY)
        except BaseException:
            os.close(fd)
            raise
        return StreamOutput(connection, two_way=stat.S_ISSOCK(mode))

    def open_input(self, address: str, context: ChannelContext) -> InputChannel:
        fd = _take(address, context)
        try:
            mode = _mode(fd, address, os.O_WRONLY)
            connection = connection_of(fd, mode, address, context.interrupt, os.O_RDONLY)
        except BaseException:
            os.close(fd)
            raise
        return StreamInput(connection, two_way=stat.S_ISSOCK(mode), owner=connection.close)


def _take(name: str, context: ChannelContext) -> int:
    fd = context.descriptors.take(name)
    if fd >= _STANDARD:
        os.set_inheritable(fd, False)
        return fd
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STANDARD)


def _mode(fd: int, name: str, wrong: int) -> int:
    """The kind of a descriptor.

    Raises:
        MigrationError: it is open only for the *wrong* direction, or cannot carry a stream.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        raise MigrationError(f"fd '{name}' is a directory")
    if not stat.S_ISSOCK(mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == wrong:
        raise MigrationError(f"fd '{name}' is open for {'reading' if wrong == os.O_RDONLY else 'writing'} only")
    return mode


def connection_of(fd: int, mode: int, name: str, interrupt: Interrupt, access: int) -> Connection:
    """A connection over *fd*, which it owns from then on; after an error it is still the caller's."""
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=fd)
        accepts = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if accepts or sock.type != socket.SOCK_STREAM:
            sock.detach()
            raise MigrationError(f"fd '{name}' is {'a listening' if accepts else 'no stream'} socket")
        return SocketConnection(sock, interrupt)
    if stat.S_ISFIFO(mode):
        widen(fd)
        # Opened anew, so that making it non-blocking is nobody else's concern.
        with contextlib.suppress(OSError):
            again = os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_CLOEXEC)
            os.close(fd)
            fd = again
    return PipeConnection(fd, interrupt, "fd")


def widen(fd: int) -> None:
    """Gives a pipe a larger buffer; what the system permits is enough."""
    with contextlib.suppress(OSError):
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < PIPE_SIZE:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)


class GivenFileOutput(OutputChannel):
    """Writes to an open file from its present position on; at the end the position is behind the stream."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        self._position = 0
        if locked(fd) is False:
            raise in_use(f"fd '{name}'")
        try:
            if self._flags & os.O_APPEND:
                # Positioned writes would go to the end all the same, and the magic has to come last.
                fcntl.fcntl(fd, fcntl.F_SETFL, self._flags & ~os.O_APPEND)
                self._start = os.lseek(fd, 0, os.SEEK_END)
            else:
                self._start = os.lseek(fd, 0, os.SEEK_CUR)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                # As with offset=: readers look for the description at the end, which must not be an older one's.
                os.ftruncate(fd, self._start)
            write_at(fd, bytes(len(MAGIC)), self._start)
            os.fsync(fd)
        except OSError as error:
            self._restore()
            raise write_fault(error, f"fd '{name}'") from error

    @property
    def position(self) -> int:
        return self._position

    def write(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        # commit() writes the magic.
        skip = min(len(view), max(len(MAGIC) - self._position, 0))
        try:
            write_at(self._fd, view[skip:], self._start + self._position + skip)
        except OSError as error:
            raise write_fault(error) from error
        self._position += len(view)

    def commit(self) -> None:
        try:
            os.fsync(self._fd)
            write_at(self._fd, MAGIC, self._start)
            os.fsync(self._fd)
            os.lseek(self._fd, self._start + self._position, os.SEEK_SET)
        except OSError as error:
            raise write_fault(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        if self._fd >= 0:
            self._restore()
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)

    def _restore(self) -> None:
        """Leaves the open file, of which others may have descriptors, as it was."""
        unlock(self._fd)
        if self._flags & os.O_APPEND:
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._fd, fcntl.F_SETFL, self._flags)

# SPDX-License-Identifier: MIT
"""The ``file`` channel: ``file:PATH[,offset=N]``.

A new or regular path without ``offset=`` is replaced as a whole: the data goes to a temporary name
in the same directory, is synced, renamed over the path, and the directory is synced, so at any
moment the path holds the old file or the new one. Everything else (an offset, a symbolic link, a
block device, a set of descriptors) is written in place; there the magic comes last, after the data is
on disk, so a save that broke off is no migration stream. Temporary files of saves that were killed are
removed by the next save to the same path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..device.properties import parse_size
from ..errors import MigrationError
from .channel import Buffer, ChannelContext, ChannelType, InputChannel, OutputChannel
from .descriptors import is_fdset
from .disk import create_partial, in_use, locked, remove_dead, sync_directory, unlock, write_at
from .faults import read_fault, write_fault
from .uri import AddressMembers
from .wire import MAGIC

Opener = Callable[[str, int], int]


class FileChannel(ChannelType):
    """``file:PATH[,offset=N]``."""

    seekable = True
    one_way = True

    def parse(self, text: str) -> FileAddress:
        return FileAddress(*split_address(text))

    def parse_object(self, address: Mapping[str, Any]) -> FileAddress:
        members = AddressMembers(address)
        path, offset = members.text("filename"), members.number("offset", 0)
        members.end()
        if not path:
            raise MigrationError("file URI has no usable path: ''", desc="Could not create '': No such file or directory")
        if not 0 <= offset < 1 << 63:
            raise MigrationError(f"file URI has bad offset {offset}: {os.strerror(errno.ERANGE)}")
        return FileAddress(path, offset or None)

    def open_output(self, address: FileAddress, context: ChannelContext) -> FileOutput:
        if is_fdset(address.path):
            return FileOutput(address.path, address.offset, opener=context.descriptors.open)
        return FileOutput(address.path, address.offset)

    def open_input(self, address: FileAddress, context: ChannelContext) -> FileInput:
        if is_fdset(address.path):
            return FileInput(address.path, address.offset or 0, opener=context.descriptors.open)
        return FileInput(address.path, address.offset or 0)


@dataclass(frozen=True, slots=True)
class FileAddress:
    """A path, and where in it the stream begins; None replaces the file as a whole."""

    path: str
    offset: int | None = None


def split_address(address: str) -> tuple[str, int | None]:
    """Path and offset of a ``file:`` address; the offset is None when none is given.

    Raises:
        MigrationError: the path is empty or the offset is no size.
    """
    path, comma, text = address.rpartition(",offset=")
    if not comma:
        path, text = address, ""
    if not path or "\0" in path:
        text = f"Could not create '{path}': {os.strerror(errno.ENOENT)}"
        raise MigrationError(f"file URI has no usable path: {address!r}", desc=text)
    if not comma:
        return path, None
    try:
        if text.lstrip().startswith("-"):
            raise OverflowError
        offset = parse_size(text)
        if offset >= 1 << 63:
            raise OverflowError
    except ValueError:
        raise MigrationError(f"file URI has bad offset {text}: {os.strerror(errno.EINVAL)}") from None
    except OverflowError:
        raise MigrationError(f"file URI has bad offset {text}: {os.strerror(errno.ERANGE)}") from None
    return path, offset


class FileOutput(OutputChannel):
    """A file being written; see the module's text for how.

    Args:
        path: the file.
        offset: where in it the stream begins; None replaces the file as a whole.
        opener: gives a descriptor for a path that is none of the file system, and for flags of :func:`os.open`.
    """

    seekable = True

    def __init__(self, path: str, offset: int | None, *, opener: Opener | None = None) -> None:
        self.path = path
        self._opener = opener
        self._start = offset or 0
        self._fd = -1
        self._temporary: str | None = None
        self._locked = False
        self._directory = os.path.dirname(path) or "."
        self._position = self._start
        if opener is not None:
            self._open_in_place()
            return
        try:
            status: os.stat_result | None = os.lstat(path)
        except FileNotFoundError:
            status = None
        except OSError as error:
            raise _cannot("create", path, error) from error
        if offset is None and (status is None or stat.S_ISREG(status.st_mode)):
            self._open_temporary()
        else:
            self._open_in_place()

    @property
    def in_place(self) -> bool:
        """The path itself is written, not a temporary one."""
        return self._temporary is None

    def _open_temporary(self) -> None:
        remove_dead(self.path)
        try:
            self._fd, self._temporary = create_partial(self.path)
        except OSError as error:
            raise _cannot("create", self.path, error) from error

    def _open_in_place(self) -> None:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            self._fd = self._opener(self.path, flags) if self._opener is not None else os.open(self.path, flags, 0o600)
        except OSError as error:
            raise _cannot("create", self.path, error) from error
        if locked(self._fd) is False:
            self.abort()
            raise in_use(f"'{self.path}'")
        self._locked = True
        try:
            if not stat.S_ISBLK(os.fstat(self._fd).st_mode):
                os.ftruncate(self._fd, self._start)
        except OSError as error:
            self.abort()
            message = f"failed to truncate migration file to offset {self._start:x}: {error.strerror}"
            raise MigrationError(message) from error
        try:
            # Whatever stream stood here before ends to be one, before anything of the new one is written.
            write_at(self._fd, bytes(len(MAGIC)), self._start)
            os.fsync(self._fd)
        except OSError as error:
            self.abort()
            raise write_fault(error) from error

    @property
    def position(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        self._position = position

    def fileno(self) -> int:
        return self._fd

    def open_again(self, *, direct: bool = False) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_DIRECT if direct else 0)
        try:
            return (self._opener or os.open)(self._temporary or self.path, flags)
        except OSError as error:
            if direct and error.errno == errno.EINVAL:
                raise MigrationError(f"direct-io: the file system of '{self.path}' refuses O_DIRECT") from error
            raise _cannot("open", self.path, error) from error

    def write(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        if self.in_place and self._position < self._start + len(MAGIC):
            # commit() puts the magic there.
            skip = min(len(view), self._start + len(MAGIC) - self._position)
            self._position += skip
            view = view[skip:]
        try:
            self._position = write_at(self._fd, view, self._position)
        except OSError as error:
            raise write_fault(error) from error

    def commit(self) -> None:
        try:
            os.fsync(self._fd)
            if self._temporary is None:
                write_at(self._fd, MAGIC, self._start)
                os.fsync(self._fd)
            else:
                os.rename(self._temporary, self.path)
                self._temporary = None
                sync_directory(self._directory)
        except OSError as error:
            self.abort()
            raise write_fault(error) from error
        self._close()

    def abort(self) -> None:
        if self._temporary is not None:
            # The directory may have gone or turned read-only; there is nobody to tell.
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = None
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._locked:
                unlock(fd)
            # Data is synced by now or not wanted any more, so an error of close() tells nothing.
            with contextlib.suppress(OSError):
                os.close(fd)


class FileInput(InputChannel):
    """A file being read, from *offset* to its end; *opener* as for :class:`FileOutput`."""

    seekable = True

    def __init__(self, path: str, offset: int = 0, *, opener: Opener | None = None) -> None:
        self.path = path
        self._opener = opener
        self._fd = -1
        try:
            # Without O_NONBLOCK, opening a pipe that nobody writes would hang.
            self._fd = (opener or os.open)(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            mode = os.fstat(self._fd).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                self.close()
                raise MigrationError(f"Could not open '{path}': not a regular file or block device")
            self._size = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            raise _cannot("open", path, error) from error
        self._position = offset

    @property
    def position(self) -> int:
        return self._position

    @property
    def size(self) -> int:
        return self._size

    def seek(self, position: int) -> None:
        self._position = position

    def fileno(self) -> int:
        return self._fd

    def open_again(self, *, direct: bool = False) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if direct else 0)
        try:
            return (self._opener or os.open)(self.path, flags)
        except OSError as error:
            if direct and error.errno == errno.EINVAL:
                raise MigrationError(f"direct-io: the file system of '{self.path}' refuses O_DIRECT") from error
            raise _cannot("open", self.path, error) from error

    def readinto(self, view: memoryview) -> int:
        try:
            done = os.preadv(self._fd, [view], self._position)
        except OSError as error:
            raise read_fault(error) from error
        self._position += done
        return done

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def open_file(path: str | os.PathLike[str], offset: int = 0) -> Iterator[FileInput]:
    """A saved machine opened for reading, closed at the end of the ``with`` block."""
    channel = FileInput(os.fspath(path), offset)
    try:
        yield channel
    finally:
        channel.close()


def _cannot(action: str, path: str, error: OSError) -> MigrationError:
    return MigrationError(f"Could not {action} '{path}': {error.strerror or error}")

# SPDX-License-Identifier: MIT
"""Files that are replaced as a whole: temporary names, locks, and what a killed save left behind.

A save writes to ``.NAME.xxxxxxxx.pyemu-partial`` in the directory of *NAME* and holds a lock on it for as
long as it lives; the kernel gives the lock back whatever ends the process. So a file with that name
which can be locked belongs to nobody, and the next save to the same path removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat

from ..errors import MigrationError
from .channel import Buffer

#: What a temporary name ends with.
PARTIAL_SUFFIX = ".pyemu-partial"
#: Bytes of the path's own name that a temporary one repeats; a name has 255 at most.
_NAME_BYTES = 200
#: A directory in which this many new names in a row are taken away at once is nowhere to save to.
_ATTEMPTS = 16


def write_at(fd: int, data: Buffer, position: int) -> int:
    """Writes all of *data* at *position*; returns the position behind it.

    Raises:
        OSError: the system refused to.
    """
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(fd, view, position)
        if not done:
            raise OSError(errno.EIO, "wrote nothing")
        position += done
        view = view[done:]
    return position


def create_partial(path: str) -> tuple[int, str]:
    """A new, locked, empty file beside *path*; returns its descriptor, open for both ways, and its name.

    Raises:
        OSError: it cannot be created.
    """
    directory, prefix = _directory(path), _prefix(path)
    for _ in range(_ATTEMPTS):
        name = os.path.join(directory, f"{prefix}{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if locked(fd) is not False and _is(fd, name):
                return fd, name
        except BaseException:
            os.close(fd)
            raise
        # Another save found it before it was locked, took it for a dead one and has removed it or is about to.
        os.close(fd)
    raise OSError(errno.EAGAIN, "temporary files disappear as soon as they are made")


def remove_dead(path: str) -> list[str]:
    """Removes what killed saves to *path* left behind; returns the names, without directory.

    A directory that cannot be read or written to has nothing removed; whoever saves there will be told.
    """
    directory = _directory(path)
    pattern = re.compile(rf"{re.escape(_prefix(path))}[0-9a-f]{{8}}{re.escape(PARTIAL_SUFFIX)}")
    removed = []
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if pattern.fullmatch(name) and _remove_if_dead(os.path.join(directory, name)):
                removed.append(name)
    return removed


def _remove_if_dead(name: str) -> bool:
    try:
        # Not through a link that somebody put there, and not waiting for the writer of a pipe.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return False
        # The name is looked at again under the lock: it may be gone, or a new file of the same name.
        if not locked(fd) or not _is(fd, name):
            return False
        os.unlink(name)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def sync_directory(directory: str) -> None:
    """Makes a rename in *directory* durable.

    Raises:
        OSError: the system failed to.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems cannot sync a directory and say so; the rename itself has happened.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def _directory(path: str) -> str:
    return os.path.dirname(path) or "."


def _prefix(path: str) -> str:
    return f".{os.fsdecode(os.fsencode(os.path.basename(path))[:_NAME_BYTES])}."


def locked(fd: int) -> bool | None:
    """Takes the lock of an open file: whether it was free, None where the file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock(fd: int) -> None:
    """Gives the lock back before *fd* is closed, for a descriptor of which others may have duplicates."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)


def in_use(name: str) -> MigrationError:
    """The refusal of a file that somebody holds the lock of."""
    return MigrationError(
        f"{name} cannot be written in place: somebody writes it, or a machine that was restored from it lazily still uses it"
    )


def _is(fd: int, name: str) -> bool:
    """*name* still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(name))
    except FileNotFoundError:
        return False

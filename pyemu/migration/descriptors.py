# SPDX-License-Identifier: MIT
"""Descriptors that were given to a machine: by name, and in numbered sets whose members differ in how they were opened."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from dataclasses import dataclass, field
from typing import Any

from ..errors import MigrationError

_PREFIX = "/dev/fdset/"


@dataclass
class _Set:
    """Descriptors with what their owner said about them, and how many duplicates are in use."""

    members: dict[int, str | None] = field(default_factory=dict)


class Descriptors:
    """What ``getfd`` and ``add-fd`` brought. All methods may be called from any thread.

    A descriptor handed over is owned by this object from then on, also when the call fails.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._named: dict[str, int] = {}
        self._sets: dict[int, _Set] = {}

    # -- by name ----------------------------------------------------------------------------------

    def put(self, name: str, fd: int) -> None:
        """Keeps *fd* under *name*; one that had the name is closed.

        Raises:
            MigrationError: the name begins with a digit, so it would be taken for a number.
        """
        if name[:1].isdigit() or not name:
            os.close(fd)
            raise MigrationError("Parameter 'fdname' expects a name not starting with a digit")
        with self._lock:
            old = self._named.pop(name, None)
            self._named[name] = fd
        if old is not None:
            os.close(old)

    def take(self, name: str) -> int:
        """Gives a descriptor away: one kept under *name*, or the process's own of that number. The caller closes it.

        Raises:
            MigrationError: there is none.
        """
        with self._lock:
            fd = self._named.pop(name, None)
        if fd is not None:
            return fd
        missing = f"File descriptor named '{name}' has not been found"
        if name.isdecimal() and name.isascii() and len(name) < 10:
            try:
                fcntl.fcntl(int(name), fcntl.F_GETFD)
            except OSError as error:
                raise MigrationError(f"file descriptor {name}: {error.strerror}", desc=missing) from None
            return int(name)
        raise MigrationError(missing)

    def close_named(self, name: str) -> None:
        """Closes the descriptor kept under *name*.

        Raises:
            MigrationError: there is none.
        """
        with self._lock:
            fd = self._named.pop(name, None)
        if fd is None:
            raise MigrationError(f"File descriptor named '{name}' not found")
        os.close(fd)

    # -- sets -------------------------------------------------------------------------------------

    def add(self, fd: int, set_id: int | None = None, opaque: str | None = None) -> dict[str, int]:
        """Puts *fd* into a set, a new one when *set_id* is None or not known yet.

        Returns:
            ``fdset-id`` and ``fd``, the number it has here.

        Raises:
            MigrationError: the set's number is negative.
        """
        if set_id is not None and set_id < 0:
            os.close(fd)
            raise MigrationError("Parameter 'fdset-id' expects a non-negative value")
        with self._lock:
            if set_id is None:
                set_id = next(n for n in range(len(self._sets) + 1) if n not in self._sets)
            self._sets.setdefault(set_id, _Set()).members[fd] = opaque
        return {"fdset-id": set_id, "fd": fd}

    def remove(self, set_id: int, fd: int | None = None) -> None:
        """Closes one descriptor of a set, or all; duplicates that a migration uses stay open.

        Raises:
            MigrationError: there is no such set or member.
        """
        what = f"fdset-id:{set_id}" if fd is None else f"fdset-id:{set_id}, fd:{fd}"
        with self._lock:
            found = self._sets.get(set_id)
            if found is None or (fd is not None and fd not in found.members):
                raise MigrationError(f"File descriptor named '{what}' not found")
            going = list(found.members) if fd is None else [fd]
            for number in going:
                del found.members[number]
            if not found.members:
                del self._sets[set_id]
        for number in going:
            os.close(number)

    def query(self) -> list[dict[str, Any]]:
        """The sets, as ``query-fdsets`` shows them."""
        with self._lock:
            return [
                {
                    "fdset-id": set_id,
                    "fds": [{"fd": fd, **({} if text is None else {"opaque": text})} for fd, text in s.members.items()],
                }
                for set_id, s in sorted(self._sets.items())
            ]

    def open(self, path: str, flags: int) -> int:
        """A duplicate of that member of the set *path* that was opened with the same access mode and O_DIRECT.

        Args:
            path: ``/dev/fdset/N``.
            flags: as for :func:`os.open`.

        Raises:
            MigrationError: *path* names no set, or none of its members fits.
        """
        number = set_number(path)
        with self._lock:
            found = self._sets.get(number)
            if found is None:
                raise MigrationError(f"Failed to find fdset {path}")
            wanted = flags & (os.O_ACCMODE | os.O_DIRECT)
            for fd in found.members:
                if fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_DIRECT) == wanted:
                    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
        raise MigrationError(f"Failed to find file descriptor with matching flags={flags & ~(os.O_CLOEXEC | os.O_NONBLOCK):#x}")

    def close(self) -> None:
        """Closes everything."""
        with self._lock:
            fds = [*self._named.values(), *(fd for s in self._sets.values() for fd in s.members)]
            self._named.clear()
            self._sets.clear()
        for fd in fds:
            # Their owner may have closed one behind our back; the others must go all the same.
            with contextlib.suppress(OSError):
                os.close(fd)


def is_fdset(path: str) -> bool:
    """The path names a set of descriptors, not a file."""
    return path.startswith(_PREFIX)


def set_number(path: str) -> int:
    """N of ``/dev/fdset/N``.

    Raises:
        MigrationError: it is no number.
    """
    text = path.removeprefix(_PREFIX)
    if not (text.isascii() and text.isdecimal()):
        raise MigrationError(f"Could not parse fdset {path}")
    return int(text)

# SPDX-License-Identifier: MIT
"""Block backends: the raw files and devices behind disks and floppies."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol, runtime_checkable

from ..errors import ConfigError
from ..memory import RAMBlock
from .options import escape_commas, parse_options, parse_switch, split_commas

SECTOR_SIZE = 512
#: The overlay of a snapshot keeps track of pieces this large.
CLUSTER_SIZE = 4096

INTERFACES = ("ide", "floppy", "none")
MEDIA = ("disk", "cdrom")
_KEYS = ("file", "if", "index", "media", "readonly", "snapshot")


class BlockBackend:
    """A raw image: bytes of the file are bytes of the disk.

    A size that is no multiple of 512 counts up to the next: the missing bytes read as zeros, and the
    file grows to the full sector when they are written. Writes go through to the host's page cache at
    once; :meth:`flush` takes them to the disk.

    The file is locked while it is open: against everybody when it is written, against writers when it
    is only read. With ``snapshot`` writes go to an overlay in memory that nobody else sees, and are gone
    when the backend is closed. The overlay is a RAM block, so a machine saves it with the guest's memory.

    Args:
        path: a regular file or a block device.
        interface: what it is for: ``ide``, ``floppy`` or ``none``.
        index: its place there; None for the first free one (see :func:`assign_indexes`).
        media: ``disk`` or ``cdrom``; the latter is always read-only.
        read_only: refuse writes.
        snapshot: leave the file as it is.

    Attributes:
        size: in bytes, a multiple of 512.
        spec: the text that opens the same backend again, with an absolute path.

    Raises:
        ConfigError: the file is missing, empty, of the wrong kind, not permitted, or locked.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        interface: str = "none",
        index: int | None = None,
        media: Literal["disk", "cdrom"] = "disk",
        read_only: bool = False,
        snapshot: bool = False,
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.interface = interface
        self.index = index
        self.media = media
        self.read_only = read_only or media == "cdrom"
        self.snapshot = snapshot
        self._overlay: _Overlay | None = None
        self._fd = self._open(writable=not (self.read_only or snapshot))
        try:
            self._file_size = self._measure()
            self.size = -(-self._file_size // SECTOR_SIZE) * SECTOR_SIZE
        except BaseException:
            self.close()
            raise

    @property
    def sectors(self) -> int:
        return self.size // SECTOR_SIZE

    @property
    def spec(self) -> str:
        parts = [f"file={escape_commas(self.path)}", f"if={self.interface}"]
        if self.index is not None:
            parts.append(f"index={self.index}")
        if self.media != "disk":
            parts.append(f"media={self.media}")
        elif self.read_only:
            parts.append("readonly=on")
        if self.snapshot:
            parts.append("snapshot=on")
        return ",".join(parts)

    # -- access -----------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """*length* bytes from *offset*.

        Raises:
            ValueError: the range is not inside the disk; a device checks what its guest asks for.
            OSError: the host could not read.
        """
        self._check(offset, length)
        if self._overlay is None:
            return self._read_file(offset, length)
        parts = []
        for start, size, written in self._overlay.runs(offset, length):
            parts.append(self._overlay.read(start, size) if written else self._read_file(start, size))
        return b"".join(parts)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """As :meth:`read`, but fills *buffer*, which is writable and counts in bytes: nothing is allocated on the way.

        Raises:
            ValueError: the range is not inside the disk.
            OSError: the host could not read; what the buffer holds then is undefined.
        """
        self._check(offset, len(buffer))
        if self._overlay is not None:
            buffer[:] = self.read(offset, len(buffer))
            return
        done = 0
        while done < len(buffer):
            more = os.preadv(self._fd, [buffer[done:]], offset + done)
            if not more:
                # As in _read_file(): past the end of the file.
                buffer[done:] = bytes(len(buffer) - done)
                return
            done += more

    def write(self, offset: int, data: bytes) -> None:
        """Stores *data* at *offset*.

        Raises:
            ValueError: the range is not inside the disk.
            OSError: the host could not write, or the backend is read-only.
        """
        self._check(offset, len(data))
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.path)
        if not data:
            return
        if self.snapshot:
            self.overlay()
            assert self._overlay is not None
            self._overlay.write(offset, data, self._read_file)
            return
        end = offset + len(data)
        if end > self._file_size:
            # The file's last sector is not whole; make it so before anything lands in it.
            os.ftruncate(self._fd, self.size)
            self._file_size = self.size
        _write_all(self._fd, offset, data)

    def read_sectors(self, sector: int, count: int) -> bytes:
        """*count* sectors of 512 bytes; as :meth:`read`."""
        return self.read(sector * SECTOR_SIZE, count * SECTOR_SIZE)

    def write_sectors(self, sector: int, data: bytes) -> None:
        """Whole sectors; as :meth:`write`."""
        if len(data) % SECTOR_SIZE:
            raise ValueError(f"{self.path}: {len(data)} bytes are not whole sectors")
        self.write(sector * SECTOR_SIZE, data)

    def flush(self) -> None:
        """Returns when everything written is on the host's disk; nothing to do for a snapshot.

        Raises:
            OSError: the host could not write.
        """
        if not self.read_only and not self.snapshot:
            os.fdatasync(self._fd)

    def overlay(self, idstr: str = "overlay") -> RAMBlock | None:
        """The RAM block that holds a snapshot's writes, made when it is first asked for; None without ``snapshot``.

        Args:
            idstr: its name, if it is made now.
        """
        if self._overlay is None and self.snapshot and not self.read_only and self._fd >= 0:
            self._overlay = _Overlay(self.size, idstr)
        return self._overlay.block if self._overlay is not None else None

    def close(self) -> None:
        """Unlocks the file; a snapshot's writes are gone. May be called twice."""
        if self._overlay is not None:
            self._overlay.close()
            self._overlay = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> BlockBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BlockBackend {self.spec} {self.size} bytes>"

    # -- inside -----------------------------------------------------------------------------------

    def _open(self, writable: bool) -> int:
        # Not blocking: opening a pipe must not wait for its other end, only to be refused then.
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(self.path, flags)
        except OSError as error:
            hint = "; readonly=on or snapshot=on would open it" if writable and error.errno in _WRITE_ERRORS else ""
            raise ConfigError(f"drive {self.path}: {error.strerror}{hint}") from error
        try:
            kind = os.fstat(fd).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
                raise ConfigError(f"drive {self.path}: is neither a regular file nor a block device")
            os.set_blocking(fd, True)
            fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise ConfigError(f"drive {self.path}: is in use by another drive or machine") from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _measure(self) -> int:
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if size == 0:
            raise ConfigError(f"drive {self.path}: is empty")
        return size

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{self.path}: {length} bytes at {offset:#x} are not inside its {self.size} bytes")

    def _read_file(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                # Past the end of the file: the rest of the last sector, or somebody has shortened it.
                return data + bytes(length - len(data))
            data += more
        return data


@runtime_checkable
class MediaChanger(Protocol):
    """A device with drives whose medium can be taken out while the machine runs."""

    def media(self) -> list[BlockBackend]:
        """What is in its removable drives, or was last."""

    def replace_medium(self, present: BlockBackend, medium: BlockBackend | None, force: bool) -> None:
        """Puts *medium* where *present* is; None opens the tray and leaves it where it is.

        Raises:
            ConfigError: the guest has locked the drive and *force* is off.
        """


_WRITE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS)


class _Overlay:
    """What was written to a snapshot: a bit a cluster that says whether it is in here, then the clusters."""

    def __init__(self, size: int, idstr: str) -> None:
        self._size = size
        clusters = -(-size // CLUSTER_SIZE)
        self._data = -(-clusters // (8 * CLUSTER_SIZE)) * CLUSTER_SIZE
        self.block = RAMBlock(idstr, self._data + clusters * CLUSTER_SIZE)

    def _has(self, cluster: int) -> bool:
        return bool(self.block.read(cluster >> 3, 1)[0] >> (cluster & 7) & 1)

    def runs(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """The range cut into (start, size, written) where the source of the bytes changes."""
        end = offset + length
        while offset < end:
            cluster = offset // CLUSTER_SIZE
            written = self._has(cluster)
            while (cluster + 1) * CLUSTER_SIZE < end and self._has(cluster + 1) == written:
                cluster += 1
            stop = min(end, (cluster + 1) * CLUSTER_SIZE)
            yield offset, stop - offset, written
            offset = stop

    def read(self, offset: int, length: int) -> bytes:
        return self.block.read(self._data + offset, length)

    def write(self, offset: int, data: bytes, original: Callable[[int, int], bytes]) -> None:
        end = offset + len(data)
        first, last = offset // CLUSTER_SIZE, (end - 1) // CLUSTER_SIZE
        # Clusters that are covered in part only need the rest from the original first.
        for cluster in {first, last}:
            start = cluster * CLUSTER_SIZE
            stop = min(start + CLUSTER_SIZE, self._size)
            if not self._has(cluster) and (start < offset or stop > end):
                self.block.write(self._data + start, original(start, stop - start))
        self.block.write(self._data + offset, data)
        bits = bytearray(self.block.read(first >> 3, (last >> 3) - (first >> 3) + 1))
        for cluster in range(first, last + 1):
            bits[(cluster >> 3) - (first >> 3)] |= 1 << (cluster & 7)
        self.block.write(first >> 3, bits)

    def close(self) -> None:
        self.block.close()


def _write_all(fd: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def open_drive(spec: str) -> BlockBackend:
    """Opens the drive that *spec* describes.

    ``file=PATH[,if=ide|floppy|none][,index=N][,media=disk|cdrom][,readonly=on][,snapshot=on]``; a comma
    inside the path is written twice.

    Raises:
        ConfigError: names the spec and what is wrong with it.
    """
    owner = f"drive {spec!r}"
    options = parse_options(owner, split_commas(spec), _KEYS)
    if not options.get("file"):
        raise ConfigError(f"{owner}: needs file=PATH")
    interface = options.get("if", "ide")
    if interface not in INTERFACES:
        raise ConfigError(f"{owner}: if={interface!r} is not one of {', '.join(INTERFACES)}")
    media = options.get("media", "disk")
    if media not in MEDIA:
        raise ConfigError(f"{owner}: media={media!r} is not one of {', '.join(MEDIA)}")
    index = options.get("index")
    if index is not None and not (index.isascii() and index.isdigit() and len(index) < 4):
        raise ConfigError(f"{owner}: index={index!r} is not a number from 0 to 999")
    return BlockBackend(
        options["file"],
        interface=interface,
        index=int(index) if index is not None else None,
        media="cdrom" if media == "cdrom" else "disk",
        read_only=parse_switch(owner, "readonly", options.get("readonly", "off")),
        snapshot=parse_switch(owner, "snapshot", options.get("snapshot", "off")),
    )


def assign_indexes(drives: Iterable[BlockBackend]) -> None:
    """Gives each drive without an index the first free one of its interface, in the given order.

    Raises:
        ConfigError: two drives claim one place.
    """
    drives = list(drives)
    taken: dict[tuple[str, int], BlockBackend] = {}
    for drive in drives:
        if drive.index is None:
            continue
        other = taken.setdefault((drive.interface, drive.index), drive)
        if other is not drive:
            raise ConfigError(f"drives {other.path} and {drive.path} both claim if={drive.interface},index={drive.index}")
    for drive in drives:
        if drive.index is None:
            drive.index = next(n for n in range(len(drives) + 1) if (drive.interface, n) not in taken)
            taken[drive.interface, drive.index] = drive

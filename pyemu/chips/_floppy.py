# SPDX-License-Identifier: MIT
"""Floppy drives and the media formats they know by the size of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..device import VMState, vmstate
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..device import BlockBackend

SECTOR = 512
SIZE_CODE = 2  # N of a 512-byte sector

# Data rate select values, MFM.
RATE_500K, RATE_300K, RATE_250K, RATE_1M = 0, 1, 2, 3

#: Where the heads meet a stop. Recalibration gives up after 79 steps, so it may be needed twice.
LAST_TRACK = 82
RECALIBRATE_STEPS = 79


@dataclass(frozen=True, slots=True)
class Media:
    """One format: tracks, heads, sectors of 512 bytes a track, and the data rates that read it.

    ``drive_type`` is what the CMOS of a PC calls the drive that is made for it.
    """

    name: str
    tracks: int
    heads: int
    sectors: int
    drive_type: int
    rates: frozenset[int]

    @property
    def size(self) -> int:
        return self.tracks * self.heads * self.sectors * SECTOR

    def block(self, track: int, head: int, sector: int) -> int:
        """Byte offset in the image of a sector that exists; sectors count from 1."""
        return ((track * self.heads + head) * self.sectors + sector - 1) * SECTOR


def _media(name: str, tracks: int, heads: int, sectors: int, drive_type: int, *rates: int) -> Media:
    return Media(name, tracks, heads, sectors, drive_type, frozenset(rates))


FORMATS = (
    _media("160K", 40, 1, 8, 1, RATE_250K, RATE_300K),
    _media("180K", 40, 1, 9, 1, RATE_250K, RATE_300K),
    _media("320K", 40, 2, 8, 1, RATE_250K, RATE_300K),
    _media("360K", 40, 2, 9, 1, RATE_250K, RATE_300K),
    _media("720K", 80, 2, 9, 3, RATE_250K),
    _media("1.2M", 80, 2, 15, 2, RATE_500K),
    _media("1.44M", 80, 2, 18, 4, RATE_500K),
    _media("1.68M", 80, 2, 21, 4, RATE_500K),
    _media("2.88M", 80, 2, 36, 5, RATE_1M),
)
_BY_SIZE = {media.size: media for media in FORMATS}
_USUAL = (_BY_SIZE[80 * 2 * 18 * SECTOR], FORMATS[-1])


def media_of(owner: str, size: int) -> Media:
    """The format of an image of *size* bytes.

    An image of another size, say a lone boot sector, is the beginning of a 1.44 MB disk, or of a 2.88 MB one if it
    is too large for that. The sectors beyond its end cannot be found.

    Raises:
        ConfigError: it is larger than any floppy; names *owner*, the size and the sizes that are known.
    """
    if size in _BY_SIZE:
        return _BY_SIZE[size]
    for media in _USUAL:
        if size < media.size:
            return media
    known = ", ".join(f"{m.size} ({m.name})" for m in FORMATS)
    raise ConfigError(f"{owner}: an image of {size} bytes is larger than any floppy; known sizes: {known}")


class FloppyDrive:
    """One drive mechanism, with or without a disk in it.

    Attributes:
        fitted: whether the mechanism is there at all.
        track: where the heads are.
        changed: the disk change latch: set when a disk comes or goes, cleared by a step with a disk in the drive.
        passing: the sector that was under the head last, 0 before the first; READ ID sees the next one.
    """

    vmstate = VMState(
        "isa-fdc/drive",
        fields=(
            vmstate.uint8("track", limit=LAST_TRACK),
            vmstate.boolean("changed"),
            vmstate.uint8("passing"),
        ),
    )

    def __init__(self, owner: str, number: int, backend: BlockBackend | None, fitted: bool) -> None:
        self.owner = owner
        self.number = number
        self.fitted = fitted
        self.backend: BlockBackend | None = None
        self.media: Media | None = None
        self.reset()
        if backend is not None:
            self.insert(backend)

    def reset(self) -> None:
        self.track = 0
        self.changed = self.fitted
        self.passing = 0

    def insert(self, backend: BlockBackend) -> None:
        """Puts a disk in.

        Raises:
            ConfigError: its size is of no known format; the drive stays as it was.
        """
        self.media = media_of(self.owner, backend.size)
        self.backend = backend
        self.fitted = self.changed = True

    def eject(self) -> None:
        """Takes the disk out, if there is one."""
        self.backend = self.media = None
        self.changed = self.fitted

    @property
    def read_only(self) -> bool:
        return self.backend is not None and self.backend.read_only

    def step(self, tracks: int) -> None:
        """Moves the heads; they stop at either end. Any step pulse clears the change latch if a disk is there."""
        if not self.fitted or not tracks:
            return
        self.track = min(max(self.track + tracks, 0), LAST_TRACK)
        if self.media is not None:
            self.changed = False

    def recalibrate(self) -> bool:
        """Steps towards track 0; false when it was not reached in 79 steps, as without a drive."""
        if not self.fitted:
            return False
        self.step(-min(self.track, RECALIBRATE_STEPS))
        return self.track == 0

    def next_passing(self, sectors: int) -> int:
        """The next sector that comes by on a track of that many."""
        self.passing = self.passing % sectors + 1
        return self.passing

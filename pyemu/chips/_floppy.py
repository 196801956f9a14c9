# SPDX-License-Identifier: MIT
"""A floppy drive: what its medium looks like, and where its head is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..device import VMState, vmstate

if TYPE_CHECKING:
    from ..device import BlockBackend

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Geometry:
    """Cylinders, heads and sectors a track of a medium."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def size(self) -> int:
        return self.cylinders * self.heads * self.sectors * SECTOR


#: What images of each size are.
GEOMETRIES = (
    Geometry(40, 1, 8), Geometry(40, 1, 9), Geometry(40, 2, 8), Geometry(40, 2, 9), Geometry(80, 2, 9),
    Geometry(80, 2, 15), Geometry(80, 2, 18), Geometry(80, 2, 21), Geometry(80, 2, 36),
)  # fmt: skip


def geometry_of(size: int) -> Geometry:
    """The medium an image of *size* bytes is; for odd sizes the smallest that holds it, else 2.88 MB."""
    return next((g for g in GEOMETRIES if size <= g.size), GEOMETRIES[-1])


class Drive:
    """One drive: its medium and where its head is."""

    STATE = VMState("fdc-drive", fields=(vmstate.uint8("cylinder"), vmstate.boolean("changed")))

    def __init__(self, image: BlockBackend | None) -> None:
        self.image = image
        self.geometry = geometry_of(image.size) if image is not None else GEOMETRIES[6]
        self.cylinder = 0
        self.changed = True

    def insert(self, image: BlockBackend | None) -> None:
        """Another medium, or none; the change line tells the guest."""
        self.image = image
        if image is not None:
            self.geometry = geometry_of(image.size)
        self.changed = True

    def step_to(self, cylinder: int) -> None:
        """Moves the head. A step with a medium inside resets the change line."""
        self.cylinder = min(cylinder, self.geometry.cylinders + 3)
        if self.image is not None:
            self.changed = False

# SPDX-License-Identifier: MIT
"""What a user sees and touches: a picture of pixels, text where the screen shows text, and keys."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Fields of a PNG header after width and height: 8 bits a component, red, green and blue, no interlacing.
_PNG_RGB8 = bytes((8, 2, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels.

    Attributes:
        pixels: ``uint8`` of shape (height, width, 3): red, green, blue.
    """

    pixels: NDArray[np.uint8]

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def png(self) -> bytes:
        """The picture as a PNG file."""
        rows = np.zeros((self.height, 1 + 3 * self.width), np.uint8)  # each row begins with its filter: none
        rows[:, 1:] = self.pixels.reshape(self.height, -1)
        header = struct.pack(">II", self.width, self.height) + _PNG_RGB8
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
        return PNG_SIGNATURE + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
        )

    def ppm(self) -> bytes:
        """The picture as a binary PPM file."""
        return b"P6\n%d %d\n255\n" % (self.width, self.height) + self.pixels.tobytes()


#: Encoders of the picture formats that ``screendump`` knows, by name.
FORMATS = {"png": Picture.png, "ppm": Picture.ppm}


@dataclass(frozen=True, slots=True)
class Text:
    """A screen of characters.

    Attributes:
        lines: the rows, all equally long, as Unicode.
        attributes: one byte a character, row by row: background in bits 7-4, foreground in bits 3-0.
        colours: red, green and blue (0-255) of the sixteen.
        cursor: (row, column), None when it is not seen.
    """

    lines: tuple[str, ...]
    attributes: bytes
    colours: tuple[tuple[int, int, int], ...]
    cursor: tuple[int, int] | None

    @property
    def columns(self) -> int:
        return len(self.lines[0]) if self.lines else 0

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)


@runtime_checkable
class Display(Protocol):
    """A device with a screen. Like all of a device, its methods are called on the machine thread."""

    @property
    def changes(self) -> int:
        """A number that differs when the picture may have changed."""

    def picture(self) -> Picture:
        """What is on the screen now."""

    def text(self) -> Text | None:
        """The characters on the screen; None when it shows graphics or nothing."""


@runtime_checkable
class Keyboard(Protocol):
    """A device that keys are typed on. Its methods are called on the machine thread."""

    def press_keys(self, names: Sequence[str]) -> bool:
        """Presses keys (see :mod:`pyemu.device.keys`) together and lets them go; false when they are lost.

        Raises:
            KeyError: no such key.
        """

    def takes_keys(self) -> bool | None:
        """Whether all that was typed before has been taken; None while the guest has the keyboard switched off."""

# SPDX-License-Identifier: MIT
"""From a VGA's registers and memory to what a monitor would show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device.display import Picture, Text
from ._vga import VGACore

Bytes = NDArray[np.uint8]

#: Shown by a VGA that is not set up, or that blanks its screen: black, of the size of the usual text mode.
BLANK_WIDTH, BLANK_HEIGHT = 720, 400
PLANE = 0x10000
FONT_LINES = 32
#: Where each of the eight fonts begins in plane 2.
FONTS = (0x0000, 0x4000, 0x8000, 0xC000, 0x2000, 0x6000, 0xA000, 0xE000)
#: The ninth column of these characters repeats the eighth, so that lines join.
LINE_DRAWING = slice(0xC0, 0xE0)
#: What codes 0 to 31 and 127 look like; as text they would be control characters.
_LOW = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
GLYPHS = _LOW + bytes(range(32, 127)).decode("cp437") + "⌂" + bytes(range(128, 255)).decode("cp437") + " "

DISPI_XRES, DISPI_YRES, DISPI_ENABLE, DISPI_WIDTH, DISPI_X, DISPI_Y = 1, 2, 4, 6, 8, 9


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes that the registers describe.

    Attributes:
        columns: characters, or groups of eight pixels, a row.
        lines: scan lines shown.
        row: scan lines of a character row.
        start: plane address of the first character.
        pitch: plane addresses from one row to the next.
    """

    columns: int
    lines: int
    row: int
    start: int
    pitch: int

    @property
    def rows(self) -> int:
        return -(-self.lines // self.row)

    def addresses(self, rows: int) -> NDArray[np.int64]:
        """Plane addresses of *rows* rows."""
        at = self.start + self.pitch * np.arange(rows)[:, None] + np.arange(self.columns)
        return at % PLANE


def layout(vga: VGACore) -> Layout:
    cr = vga.crtc
    lines = (cr[0x12] | (cr[7] >> 1 & 1) << 8 | (cr[7] >> 6 & 1) << 9) + 1
    if cr[9] & 0x80:
        lines = max(lines // 2, 1)
    return Layout(cr[1] + 1, lines, (cr[9] & 31) + 1, cr[0x0C] << 8 | cr[0x0D], 2 * cr[0x13])


def dispi(vga: VGACore, n: int) -> int:
    return vga.dispi[2 * n] | vga.dispi[2 * n + 1] << 8


def blank(vga: VGACore) -> bool:
    """Whether nothing is shown: sequencer or CRTC in reset, screen off, or no palette behind it."""
    return bool(
        not vga.crtc[0x17] & 0x80 or vga.sequencer[0] & 3 != 3 or vga.sequencer[1] & 0x20 or not vga.attribute_index & 0x20
    )


def is_text(vga: VGACore) -> bool:
    return not vga.graphics[6] & 1 and not dispi(vga, DISPI_ENABLE) & 1


def dac(vga: VGACore) -> Bytes:
    """The 256 colours of the palette, 8 bits a component."""
    six = np.frombuffer(bytes(vga.palette), np.uint8).reshape(256, 3) & 0x3F
    return (six << 2 | six >> 4).astype(np.uint8)


def colours(vga: VGACore) -> Bytes:
    """What the attribute controller makes of its sixteen inputs."""
    ar = vga.attribute
    n = np.arange(16) & ar[0x12]
    found: NDArray[Any] = np.frombuffer(bytes(ar[:16]), np.uint8)[n] & 0x3F
    if ar[0x10] & 0x80:
        found = found & 0x0F | (ar[0x14] & 0x0F) << 4
    else:
        found = found | (ar[0x14] & 0x0C) << 4
    return _look_up(dac(vga), found & vga.pel_mask)


def cells(vga: VGACore, shape: Layout) -> tuple[Bytes, Bytes]:
    """Characters and attributes, each of shape (rows, columns)."""
    memory = np.frombuffer(bytes(vga.vram), np.uint8).reshape(PLANE, 4)
    at = shape.addresses(shape.rows)
    return memory[at, 0], memory[at, 1]


def cursor(vga: VGACore, shape: Layout) -> tuple[int, int] | None:
    """(row, column) of the cursor, None where it is off or not on the screen."""
    cr = vga.crtc
    if cr[0x0A] & 0x20 or (cr[0x0A] & 31) > (cr[0x0B] & 31) or not shape.pitch:
        return None
    row, column = divmod(((cr[0x0E] << 8 | cr[0x0F]) - shape.start) % PLANE, shape.pitch)
    return (row, column) if row < shape.rows and column < shape.columns else None


def text_of(vga: VGACore) -> Text | None:
    if blank(vga) or not is_text(vga):
        return None
    shape = layout(vga)
    codes, found = cells(vga, shape)
    # Where bit 7 blinks it is no part of the background.
    attributes = found & np.uint8(0x7F if vga.attribute[0x10] & 8 else 0xFF)
    lines = tuple("".join(GLYPHS[code] for code in row) for row in codes.tolist())
    table = tuple((r, g, b) for r, g, b in colours(vga).tolist())
    return Text(lines, attributes.tobytes(), table, cursor(vga, shape))


def picture_of(vga: VGACore) -> Picture:
    """The screen in a moment in which blinking things are seen."""
    if dispi(vga, DISPI_ENABLE) & 1:
        return Picture(_linear(vga))
    if blank(vga):
        return Picture(np.zeros((BLANK_HEIGHT, BLANK_WIDTH, 3), np.uint8))
    return Picture(_text(vga) if is_text(vga) else _graphics(vga))


def _look_up(table: Bytes, index: NDArray[Any]) -> Bytes:
    """Pixels from indexes of colours."""
    pixels: Bytes = table[index]
    return pixels


def _text(vga: VGACore) -> Bytes:
    shape = layout(vga)
    codes, attributes = cells(vga, shape)
    memory = np.frombuffer(bytes(vga.vram), np.uint8).reshape(PLANE, 4)
    select = vga.sequencer[3]
    font_b = FONTS[select & 3 | (select >> 4 & 1) << 2]
    font_a = FONTS[select >> 2 & 3 | (select >> 5 & 1) << 2]
    base = np.where(attributes & 8, font_a, font_b)
    at = (base + codes.astype(np.int64) * FONT_LINES)[..., None] + np.arange(shape.row)
    patterns = memory[at % PLANE, 2]
    mode = vga.attribute[0x10]
    if mode & 2:  # monochrome attributes: 1 and 9 are underlined
        patterns[:, :, vga.crtc[0x14] & 31 : (vga.crtc[0x14] & 31) + 1][attributes & 7 == 1] = 0xFF
    where = cursor(vga, shape)
    if where is not None:
        patterns[where[0], where[1], vga.crtc[0x0A] & 31 : (vga.crtc[0x0B] & 31) + 1] = 0xFF
    bits = np.unpackbits(patterns, axis=-1).reshape(*patterns.shape, 8)
    if not vga.sequencer[1] & 1:
        ninth = np.zeros((*patterns.shape, 1), np.uint8)
        if mode & 4:
            joined = (codes >= LINE_DRAWING.start) & (codes < LINE_DRAWING.stop)
            ninth[joined] = bits[joined][..., 7:]
        if where is not None:
            ninth[where[0], where[1], vga.crtc[0x0A] & 31 : (vga.crtc[0x0B] & 31) + 1] = 1
        bits = np.concatenate([bits, ninth], axis=-1)
    foreground = attributes & 15
    background = attributes >> 4 & (7 if mode & 8 else 15)
    index = np.where(bits, foreground[..., None, None], background[..., None, None])
    pixels = index.transpose(0, 2, 1, 3).reshape(shape.rows * shape.row, -1)[: shape.lines]
    return _look_up(colours(vga), pixels)


def _graphics(vga: VGACore) -> Bytes:
    shape = layout(vga)
    memory = np.frombuffer(bytes(vga.vram), np.uint8).reshape(PLANE, 4)
    words: Any
    if vga.crtc[0x17] & 1:
        words = memory[shape.addresses(shape.rows)]
    else:
        # As on a CGA the odd scan lines have a memory of their own.
        odd = 0x2000 if vga.sequencer[4] & 4 else 0x1000
        line = np.arange(shape.lines)
        row, scan = line // shape.row, line % shape.row & 1
        at = shape.start + (shape.pitch * row + odd * scan)[:, None] + np.arange(shape.columns)
        words = memory[at % PLANE]
    shift = vga.graphics[5] >> 5 & 3
    height = words.shape[0]
    if shift >= 2:
        return _look_up(dac(vga), words.reshape(height, -1) & vga.pel_mask)
    if shift == 1:
        pairs = np.stack([words[:, :, :2] >> by & 3 for by in (6, 4, 2, 0)], axis=-1)
        return _look_up(colours(vga), pairs.reshape(height, -1))
    bits = np.unpackbits(words[..., None], axis=-1)  # (rows, columns, planes, pixels)
    index = (bits * np.array([1, 2, 4, 8], np.uint8)[:, None]).sum(axis=2, dtype=np.uint8)
    return _look_up(colours(vga), index.reshape(height, -1))


def _linear(vga: VGACore) -> Bytes:
    """256 colours, one byte a pixel, set up through the mode-setting interface."""
    width, height = max(dispi(vga, DISPI_XRES), 1), max(dispi(vga, DISPI_YRES), 1)
    rows = dispi(vga, DISPI_Y) + np.arange(min(height, PLANE))
    at = (rows * dispi(vga, DISPI_WIDTH) + dispi(vga, DISPI_X))[:, None] + np.arange(width)
    memory = np.frombuffer(bytes(vga.vram), np.uint8)
    return _look_up(dac(vga), memory[at % memory.size] & vga.pel_mask)

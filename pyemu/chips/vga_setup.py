# SPDX-License-Identifier: MIT
"""Setting a VGA up as a video BIOS does: for a kernel that is started without one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..errors import ConfigError

#: Where Debian's package seabios, and others, put SeaBIOS's video BIOSes.
FOLDERS = tuple(map(Path, ("/usr/share/seabios", "/usr/share/vgabios", "/usr/share/qemu", "/usr/local/share/qemu")))
ISA_NAMES = ("vgabios-isavga.bin", "vgabios.bin")
PCI_NAMES = ("vgabios-stdvga.bin", *ISA_NAMES)

FONT_HEIGHT, FONT_SIZE = 16, 256 * 16
#: The first two characters of the PC's font of 16 lines: nothing, and a face.
_FONT_START = bytes(16) + bytes.fromhex("00007e81a58181bd9981817e00000000")

# The registers of mode 3: 80 columns, 25 rows, 720 by 400 pixels.
MISC = 0x67
SEQUENCER = bytes.fromhex("0300030002")
CRTC = bytes.fromhex("5f4f50825581bf1f004f0d0e000000009c8e8f281f96b9a3ff")
GRAPHICS = bytes.fromhex("0000000000100e00ff")
ATTRIBUTE = bytes.fromhex("000102030405140738393a3b3c3d3e3f0c000f0800")


class Ports(Protocol):
    """What of a port space this module uses."""

    def read(self, port: int, size: int) -> int: ...

    def write(self, port: int, size: int, value: int) -> None: ...


class Memory(Protocol):
    """What of an address space this module uses."""

    def write(self, gpa: int, data: bytes) -> None: ...


def find_rom(names: tuple[str, ...]) -> Path | None:
    """The first installed video BIOS of one of these names."""
    return next((path for name in names for folder in FOLDERS if (path := folder / name).is_file()), None)


def font_of(rom: bytes) -> bytes:
    """The font of 16 lines that a video BIOS carries: 256 characters of 16 bytes.

    Raises:
        ConfigError: it has none of the usual form.
    """
    at = rom.find(_FONT_START)
    if at < 0 or at + FONT_SIZE > len(rom):
        raise ConfigError(f"a video BIOS of {len(rom)} bytes has no font of {FONT_HEIGHT} lines")
    return rom[at : at + FONT_SIZE]


def set_text_mode(ports: Ports, memory: Memory, font: bytes | None) -> None:
    """Mode 3 with the sixteen colours of the EGA and an empty screen, by port and memory accesses.

    Args:
        ports, memory: where the card answers.
        font: 256 characters of 16 lines; None leaves the screen without shapes, its text can be read all the same.
    """

    def indexed(port: int, values: bytes) -> None:
        for n, value in enumerate(values):
            ports.write(port, 1, n)
            ports.write(port + 1, 1, value)

    ports.write(0x3C2, 1, MISC)
    indexed(0x3C4, SEQUENCER)
    ports.write(0x3D4, 1, 0x11)
    ports.write(0x3D5, 1, 0)  # registers 0 to 7 may be written
    indexed(0x3D4, CRTC)
    indexed(0x3CE, GRAPHICS)
    ports.read(0x3DA, 1)  # the next write to 3C0 is an index
    for n, value in enumerate(ATTRIBUTE):
        ports.write(0x3C0, 1, n)
        ports.write(0x3C0, 1, value)
    ports.write(0x3C0, 1, 0x20)
    ports.write(0x3C6, 1, 0xFF)
    ports.write(0x3C8, 1, 0)
    for n in range(64):
        for bit in (2, 1, 0):  # red, green, blue: two thirds and one third of the full level
            ports.write(0x3C9, 1, (0x2A if n >> bit & 1 else 0) + (0x15 if n >> (bit + 3) & 1 else 0))
    if font is not None:
        _load_font(ports, memory, font)
    memory.write(0xB8000, b"\x20\x07" * (80 * 25))


def _load_font(ports: Ports, memory: Memory, font: bytes) -> None:
    """Characters of 16 lines into the first font of plane 2, through the window at A0000."""
    for port, n, value in ((0x3C4, 2, 4), (0x3C4, 4, 6), (0x3CE, 5, 0), (0x3CE, 6, 4)):
        ports.write(port, 1, n)
        ports.write(port + 1, 1, value)
    glyphs = (font[at : at + FONT_HEIGHT] for at in range(0, FONT_SIZE, FONT_HEIGHT))
    memory.write(0xA0000, b"".join(glyph.ljust(32, b"\0") for glyph in glyphs))
    for port, n, value in ((0x3C4, 2, 3), (0x3C4, 4, 2), (0x3CE, 5, 0x10), (0x3CE, 6, 0x0E)):
        ports.write(port, 1, n)
        ports.write(port + 1, 1, value)

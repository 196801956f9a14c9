# SPDX-License-Identifier: MIT
"""A guest that both programs run: a firmware image that fills RAM and then rewrites a quarter of it without end."""

from __future__ import annotations

from pathlib import Path

#: Guest address of a word that is :data:`READY` once RAM is filled; the next word counts the sweeps.
STATUS, READY = 0x500, 0x600D
#: Where the quarter that is rewritten begins.
FIRST = 16 << 20
_ROM = 0x10000

# To flat 32-bit mode: cli / out 0x92, 2 / lgdt / mov cr0, 1 / far jump.
_ENTER = bytes.fromhex("fa b002 e692 2e660f01167800 0f20c0 0c01 0f22c0 66ea1c000f000800 66b81000 8ed8")
# mov edi, 1 MiB / l: mov [edi], edi / add edi, 4 / cmp edi, TOP / jb l / mov dword [STATUS], READY
_FILL = "bf00001000 893f 83c704 81ff{top} 72f3 c705000500000d600000"
# s: inc eax / mov edi, FIRST / l: mov [edi], eax / add edi, 4096 / cmp edi, END / jb l / inc dword [STATUS+4] / jmp s
_SWEEP = "40 bf{first} 8907 81c700100000 81ff{end} 72f0 ff0504050000 ebe2"
# The descriptor table (at 0x60) and its pseudo-descriptor (at 0x78).
_TABLE = bytes.fromhex("0000000000000000 ffff0000009acf00 ffff00000092cf00 1700 60000f00")


def image(size: int) -> bytes:
    """The ROM for a guest with *size* bytes of RAM."""
    top, first, end = (value.to_bytes(4, "little").hex() for value in (size, FIRST, FIRST + size // 4))
    code = _ENTER + bytes.fromhex(_FILL.format(top=top) + _SWEEP.format(first=first, end=end))
    rom = bytearray(_ROM)
    rom[: len(code)] = code
    rom[0x60 : 0x60 + len(_TABLE)] = _TABLE
    # The reset vector: jmp 0xf000:0.
    rom[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")
    return bytes(rom)


def write(folder: Path, size: int) -> Path:
    """Writes the image into *folder*."""
    path = folder / "guest.rom"
    path.write_bytes(image(size))
    return path

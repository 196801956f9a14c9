# SPDX-License-Identifier: MIT
"""What PC boards share: memory map, BIOS, CMOS."""

from __future__ import annotations

import pytest

from pyemu.errors import ConfigError
from pyemu.testing.board import Board


def ram(board):
    return board.machine.call(board.machine.ram_ranges)


def test_ram_leaves_the_displays_window_free():
    with Board("via-pc", memory="2M") as board:
        assert ram(board) == [(0, 0xA0000), (0xC0000, 0x140000)]
        board.machine.memory.write(0xFFFF0, b"shadow")
        assert bytes(board.machine.ram["pc.ram"].array[0xFFFF0:0xFFFF6]) == b"shadow"


def test_less_than_a_mebibyte_is_refused():
    with pytest.raises(ConfigError, match="memory of 655360 bytes is less than 1048576"):
        Board("via-pc", memory="640K")


def test_a_bios_is_at_the_top_and_its_copy_below_one_mebibyte(tmp_path):
    image = bytes(range(256)) * 1024
    path = tmp_path / "bios.bin"
    path.write_bytes(image)
    with Board("via-pc", bios=path) as board:
        memory = board.machine.memory
        assert memory.read((1 << 32) - len(image), len(image)) == image
        assert memory.read(0xE0000, 0x20000) == image[-0x20000:]
        memory.write(0xFFFFFFF0, b"\0")
        assert memory.read(0xFFFFFFF0, 1) == image[-16:-15], "the ROM cannot be written"
        memory.write(0xF0000, b"changed")
        assert memory.read(0xF0000, 7) == b"changed"
        board.machine.reset()
        assert memory.read(0xF0000, 7) == image[-0x10000:][:7]


@pytest.mark.parametrize("size", [0, 1000, 0x18000, (16 << 20) + 0x10000])
def test_a_bios_of_odd_size_is_refused(tmp_path, size):
    path = tmp_path / "bios.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(ConfigError, match=f"{size} bytes are not a multiple of 65536"):
        Board("via-pc", bios=path)


def test_the_cmos_tells_the_memory_size():
    with Board("via-pc", memory="32M") as board:

        def cmos(at, length=2):
            out = 0
            for n in range(length):
                board.outb(0x70, at + n)
                out |= board.inb(0x71) << 8 * n
            return out

        assert (cmos(0x15), cmos(0x17), cmos(0x30), cmos(0x34)) == (640, 31 << 10, 31 << 10, 16 << 20 >> 16)
        total = sum(cmos(at, 1) for at in range(0x10, 0x2E))
        assert (cmos(0x2E, 1) << 8 | cmos(0x2F, 1)) == total

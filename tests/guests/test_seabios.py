# SPDX-License-Identifier: MIT
"""SeaBIOS, unmodified, on both boards: it sizes memory, probes every core device and looks for a disk.

Takes some seconds a board; part of ``pytest -m guest``.
"""

import os
import struct
from pathlib import Path

import pytest

import pyemu
from pyemu.memory import PortioEntry, PortioList

FOLDER = Path(os.environ.get("PYEMU_SEABIOS", "/usr/share/seabios"))
DEBUG_PORT, DEBUG_PRESENT = 0x402, 0xE9

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs SeaBIOS (Debian package seabios), not in {FOLDER}"),
]

EQUIPMENT, TICKS = 0x410, 0x46C  # of the BIOS data area


def equipment(machine):
    """(parallel ports, serial ports) that the firmware counted, from the equipment word."""
    (word,) = struct.unpack("<H", machine.memory.read(EQUIPMENT, 2))
    return word >> 14, word >> 9 & 7


BOARDS = pytest.mark.parametrize(
    ("board", "properties", "parallel", "serial"),
    [("via-pc", {}, 0, 0), ("via-pc", {"firmware": "always"}, 1, 2), ("isa-pc", {"config": "0"}, 1, 2)],
)


@BOARDS
def test_it_finds_the_boards_devices(board, properties, parallel, serial):
    log = bytearray()
    table = [PortioEntry(0, 1, 1, lambda offset, size: DEBUG_PRESENT, lambda offset, size, value: log.append(value))]
    with pyemu.Machine(board, memory="32M", cpu="unicorn", bios=FOLDER / "bios-256k.bin", properties=properties) as machine:
        console = PortioList("debug console", table, "debug console")
        machine.call(lambda: console.add(machine.ports, DEBUG_PORT))
        assert machine.run(until=lambda: b"No bootable device" in log, timeout=120), log[-500:].decode("latin1")
        assert equipment(machine) == (parallel, serial)
    text = log.decode("latin1")
    assert f"Found {parallel} lpt ports" in text
    assert f"Found {serial} serial ports" in text
    assert "PS2 keyboard initialized" in text
    assert "0000000000100000 - 0000000002000000 = 1 RAM" in text
    assert "imeout" not in text


@BOARDS
def test_the_small_image_ends_its_tests(board, properties, parallel, serial):
    # Debian's 128 KiB image writes no log since 1.16.3: what it found stands in the BIOS data area.
    with pyemu.Machine(board, memory="32M", cpu="unicorn", bios=FOLDER / "bios.bin", properties=properties) as machine:

        def ticks():
            return struct.unpack("<I", machine.memory.read(TICKS, 4))[0]

        assert machine.run(until=lambda: machine.memory.read(EQUIPMENT, 1) != b"\0" and ticks() > 0, timeout=120)
        start = ticks()
        assert machine.run(until=lambda: ticks() > start + 18, timeout=120), "its timer interrupt does not come"
        assert equipment(machine) == (parallel, serial)

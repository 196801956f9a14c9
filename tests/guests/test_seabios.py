# SPDX-License-Identifier: MIT
"""SeaBIOS, unmodified, on both boards: it sizes memory, probes every core device and looks for a disk.

Takes some seconds a board; part of ``pytest -m guest``.
"""

import os
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


@pytest.mark.parametrize("image", ["bios.bin", "bios-256k.bin"])
@pytest.mark.parametrize(
    ("board", "properties", "parallel", "serial"),
    [("via-pc", {}, 0, 0), ("via-pc", {"firmware": "always"}, 1, 2), ("isa-pc", {"config": "0"}, 1, 2)],
)
def test_it_finds_the_boards_devices(image, board, properties, parallel, serial):
    log = bytearray()
    table = [PortioEntry(0, 1, 1, lambda offset, size: DEBUG_PRESENT, lambda offset, size, value: log.append(value))]
    with pyemu.Machine(board, memory="32M", cpu="unicorn", bios=FOLDER / image, properties=properties) as machine:
        console = PortioList("debug console", table, "debug console")
        machine.call(lambda: console.add(machine.ports, DEBUG_PORT))
        assert machine.run(until=lambda: b"No bootable device" in log, timeout=120), log[-500:].decode("latin1")
    text = log.decode("latin1")
    assert f"Found {parallel} lpt ports" in text
    assert f"Found {serial} serial ports" in text
    assert "PS2 keyboard initialized" in text
    assert "0000000000100000 - 0000000002000000 = 1 RAM" in text
    assert "imeout" not in text

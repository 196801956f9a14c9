# SPDX-License-Identifier: MIT
"""SeaBIOS boots from a floppy and from a disk, and a boot sector reads and writes through it.

It is somebody else's driver for our floppy controller, DMA controller and IDE channel. Part of ``pytest -m guest``.
"""

import os
from pathlib import Path

import pytest

import pyemu

FOLDER = Path(os.environ.get("PYEMU_SEABIOS", "/usr/share/seabios"))

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs SeaBIOS (Debian package seabios), not in {FOLDER}"),
]

VIA, ISA = ("via-pc", {"firmware": "always"}), ("isa-pc", {"config": "0"})
KIB = 1 << 10


def boot_sector(count):
    """Reads *count* sectors, sends the first byte of each to COM1, and writes the first of them elsewhere."""
    n = f"{count:02x}"
    code = bytes.fromhex(
        "fa 31c0 8ed8 8ed0 bc007c"  # cli; ds = ss = 0, sp = 7C00
        "b80010 8ec0 31db fb"  # es:bx = 1000:0; sti
        f"b8{n}02 b90200 30f6 cd13 7226"  # read from cylinder 0, head 0, sector 2; jc failed
        f"b9{n}00 89d5 baf803"  # for each, on COM1:
        "268a07 ee 81c30002 e2f6"  # its first byte
        "31db 89ea b80103 b90105 b601 cd13 7204"  # write to cylinder 5, head 1, sector 1; jc failed
        "b021 eb02"  # "!"
        "b045"  # failed: "E"
        "baf803 ee 88e0 ee f4 ebfd"  # that, and the BIOS's status; hlt for ever
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.parametrize(
    ("machine", "interface", "size", "heads", "sectors"),
    [
        (VIA, "floppy", 1440 * KIB, 2, 18),
        (ISA, "floppy", 1440 * KIB, 2, 18),
        (ISA, "floppy", 360 * KIB, 2, 9),
        (ISA, "floppy", 720 * KIB, 2, 9),
        (ISA, "floppy", 1200 * KIB, 2, 15),
        (ISA, "floppy", 2880 * KIB, 2, 36),
        (VIA, "ide", 8 << 20, 16, 63),
        (ISA, "ide", 8 << 20, 16, 63),
    ],
)
def test_a_boot_sector_reads_and_writes(tmp_path, machine, interface, size, heads, sectors):
    board, properties = machine
    count = min(sectors - 1, 26)
    letters = bytes(ord("A") + n for n in range(count))
    image = bytearray(size)
    image[:512] = boot_sector(count)
    for n, letter in enumerate(letters, 1):
        image[n * 512 : (n + 1) * 512] = bytes([letter]) * 512
    path = tmp_path / "disk.img"
    path.write_bytes(image)
    drive = f"file={path},if={interface},index=0"
    options = {"memory": "32M", "cpu": "unicorn", "bios": FOLDER / "bios.bin", "serial": ["memory"], "drives": [drive]}
    with pyemu.Machine(board, properties=properties, **options) as running:
        assert running.run(until=running.serial[0].contains(letters + b"!\0"), timeout=120)
    written = (5 * heads + 1) * sectors * 512
    image[written : written + 512] = b"A" * 512
    assert path.read_bytes() == image

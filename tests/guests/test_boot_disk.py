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

BOOT_SECTOR = bytes.fromhex(
    "fa 31c0 8ed8 8ed0 bc007c"  # cli; ds = ss = 0, sp = 7C00
    "b80010 8ec0 31db fb"  # es:bx = 1000:0; sti
    "b81102 b90200 30f6 cd13 7226"  # read 17 sectors from cylinder 0, head 0, sector 2; jc failed
    "b91100 89d5 baf803"  # 17 times, COM1:
    "268a07 ee 81c30002 e2f6"  # the first byte of each sector
    "31db 89ea b80103 b90105 b601 cd13 7204"  # write the first to cylinder 5, head 1, sector 1; jc failed
    "b021 eb02"  # "!"
    "b045"  # failed: "E"
    "baf803 ee 88e0 ee f4 ebfd"  # that, and the BIOS's status; hlt for ever
)


@pytest.mark.parametrize(("board", "properties"), [("via-pc", {"firmware": "always"}), ("isa-pc", {"config": "0"})])
@pytest.mark.parametrize(
    ("interface", "size", "written"),
    [("floppy", 1440 << 10, (5 * 2 + 1) * 18), ("ide", 8 << 20, (5 * 16 + 1) * 63)],
)
def test_a_boot_sector_reads_and_writes(tmp_path, board, properties, interface, size, written):
    image = bytearray(size)
    image[: len(BOOT_SECTOR)] = BOOT_SECTOR
    image[510:512] = b"\x55\xaa"
    for n in range(17):
        image[(n + 1) * 512 : (n + 2) * 512] = bytes([ord("A") + n]) * 512
    path = tmp_path / "disk.img"
    path.write_bytes(image)
    drive = f"file={path},if={interface},index=0"
    options = {"memory": "32M", "cpu": "unicorn", "bios": FOLDER / "bios.bin", "serial": ["memory"], "drives": [drive]}
    with pyemu.Machine(board, properties=properties, **options) as machine:
        assert machine.run(until=machine.serial[0].contains(b"ABCDEFGHIJKLMNOPQ!\0"), timeout=120)
    image[written * 512 : (written + 1) * 512] = b"A" * 512
    assert path.read_bytes() == image

# SPDX-License-Identifier: MIT
"""SeaBIOS boots a CD-ROM: it is somebody else's driver for packets, and its screen goes through the video BIOS.

Part of ``pytest -m guest``.
"""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from guests.eltorito import BLOCK, boot_image

import pyemu

FOLDER = Path(os.environ.get("PYEMU_SEABIOS", "/usr/share/seabios"))
MEMTEST = Path(os.environ.get("PYEMU_MEMTEST_ISO", "/usr/lib/memtest86+/memtest86+ia32.iso"))

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs SeaBIOS (Debian package seabios), not in {FOLDER}"),
]

BOARDS = [("via-pc", {"firmware": "always", "vga": True}), ("isa-pc", {"config": "0", "vga": True})]
#: Blocks that the boot file reads with one extended read, and how it says that it has them.
COUNT = 20


def boot_file():
    """Reads COUNT blocks from block 21 to 1000:0 (int 13, 42), sends the first byte of each to COM1, writes on the screen."""
    packet = struct.pack("<BBHHHQ", 16, 0, COUNT, 0, 0x1000, 21)
    code = bytes.fromhex("fa 31c0 8ed8 8ed0 bc007c fb be007d b442 cd13 7238")
    code += bytes.fromhex(f"b8 0010 8ec0 b9 {COUNT:02x}00 31db baf803")  # es = 1000; cx; bx = 0; dx = 3F8
    code += bytes.fromhex("268a07 ee 81c30008 e2f6")  # each block's first byte on COM1
    code += bytes.fromhex("be207d ac 84c0 7409 b40e bb0700 cd10 ebf2")  # the text at 7D20 on the screen, by the video BIOS
    code += bytes.fromhex("b021 baf803 ee f4 ebfd")  # "!" on COM1; hlt for ever
    code = code.ljust(0x3A + 16, b"\x90") + bytes.fromhex("b045 baf803 ee 88e0 ee f4 ebfd")  # failed: "E" and the status
    at = code.index(bytes.fromhex("7238"))
    failed = code.index(bytes.fromhex("b045"))
    code = code[: at + 1] + bytes((failed - at - 2,)) + code[at + 2 :]
    return code.ljust(0x100, b"\0") + packet.ljust(0x20, b"\0") + b"from the CD\0"


@pytest.mark.parametrize(("board", "properties"), BOARDS)
def test_a_boot_file_reads_its_disk_and_writes_on_the_screen(tmp_path, board, properties):
    letters = bytes(ord("a") + n for n in range(COUNT))
    path = tmp_path / "boot.iso"
    path.write_bytes(boot_image(boot_file(), b"".join(bytes((letter,)) * BLOCK for letter in letters)))
    options = {"memory": "32M", "cpu": "unicorn", "bios": FOLDER / "bios.bin", "serial": ["memory"]}
    with pyemu.Machine(board, properties=properties, drives=[f"file={path},media=cdrom"], **options) as machine:
        assert machine.run(until=machine.serial[0].contains(letters + b"!"), timeout=60)
        text = str(machine.displays[0].text())
        assert "SeaBIOS" in text and "Booting from DVD/CD..." in text and "from the CD" in text
        pixels = machine.displays[0].picture().pixels
    assert pixels.shape == (400, 720, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 2, "grey on black"


@pytest.mark.skipif(not MEMTEST.exists(), reason=f"needs memtest86+ (Debian package memtest86+), not at {MEMTEST}")
@pytest.mark.parametrize(("board", "properties"), BOARDS)
def test_memtest_starts_from_its_image(board, properties, tmp_path):
    """Its boot loader is GRUB's; the screen is drawn by memtest86+ itself. Saved on the way, it goes on."""
    options = {"memory": "32M", "cpu": "unicorn", "bios": FOLDER / "bios-256k.bin"}
    saved = tmp_path / "saved"

    def seen(machine, text):
        return lambda: text in str(machine.displays[0].text())

    with pyemu.Machine(board, properties=properties, drives=[f"file={MEMTEST},media=cdrom"], **options) as machine:
        assert machine.run(until=seen(machine, "Test #3"), timeout=60)
        machine.save(saved, mapped_ram=True)
        before = machine.displays[0].picture().pixels
    with pyemu.restore(saved, host_files=True) as machine:
        assert np.array_equal(machine.displays[0].picture().pixels, before)
        assert machine.run(until=seen(machine, "Test #4"), timeout=60)
        text = str(machine.displays[0].text())
    assert "Memtest86+" in text and "Errors: 0" in text

# SPDX-License-Identifier: MIT
"""SeaBIOS drives our UHCI controllers: it boots from a USB disk and takes keys from a USB keyboard.

Part of ``pytest -m guest``.
"""

import pytest
from guests.test_boot_disk import FOLDER, KIB, VIA, boot_sector

import pyemu

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs SeaBIOS (Debian package seabios), not in {FOLDER}"),
]
OPTIONS = {"memory": "32M", "cpu": "unicorn", "bios": FOLDER / "bios.bin", "serial": ["memory"]}


def test_a_boot_sector_reads_and_writes_on_a_usb_disk(tmp_path):
    path = tmp_path / "usb.img"
    image = bytearray(8192 * KIB)
    image[:512] = boot_sector(4)
    for n, letter in enumerate(b"ABCD", 1):
        image[n * 512 : (n + 1) * 512] = bytes([letter]) * 512
    path.write_bytes(image)
    board, properties = VIA
    disk = ("usb-storage", {"drive": f"file={path}"})
    with pyemu.Machine(board, properties=properties, devices=[disk], **OPTIONS) as running:
        assert running.run(until=running.serial[0].contains(b"ABCD!\0"), timeout=120)
    found = path.read_bytes()
    changed = [n for n in range(len(image) // 512) if found[n * 512 : (n + 1) * 512] != image[n * 512 : (n + 1) * 512]]
    assert len(changed) == 1 and found[changed[0] * 512 :][:512] == b"A" * 512


def keyboard_sector():
    """Sends "?" to COM1, then each key's character."""
    code = bytes.fromhex(
        "fa 31c0 8ed8 8ed0 bc007c fb"  # cli; ds = ss = 0, sp = 7C00; sti
        "baf803 b03f ee"  # "?"
        "30e4 cd16 baf803 ee ebf6"  # int 16, function 0; its character; again
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


def test_keys_of_a_usb_keyboard_arrive(tmp_path):
    path = tmp_path / "floppy.img"
    path.write_bytes(keyboard_sector().ljust(1440 * KIB, b"\0"))
    board, properties = VIA
    drives = [f"file={path},if=floppy"]
    with pyemu.Machine(board, properties=properties, devices=["usb-kbd"], drives=drives, **OPTIONS) as running:
        assert running.run(until=running.serial[0].contains(b"?"), timeout=120)
        keyboard = running.devices["usb-kbd"]
        for usage in (4, 5, 6):
            assert running.call(lambda usage=usage: keyboard.press([usage]))
        assert running.call(lambda: keyboard.press([7], modifiers=2))
        assert running.run(until=running.serial[0].contains(b"?abcD"), timeout=120)

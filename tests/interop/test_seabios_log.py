# SPDX-License-Identifier: MIT
"""One SeaBIOS image on QEMU's PC and on our boards: what it says about the parts that they share is the same.

QEMU's board without PCI cannot be asked: it shows 128 KiB of a BIOS, and SeaBIOS images of that size write no log.
"""

import re
import subprocess
import time

import pytest
from guests.eltorito import boot_image
from interop.conftest import PATIENCE

import pyemu
from pyemu.memory import PortioEntry, PortioList

HALT = b"\xf4\xeb\xfd"
END = "Booting from 0000:7c00"
#: Lines about shared parts. Sizes and places of what the firmware itself allocates are not among them.
SHARED = re.compile(
    r"Found \d+ (lpt|serial) ports|PS2 keyboard initialized|ATA controller 1 at 1f0/3f4|\[ata0-\d: "
    r"|Scan for VGA option rom|Start SeaVGABIOS|set VGA mode 3|Turning on vga text mode console|0: 0000000000000000 - .* RAM"
    r"|Booting from (DVD/CD|Hard Disk|0000:7c00)|Boot failed: not a bootable disk"
)


def shared(log):
    """The lines that are compared, without the makers' names and the boards' PCI numbers; each once, in order of the text."""
    lines = {line.strip() for line in log.splitlines() if SHARED.search(line)}
    named = (re.sub(r"(ata0-\d): .* (ATA-\d+ |ATAPI-\d+ )", r"\1: ", line) for line in lines)
    return sorted(re.sub(r"(ATA controller 1 at 1f0/3f4).*", r"\1", line) for line in named)


@pytest.fixture
def images(folder):
    """A disk that does not boot and a CD that does, where the chroot sees them."""
    (folder / "disk.img").write_bytes(bytes(8 << 20))
    (folder / "cd.iso").write_bytes(boot_image(HALT, b""))
    return folder / "disk.img", folder / "cd.iso"


def log_of_qemu(root, folder, images):
    log = folder / "log"
    inside = [f"/{path.relative_to(root)}" for path in (*images, log)]
    command = ["chroot", root, "qemu-system-i386", "-M", "pc", "-m", "32", "-display", "none", "-nodefaults", "-vga", "std"]
    command += ["-bios", "/usr/share/seabios/bios-256k.bin", "-serial", "null", "-serial", "null", "-parallel", "null"]
    command += ["-drive", f"file={inside[0]},if=ide,index=0,format=raw", "-debugcon", f"file:{inside[2]}"]
    command += ["-drive", f"file={inside[1]},if=ide,index=1,media=cdrom,format=raw", "-global", "isa-debugcon.iobase=0x402"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while not log.exists() or END not in log.read_text("latin1"):
            assert process.poll() is None and time.monotonic() < end, log.exists() and log.read_text("latin1")[-400:]
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    return log.read_text("latin1")


def log_of_pyemu(root, board, properties, images):
    log = bytearray()
    table = [PortioEntry(0, 1, 1, lambda offset, size: 0xE9, lambda offset, size, value: log.append(value))]
    drives = [f"file={images[0]},index=0", f"file={images[1]},index=1,media=cdrom"]
    bios = root / "usr/share/seabios/bios-256k.bin"
    with pyemu.Machine(board, memory="32M", cpu="unicorn", bios=bios, drives=drives, properties=properties) as machine:
        console = PortioList("debug console", table, "debug console")
        machine.call(lambda: console.add(machine.ports, 0x402))
        assert machine.run(until=lambda: END.encode() in log, timeout=PATIENCE), log[-400:].decode("latin1")
    return log.decode("latin1")


@pytest.mark.interop
@pytest.mark.parametrize(
    ("board", "properties"), [("via-pc", {"firmware": "always", "vga": True}), ("isa-pc", {"config": 0, "vga": True})]
)
def test_it_finds_the_same_on_both(chroot, folder, images, board, properties):
    video = chroot / "usr/share/seabios" / ("vgabios-stdvga.bin" if board == "via-pc" else "vgabios-isavga.bin")
    ours = shared(log_of_pyemu(chroot, board, {**properties, "vgabios": str(video)}, images))
    theirs = shared(log_of_qemu(chroot, folder, images))
    assert ours == theirs
    assert len(ours) >= 12, ours

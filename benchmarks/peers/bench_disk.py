# SPDX-License-Identifier: MIT
"""Disk reads through IDE bus-master DMA, beside QEMU doing the same work.

    PYEMU_QEMU_CHROOT=/tmp/trixie python -m benchmarks.peers.bench_disk [--rounds N] [--size MIB]

One boot sector runs on both, started by the same SeaBIOS from a floppy: QEMU with TCG on its board ``pc``, pyemu with Unicorn
on ``via-pc``. It reads an image of which the host has every page in memory from end to end, 48-bit READ DMA by READ DMA,
polling the bus master for the interrupt, and prints a letter on COM1 before and after; what is timed is how far apart the
letters arrive.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

CHROOT = os.environ.get("PYEMU_QEMU_CHROOT", "")
PATIENCE = 60.0
BIOS = "usr/share/seabios/bios-256k.bin"
MASTER, TABLE = 0xD000, 0x7D80
#: (device, function) of the IDE controller on each board.
QEMU_IDE, PYEMU_IDE = (1, 1), (7, 1)
#: Sectors a command reads: what Linux asks for at most by default there, and a page.
REQUESTS = (256, 8)


def out8(port: int, value: int) -> bytes:
    return struct.pack("<BHBBB", 0xBA, port, 0xB0, value, 0xEE)


def out32(port: int, value: int) -> bytes:
    return struct.pack("<BHBBIBB", 0xBA, port, 0x66, 0xB8, value, 0x66, 0xEF)


def from_lba(port: int, shift: int) -> bytes:
    """mov eax, ebx / shr eax, shift / mov dx, port / out dx, al"""
    return bytes.fromhex("6689d8") + bytes((0x66, 0xC1, 0xE8, shift)) + struct.pack("<BHB", 0xBA, port, 0xEE)


def boot_sector(ide: tuple[int, int], sectors: int, count: int) -> bytes:
    """Reads *count* times *sectors* sectors, one after the other from sector 0, to 10000."""
    config = 0x80000000 | ide[0] << 11 | ide[1] << 8
    code = bytes.fromhex("fa 31c0 8ed8 8ed0 bc007c")
    code += out32(0xCF8, config | 0x20) + out32(0xCFC, MASTER | 1) + out32(0xCF8, config | 4) + out32(0xCFC, 5)
    code += out32(MASTER + 4, TABLE) + out8(0x3F6, 0)
    code += bytes.fromhex("6631db 66b9") + struct.pack("<I", count) + out8(0x3F8, ord(">"))
    start = len(code)
    code += out8(MASTER, 8) + out8(MASTER + 2, 6) + out8(0x1F6, 0x40)
    code += out8(0x1F2, sectors >> 8) + from_lba(0x1F3, 24) + out8(0x1F4, 0) + out8(0x1F5, 0)
    code += out8(0x1F2, sectors & 0xFF) + from_lba(0x1F3, 0) + from_lba(0x1F4, 8) + from_lba(0x1F5, 16)
    code += out8(0x1F7, 0x25) + out8(MASTER, 9)
    code += struct.pack("<BH", 0xBA, MASTER + 2) + bytes.fromhex("ec a804 74fb")  # until the interrupt shows
    code += bytes.fromhex("baf701 ec") + bytes.fromhex("6681c3") + struct.pack("<I", sectors) + bytes.fromhex("6649")
    code += b"\x0f\x85" + struct.pack("<h", start - len(code) - 4)
    code += out8(0x3F8, ord("!")) + bytes.fromhex("f4ebfd")
    regions = [(0x10000 + at, min(sectors * 512 - at, 0x10000)) for at in range(0, sectors * 512, 0x10000)]
    table = b"".join(
        struct.pack("<IHH", at, length & 0xFFFF, 0x8000 if n == len(regions) - 1 else 0)
        for n, (at, length) in enumerate(regions)
    )
    assert len(code) <= TABLE - 0x7C00
    return (code.ljust(TABLE - 0x7C00, b"\0") + table).ljust(510, b"\0") + b"\x55\xaa"


def timed(command: list[str]) -> float:
    """Seconds between the two letters on the standard output of *command*."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            moments = {}
            end = time.monotonic() + PATIENCE
            while b"!" not in moments:
                letter = process.stdout.read(1)
                if not letter or time.monotonic() > end:
                    raise SystemExit(f"{command[0]}: ended, or took longer than {PATIENCE} s")
                moments[letter] = time.perf_counter()
            return moments[b"!"] - moments[b">"]
        finally:
            process.kill()


def measure(folder: pathlib.Path, inside: str, sectors: int, size: int) -> tuple[float, float]:
    """MB/s of QEMU and of pyemu."""
    count = (size << 20) // (512 * sectors)
    floppy = "floppy.img"
    rates = []
    for name, ide in (("qemu", QEMU_IDE), ("pyemu", PYEMU_IDE)):
        (folder / floppy).write_bytes(boot_sector(ide, sectors, count).ljust(1440 << 10, b"\0"))
        if name == "qemu":
            command = ["chroot", CHROOT, "qemu-system-i386", "-M", "pc", "-accel", "tcg", "-m", "32", "-nodefaults"]
            command += ["-display", "none", "-serial", "stdio", "-bios", f"/{BIOS}", "-boot", "a"]
            command += ["-drive", f"if=floppy,format=raw,file={inside}/{floppy}"]
            command += ["-drive", f"if=ide,format=raw,file={inside}/disk.img"]
        else:
            command = [sys.executable, "-P", "-m", "pyemu", "run", "-M", "via-pc,firmware=always", "-m", "32M"]
            command += ["--bios", f"{CHROOT}/{BIOS}", "--serial", "stdio", "--drive", f"file={folder}/{floppy},if=floppy"]
            command += ["--drive", f"file={folder}/disk.img,if=ide,index=0"]
        rates.append(count * sectors * 512 / 1e6 / timed(command))
    return rates[0], rates[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.bench_disk", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256, help="of the image, in MiB")
    args = parser.parse_args()
    if not shutil.which("chroot") or not (pathlib.Path(CHROOT) / BIOS).is_file():
        parser.error(f"PYEMU_QEMU_CHROOT={CHROOT!r} is no chroot with QEMU and SeaBIOS in it")
    with tempfile.TemporaryDirectory(dir=pathlib.Path(CHROOT) / "tmp") as name:
        folder = pathlib.Path(name)
        (folder / "disk.img").write_bytes(os.urandom(1 << 20) * args.size)
        for sectors in REQUESTS:
            size = args.size if sectors > 8 else max(args.size // 8, 1)
            rounds = [measure(folder, f"/tmp/{folder.name}", sectors, size) for _ in range(args.rounds)]
            theirs, ours = ([pair[n] for pair in rounds] for n in (0, 1))
            ratio = statistics.median(ours) / statistics.median(theirs)
            both = (("QEMU", theirs), ("pyemu", ours))
            rates = [f"{who} {statistics.median(r):.0f} MB/s ({min(r):.0f}-{max(r):.0f})" for who, r in both]
            print(f"READ DMA of {sectors // 2} KiB: {', '.join(rates)}, {ratio:.2f} times")
    return 0


if __name__ == "__main__":
    sys.exit(main())

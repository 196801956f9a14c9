# SPDX-License-Identifier: MIT
"""Port accesses and SuperIO moves, beside QEMU doing the same work.

    PYEMU_QEMU_CHROOT=/tmp/trixie python -m benchmarks.peers.bench_ports [--rounds N] [--json]

*Ports*: one ROM runs on both, QEMU with TCG on its board ``pc``, pyemu with Unicorn on ``isa-pc``. It prints a
letter on COM1 between loops over the UART, the PIT and CMOS; what is timed is how far apart the letters arrive.
The empty loop is taken off. *Moves*: COM1 goes from 3F8 to 2F8 and back through index and data port of a
VT82C686B, here by calls and through qtest, at QEMU through qtest on its board ``fuloong2e``, if
``qemu-system-mips64el`` is there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from pyemu.testing.board import Board

CHROOT = os.environ.get("PYEMU_QEMU_CHROOT", "")
COUNT = 1_000_000
PATIENCE = 60.0
COM1 = 0x3F8


class Loop(NamedTuple):
    """One loop of the ROM: ``dx`` and the instructions of its body, with the number of port accesses in them."""

    name: str
    dx: int
    body: str
    accesses: int


#: in al, dx / out dx, al / in al, 0x40 / xor al, al; out 0x70, al; in al, 0x71
LOOPS = (
    Loop("empty loop", 0, "", 0),
    Loop("UART data register, read", COM1, "ec", 1),
    Loop("UART scratch register, write", COM1 + 7, "ee", 1),
    Loop("PIT counter, read", 0, "e440", 1),
    Loop("CMOS, index and data", 0, "30c0e670e471", 2),
)
MOVE = "SuperIO move, by call (QEMU: by qtest)"
TARGETS = {"UART data register, read": 2.0, "PIT counter, read": 1.5, "CMOS, index and data": 2.0, MOVE: 5.0}


def rom() -> bytes:
    """64 KiB: prints A, runs a loop, prints B, ... and halts."""
    code = bytearray.fromhex("fa")  # cli
    # PIT channel 0 counts as a PC has it: out 0x43, 0x34; out 0x40, 0; out 0x40, 0
    code += bytes.fromhex("b034e643b000e640e640")
    for n, loop in enumerate(LOOPS):
        code += print_letter(n) + b"\xba" + struct.pack("<H", loop.dx) + b"\x66\xb9" + struct.pack("<I", COUNT)
        body = bytes.fromhex(loop.body) + bytes.fromhex("6649")  # dec ecx
        code += body + bytes((0x75, 256 - len(body) - 2))  # jnz
    code += print_letter(len(LOOPS)) + bytes.fromhex("f4ebfd")  # hlt, again
    image = bytearray(b"\xff" * 0x10000)
    image[: len(code)] = code
    image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")
    return bytes(image)


def print_letter(n: int) -> bytes:
    """mov dx, 0x3f8 / mov al, letter / out dx, al"""
    return b"\xba" + struct.pack("<H", COM1) + bytes((0xB0, ord("A") + n, 0xEE))


def arrivals(command: list[str], image: pathlib.Path, inside: str) -> list[float]:
    """Starts an emulator and notes when each letter comes out."""
    image.write_bytes(rom())
    times: list[float] = []
    with subprocess.Popen([*command, inside], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while len(times) <= len(LOOPS):
                letter = os.read(process.stdout.fileno(), 1)
                if letter != bytes((ord("A") + len(times),)):
                    raise RuntimeError(f"{command[0]}: {letter!r} instead of letter {len(times)}")
                times.append(time.perf_counter())
        finally:
            process.terminate()
    return times


def seconds(times: list[float]) -> dict[str, float]:
    """Seconds for one pass of each loop, the empty one taken off."""
    spans = {loop.name: (end - start) / COUNT for loop, start, end in zip(LOOPS, times, times[1:], strict=False)}
    empty = spans.pop(LOOPS[0].name)
    return {name: max(span - empty, 1e-10) for name, span in spans.items()}


def ports_here() -> dict[str, float]:
    """Seconds a pass, this program."""
    with tempfile.TemporaryDirectory() as folder:
        image = pathlib.Path(folder) / "rom"
        command = [sys.executable, "-P", "-m", "pyemu", "run", "-M", "isa-pc", "-m", "16M", "--cpu", "unicorn"]
        return seconds(arrivals([*command, "--serial", "stdio", "--bios"], image, str(image)))


def ports_qemu() -> dict[str, float]:
    """Seconds a pass, QEMU with TCG."""
    with tempfile.TemporaryDirectory(dir=f"{CHROOT}/tmp") as folder:
        image = pathlib.Path(folder) / "rom"
        command = ["chroot", CHROOT] if CHROOT else []
        command += ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults"]
        inside = f"/{image.relative_to(CHROOT)}" if CHROOT else str(image)
        return seconds(arrivals([*command, "-serial", "stdio", "-bios"], image, inside))


# -- moves ----------------------------------------------------------------------------------------

MOVES = 2_000
#: Moves whose lines are sent together.
TOGETHER = 20
ONE_BY_ONE, AT_ONCE = "SuperIO move, qtest line by line", "SuperIO move, qtest 40 lines at once"
PLACES = (0xBE, 0xFE)


def moves_by_calls() -> float:
    """Seconds a move, index and data write included, without a protocol between."""
    with Board("via-pc") as board:
        open_superio(lambda port, size, value: board.machine.ports.write(port, size, value), 7)

        def go() -> float:
            write = board.machine.ports.write
            start = time.perf_counter()
            for n in range(10 * MOVES):
                write(0x3F0, 1, 0xE7)
                write(0x3F1, 1, PLACES[n & 1])
            return (time.perf_counter() - start) / (10 * MOVES)

        return board.call(go)


def open_superio(write: object, slot: int) -> None:
    """Opens the configuration ports and switches serial 1 on."""
    assert callable(write)
    write(0xCF8, 4, 0x80000000 | slot << 11 | 0x84)
    write(0xCFD, 1, 0x02)
    for index, value in ((0xE7, 0xFE), (0xE2, 0x07)):
        write(0x3F0, 1, index)
        write(0x3F1, 1, value)


class QTest:
    """A qtest connection: one line, one answer."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.lines: TextIO = self.socket.makefile("rw")

    def tell(self, line: str) -> None:
        self.lines.write(line + "\n")
        self.lines.flush()
        answer = self.lines.readline()
        if not answer.startswith("OK"):
            raise RuntimeError(f"{line}: {answer!r}")

    def tell_all(self, lines: list[str]) -> None:
        """Sends all, then takes all answers."""
        self.lines.write("".join(f"{line}\n" for line in lines))
        self.lines.flush()
        for line in lines:
            answer = self.lines.readline()
            if not answer.startswith("OK"):
                raise RuntimeError(f"{line}: {answer!r}")

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@contextlib.contextmanager
def qtest(command: list[str], folder: str, address: str) -> Iterator[QTest]:
    """An emulator that serves qtest at *address*, which is the socket ``qtest`` in *folder*."""
    with subprocess.Popen([*command, address], stdin=subprocess.DEVNULL) as process:
        try:
            connection = QTest(f"{folder}/qtest")
            try:
                yield connection
            finally:
                connection.close()
        finally:
            process.terminate()


def moves_through_qtest() -> dict[str, float]:
    """Seconds a move, this program."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "pyemu", "run", "-M", "via-pc", "--cpu", "none", "--qtest"]
        with qtest(command, folder, f"unix:{folder}/qtest") as connection:

            def write(port: int, size: int, value: int) -> None:
                connection.tell(f"out{'bwxl'[size - 1]} {port:#x} {value:#x}")

            open_superio(write, 7)
            return timed(connection, "outb 0x3f0 0xe7", ["outb 0x3f1 0xbe", "outb 0x3f1 0xfe"])


#: Where the CPU of fuloong2e sees the ports, and its configuration registers.
FULOONG_PORTS, FULOONG_SLOT = 0x1FD00000, 5
BIOS_SIZE = 512 << 10
FULOONG_CONFIG_MAP, FULOONG_CONFIG = 0x1FE00118, 0x1FE80000


def moves_qemu() -> dict[str, float]:
    """Seconds a move, QEMU's fuloong2e; nothing when that emulator is not installed."""
    emulator = "qemu-system-mips64el"
    if not (pathlib.Path(CHROOT or "/") / "usr/bin" / emulator).exists() and (CHROOT or not shutil.which(emulator)):
        return {}
    with tempfile.TemporaryDirectory(dir=f"{CHROOT}/tmp") as folder:
        inside = f"/{pathlib.Path(folder).relative_to(CHROOT)}" if CHROOT else folder
        command = ["chroot", CHROOT] if CHROOT else []
        # A processor that never starts: qtest drives the buses. The board wants some BIOS all the same.
        (pathlib.Path(folder) / "bios").write_bytes(bytes(BIOS_SIZE))
        command += [emulator, "-machine", "fuloong2e,audiodev=none", "-audiodev", "none,id=none", "-accel", "tcg", "-S"]
        command += ["-bios", f"{inside}/bios", "-display", "none", "-nodefaults", "-qtest-log", "/dev/null", "-qtest"]
        with qtest(command, folder, f"unix:{inside}/qtest,server=on,wait=off") as connection:
            # The south bridge's function 0, register 85: a byte through the window of its slot.
            connection.tell(f"writel {FULOONG_CONFIG_MAP:#x} {1 << FULOONG_SLOT + 11 >> 16:#x}")
            connection.tell(f"writeb {FULOONG_CONFIG + (1 << FULOONG_SLOT + 11 & 0xFFFF) + 0x85:#x} 0x02")
            index, data = FULOONG_PORTS + 0x3F0, FULOONG_PORTS + 0x3F1
            lines = [f"writeb {data:#x} 0xbe", f"writeb {data:#x} 0xfe"]
            seconds = timed(connection, f"writeb {index:#x} 0xe7", lines)
            connection.lines.write(f"readb {index:#x}\n")
            connection.lines.flush()
            answer = connection.lines.readline().split()
            if int(answer[1], 0) != 0xE7:
                raise RuntimeError(f"fuloong2e: the configuration ports did not open: {answer}")
            return seconds


def timed(connection: QTest, select: str, places: list[str]) -> dict[str, float]:
    """Seconds a move: each line answered before the next is sent, and many lines sent at once."""
    start = time.perf_counter()
    for n in range(MOVES):
        connection.tell(select)
        connection.tell(places[n & 1])
    waiting = (time.perf_counter() - start) / MOVES
    start = time.perf_counter()
    for _ in range(MOVES // TOGETHER):
        connection.tell_all([select, places[0], select, places[1]] * (TOGETHER // 2))
    return {ONE_BY_ONE: waiting, AT_ONCE: (time.perf_counter() - start) / MOVES}


# -- the table ------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description="Port accesses and SuperIO moves beside QEMU.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--json", action="store_true", help="all measurements as JSON")
    args = parser.parse_args()
    if not (pathlib.Path(CHROOT or "/") / "usr/bin/qemu-system-x86_64").exists():
        parser.error("needs qemu-system-x86_64: on this system, or in the chroot that PYEMU_QEMU_CHROOT names")
    figures: dict[str, dict[str, list[float]]] = {}
    for _ in range(args.rounds):
        # In turn, so that what else the host does meets both.
        for who, found in (("pyemu", ports_here()), ("QEMU", ports_qemu())):
            for name, value in found.items():
                figures.setdefault(name, {}).setdefault(who, []).append(value)
        qemu = moves_qemu()
        moves = {"pyemu": {MOVE: moves_by_calls(), **moves_through_qtest()}, "QEMU": qemu}
        if qemu:
            moves["QEMU"] = {MOVE: qemu[ONE_BY_ONE], **qemu}
        for who, found in moves.items():
            for name, value in found.items():
                figures.setdefault(name, {}).setdefault(who, []).append(value)
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    print(f"{'':40} {'pyemu':>24} {'QEMU':>24}  factor")
    for name, both in figures.items():
        shown = [f"{statistics.median(v) * 1e9:9.0f} ns ({min(v) * 1e9:.0f}-{max(v) * 1e9:.0f})" for v in both.values()]
        factor = f"{statistics.median(both['QEMU']) / statistics.median(both['pyemu']):6.2f}" if len(both) == 2 else ""
        target = f"  (target {TARGETS[name]})" if name in TARGETS else ""
        print(f"{name:40} " + " ".join(f"{text:>24}" for text in shown) + f"  {factor}{target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

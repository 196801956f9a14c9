# SPDX-License-Identifier: MIT
"""Chips in Python that guests keep busy: SuperIO moves, USB frames, PCI configuration space."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

from pyemu.testing.bench import Benchmark
from pyemu.testing.board import SLOT, Board

MOVES, FRAMES = 5_000, 2_000
PLACES = (0xBE, 0xFE)
QUEUE, LIST, UHCI = 0x2000, 0x10000, 0xC000


def moves() -> float:
    """Seconds that COM1's way to another base takes, index and data port included."""
    with Board("via-pc") as board:
        board.set_cfg(0, 0x85, 0x02)
        board.sio(0xE7, PLACES[1])
        board.sio(0xE2, 0x07)

        def go() -> float:
            write = board.machine.ports.write
            start = time.perf_counter()
            for n in range(MOVES):
                write(0x3F0, 1, 0xE7)
                write(0x3F1, 1, PLACES[n & 1])
            return (time.perf_counter() - start) / MOVES

        return board.call(go)


def frames() -> float:
    """Seconds a USB frame takes in which a keyboard has nothing to say: a thousand of them are due each second."""
    with Board("via-pc") as board:
        board.set_cfg(2, 0x20, UHCI, 4)
        board.set_cfg(2, 0x04, 0x0005, 2)

        def go() -> float:
            machine = board.machine
            machine.create_device("usb-kbd", machine.buses["usb"])
            active = 1 << 23
            machine.memory.write(QUEUE, struct.pack("<2I", 1, QUEUE + 32))
            machine.memory.write(QUEUE + 32, struct.pack("<4I", 1, active, 0x69 | 1 << 15 | 7 << 21, 0x3000))
            machine.memory.write(LIST, struct.pack("<I", QUEUE | 2) * 1024)
            machine.ports.write(UHCI + 8, 4, LIST)
            machine.ports.write(UHCI + 0x10, 2, 4)
            machine.ports.write(UHCI, 2, 1)
            start = time.perf_counter()
            machine.clock.advance(FRAMES * 1_000_000)
            return (time.perf_counter() - start) / FRAMES

        return board.call(go)


def configuration_reads() -> float:
    """Seconds that a dword of PCI configuration space takes, address write included."""
    with Board("via-pc") as board:

        def go() -> float:
            ports = board.machine.ports
            start = time.perf_counter()
            for _ in range(MOVES):
                ports.write(0xCF8, 4, 0x80000000 | SLOT << 11)
                ports.read(0xCFC, 4)
            return (time.perf_counter() - start) / MOVES

        return board.call(go)


def benchmarks() -> Iterator[Benchmark]:
    yield Benchmark("chips: SuperIO move", moves)
    yield Benchmark("chips: USB frame with one idle keyboard", frames)
    yield Benchmark("chips: PCI configuration read", configuration_reads)

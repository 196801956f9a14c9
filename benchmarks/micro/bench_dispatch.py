# SPDX-License-Identifier: MIT
"""Port dispatch from C on a fully mapped via-pc, and moving a function."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

from pyemu import Machine, PortioEntry, PortioList, PortSpace
from pyemu.testing._probe import port_reads, port_writes
from pyemu.testing.bench import Benchmark

LINE_STATUS, SCRATCH, PYTHON_PORT, NOTHING = 0x3FD, 0x3FF, 0x2F0, 0x300
ACCESSES, MOVES = 200_000, 2_000
#: SuperIO bases to move between; both free on the board.
THERE, BACK = 0x100, 0x108


def _eight_ports(name: str) -> PortioList:
    entry = PortioEntry(0, 8, 1, read=lambda offset, size: offset, write=lambda offset, size, value: None)
    return PortioList(name, (entry,), name)


def _move(ports: PortioList) -> float:
    move = ports.set_address
    start = time.perf_counter()
    for _ in range(MOVES):
        move(THERE)
        move(BACK)
    return (time.perf_counter() - start) / (2 * MOVES)


@functools.cache
def board() -> PortSpace:
    """The ports of a via-pc whose serial ports are on, with a Python device beside them."""
    machine = Machine("via-pc", memory="16M", cpu="none", properties={"reset-style": "qemu"})
    entry = PortioEntry(0, 1, 1, lambda offset, size: 0x60, lambda offset, size, value: None)
    PortioList("python", (entry,), "python").add(machine.ports, PYTHON_PORT)
    return machine.ports


def benchmarks() -> Iterator[Benchmark]:
    space = board()
    for what, port, count in (
        ("UART line status", LINE_STATUS, ACCESSES),
        ("a Python device", PYTHON_PORT, ACCESSES // 20),
        ("an unassigned port", NOTHING, ACCESSES),
    ):
        yield Benchmark(
            f"dispatch: read from C, {what}", lambda p=port, n=count: void(port_reads(space, p, 1, n)), count
        )
    for what, port, count in (
        ("UART scratch", SCRATCH, ACCESSES),
        ("a Python device", PYTHON_PORT, ACCESSES // 20),
        ("an unassigned port", NOTHING, ACCESSES),
    ):
        yield Benchmark(
            f"dispatch: write from C, {what}", lambda p=port, n=count: port_writes(space, p, 1, 0x55, n), count
        )

    one = _eight_ports("mover")
    one.add(space, BACK)
    yield Benchmark(
        "dispatch: move an 8-port function, via-pc fully mapped", lambda: _move(one), target=2e-6
    )
    # The same on a space where every other port is taken as well.
    crowd = [_eight_ports(f"crowd{n}") for n in range(0x1000, 0x10000, 8)]
    moved = {"figure": 0.0}

    def crowded() -> float:
        alone = _move(one)
        for n, ports in enumerate(crowd):
            ports.add(space, 0x1000 + 8 * n)
        moved["figure"] = _move(one)
        for ports in crowd:
            ports.remove()
        return moved["figure"] / alone

    yield Benchmark(
        f"dispatch: move with {8 * len(crowd)} more ports mapped / without", crowded,
        unit="x", target=1.25, less_is_better=True,
    )  # fmt: skip


def void(value: object) -> None:
    """Drops a value: what a benchmark returns would be taken for its figure."""

# SPDX-License-Identifier: MIT
"""A guest that does anything at all to a board's ports: nothing raises, nothing stops the machine, nothing piles up."""

from __future__ import annotations

import os
import random
import resource
import sys

import pytest

import pyemu
from pyemu.machine import Machine
from pyemu.testing.board import CONFIG_ADDRESS, CONFIG_DATA, SLOT, Board

#: Accesses of one run. More of them for a long search: PYEMU_HOSTILE_ACCESSES=5000000 pytest tests/chips/test_hostile.py
ACCESSES = int(os.environ.get("PYEMU_HOSTILE_ACCESSES", "20000"))
SEED = int(os.environ.get("PYEMU_HOSTILE_SEED", "1"))
#: What the process may grow by: buffers of devices have their limits.
GROWTH = 64 << 20


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def mapped(board):
    return [p for r in board.machine.ports.regions() for p in range(r.start, r.start + r.length)]


def torment(board, chance, count):
    """On the machine's thread: *count* accesses, most of them to ports where something is, or was."""
    ports, clock = board.machine.ports, board.machine.clock
    known = mapped(board)
    for n in range(count):
        size = chance.choice((1, 1, 1, 2, 4))
        kind = chance.random()
        if kind < 0.1:
            register = chance.getrandbits(8) & 0xFC
            slot = SLOT if chance.random() < 0.8 else chance.getrandbits(5)
            ports.write(CONFIG_ADDRESS, 4, 0x80000000 | slot << 11 | chance.getrandbits(3) << 8 | register)
            port = CONFIG_DATA + chance.randrange(4)
        elif kind < 0.95:
            port = chance.choice(known)
        else:
            port = chance.getrandbits(16)
        if chance.random() < 0.5:
            value = ports.read(port, size)
            assert 0 <= value < 1 << 8 * size
        else:
            ports.write(port, size, chance.getrandbits(8 * size))
        if n % 20 == 0:
            clock.advance(chance.randrange(1, 1_000_000))
        if n % 1000 == 0:
            known = sorted({*known, *mapped(board)})
            fault = board.machine.take_fault()
            assert fault is None, f"access {n} (seed {SEED}): {fault}"


@pytest.fixture
def images(tmp_path):
    sizes = {"ide": 1 << 20, "floppy": 1474560}
    for kind, size in sizes.items():
        (tmp_path / kind).write_bytes(random.Random(size).randbytes(size))
    return [f"file={tmp_path / kind},if={kind},index=0,snapshot=on" for kind in sizes]


@pytest.fixture
def unraisable(monkeypatch):
    """What compiled code could not hand on to a caller."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: found.append(repr(args.exc_value)))
    return found


@pytest.mark.parametrize("name", ["via-pc", "isa-pc"])
def test_random_port_accesses(name, images, unraisable):
    machine = Machine(name, cpu="none", clock="step", memory="2M", drives=images)
    with Board(machine=machine) as board:
        chance = random.Random(SEED)
        board.call(lambda: torment(board, chance, 1000))
        before = resident()
        board.call(lambda: torment(board, chance, ACCESSES))
        assert resident() - before < GROWTH
        assert machine.fault is None
        assert unraisable == []
        board.call(machine.reset)
        board.call(lambda: torment(board, chance, 1000))
        assert machine.fault is None


@pytest.mark.parametrize("name", ["via-pc", "isa-pc"])
def test_a_machine_can_be_saved_whatever_its_guest_did(name, images, tmp_path):
    path = tmp_path / "saved"
    chance = random.Random(SEED)
    with Board(machine=Machine(name, cpu="none", clock="step", memory="2M", drives=images)) as board:
        for _ in range(ACCESSES // 5000):
            board.call(lambda: torment(board, chance, 400))
            board.machine.save(path)
            with pyemu.restore(path, host_files=True) as copy:
                assert copy.call(lambda: states(copy)) == board.call(lambda: states(board.machine))
                assert sorted(mapped(Board(machine=copy))) == sorted(mapped(board))


def states(machine):
    """What each device would put into a stream."""
    for device in machine.devices.values():
        device.pre_save()
    return {id: device.vmstate.encode(device) for id, device in machine.devices.items() if device.vmstate is not None}

# SPDX-License-Identifier: MIT
"""Whole boards under random accesses: no device fails, none forgets state, a loaded machine is the same."""

from __future__ import annotations

import io
import random

import pytest

from pyemu.device import RegisterBlock
from pyemu.testing.board import SLOT, Board

BOARDS = [
    ("via-pc", {"southbridge": "vt82c686b"}),
    ("via-pc", {"southbridge": "vt8231", "firmware": "always", "vga": "on"}),
    ("isa-pc", {"config": 12, "vga": "on"}),
]
ACCESSES = 3000


def exercise(board, seed):
    """Random reads and writes, at mapped ports and in configuration space, and time that passes."""
    chance = random.Random(seed)
    ports, clock = board.machine.ports, board.machine.clock
    for device in board.machine.devices.values():
        if hasattr(device, "on_reset"):
            device.on_reset = None  # a reset would wipe out what the accesses did

    def go():
        for _ in range(ACCESSES):
            size = chance.choice((1, 1, 1, 2, 4))
            value = chance.getrandbits(8 * size)
            if chance.random() < 0.3:
                register = chance.randrange(0, 256, size)
                ports.write(0xCF8, 4, 0x80000000 | SLOT << 11 | chance.randrange(8) << 8 | register & 0xFC)
                port = 0xCFC + (register & 3)
            elif chance.random() < 0.2:
                port = chance.choice((0x3F0, 0x3F1, 0x398, 0x399))
            else:
                region = chance.choice(ports.regions())
                port = chance.randrange(region.start, region.start + region.length)
            if chance.random() < 0.5:
                ports.read(port, size)
            else:
                ports.write(port, size, value)
            if chance.random() < 0.02:
                clock.advance(chance.randrange(1, 2_000_000))

    board.call(go)


def sections(board):
    def encode():
        out = {}
        for section in board.machine.sections():
            if section.pre_save is not None:
                section.pre_save()
            out[section.name, section.instance_id] = section.state.encode(section.obj)
        return out

    return board.call(encode)


def load(board, saved, now):
    def decode():
        board.machine.clock.set_ns(now)
        for section in board.machine.sections():
            stream = io.BytesIO(saved[section.name, section.instance_id])

            def peek(n, stream=stream):
                at = stream.tell()
                found = stream.read(n)
                stream.seek(at)
                return found

            section.state.decode(section.obj, stream.read, section.state.version, peek)
            if section.post_load is not None:
                section.post_load(section.state.version)

    board.call(decode)


def port_map(board):
    return board.call(lambda: sorted((r.start, r.length) for r in board.machine.ports.regions()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "properties"), BOARDS)
def test_after_random_accesses_a_loaded_machine_is_the_same(name, properties, seed):
    with Board(name, **properties) as board, Board(name, **properties) as twin:
        exercise(board, seed)
        saved = sections(board)
        load(twin, saved, board.machine.clock.now_ns)
        again = sections(twin)
        assert [key for key in saved if saved[key] != again[key]] == []
        assert port_map(twin) == port_map(board)


@pytest.mark.parametrize(("name", "properties"), BOARDS)
def test_reset_brings_back_the_map_of_a_new_machine(name, properties):
    with Board(name, **properties) as board, Board(name, **properties) as fresh:
        exercise(board, 7)
        board.machine.reset()
        assert port_map(board) == port_map(fresh)


def plain_attributes(device):
    """Copies of what a device's Python half holds, the contents of its register blocks included."""
    out = {}
    for name, value in vars(device).items():
        if isinstance(value, RegisterBlock):
            value = bytes(value.data)
        elif isinstance(value, (bytearray, list, dict, set)):
            value = type(value)(value)
        out[name] = value
    return out


@pytest.mark.parametrize(("name", "properties"), BOARDS)
def test_every_attribute_that_changes_is_declared(name, properties):
    with Board(name, **properties) as board:
        devices = board.machine.devices
        before = {id: plain_attributes(device) for id, device in devices.items()}
        seen = set()
        for seed in range(4):
            exercise(board, seed)
            for id, device in devices.items():
                now = plain_attributes(device)
                declared = device.volatile_attributes() | (device.vmstate.attributes() if device.vmstate else set())
                changed = {key for key in now if now[key] != before[id].get(key)}
                seen |= {(id, key) for key in changed}
                assert sorted(changed - declared) == [], id
        assert len(seen) > 20, "the accesses reach the devices"

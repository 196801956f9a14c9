# SPDX-License-Identifier: MIT
"""Hostile guests: random port, PCI and DMA accesses on every board end with no exception, no hang, no growing memory.

A short run is part of the default; a million accesses a board are ``pytest -m fuzz``. A seed that failed
fails again: ``PYEMU_FUZZ_SEED=N``.
"""

from __future__ import annotations

import os
import random
import struct

import pytest
from plugins.test_boards_fuzz import load, port_map, sections

from pyemu import Machine
from pyemu.testing.board import SLOT, Board

BOARDS = {
    "vt82c686a": ("via-pc", {"southbridge": "vt82c686a"}),
    "vt82c686b": ("via-pc", {"southbridge": "vt82c686b", "firmware": "always"}),
    "vt8231": ("via-pc", {"southbridge": "vt8231", "firmware": "always"}),
    "vt82c686b-qemu": ("via-pc", {"southbridge": "vt82c686b", "reset-style": "qemu", "wide-access": "qemu"}),
    **{f"pc87312-{n}": ("isa-pc", {"config": str(n)}) for n in (1, 4, 31)},
}
SEED = int(os.environ.get("PYEMU_FUZZ_SEED", "1"))
MEMORY = 4 << 20
#: Where the lists that bus masters are pointed at lie: small numbers, so that random bytes often hit them.
LISTS = range(0x1000, 0x2000)
#: Set-up packets, and commands of a disk.
PACKETS = [
    bytes.fromhex(text)
    for text in (
        "8006000100001200", "8006000200000001", "0005010000000000", "0005020000000000", "0009010000000000",
        "a1fe000000000100", "21ff000000000000", "0201000082000000", "2109000200000100",
        "55534243010000000002000080000a280000000000000001" + "00" * 8,
        "55534243020000000002000000000a2a0000000000000001" + "00" * 8,
        "55534243030000002400000080000612000000240000" + "00" * 9,
    )
]  # fmt: skip
#: What may stay behind of a run: caches that are filled once. Much less than a byte an access.
GROWTH = 16 << 20


def machine(name, properties, folder):
    """A board with everything plugged in that a guest can talk to."""
    images = {}
    for kind, size in (("ide", 1 << 20), ("floppy", 1474560), ("none", 1 << 18)):
        images[kind] = folder / kind
        images[kind].write_bytes(bytes(size))
    drives = [f"file={images[kind]},if={kind},snapshot=on" for kind in ("ide", "floppy")]
    devices = []
    if name == "via-pc":
        disk = ("usb-storage", {"drive": f"file={images['none']},snapshot=on"})
        devices = ["usb-kbd", disk, "usb-kbd", "smbus-eeprom,address=0x60"]
    return Machine(name, cpu="none", clock="step", memory=MEMORY, properties=properties, drives=drives, devices=devices)


class Guest:
    """One that does whatever comes to its mind, mostly where something answers."""

    def __init__(self, board, seed):
        self.board, self.chance = board, random.Random(seed)
        self.ports, self.memory, self.clock = board.machine.ports, board.machine.memory, board.machine.clock
        self.regions = []

    def run(self, accesses):
        chance = self.chance
        for n in range(accesses):
            if n % 64 == 0:
                self.regions = self.ports.regions()
            what = chance.random()
            if what < 0.05:
                self.fill_lists()
            elif what < 0.08:
                chance.choice((self.start_usb, self.start_audio, self.start_smbus, self.start_ecp))()
            elif what < 0.25:
                self.configure()
            elif what < 0.27:
                self.clock.advance(chance.choice((1, 1000, 1_000_000, 20_000_000)))
            else:
                self.touch(self.somewhere())

    def somewhere(self):
        chance = self.chance
        if chance.random() < 0.1:
            return chance.choice((0x3F0, 0x3F1, 0x398, 0x399))
        if chance.random() < 0.05:
            return chance.randrange(0x10000)
        region = chance.choice(self.regions)
        return chance.randrange(region.start, region.start + region.length)

    def value(self, size):
        """Any bits, or an address of a list."""
        if size == 4 and self.chance.random() < 0.5:
            return self.chance.choice(LISTS) & ~0xFF
        return self.chance.getrandbits(8 * size)

    def touch(self, port):
        size = self.chance.choice((1, 1, 1, 2, 4))
        if self.chance.random() < 0.4:
            self.ports.read(port, size)
        else:
            self.ports.write(port, size, self.value(size))

    def configure(self):
        """Configuration space; often with the bits that let functions decode and master."""
        chance = self.chance
        register = chance.choice((0x04, 0x04, 0x10, 0x20, 0x40, 0x48, 0x90, 0xD0, chance.randrange(0, 256, 4)))
        self.ports.write(0xCF8, 4, 0x80000000 | SLOT << 11 | chance.randrange(8) << 8 | register)
        if register == 0x04:
            self.ports.write(0xCFC, 2, chance.choice((0x0005, 0x0007, 0x0000, chance.getrandbits(16))))
        elif register in (0x10, 0x20, 0x48, 0x90):
            self.ports.write(0xCFC, 4, chance.choice((0x4000, 0x5000, 0x6000, 0xC000, 0xE000, chance.getrandbits(16))))
        else:
            self.touch(0xCFC + chance.randrange(4))

    def fill_lists(self):
        """Descriptors as a USB controller expects them, more or less, with data that a device might understand."""
        chance = self.chance
        at = chance.choice(LISTS) & ~0xF
        if chance.random() < 0.3:
            words = [chance.getrandbits(32) for _ in range(4)]
        else:
            link = LISTS.start + chance.randrange(0, len(LISTS), 16) | chance.choice((0, 0, 4, 1, 2))
            token = chance.choice((0x69, 0xE1, 0x2D)) | chance.randrange(3) << 8 | chance.choice((0, 0, 1, 2)) << 15
            length = chance.choice((7, 7, 30, 63, 0x7FF))
            words = [link, 1 << 23 | chance.getrandbits(2) << 24, token | length << 21, 0xA000 + chance.randrange(0, 0x1000, 64)]
        self.memory.write(at, struct.pack("<4I", *words))
        data = bytearray(chance.choice(PACKETS))
        if chance.random() < 0.3:
            data[chance.randrange(len(data))] = chance.getrandbits(8)
        self.memory.write(0xA000 + chance.randrange(0, 0x1000, 64), bytes(data))

    def ready(self, name, function, register, base):
        """Where a base register of a PCI function decodes, after its bridge hides nothing and it may master; or None."""
        device = self.board.machine.devices.get(name)
        if device is None:
            return None
        for at, where, value, size in (
            (0, 0x48, 0, 1), (0, 0x50, 0x06, 1), (0, 0x85, 0x02, 1), (function, register, base, 4), (function, 4, 5, 2),
        ):  # fmt: skip
            self.ports.write(0xCF8, 4, 0x80000000 | SLOT << 11 | at << 8 | where & 0xFC)
            self.ports.write(0xCFC + (where & 3), size, value)
        return device.bar_address((register - 0x10) // 4)

    def start_usb(self):
        """Both controllers' ports enabled and schedules running."""
        for _ in range(30):
            self.fill_lists()
        for function, name in ((2, "via-uhci"), (3, "via-uhci.1")):
            at = self.ready(name, function, 0x20, 0xC000 + 0x20 * function)
            if at is None:
                continue
            links = [LISTS.start + self.chance.randrange(0, len(LISTS), 16) | self.chance.choice((0, 2)) for _ in range(16)]
            self.memory.write(0x10000, struct.pack("<16I", *links) * 64)
            self.ports.write(at + 8, 4, 0x10000)
            for port in (0x10, 0x12):
                self.ports.write(at + port, 2, self.chance.choice((4, 4, 4, 0x200)))
            self.ports.write(at + 4, 2, 0xF)
            self.ports.write(at, 2, 1)
            self.clock.advance(self.chance.choice((1_000_000, 5_000_000)))

    def start_audio(self):
        at = self.ready("via-ac97", 5, 0x10, 0xE000)
        if at is not None:
            self.ports.write(at + 4, 4, self.chance.choice(LISTS))
            self.ports.write(at + 2, 1, self.chance.getrandbits(8))
            self.ports.write(at + 0x80, 4, self.chance.getrandbits(24))
            self.ports.write(at + 1, 1, 0x80)
            self.clock.advance(self.chance.choice((1_000_000, 30_000_000)))

    def start_smbus(self):
        power = self.board.machine.devices.get("via-pm")
        if power is not None and power.smbus_ports.enabled:
            base = power.smbus_ports.address
            self.ports.write(base + 4, 1, self.chance.choice((0xA0, 0xA1, 0xC0, 0xC1, self.chance.getrandbits(8))))
            self.ports.write(base + 5, 1, self.chance.randrange(40))
            self.ports.write(base + 2, 1, 0x40 | self.chance.getrandbits(6))

    def start_ecp(self):
        port = self.board.machine.devices["isa-parallel"]
        if port.extended.enabled:
            base = port.iobase
            self.ports.write(base + 0x402, 1, self.chance.getrandbits(8))
            self.ports.write(base + 0x400, 1, self.chance.getrandbits(8))
            for at, value in ((0x0B, 0x40 | self.chance.getrandbits(5) & 0x1C | 3), (0x07, 0x20), (0x07, 0), (0x0A, 3)):
                self.ports.write(at, 1, value)


def resident():
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def fuzz(name, folder, accesses):
    board_name, properties = BOARDS[name]
    with Board(machine=machine(board_name, properties, folder)) as board:
        for device in board.machine.devices.values():
            for wish in ("on_reset", "power_off"):
                if hasattr(device, wish):
                    setattr(device, wish, None)  # the machine is to stay
        guest = Guest(board, SEED)
        board.call(lambda: guest.run(accesses // 2))
        before = resident()
        board.call(lambda: guest.run(accesses // 2))
        assert resident() - before < GROWTH
        board.machine.reset()
        for device in board.machine.devices.values():
            board.call(device.register_values)


@pytest.mark.parametrize("name", ["vt82c686b", "pc87312-1"])
def test_a_hostile_guest_for_a_moment(name, tmp_path):
    fuzz(name, tmp_path, 1_000)


def test_after_a_hostile_guest_a_loaded_machine_is_the_same(tmp_path):
    name, properties = BOARDS["vt82c686b"]
    with Board(machine=machine(name, properties, tmp_path)) as board, Board(machine=machine(name, properties, tmp_path)) as twin:
        board.call(lambda: Guest(board, SEED).run(800))
        saved = sections(board)
        load(twin, saved, board.machine.clock.now_ns)
        again = sections(twin)
        assert [key for key in saved if saved[key] != again[key]] == []
        assert port_map(twin) == port_map(board)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", BOARDS)
def test_a_hostile_guest_for_a_million_accesses(name, tmp_path):
    fuzz(name, tmp_path, 1_000_000)

# SPDX-License-Identifier: MIT
"""A disk and a CD-ROM drive under a driver that has gone mad: nothing raises, and a loaded channel goes on alike."""

import random

import pytest
from chips.ide_driver import BASE, CONTROL, MEMORY, Driver

from pyemu.chips._ide_commands import COMMANDS
from pyemu.chips._packet import PACKETS
from pyemu.device import BlockBackend

STEPS = 1500


@pytest.fixture
def drives(tmp_path):
    opened = []
    for name, media in (("disk", "disk"), ("cd", "cdrom")):
        path = tmp_path / name
        path.write_bytes(random.Random(9).randbytes(1 << 18))
        opened.append(BlockBackend(path, interface="ide", media=media, snapshot=media == "disk"))
    yield opened
    for drive in opened:
        drive.close()


def step(ide, chance):
    """One thing that a driver does, sensible or not."""
    match chance.randrange(9):
        case 0:
            if chance.random() < 0.7:
                ide.lba28(chance.randrange(512), chance.randrange(1, 20), device=chance.randrange(2))
            ide.write(BASE + 7, chance.choice([*COMMANDS, 0xA0, 0xA0, 0xA0, 0xC8, 0xCA, 0x25, chance.randrange(256)]))
        case 1 | 2:
            ide.write(BASE + chance.randrange(1, 7), chance.choice((0, 1, 4, 0x10, 0x40, 0x50, 0xF0, chance.randrange(256))))
        case 3:
            for _ in range(chance.choice((1, 6, 256))):
                ide.read(BASE, chance.choice((1, 2, 4)))
        case 4:
            packet = bytes((chance.choice([*PACKETS]), 0, chance.choice((0, 0x2A, 0x3F)), 0, 0, chance.randrange(140), 0))
            packet += bytes((chance.choice((0, 0, 1)), chance.randrange(20), chance.choice((0, 0x10, 9)), 0, 0))
            ide.give(packet)
        case 5:
            ide.give(chance.randbytes(chance.choice((2, 512))))
        case 6:
            regions = [(MEMORY + chance.randrange(0, 0x80000), chance.randrange(0x10000)) for _ in range(chance.randrange(1, 4))]
            ide.regions(*regions, end=chance.random() < 0.9)
        case 7:
            ide.master.write(chance.choice((0, 0, 2)), chance.choice((0, 1, 8, 9, 9, 9, 6)))
        case 8:
            if chance.random() < 0.1:
                ide.write(CONTROL, chance.choice((0, 2, 4, 0, 0x80)))
            else:
                ide.fixture.clock.advance(1)
    return ide.read(CONTROL), ide.irq


@pytest.mark.parametrize("seed", range(2))
def test_a_driver_that_has_gone_mad(drives, seed):
    ide, chance = Driver(*drives), random.Random(seed)
    seen = set()
    for _ in range(STEPS):
        step(ide, chance)
        seen.add((ide.chip.command, ide.chip.phase))
        assert ide.chip.remaining <= 0x10000
    assert len({phase for _, phase in seen}) == 5, "every kind of transfer was under way"
    other = Driver(*drives)
    other.fixture.memory.write(0, ide.fixture.memory.read(0, 1 << 20))
    other.fixture.clock.advance(ide.fixture.clock.now_ns)
    other.load(ide.save())
    assert other.save() == ide.save()
    state = chance.getstate()
    answers = []
    for one in (ide, other):
        chance.setstate(state)
        # Only reads of the disk from here on: the two share it.
        answers.append([(one.read(BASE + chance.randrange(8)), one.irq) for _ in range(300)])
    assert answers[0] == answers[1]

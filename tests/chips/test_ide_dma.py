# SPDX-License-Identifier: MIT
"""DMA through the bus master, and commands with 48-bit addresses."""

from __future__ import annotations

import random
import struct

import pytest
from chips.ide_driver import (
    ACTIVE,
    COMMAND,
    CONTROL,
    COUNT,
    DRQ,
    ERR,
    FEATURES,
    INTERRUPT,
    MEMORY,
    READY,
    STATUS,
    TABLE,
    Driver,
)

from pyemu.device import BlockBackend
from pyemu.errors import MigrationError

READ_DMA, WRITE_DMA, READ_DMA_EXT, WRITE_DMA_EXT = 0xC8, 0xCA, 0x25, 0x35
SECTORS = 2048
CONTENT = random.Random(3).randbytes(SECTORS * 512)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("dma") / "disk.img"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def image(path):
    with BlockBackend(path, interface="ide", snapshot=True) as image:
        yield image


@pytest.fixture
def ide(image):
    return Driver(image)


def memory(ide, length, at=MEMORY):
    return ide.fixture.memory.read(at, length)


# -- transfers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["command", "bus master"])
def test_sectors_reach_memory_whoever_is_started_first(ide, first):
    ide.regions((MEMORY, 3 * 512))
    steps = [lambda: ide.write(COMMAND, READ_DMA), ide.start]
    ide.lba28(100, 3)
    for step in steps if first == "command" else reversed(steps):
        assert (ide.irq, ide.master.read(2) & INTERRUPT) == (0, 0)
        step()
    assert memory(ide, 3 * 512 + 1) == CONTENT[100 * 512 : 103 * 512] + b"\0"
    assert (ide.irq, ide.master.read(2)) == (1, INTERRUPT)
    assert (ide.status(), ide.irq, ide.read(COUNT)) == ((READY, 0), 0, 0)
    ide.master.write(2, INTERRUPT)
    assert ide.master.read(2) == 0


def test_sectors_come_from_memory(ide, image):
    data = random.Random(4).randbytes(5 * 512)
    ide.fixture.memory.write(MEMORY, data)
    ide.regions((MEMORY, 1000), (MEMORY + 1000, 1560))
    ide.lba28(7, 5)
    ide.write(COMMAND, WRITE_DMA)
    assert ide.read(CONTROL) & DRQ
    ide.start(to_memory=False)
    assert (ide.status(), ide.master.read(2)) == ((READY, 0), INTERRUPT)
    assert image.read(0, image.size) == CONTENT[: 7 * 512] + data + CONTENT[12 * 512 :]


def test_regions_of_any_length_and_place(ide):
    lengths = [2, 510, 6, 1022, 4094, 65536 - 5634 + 1024]
    places, at = [], MEMORY
    for length in lengths:
        places.append((at, length))
        at += length + 16
    count = sum(lengths) // 512
    ide.regions(*places)
    ide.lba28(11, count)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    ide.settle()
    assert b"".join(memory(ide, length, at) for at, length in places) == CONTENT[11 * 512 :][: sum(lengths)]
    assert memory(ide, 16, MEMORY + 2) == bytes(16)


def test_a_region_of_length_0_is_64_kib(ide):
    ide.regions((MEMORY, 0))
    ide.lba28(0, 128)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    assert memory(ide, 65536) == CONTENT[:65536]
    assert ide.master.read(2) == INTERRUPT


def test_a_table_with_places_left_stays_active(ide):
    ide.regions((MEMORY, 4096))
    ide.lba28(0, 1)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    assert ide.master.read(2) == INTERRUPT | ACTIVE
    ide.master.write(0, 0)
    assert ide.master.read(2) == INTERRUPT


def test_a_table_that_is_too_short_leaves_the_disk_waiting(ide):
    ide.regions((MEMORY, 1024))
    ide.lba28(0, 4)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    ide.settle()
    assert (ide.master.read(2), ide.irq, ide.read(CONTROL)) == (0, 0, READY | DRQ)
    assert memory(ide, 2048) == CONTENT[:1024] + bytes(1024)
    ide.write(CONTROL, 4)
    ide.write(CONTROL, 0)
    assert ide.status() == (READY, 1)


def test_a_long_transfer_takes_several_steps(ide):
    ide.regions(*[(MEMORY + 0x10000 * n, 0) for n in range(10)])
    ide.lba48(256, 1280)
    ide.write(COMMAND, READ_DMA_EXT)
    ide.start()
    assert (ide.irq, ide.chip.remaining, ide.master.read(2)) == (0, 1024, ACTIVE)
    ide.fixture.clock.advance(1)
    assert ide.chip.remaining == 768
    ide.settle()
    assert (ide.irq, ide.master.read(2)) == (1, INTERRUPT)
    assert memory(ide, 1280 * 512) == CONTENT[256 * 512 : 1536 * 512]


def test_tiny_regions_take_more_steps_not_longer_ones(ide):
    ide.fixture.memory.write(TABLE, struct.pack("<II", MEMORY, 2) * 4096)
    ide.regions((MEMORY, 2), end=False)
    ide.lba28(0, 16)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    assert ide.chip.remaining == 12, "1024 descriptors of two bytes are four sectors"
    ide.settle()
    assert ide.chip.remaining == 0
    assert memory(ide, 2) == CONTENT[16 * 512 - 2 : 16 * 512]


def test_a_table_outside_memory_ends_somewhere(ide):
    for n, value in enumerate(struct.pack("<I", 0xFFFFFFF0)):
        ide.master.write(4 + n, value)
    ide.lba28(0, 0)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    ide.settle()
    assert not ide.chip.dma_timer.armed


def test_without_permission_nothing_moves_until_it_comes(ide):
    ide.allowed = False
    ide.regions((MEMORY, 512))
    ide.lba28(0)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    assert (ide.irq, memory(ide, 512)) == (0, bytes(512))
    ide.allowed = True
    ide.master.go()
    assert (ide.irq, memory(ide, 512)) == (1, CONTENT[:512])


def test_the_wrong_direction_moves_nothing(ide, image):
    ide.regions((MEMORY, 512))
    ide.lba28(0)
    ide.write(COMMAND, READ_DMA)
    ide.start(to_memory=False)
    assert (ide.irq, memory(ide, 512)) == (0, bytes(512))


def test_stopped_in_the_middle(ide):
    ide.regions(*[(MEMORY + 0x10000 * n, 0) for n in range(8)])
    ide.lba48(0, 1024)
    ide.write(COMMAND, READ_DMA_EXT)
    ide.start()
    ide.master.write(0, 0)
    ide.settle()
    assert (ide.irq, ide.chip.remaining, ide.master.read(2)) == (0, 768, 0)


@pytest.mark.parametrize("command", [READ_DMA, WRITE_DMA, READ_DMA_EXT, WRITE_DMA_EXT])
def test_without_a_bus_master_there_is_no_dma(image, command):
    ide = Driver(image, dma=False)
    ide.lba48(0)
    ide.write(COMMAND, command)
    assert ide.status() == (READY | ERR, 4)


def test_past_the_end(ide):
    ide.regions((MEMORY, 4096))
    ide.lba28(SECTORS - 2, 8)
    ide.write(COMMAND, READ_DMA)
    ide.start()
    ide.settle()
    assert ide.status() == (READY | ERR, 0x10)
    assert memory(ide, 1536) == CONTENT[-1024:] + bytes(512)


def test_an_image_that_cannot_be_read(ide, image, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(image, "read_into", fail)
    monkeypatch.setattr(image, "write", fail)
    for command, error, to_memory in ((READ_DMA, 0x40, True), (WRITE_DMA, 0x04, False)):
        ide.regions((MEMORY, 512))
        ide.lba28(0)
        ide.write(COMMAND, command)
        ide.start(to_memory)
        assert ide.status() == (READY | ERR, error)


def test_an_interrupt_of_a_pio_command_shows_too(ide):
    ide.write(CONTROL, 2)
    ide.lba28(0)
    ide.write(COMMAND, 0x20)
    assert ide.master.read(2) == 0, "masked, it does not leave the disk"
    ide.write(CONTROL, 0)
    assert ide.master.read(2) == INTERRUPT


# -- modes and 48 bits ---------------------------------------------------------------------------


def identify(ide):
    ide.write(COMMAND, 0xEC)
    ide.read(STATUS)
    return struct.unpack("<256H", ide.take(512))


def test_identify_offers_dma(ide):
    words = identify(ide)
    assert (words[49] & 0x100, words[63], words[88], words[93] >> 13) == (0x100, 7, 0x3F, 3)
    assert words[83] & 0x0400
    assert words[100] | words[101] << 16 == SECTORS
    for mode, word, value in ((0x45, 88, 0x203F), (0x22, 63, 0x0407)):
        ide.write(FEATURES, 3)
        ide.write(COUNT, mode)
        ide.write(COMMAND, 0xEF)
        assert ide.status() == (READY, 0)
        assert identify(ide)[word] == value
    for mode in (0x46, 0x23, 0x0D, 0x80):
        ide.write(COUNT, mode)
        ide.write(COMMAND, 0xEF)
        assert ide.status() == (READY | ERR, 4)


def test_without_a_bus_master_it_does_not(image):
    words = identify(Driver(image, dma=False))
    assert (words[49] & 0x100, words[63], words[88]) == (0, 0, 0)


def test_a_sector_beyond_28_bits(tmp_path):
    far = (1 << 28) + 5
    path = tmp_path / "large.img"
    with path.open("wb") as file:
        file.truncate((far + 3) * 512)
    with BlockBackend(path, interface="ide") as image:
        ide = Driver(image)
        ide.fixture.memory.write(MEMORY, CONTENT[:1024])
        ide.regions((MEMORY, 1024))
        ide.lba48(far, 2)
        ide.write(COMMAND, WRITE_DMA_EXT)
        ide.start(to_memory=False)
        assert ide.status() == (READY, 0)
        assert image.read(far * 512, 1024) == CONTENT[:1024]
        ide.lba48(far + 1)
        ide.write(COMMAND, 0x24)
        assert ide.take(512) == CONTENT[512:1024]
        assert ide.where48() == far + 1
        ide.write(COMMAND, 0x27)
        assert ide.where48() == far + 2
        ide.write(COMMAND, 0xF8)
        assert (ide.read(0x1F6) & 0xF, ide.read(0x1F5), ide.read(0x1F4), ide.read(0x1F3)) == (0xF, 0xFF, 0xFF, 0xFF)
        ide.lba48(far + 3)
        ide.write(COMMAND, 0x42)
        assert ide.status() == (READY | ERR, 0x10)


def test_a_48_bit_count_of_0_is_65536(ide):
    ide.lba48(0, 0)
    ide.write(COMMAND, 0x24)
    assert ide.chip.remaining == 65535


def test_previous_values_are_shown_on_request(ide):
    ide.write(COUNT, 0x12)
    ide.write(COUNT, 0x34)
    ide.write(CONTROL, 0x80)
    assert ide.read(COUNT) == 0x12
    ide.write(COUNT, 0x56)
    assert ide.read(COUNT) == 0x56, "a write ends it"


# -- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_migrated_in_the_middle(ide, image, steps):
    ide.regions(*[(MEMORY + 0x10000 * n + 2 * n, 0) for n in range(8)])
    ide.lba48(100, 1024)
    ide.write(COMMAND, READ_DMA_EXT)
    ide.start()
    for _ in range(steps):
        ide.fixture.clock.advance(1)
    other = Driver(image)
    other.fixture.memory.write(0, ide.fixture.memory.read(0, 1 << 20))
    other.load(ide.save())
    other.settle()
    assert (other.irq, other.master.read(2), other.status()) == (1, INTERRUPT, (READY, 0))
    found = b"".join(memory(other, 0x10000, MEMORY + 0x10000 * n + 2 * n) for n in range(8))
    assert found[:-14] == CONTENT[100 * 512 : 1124 * 512][:-14]


@pytest.mark.parametrize(
    "state",
    [
        {"phase": 3, "remaining": 0},
        {"phase": 3, "remaining": 0x10001},
        {"phase": 3, "remaining": 1, "sector": SECTORS + 1},
        {"phase": 3, "remaining": 1, "device": 0x10},
        {"phase": 3, "remaining": 1, "command": 0xA0},
        {"phase": 5},
    ],
    ids=str,
)
def test_a_transfer_that_cannot_be_is_refused(ide, image, state):
    for name, value in state.items():
        setattr(ide.chip, name, value)
    with pytest.raises(MigrationError):
        Driver(image).load(ide.save())


def test_a_transfer_by_dma_needs_a_bus_master(ide, image):
    ide.lba28(0)
    ide.write(COMMAND, READ_DMA)
    with pytest.raises(MigrationError, match="DMA is under way"):
        Driver(image, dma=False).load(ide.save())

# SPDX-License-Identifier: MIT
"""CD-ROM drives: packets, media, and answers through the data port and by DMA."""

from __future__ import annotations

import random
import struct

import pytest
from chips.ide_driver import COMMAND, COUNT, DEVICE, ERR, FEATURES, HIGH, INTERRUPT, LOW, MEMORY, MID, READY, STATUS, Driver

from pyemu.device import BlockBackend
from pyemu.errors import ConfigError, MigrationError

BLOCKS = 300
CONTENT = random.Random(5).randbytes(BLOCKS * 2048)
CHANGED, RESET, TRAY_OPEN = (6, 0x28, 0), (6, 0x29, 0), (2, 0x3A, 2)
EVENTS = (0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)
OUT_OF_RANGE, BAD_FIELD, BAD_COMMAND, LOCKED = (5, 0x21, 0), (5, 0x24, 0), (5, 0x20, 0), (5, 0x53, 2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("cd") / "cd.iso"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def image(path):
    with BlockBackend(path, interface="ide", media="cdrom") as image:
        yield image


@pytest.fixture
def cd(image):
    cd = Driver(image)
    cd.packet(0)  # takes the unit attention of the reset
    return cd


def read_10(block, count):
    return struct.pack(">BBIxHx", 0x28, 0, block, count)


# -- what it is ----------------------------------------------------------------------------------


def test_it_is_found_by_its_signature(image, tmp_path):
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    with BlockBackend(disk, interface="ide", snapshot=True) as drive:
        both = Driver(drive, image)
        for device, status, signature in ((0, READY, (1, 1, 0, 0)), (1, 0, (1, 1, 0x14, 0xEB))):
            both.write(DEVICE, device << 4)
            assert both.read(STATUS) == status
            assert tuple(both.read(port) for port in (COUNT, LOW, MID, HIGH)) == signature
        for port, value in ((COUNT, 1), (LOW, 2), (MID, 3), (HIGH, 4)):
            both.write(port, value)
        both.write(COMMAND, 0xEC)
        assert both.status() == (READY | ERR, 4)
        assert (both.read(MID), both.read(HIGH)) == (0x14, 0xEB)
        both.write(DEVICE, 0)
        assert (both.read(MID), both.read(HIGH)) == (3, 4), "the disk's registers are its own"
        both.write(COMMAND, 0xA1)
        assert both.status() == (READY | ERR, 4)
        both.write(DEVICE, 0x10)
        both.write(COMMAND, 0x08)
        assert (both.read(STATUS), both.read(MID), both.irq) == (0, 0x14, 0)


def test_identify(cd):
    cd.write(COMMAND, 0xA1)
    assert cd.irq == 1
    words = struct.unpack("<256H", cd.take(512))
    assert (words[0], words[49] & 0x300, words[88]) == (0x85C0, 0x300, 0x3F)
    assert struct.pack(">20H", *words[27:47]).strip() == b"PYEMU CD-ROM"
    cd.write(FEATURES, 3)
    cd.write(COUNT, 0x42)
    cd.write(COMMAND, 0xEF)
    assert cd.status() == (READY, 0)
    cd.write(COMMAND, 0xA1)
    assert struct.unpack("<256H", cd.take(512))[88] == 0x043F


def test_inquiry_and_capacity(cd):
    answer, sizes = cd.packet(0x12, 0, 0, 0, 36)
    assert (answer[:2], answer[8:24], sizes) == (b"\x05\x80", b"PYEMU   CD-ROM  ", [36])
    assert cd.packet(0x12, 0, 0, 0, 5) == (answer[:5], [5])
    assert cd.packet(0x25)[0] == struct.pack(">II", BLOCKS - 1, 2048)


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [(0xFFFE, [8192, 8192, 4096]), (2048, [2048] * 10), (3001, ([3000, 3000, 2192] * 2) + [3000, 1096]), (1, [2] * 10240)],
)
def test_blocks_come_in_the_sizes_that_the_host_wants(cd, limit, sizes):
    answer, found = cd.packet(*read_10(7, 10), limit=limit)
    assert answer == CONTENT[7 * 2048 : 17 * 2048]
    assert found == sizes


def test_the_other_commands_that_read(cd):
    assert cd.packet(0xA8, 0, 0, 0, 0, 9, 0, 0, 0, 3)[0] == CONTENT[9 * 2048 : 12 * 2048]
    assert cd.packet(0xBE, 0, 0, 0, 0, 2, 0, 0, 2, 0x10)[0] == CONTENT[2 * 2048 : 4 * 2048]
    assert cd.packet(*read_10(5, 0)) == (b"", [])
    assert cd.packet(0x2B, 0, 0, 0, 1, 43) == (b"", [])


@pytest.mark.parametrize(
    ("packet", "sense"),
    [
        (read_10(BLOCKS, 1), OUT_OF_RANGE),
        (read_10(BLOCKS - 1, 2), OUT_OF_RANGE),
        (struct.pack(">BBII", 0xA8, 0, 0xFFFFFFFF, 0xFFFFFFFF), OUT_OF_RANGE),
        ((0x2B, 0, 0, 0, 1, 44), OUT_OF_RANGE),
        ((0xBE, 0, 0, 0, 0, 0, 0, 0, 1, 0xF8), BAD_FIELD),
        ((0x12, 1, 0, 0, 36), BAD_FIELD),
        ((0x43, 0, 3, 0, 0, 0, 0, 1, 0), BAD_FIELD),
        ((0x43, 0, 0, 0, 0, 0, 2, 1, 0), BAD_FIELD),
        ((0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8), BAD_FIELD),
        ((0x5A, 0, 0x0E, 0, 0, 0, 0, 1, 0), BAD_FIELD),
        ((0x5A, 0, 0xEA, 0, 0, 0, 0, 1, 0), (5, 0x39, 0)),
        ((0x0A,), BAD_COMMAND),
        ((0xFF,), BAD_COMMAND),
    ],
)
def test_what_it_refuses(cd, packet, sense):
    cd.send(*packet)
    assert (cd.status(), cd.read(COUNT)) == ((READY | ERR, sense[0] << 4 | 4), 3)
    assert cd.sense() == sense
    assert cd.sense() == (0, 0, 0), "it is reported once"


def test_an_image_that_cannot_be_read(cd, image, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(image, "read", fail)
    cd.send(*read_10(0, 1))
    assert cd.status() == (READY | ERR, 0x34)
    assert cd.sense() == (3, 0x11, 0)


def test_an_image_that_ends_in_the_middle_of_a_block(tmp_path):
    path = tmp_path / "odd.iso"
    path.write_bytes(b"a" * 2048 + b"b" * 512)
    with BlockBackend(path, interface="ide", media="cdrom") as image:
        cd = Driver(image)
        cd.packet(0)
        assert cd.packet(0x25)[0] == struct.pack(">II", 1, 2048)
        assert cd.packet(*read_10(1, 1))[0] == b"b" * 512 + bytes(1536)


# -- DMA -----------------------------------------------------------------------------------------


def test_blocks_by_dma(cd):
    cd.regions((MEMORY, 3000), (MEMORY + 0x8000, 5 * 2048 - 3000))
    cd.send(*read_10(20, 5), dma=True)
    assert cd.irq == 0
    cd.start()
    cd.settle()
    assert (cd.irq, cd.master.read(2), cd.status(), cd.read(COUNT)) == (1, INTERRUPT, (READY, 0), 3)
    found = cd.fixture.memory.read(MEMORY, 3000) + cd.fixture.memory.read(MEMORY + 0x8000, 5 * 2048 - 3000)
    assert found == CONTENT[20 * 2048 : 25 * 2048]


def test_short_answers_by_dma(cd):
    cd.regions((MEMORY, 20), (MEMORY + 64, 16))
    cd.send(0x12, 0, 0, 0, 36, dma=True)
    cd.start()
    answer = cd.fixture.memory.read(MEMORY, 20) + cd.fixture.memory.read(MEMORY + 64, 16)
    assert (answer[8:24], cd.master.read(2)) == (b"PYEMU   CD-ROM  ", INTERRUPT)


def test_a_table_that_is_too_short_leaves_the_drive_waiting(cd):
    cd.master.write(2, INTERRUPT)
    cd.regions((MEMORY, 2048 + 100))
    cd.send(*read_10(0, 2), dma=True)
    cd.start()
    cd.settle()
    assert (cd.irq, cd.master.read(2), cd.chip.remaining) == (0, 0, 1)


def test_dma_needs_a_bus_master(image):
    cd = Driver(image, dma=False)
    cd.write(FEATURES, 1)
    cd.write(COMMAND, 0xA0)
    assert cd.status() == (READY | ERR, 4)


def test_migrated_in_the_middle(cd, image):
    cd.send(*read_10(3, 7), limit=3000)
    first = cd.take(1000)
    other = Driver(image)
    other.load(cd.save())
    rest = other.take(2000)
    while other.read(STATUS) & 8:
        rest += other.take(other.read(MID) | other.read(HIGH) << 8)
    assert first + rest == CONTENT[3 * 2048 : 10 * 2048]
    cd.regions((MEMORY, 0), (MEMORY + 0x10000, 0), (MEMORY + 0x20000, 0))
    cd.send(*read_10(0, 96), dma=True)
    cd.start()
    assert cd.chip.remaining == 32
    other = Driver(image)
    other.fixture.memory.write(0, cd.fixture.memory.read(0, 1 << 20))
    other.load(cd.save())
    other.settle()
    assert other.fixture.memory.read(MEMORY, 96 * 2048) == CONTENT[: 96 * 2048]


@pytest.mark.parametrize(
    "state",
    [
        {"phase": 1, "command": 0x20, "limit": 512, "remaining": 1},
        {"phase": 1, "command": 0xA0, "limit": 512, "reply_end": 0},
        {"phase": 2, "command": 0xA0, "limit": 512},
        {"phase": 4, "command": 0xA0, "remaining": 1},
        {"phase": 3, "command": 0xA0, "remaining": 2, "sector": BLOCKS - 1},
        {"phase": 3, "command": 0xA0, "reply_end": 10, "position": 10},
    ],
    ids=str,
)
def test_a_transfer_that_cannot_be_is_refused(cd, image, state):
    for name, value in state.items():
        setattr(cd.chip, name, value)
    with pytest.raises(MigrationError, match="isa-ide"):
        Driver(image).load(cd.save())


# -- media ---------------------------------------------------------------------------------------


def test_a_reset_is_told_once(image):
    cd = Driver(image)
    assert cd.packet(0x12, 0, 0, 0, 36)[0], "an inquiry does not wait"
    cd.send(0)
    assert cd.status() == (READY | ERR, 0x64)
    assert cd.sense() == RESET
    assert cd.packet(0) == (b"", [])


def test_another_medium(cd, image, tmp_path):
    path = tmp_path / "other.iso"
    path.write_bytes(b"other".ljust(4096, b"\0"))
    with BlockBackend(path, interface="ide", media="cdrom") as other:
        cd.chip.replace_medium(image, other)
        assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[0].hex() == "0006041002020000"
        assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[0].hex() == "0006041000020000"
        cd.send(*read_10(0, 1))
        assert cd.status() == (READY | ERR, 0x64)
        assert cd.sense() == CHANGED
        assert cd.packet(*read_10(0, 1))[0][:5] == b"other"
        cd.chip.replace_medium(other, None)
        assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[0].hex() == "0006041003030000"
        cd.send(*read_10(0, 1))
        assert cd.status() == (READY | ERR, 0x24)
        assert cd.sense() == TRAY_OPEN
        cd.packet(0x1B, 0, 0, 0, 3)
        cd.send(*read_10(0, 1))
        assert cd.sense() == CHANGED
        assert cd.packet(*read_10(0, 1))[0][:5] == b"other"


def test_the_tray(cd):
    cd.packet(0x1B, 0, 0, 0, 2)
    for packet in ((0,), (0x25,), (0x43, 0, 0, 0, 0, 0, 0, 1, 0), (0x51, 0, 0, 0, 0, 0, 0, 1, 0), read_10(0, 1)):
        cd.send(*packet)
        assert cd.status() == (READY | ERR, 0x24)
        assert cd.sense() == TRAY_OPEN
    assert cd.packet(0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8)[0][1] == 0x10
    assert cd.packet(*EVENTS)[0].hex() == "0006041003030000", "removed"
    cd.packet(0x1B, 0, 0, 0, 2)
    assert cd.packet(*EVENTS)[0][4] == 0, "it was out already"
    cd.packet(0x1B, 0, 0, 0, 3)
    assert cd.packet(*EVENTS)[0].hex() == "0006041002020000", "a new medium"
    cd.send(0)
    assert cd.status() == (READY | ERR, 0x64)
    assert cd.sense() == (6, 0x28, 0)
    assert cd.packet(*read_10(0, 1))[0] == CONTENT[:2048]


def test_an_empty_tray_brings_no_news(image):
    cd = Driver(image)
    cd.chip.cdroms[0].medium = None
    cd.sense()
    cd.packet(0x1B, 0, 0, 0, 2)
    cd.packet(0x1B, 0, 0, 0, 3)
    assert cd.packet(*EVENTS)[0].hex() == "0006041000000000"
    cd.send(0)
    assert cd.sense() == (2, 0x3A, 1)


@pytest.mark.parametrize(
    ("start", "end", "blocks"), [((0, 2, 0), (0, 2, 1), (0, 1)), ((0, 2, 3), (0, 2, 6), (3, 6)), ((0, 2, 1), (0, 2, 1), (1, 1))]
)
def test_blocks_by_time(cd, start, end, blocks):
    first, last = blocks
    assert cd.packet(0xB9, 0, 0, *start, *end, 0x10)[0] == CONTENT[first * 2048 : last * 2048]


@pytest.mark.parametrize(
    ("start", "end", "code"), [((0, 0, 0), (0, 2, 1), 0x24), ((0, 2, 2), (0, 2, 1), 0x24), ((99, 0, 0), (99, 0, 1), 0x21)]
)
def test_times_that_the_medium_does_not_have(cd, start, end, code):
    cd.send(0xB9, 0, 0, *start, *end, 0x10)
    assert cd.sense() == (5, code, 0)


def test_any_speed_will_do(cd):
    cd.send(0xBB, 0, 0xFF, 0xFF, 0xFF, 0xFF)
    assert cd.status() == (READY, 0)


def test_a_sleeping_drive_wakes_when_it_is_reset(cd):
    cd.write(0x1F7, 0xE6)
    cd.write(0x1F7, 0xA0)
    assert cd.status()[0] == READY, "no packet is asked for"
    cd.write(0x1F7, 0x08)
    assert cd.packet(0)[0] == b""


def test_a_locked_tray_stays_in(cd, image):
    cd.packet(0x1E, 0, 0, 0, 1)
    assert cd.packet(0x5A, 0, 0x2A, 0, 0, 0, 0, 1, 0)[0][8 + 6] == 0x2B
    cd.send(0x1B, 0, 0, 0, 2)
    assert cd.status() == (READY | ERR, 0x54)
    assert cd.sense() == LOCKED
    with pytest.raises(ConfigError, match="locked"):
        cd.chip.replace_medium(image, None)
    assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[0].hex() == "0006041001020000", "the guest is asked to eject"
    cd.chip.replace_medium(image, None, force=True)
    assert cd.chip.media() == [image]


def test_table_of_contents(cd):
    assert cd.packet(0x43, 0, 0, 0, 0, 0, 0, 1, 0)[0].hex() == "00120101" "0014010000000000" "0014aa000000012c"
    assert cd.packet(0x43, 2, 0, 0, 0, 0, 0xAA, 1, 0)[0].hex() == "000a0101" "0014aa0000000600"
    assert cd.packet(0x43, 0, 1, 0, 0, 0, 0, 1, 0)[0].hex() == "000a0101" "0014010000000000"
    assert cd.packet(0x43, 2, 0, 0, 0, 0, 0, 1, 0, 0x80)[0].hex() == (
        "002e0101" "011400a000000000010000" "011400a100000000010000" "011400a200000000000600" "0114000100000000000200"
    )


def test_what_drivers_ask_at_the_start(cd):
    page = cd.packet(0x5A, 0, 0x2A, 0, 0, 0, 0, 1, 0)[0]
    assert (struct.unpack(">H", page[:2])[0], page[2], page[8:10], len(page)) == (26, 1, b"\x2a\x12", 28)
    assert len(cd.packet(0x5A, 0, 0x3F, 0, 0, 0, 0, 1, 0)[0]) == 36
    configuration = cd.packet(0x46, 0, 0, 0, 0, 0, 0, 1, 0)[0]
    assert struct.unpack(">IHH", configuration[:8]) == (len(configuration) - 4, 0, 8)
    information = cd.packet(0x51, 0, 0, 0, 0, 0, 0, 1, 0)[0]
    assert (struct.unpack(">H", information[:2])[0], len(information)) == (32, 34)
    assert cd.packet(0x4A, 1, 0, 0, 0x02, 0, 0, 0, 8)[0].hex() == "00028010"

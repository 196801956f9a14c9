# SPDX-License-Identifier: MIT
"""The IDE channel as a driver sees it: registers, commands, and sectors through the data port."""

from __future__ import annotations

import io
import struct

import pytest

from pyemu.chips.ide import IDEChannel
from pyemu.device import BlockBackend
from pyemu.errors import DeviceError, MigrationError
from pyemu.testing import ISAFixture

BASE, CONTROL, IRQ = 0x1F0, 0x3F6, 14
DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS = range(BASE, BASE + 8)
FEATURES, COMMAND = ERROR, STATUS
READY, DRQ, ERR = 0x50, 0x08, 0x01
SECTORS = 4096
READ, READ_MULTIPLE, WRITE, WRITE_MULTIPLE, VERIFY, IDENTIFY = 0x20, 0xC4, 0x30, 0xC5, 0x40, 0xEC
CONTENT = b"".join(struct.pack("<HH", n, n ^ 0xFFFF) * 128 for n in range(SECTORS))


class IDE:
    """A channel and what a driver does with it."""

    def __init__(self, drive=None, drive1=None):
        self.fixture = ISAFixture()
        self.chip = self.fixture.plug(IDEChannel(drive0=drive, drive1=drive1))
        self.read, self.write = self.fixture.read, self.fixture.write

    @property
    def irq(self):
        return self.fixture.lines[IRQ].level

    def lba(self, sector, count=1, device=0):
        for port, value in zip(
            (DEVICE, COUNT, LOW, MID, HIGH),
            (0xE0 | device << 4 | sector >> 24, count & 0xFF, sector, sector >> 8, sector >> 16),
            strict=True,
        ):
            self.write(port, value & 0xFF)

    def chs(self, cylinder, head, sector, count=1):
        for port, value in zip(
            (DEVICE, COUNT, LOW, MID, HIGH), (0xA0 | head, count, sector, cylinder & 0xFF, cylinder >> 8), strict=True
        ):
            self.write(port, value)

    def address(self):
        return self.read(DEVICE) & 0xF, self.read(HIGH), self.read(MID), self.read(LOW)

    def run(self, code):
        """A command without data; the status and error it ends with."""
        self.write(COMMAND, code)
        return self.read(STATUS), self.read(ERROR)

    def take(self, length, size=2):
        return b"".join(self.read(DATA, size).to_bytes(size, "little") for _ in range(length // size))

    def give(self, data, size=2):
        for at in range(0, len(data), size):
            self.write(DATA, int.from_bytes(data[at : at + size], "little"), size)

    def save(self):
        return self.chip.vmstate.encode(self.chip)

    def load(self, data):
        stream = io.BytesIO(data)
        self.chip.vmstate.decode(self.chip, stream.read, self.chip.vmstate.version, lambda n: stream.getvalue()[:n])
        self.chip.post_load(self.chip.vmstate.version)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("ide") / "disk.img"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def image(path):
    with BlockBackend(path, interface="ide", snapshot=True) as image:
        yield image


@pytest.fixture
def ide(image):
    return IDE(image)


def whole(image):
    return image.read(0, image.size)


# -- what is there -------------------------------------------------------------------------------


def test_nothing_attached_reads_7f_everywhere():
    ide = IDE()
    ide.write(LOW, 0x55)
    assert {ide.read(port) for port in (*range(ERROR, STATUS + 1), CONTROL)} == {0x7F}
    assert ide.read(DATA, 2) == 0xFF7F
    ide.write(COMMAND, IDENTIFY)
    assert ide.irq == 0


def test_a_disk_shows_its_signature_after_reset(ide):
    assert ide.read(STATUS) == READY
    assert (ide.read(ERROR), ide.read(COUNT), ide.address()) == (1, 1, (0, 0, 0, 1))


def test_the_first_disk_answers_for_a_second_that_is_missing(ide):
    ide.write(DEVICE, 0xB0)
    assert (ide.read(STATUS), ide.read(CONTROL)) == (0, 0)
    ide.write(COMMAND, IDENTIFY)
    assert (ide.irq, ide.read(STATUS)) == (0, 0)
    assert ide.read(DEVICE) == 0xB0, "registers are there all the same"


def test_two_disks_keep_their_own_status(image, tmp_path):
    other = tmp_path / "second.img"
    other.write_bytes(b"second" + bytes(1 << 20))
    with BlockBackend(other, interface="ide") as second:
        ide = IDE(image, second)
        ide.lba(0, device=1)
        ide.write(COMMAND, READ)
        assert ide.take(512)[:6] == b"second"
        assert ide.run(0xFF) == (READY | ERR, 0x04)
        ide.write(DEVICE, 0xE0)
        assert ide.read(CONTROL) == READY
        ide.write(DEVICE, 0xF0)
        assert ide.read(CONTROL) == READY | ERR


def test_registers_hold_what_is_written(ide):
    for port, value in ((COUNT, 0x12), (LOW, 0x34), (MID, 0x56), (HIGH, 0x78), (DEVICE, 0xEF)):
        ide.write(port, value)
        assert ide.read(port) == value


def test_identify(ide):
    ide.write(COMMAND, IDENTIFY)
    assert (ide.irq, ide.read(CONTROL)) == (1, READY | DRQ)
    assert ide.read(STATUS) == READY | DRQ
    assert ide.irq == 0, "reading the status ends the interrupt"
    raw = ide.take(512)
    words = struct.unpack("<256H", raw)
    assert (words[1], words[3], words[6]) == (SECTORS // (16 * 63), 16, 63)
    assert words[60] | words[61] << 16 == SECTORS
    assert words[49] & 0x0200, "LBA"
    assert struct.pack(">20H", *words[27:47]).strip() == b"PYEMU HARDDISK"
    assert (raw[510], sum(raw) & 0xFF) == (0xA5, 0)
    assert ide.read(STATUS) == READY


# -- transfers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 4])
def test_sectors_are_read_one_interrupt_each(ide, size):
    ide.lba(1000, 3)
    ide.write(COMMAND, READ)
    for n in range(3):
        assert (ide.irq, ide.read(STATUS), ide.irq) == (1, READY | DRQ, 0)
        assert ide.take(512, size) == CONTENT[(1000 + n) * 512 :][:512]
    assert (ide.irq, ide.read(STATUS)) == (0, READY)
    assert (ide.read(COUNT), ide.address()) == (0, (0, 0, 1002 >> 8, 1002 & 0xFF))


@pytest.mark.parametrize("size", [2, 4])
def test_sectors_are_written_one_interrupt_each(ide, image, size):
    data = bytes(range(256)) * 6
    ide.lba(77, 3)
    ide.write(COMMAND, WRITE)
    assert ide.irq == 0, "the first sector is asked for without an interrupt"
    for n in range(3):
        assert ide.read(STATUS) == READY | DRQ
        ide.give(data[n * 512 : n * 512 + 512], size)
        assert ide.irq == 1
    assert (ide.read(STATUS), ide.irq) == (READY, 0)
    assert whole(image) == CONTENT[: 77 * 512] + data + CONTENT[80 * 512 :]


def test_words_and_double_words_may_be_mixed(ide):
    ide.lba(5)
    ide.write(COMMAND, READ)
    found = ide.take(2) + ide.take(508, 4) + ide.take(2)
    assert found == CONTENT[5 * 512 : 6 * 512]


def test_a_double_word_is_two_cycles_also_at_the_end_of_a_sector(ide):
    ide.lba(5, 2)
    ide.write(COMMAND, READ)
    assert ide.take(2) + ide.take(1020, 4) + ide.take(2) == CONTENT[5 * 512 : 7 * 512]


def test_a_double_word_is_two_cycles_also_when_written(ide, image):
    data = bytes(range(256)) * 4
    ide.lba(5, 2)
    ide.write(COMMAND, WRITE)
    ide.give(data[:2])
    ide.give(data[2:1022], 4)
    ide.give(data[1022:])
    assert image.read(5 * 512, 1024) == data


def test_a_count_of_0_is_256(ide):
    ide.lba(0, 0)
    ide.write(COMMAND, READ)
    assert ide.take(256 * 512, 4) == CONTENT[: 256 * 512]
    assert ide.read(STATUS) == READY


def test_cylinder_head_and_sector(ide):
    ide.chs(2, 5, 62, count=2)
    ide.write(COMMAND, READ)
    start = (2 * 16 + 5) * 63 + 61
    assert ide.take(1024) == CONTENT[start * 512 :][:1024]
    assert ide.address() == (5, 0, 2, 63)


def test_a_translation_of_the_drivers_choice(ide):
    ide.write(DEVICE, 0xA0 | 3)
    ide.write(COUNT, 32)
    assert ide.run(0x91) == (READY, 0)
    ide.chs(9, 1, 1)
    ide.write(COMMAND, READ)
    assert ide.take(512) == CONTENT[(9 * 4 + 1) * 32 * 512 :][:512]


def test_multiple_sectors_an_interrupt(ide, image):
    ide.lba(100, 6)
    assert ide.run(READ_MULTIPLE) == (READY | ERR, 0x04), "not before it is set up"
    ide.write(COUNT, 4)
    assert ide.run(0xC6) == (READY, 0)
    ide.lba(100, 6)
    ide.write(COMMAND, READ_MULTIPLE)
    for first, count in ((100, 4), (104, 2)):
        assert (ide.irq, ide.read(STATUS)) == (1, READY | DRQ)
        assert ide.take(count * 512) == CONTENT[first * 512 :][: count * 512]
    assert ide.read(STATUS) == READY
    ide.lba(9, 5)
    ide.write(COMMAND, WRITE_MULTIPLE)
    ide.give(b"w" * 2048)
    assert ide.irq == 1
    ide.give(b"w" * 512)
    assert ide.read(STATUS) == READY
    assert image.read(9 * 512, 6 * 512) == b"w" * 2560 + CONTENT[14 * 512 : 15 * 512]


def test_verify_moves_no_data(ide):
    ide.lba(SECTORS - 2, 2)
    assert ide.run(VERIFY) == (READY, 0)
    ide.lba(SECTORS - 2, 3)
    assert ide.run(VERIFY) == (READY | ERR, 0x10)


def test_the_buffer_is_read_back(ide):
    ide.write(COMMAND, 0xE8)
    ide.give(bytes(range(256)) * 2)
    ide.write(COMMAND, 0xE4)
    assert ide.take(512) == bytes(range(256)) * 2


def test_the_data_port_floats_when_nothing_is_transferred(ide):
    assert (ide.read(DATA, 2), ide.read(DATA, 4)) == (0xFFFF, 0xFFFFFFFF)
    ide.write(DATA, 0x1234, 2)
    assert ide.read(STATUS) == READY


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [READ, WRITE, VERIFY, 0x70])
def test_a_sector_past_the_end_is_not_found(ide, code):
    ide.lba(SECTORS)
    assert ide.run(code) == (READY | ERR, 0x10)


def test_a_read_that_runs_past_the_end_stops_there(ide):
    ide.lba(SECTORS - 1, 2)
    ide.write(COMMAND, READ)
    assert ide.take(512) == CONTENT[-512:]
    assert (ide.read(STATUS), ide.read(ERROR)) == (READY | ERR, 0x10)
    assert ide.address() == (0, 0, SECTORS >> 8, SECTORS & 0xFF)


@pytest.mark.parametrize("address", [(0, 0, 0), (0, 0, 64), (5, 0, 1)])
def test_an_address_the_translation_does_not_have(ide, address):
    ide.chs(*address)
    assert ide.run(READ) == (READY | ERR, 0x10)


@pytest.mark.parametrize("code", [0x01, 0xC8, 0xA0, 0xFF])
def test_unknown_commands_are_aborted(ide, code):
    assert ide.run(code) == (READY | ERR, 0x04)


def test_a_disk_that_is_not_to_be_written(path):
    with BlockBackend(path, interface="ide", read_only=True) as image:
        ide = IDE(image)
        ide.lba(0)
        assert ide.run(WRITE) == (READY | ERR, 0x04)


def test_an_image_the_host_cannot_access(ide, image, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    for name in ("read_into", "write", "flush"):
        monkeypatch.setattr(image, name, fail)
    ide.lba(3)
    assert ide.run(READ) == (READY | ERR, 0x40)
    ide.write(COMMAND, WRITE)
    ide.give(bytes(512))
    assert (ide.read(STATUS), ide.read(ERROR)) == (READY | ERR, 0x04)
    assert ide.run(0xE7) == (READY | ERR, 0x04)


@pytest.mark.parametrize("code", [READ, WRITE])
def test_selecting_the_other_device_ends_a_transfer(ide, image, code):
    ide.lba(0, 2)
    ide.write(COMMAND, code)
    ide.write(DEVICE, 0xF0)
    ide.give(b"x" * 512)
    assert ide.read(DATA, 2) == 0xFFFF
    IDE(image).load(ide.save())
    ide.write(DEVICE, 0xE0)
    assert ide.read(STATUS) == READY
    assert whole(image) == CONTENT


# -- other commands ------------------------------------------------------------------------------


def test_power_modes(ide):
    assert ide.run(0xE0) == (READY, 0)
    ide.run(0xE5)
    assert ide.read(COUNT) == 0x00
    ide.lba(0)
    ide.run(VERIFY)
    ide.run(0xE5)
    assert ide.read(COUNT) == 0xFF


@pytest.mark.parametrize("code", [0x99, 0xE6])
def test_a_sleeping_disk_hears_nothing_but_a_reset(ide, image, code):
    assert ide.run(code) == (READY, 0)
    ide.lba(0)
    assert ide.run(IDENTIFY) == (READY, 0)
    assert (ide.irq, ide.read(CONTROL) & DRQ) == (0, 0)
    copy = IDE(image)
    copy.load(ide.save())
    for each in (ide, copy):
        assert each.run(READ) == (READY, 0), "asleep"
        each.write(CONTROL, 4)
        each.write(CONTROL, 0)
        each.lba(7)
        assert each.run(READ)[0] == READY | DRQ
        assert each.take(512) == CONTENT[7 * 512 : 8 * 512]
        each.run(0xE5)
        assert each.read(COUNT) == 0xFF


@pytest.mark.parametrize(("feature", "count", "good"), [(0x02, 0, 1), (0x03, 0x0C, 1), (0x03, 0x22, 0), (0x77, 0, 0)])
def test_set_features(ide, feature, count, good):
    ide.write(FEATURES, feature)
    ide.write(COUNT, count)
    assert ide.run(0xEF) == ((READY, 0) if good else (READY | ERR, 0x04))


def test_native_maximum(ide):
    ide.lba(0)
    assert ide.run(0xF8) == (READY, 0)
    assert ide.address() == (0, 0, SECTORS - 1 >> 8, SECTORS - 1 & 0xFF)


def test_diagnostics_are_for_both(ide):
    ide.write(DEVICE, 0x10)
    ide.write(COMMAND, 0x90)
    assert ide.irq == 1
    assert (ide.read(ERROR), ide.read(COUNT), ide.read(DEVICE), ide.read(STATUS)) == (1, 1, 0, READY)


# -- control -------------------------------------------------------------------------------------


def test_soft_reset_ends_a_transfer(ide):
    ide.lba(9, 2)
    ide.write(COMMAND, READ)
    ide.write(CONTROL, 0x04)
    assert (ide.read(CONTROL), ide.irq) == (0x80, 0)
    ide.write(COUNT, 0x55)
    ide.write(CONTROL, 0x00)
    assert (ide.read(STATUS), ide.read(ERROR), ide.read(COUNT)) == (READY, 1, 1)
    assert ide.read(DATA, 2) == 0xFFFF


def test_soft_reset_forgets_the_multiple_setting(ide):
    ide.write(COUNT, 8)
    ide.run(0xC6)
    ide.write(CONTROL, 0x04)
    ide.write(CONTROL, 0x00)
    ide.lba(0)
    assert ide.run(READ_MULTIPLE) == (READY | ERR, 0x04)


def test_settings_that_are_to_be_kept_survive_a_soft_reset(ide):
    ide.write(FEATURES, 0x66)
    ide.run(0xEF)
    ide.write(COUNT, 8)
    ide.run(0xC6)
    ide.write(CONTROL, 0x04)
    ide.write(CONTROL, 0x00)
    ide.lba(0)
    ide.write(COMMAND, READ_MULTIPLE)
    assert ide.read(STATUS) == READY | DRQ


def test_interrupts_can_be_masked(ide):
    ide.write(CONTROL, 0x02)
    ide.write(COMMAND, IDENTIFY)
    assert ide.irq == 0
    ide.write(CONTROL, 0x00)
    assert ide.irq == 1


def test_the_alternate_status_leaves_the_interrupt_alone(ide):
    ide.write(COMMAND, IDENTIFY)
    assert (ide.read(CONTROL), ide.irq) == (READY | DRQ, 1)


# -- placement and saving ------------------------------------------------------------------------


def test_moved_in_the_middle_of_a_sector(ide):
    ide.lba(4)
    ide.write(COMMAND, READ)
    first = ide.take(100)
    ide.chip.set_base(0x170)
    assert first + b"".join(ide.read(0x170, 2).to_bytes(2, "little") for _ in range(206)) == CONTENT[2048:2560]
    assert (ide.read(0x376), ide.read(CONTROL)) == (READY, 0xFF)


def test_migrated_in_the_middle_of_a_read(ide, image):
    ide.lba(30, 3)
    ide.write(COMMAND, READ)
    first = ide.take(700)
    other = IDE(image)
    other.load(ide.save())
    assert (other.irq, other.read(STATUS)) == (1, READY | DRQ)
    assert first + other.take(836) == CONTENT[30 * 512 : 33 * 512]
    assert other.read(STATUS) == READY


def test_migrated_in_the_middle_of_a_write(ide, image):
    ide.lba(30, 2)
    ide.write(COMMAND, WRITE)
    ide.give(b"a" * 600)
    other = IDE(image)
    other.load(ide.save())
    other.give(b"b" * 424, 4)
    assert image.read(30 * 512, 1024) == b"a" * 600 + b"b" * 424


@pytest.mark.parametrize(
    "state",
    [
        {"phase": 2, "command": WRITE, "limit": 8192, "remaining": 1},
        {"phase": 2, "command": WRITE, "limit": 4, "remaining": 1},
        {"phase": 2, "command": WRITE, "limit": 0, "remaining": 1},
        {"phase": 1, "command": READ, "limit": 512, "position": 512},
        {"phase": 1, "command": READ, "limit": 512, "position": 3},
        {"phase": 1, "command": READ, "limit": 512, "device": 0x10},
        {"phase": 1, "command": READ_MULTIPLE, "limit": 512, "remaining": 1},
        {"position": 5, "limit": 4},
    ],
    ids=str,
)
def test_a_transfer_that_cannot_be_is_refused(ide, image, state):
    for name, value in state.items():
        setattr(ide.chip, name, value)
    with pytest.raises(MigrationError, match="isa-ide"):
        IDE(image).load(ide.save())


# -- what goes wrong inside ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "fault"),
    [
        (lambda ide: (ide.lba(0, 2), ide.write(COMMAND, READ)), "isa-ide: write of 1 bytes at offset 0x7 failed"),
        (lambda ide: ide.take(512), "isa-ide: read of 2 bytes at offset 0x0 failed"),
    ],
    ids=["register", "data port"],
)
def test_an_exception_of_the_backend_is_the_fault_of_the_access(ide, access, fault, monkeypatch):
    ide.lba(0, 2)
    ide.write(COMMAND, READ)
    monkeypatch.setattr(ide.chip.drive0, "read_into", lambda offset, buffer: 1 / 0)
    with pytest.raises(DeviceError, match=fault) as caught:
        access(ide)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)

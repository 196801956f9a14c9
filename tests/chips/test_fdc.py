# SPDX-License-Identifier: MIT
"""The floppy controller as a driver sees it: registers, commands, transfers by DMA and through the FIFO."""

from __future__ import annotations

import io
import struct

import pytest

from pyemu.chips.fdc import FloppyController
from pyemu.chips.i8237 import DMAController
from pyemu.device import BlockBackend
from pyemu.errors import MigrationError
from pyemu.testing import ISAFixture

BASE, IRQ, CHANNEL = 0x3F0, 6, 2
DOR, TDR, MSR, FIFO, DIR = BASE + 2, BASE + 3, BASE + 4, BASE + 5, BASE + 7
DSR, CCR = MSR, DIR
RUN = 0x3C  # both motors, DMA and interrupts on, not in reset, drive A
READ, WRITE, FORMAT, MULTI_TRACK = 0x46, 0x45, 0x4D, 0x80
FROM_DEVICE, TO_DEVICE = 0x46, 0x4A  # DMA modes of channel 2, by the direction
BUFFER = 0x18000

#: Every sector of the image says which one it is.
CONTENT = b"".join(struct.pack("<HH", n, n ^ 0xFFFF) * 128 for n in range(2880))


def sector(cylinder, head, record):
    """Where a sector is in the image."""
    return ((cylinder * 2 + head) * 18 + record - 1) * 512


class Floppy:
    """A controller with its DMA, and what a driver does with it."""

    def __init__(self, drive=None, drive1=None, non_dma=False, start=True):
        self.fixture = ISAFixture()
        self.dma = self.fixture.plug(DMAController())
        self.chip = self.fixture.plug(FloppyController(drive0=drive, drive1=drive1))
        self.read, self.write = self.fixture.read, self.fixture.write
        if start:
            self.write(DOR, RUN)
            for _ in range(4):
                self.sense()
            self.write(CCR, 0)
            self.command(0x03, 0xDF, 0x03 if non_dma else 0x02)

    @property
    def irq(self):
        return self.fixture.lines[IRQ].level

    def command(self, *values):
        for value in values:
            assert self.read(MSR) & 0xC0 == 0x80, "the controller does not take a byte"
            self.write(FIFO, value)

    def results(self):
        found = []
        while self.read(MSR) & 0xD0 == 0xD0:
            found.append(self.read(FIFO))
        return found

    def ask(self, *values):
        self.command(*values)
        return self.results()

    def sense(self):
        return self.ask(0x08)

    def seek(self, cylinder, drive=0):
        self.command(0x0F, drive, cylinder)
        return self.sense()

    def program(self, mode, length, unmask=True):
        """Sets channel 2 up for *length* bytes at BUFFER."""
        self.write(0x0A, 4 | CHANNEL)
        self.write(0x0C, 0)
        self.write(0x0B, mode)
        for port, value in ((4, BUFFER & 0xFFFF), (5, length - 1)):
            self.write(port, value & 0xFF)
            self.write(port, value >> 8)
        self.write(0x81, BUFFER >> 16)
        if unmask:
            self.write(0x0A, CHANNEL)

    def transfer(self, code, cylinder, head, record, last=18, drive=0):
        self.command(code, head << 2 | drive, cylinder, head, record, 2, last, 0x1B, 0xFF)

    def memory(self, length):
        return self.fixture.memory.read(BUFFER, length)

    def fill(self, data):
        self.fixture.memory.write(BUFFER, data)

    def save(self):
        return self.chip.vmstate.encode(self.chip)

    def load(self, data):
        stream = io.BytesIO(data)
        self.chip.vmstate.decode(self.chip, stream.read, self.chip.vmstate.version, lambda n: stream.getvalue()[:n])
        self.chip.post_load(self.chip.vmstate.version)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("fdc") / "floppy.img"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def image(path):
    with BlockBackend(path, interface="floppy", snapshot=True) as image:
        yield image


def whole(image):
    return image.read(0, image.size)


@pytest.fixture
def floppy(image):
    return Floppy(image)


@pytest.fixture
def pio(image):
    return Floppy(image, non_dma=True)


# -- registers and reset -------------------------------------------------------------------------


def test_it_is_held_in_reset_at_first():
    floppy = Floppy(start=False)
    assert (floppy.read(DOR), floppy.read(MSR), floppy.irq) == (0, 0, 0)
    floppy.write(FIFO, 0x10)
    assert floppy.read(FIFO) == 0


def test_leaving_reset_interrupts_and_each_drive_is_sensed_once():
    floppy = Floppy(start=False)
    floppy.write(DOR, 0x0C)
    assert (floppy.irq, floppy.read(MSR)) == (1, 0x80)
    assert [floppy.sense() for _ in range(4)] == [[0xC0, 0], [0xC1, 0], [0xC2, 0], [0xC3, 0]]
    assert floppy.irq == 0
    assert floppy.sense() == [0x80], "nothing is left to sense"


def test_the_interrupt_is_gated_by_the_output_register():
    floppy = Floppy(start=False)
    floppy.write(DOR, 0x04)
    assert floppy.irq == 0
    floppy.write(DOR, 0x0C)
    assert floppy.irq == 1


def test_a_software_reset_is_one_too(floppy):
    floppy.command(0x46, 0)
    floppy.write(DSR, 0x80)
    assert (floppy.irq, floppy.read(MSR)) == (1, 0x80)
    assert floppy.sense() == [0xC0, 0]


def test_latches_read_back(floppy):
    floppy.write(TDR, 0xFF)
    assert (floppy.read(DOR), floppy.read(TDR)) == (RUN, 3)


def test_holes_stay_holes(floppy):
    assert (floppy.read(BASE), floppy.read(BASE + 6)) == (0xFF, 0xFF)


def test_version(floppy):
    assert floppy.ask(0x10) == [0x90]


@pytest.mark.parametrize("code", [0x00, 0x01, 0x0B, 0x18, 0x1F, 0x33, 0x4F, 0x50, 0x88, 0xC8, 0xD3, 0xE5, 0xFF])
def test_unknown_commands_are_answered_with_invalid(floppy, code):
    assert floppy.ask(code) == [0x80]
    assert floppy.irq == 0


def test_busy_from_the_first_byte_to_the_last_result(floppy):
    floppy.write(FIFO, 0x04)
    assert floppy.read(MSR) == 0x90
    floppy.write(FIFO, 0x00)
    assert floppy.read(MSR) == 0xD0
    floppy.read(FIFO)
    assert floppy.read(MSR) == 0x80


def test_lock_keeps_the_configuration_over_a_software_reset(floppy):
    floppy.command(0x13, 0, 0x57, 0x20)
    assert floppy.ask(0x94) == [0x10]
    floppy.write(DSR, 0x80)
    assert floppy.ask(0x0E)[7:] == [0x80, 0x07, 0x20], "implied seek and poll disable are not kept"
    assert floppy.ask(0x14) == [0x00]
    floppy.write(DSR, 0x80)
    assert floppy.ask(0x0E)[7:] == [0x00, 0x20, 0x00]


def test_dump_registers(floppy):
    floppy.seek(11)
    floppy.command(0x12, 0x84)
    assert floppy.ask(0x0E) == [11, 0, 0, 0, 0xDF, 0x02, 0, 0x04, 0x20, 0]


# -- the head ------------------------------------------------------------------------------------


def test_seek_and_recalibrate(floppy):
    floppy.command(0x0F, 0x04, 40)
    assert floppy.irq == 1
    assert floppy.sense() == [0x24, 40]
    assert floppy.irq == 0
    floppy.command(0x07, 0)
    assert floppy.irq == 1
    assert floppy.sense() == [0x20, 0]


def test_a_drive_that_is_not_there_never_reaches_track_zero(floppy):
    assert floppy.seek(3, drive=2) == [0x22, 3], "a seek only sends pulses"
    floppy.command(0x07, 2)
    assert floppy.sense() == [0x72, 0]


def test_sense_drive_tells_track_zero(floppy):
    assert floppy.ask(0x04, 0)[0] & 0x10 == 0x10
    floppy.seek(1)
    assert floppy.ask(0x04, 4) == [0x2C]


def test_a_step_with_a_medium_inside_clears_disk_change(floppy, image):
    assert floppy.read(DIR) & 0x80
    floppy.seek(1)
    assert not floppy.read(DIR) & 0x80
    floppy.chip.insert(0, image)
    assert floppy.read(DIR) & 0x80


def test_disk_change_stays_without_a_medium(floppy):
    floppy.chip.eject(0)
    floppy.seek(1)
    assert floppy.read(DIR) & 0x80


def test_read_id_finds_the_cylinder(floppy):
    floppy.seek(7)
    assert floppy.ask(0x4A, 4) == [0x04, 0, 0, 7, 1, 1, 2]


# -- transfers by DMA ----------------------------------------------------------------------------


def test_one_sector_is_read_by_dma(floppy):
    floppy.seek(3)
    floppy.program(FROM_DEVICE, 512)
    floppy.transfer(READ, 3, 1, 5)
    assert floppy.irq == 1
    assert floppy.memory(512) == CONTENT[sector(3, 1, 5) :][:512]
    assert floppy.results() == [0x04, 0, 0, 3, 1, 6, 2]
    assert floppy.irq == 0


def test_both_sides_of_a_cylinder_are_read_at_once(floppy):
    floppy.program(FROM_DEVICE, 36 * 512)
    floppy.transfer(READ | MULTI_TRACK, 0, 0, 1)
    assert floppy.memory(36 * 512) == CONTENT[: 36 * 512]
    assert floppy.results() == [0x04, 0, 0, 1, 0, 1, 2], "head 1 was the last"


def test_terminal_count_in_a_sector_ends_the_read(floppy):
    floppy.program(FROM_DEVICE, 700)
    floppy.transfer(READ, 0, 0, 2)
    assert floppy.memory(701) == CONTENT[512:1212] + b"\0"
    assert floppy.results() == [0, 0, 0, 0, 0, 4, 2]


def test_the_end_of_the_track_before_terminal_count_is_an_error(floppy):
    floppy.program(FROM_DEVICE, 1024)
    floppy.transfer(READ, 0, 0, 18)
    assert floppy.results()[:3] == [0x40, 0x80, 0]
    assert floppy.memory(1024) == CONTENT[sector(0, 0, 18) :][:512] + bytes(512)


def test_a_sector_is_written_by_dma(floppy, image):
    data = bytes(range(256)) * 4
    floppy.seek(79)
    floppy.fill(data)
    floppy.program(TO_DEVICE, 1024)
    floppy.transfer(WRITE, 79, 1, 17)
    assert floppy.results()[:3] == [4, 0, 0]
    assert whole(image) == CONTENT[:-1024] + data


def test_a_written_sector_that_is_cut_short_is_filled_with_zeros(floppy, image):
    floppy.fill(b"x" * 100)
    floppy.program(TO_DEVICE, 100)
    floppy.transfer(WRITE, 0, 0, 1)
    assert floppy.results() == [0, 0, 0, 0, 0, 2, 2]
    assert whole(image) == b"x" * 100 + bytes(412) + CONTENT[512:]


def test_a_track_is_formatted_in_any_order(floppy, image):
    floppy.seek(2)
    floppy.fill(b"".join(bytes((2, 1, r, 2)) for r in (*range(1, 19, 2), *range(2, 19, 2))))
    floppy.program(TO_DEVICE, 72)
    assert floppy.ask(FORMAT, 4, 2, 18, 0x54, 0xF6)[:3] == [4, 0, 0]
    start = sector(2, 1, 1)
    assert whole(image) == CONTENT[:start] + b"\xf6" * 18 * 512 + CONTENT[start + 18 * 512 :]


def test_the_request_waits_until_the_channel_is_unmasked(floppy):
    floppy.program(FROM_DEVICE, 512, unmask=False)
    floppy.transfer(READ, 0, 0, 1)
    assert (floppy.irq, floppy.read(MSR)) == (0, 0x50)
    assert floppy.read(0x08) & 0x40, "the request shows in the DMA controller's status"
    floppy.write(0x0A, CHANNEL)
    assert floppy.memory(512) == CONTENT[:512]
    assert floppy.irq == 1


def test_a_verify_transfer_leaves_memory_alone(floppy):
    floppy.program(0x42, 512)
    floppy.transfer(READ, 0, 0, 1)
    assert floppy.results() == [0, 0, 0, 0, 0, 2, 2]
    assert floppy.memory(512) == bytes(512)


def test_the_second_drive(image, tmp_path):
    other = tmp_path / "b.img"
    other.write_bytes(b"B" * 737280)
    with BlockBackend(other, interface="floppy") as second:
        floppy = Floppy(image, second)
        floppy.program(FROM_DEVICE, 512)
        floppy.write(CCR, 2)
        floppy.transfer(READ, 0, 1, 9, last=9, drive=1)
        assert floppy.results() == [0x05, 0, 0, 1, 1, 1, 2]
        assert floppy.memory(512) == b"B" * 512


# -- transfers through the FIFO ------------------------------------------------------------------


def test_sectors_are_read_through_the_fifo(pio):
    pio.transfer(READ, 0, 1, 3, last=4)
    assert (pio.irq, pio.read(MSR)) == (1, 0xF0)
    assert bytes(pio.read(FIFO) for _ in range(1024)) == CONTENT[sector(0, 1, 3) :][:1024]
    assert pio.results()[:3] == [0x44, 0x80, 0], "no terminal count: the end of the track ends it"
    assert pio.irq == 0


def test_sectors_are_written_through_the_fifo(pio, image):
    pio.transfer(WRITE, 0, 0, 1, last=2)
    assert pio.read(MSR) == 0xB0
    for n in range(1024):
        pio.write(FIFO, n & 0xFF)
    assert pio.results()[:3] == [0x40, 0x80, 0]
    assert whole(image) == bytes(range(256)) * 4 + CONTENT[1024:]


def test_formatting_through_the_fifo(pio, image):
    pio.command(FORMAT, 0, 2, 2, 0x54, 0xAA)
    for record in (1, 2):
        for value in (0, 0, record, 2):
            pio.write(FIFO, value)
    assert pio.results()[:3] == [0, 0, 0]
    assert whole(image) == b"\xaa" * 1024 + CONTENT[1024:]


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [READ, WRITE])
def test_no_medium(code):
    floppy = Floppy()
    floppy.transfer(code, 0, 0, 1)
    assert floppy.irq == 1
    assert floppy.results() == [0x40, 0x01, 0, 0, 0, 1, 2]


def test_no_medium_to_format_or_to_find_an_id_on():
    floppy = Floppy()
    assert floppy.ask(FORMAT, 0, 2, 18, 0x54, 0xF6)[:3] == [0x40, 0x01, 0]
    assert floppy.ask(0x4A, 0)[:3] == [0x40, 0x01, 0]


def test_a_write_protected_medium(path):
    with BlockBackend(path, interface="floppy", read_only=True) as image:
        floppy = Floppy(image)
        assert floppy.ask(0x04, 0)[0] & 0x40
        floppy.transfer(WRITE, 0, 0, 1)
        assert floppy.results()[:3] == [0x40, 0x02, 0]
        assert floppy.ask(FORMAT, 0, 2, 18, 0x54, 0xF6)[:3] == [0x40, 0x02, 0]
        floppy.program(FROM_DEVICE, 512)
        floppy.transfer(READ, 0, 0, 1)
        assert floppy.results()[:3] == [0, 0, 0]
        assert whole(image) == CONTENT


@pytest.mark.parametrize(("cylinder", "head", "record"), [(1, 0, 1), (0, 0, 0), (0, 0, 19)])
def test_a_sector_that_is_not_under_the_head(floppy, cylinder, head, record):
    floppy.transfer(READ, cylinder, head, record, last=record)
    assert floppy.results()[:3] == [0x40, 0x04, 0x10 if cylinder else 0]


def test_sectors_of_another_size_are_not_found(floppy):
    floppy.command(READ, 0, 0, 0, 1, 3, 9, 0x1B, 0xFF)
    assert floppy.results()[:3] == [0x40, 0x04, 0]


@pytest.mark.parametrize(("code", "ends"), [((READ, 0, 0, 0, 1, 2, 18, 27, 255), 512), ((FORMAT, 0, 2, 2, 84, 0), 4)])
def test_a_medium_taken_out_during_a_transfer(pio, code, ends):
    pio.command(*code)
    pio.chip.eject(0)
    for _ in range(ends):
        pio.read(FIFO) if code[0] == READ else pio.write(FIFO, 1)
    assert pio.results()[:3] == [0x40, 0x01, 0]


def test_an_image_the_host_cannot_access_is_a_data_error(floppy, image, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(image, "read", fail)
    monkeypatch.setattr(image, "write", fail)
    floppy.program(FROM_DEVICE, 512)
    floppy.transfer(READ, 0, 0, 1)
    assert floppy.results()[:3] == [0x40, 0x20, 0x20]
    floppy.program(TO_DEVICE, 512)
    floppy.transfer(WRITE, 0, 0, 1)
    assert floppy.results()[:3] == [0x40, 0x20, 0x20]
    floppy.fill(bytes((0, 0, 1, 2)))
    floppy.program(TO_DEVICE, 4)
    assert floppy.ask(FORMAT, 0, 2, 1, 0x54, 0xF6)[:3] == [0x40, 0x20, 0x20]


# -- saving --------------------------------------------------------------------------------------


def test_migrated_in_the_middle_of_a_sector(pio, image):
    pio.transfer(READ, 0, 0, 2)
    first = bytes(pio.read(FIFO) for _ in range(300))
    other = Floppy(image, start=False)
    other.load(pio.save())
    assert other.irq == 1
    assert first + bytes(other.read(FIFO) for _ in range(724)) == CONTENT[512:1536]


def test_migrated_while_a_written_sector_is_collected(pio, image):
    pio.transfer(WRITE, 0, 0, 1)
    for n in range(511):
        pio.write(FIFO, n & 0xFF)
    other = Floppy(image, start=False)
    other.load(pio.save())
    assert whole(image) == CONTENT
    other.write(FIFO, 0xFF)
    assert whole(image) == bytes(range(256)) * 2 + CONTENT[512:]


def test_migrated_while_dma_is_requested(floppy, image):
    floppy.transfer(READ, 0, 0, 3)
    other = Floppy(image, start=False)
    other.load(floppy.save())
    other.program(FROM_DEVICE, 512)
    assert other.memory(512) == CONTENT[1024:1536]
    assert other.results()[:3] == [0, 0, 0]


def test_migrated_between_command_and_result_bytes(floppy, image):
    floppy.write(FIFO, 0x0F)
    other = Floppy(image, start=False)
    other.load(floppy.save())
    other.command(0, 9)
    other.write(FIFO, 0x08)
    assert other.read(FIFO) == 0x20
    third = Floppy(image, start=False)
    third.load(other.save())
    assert third.results() == [9]


@pytest.mark.parametrize(
    "state",
    [
        {"command_length": 9},
        {"command": b"\x08" + bytes(8), "command_length": 1},
        {"phase": 3, "result_length": 10, "result_position": 10},
        {"phase": 1, "command": b"\x46" + bytes(8), "length": 0},
        {"phase": 2, "command": b"\x4d" + bytes(8), "command_length": 6, "length": 4, "to_format": 0},
        {"phase": 2, "command": b"\x4d" + bytes(8), "command_length": 6, "length": 4, "position": 4, "to_format": 1},
        {"phase": 2, "command": b"\x4d" + bytes(8), "command_length": 6, "length": 512, "to_format": 1},
        {"phase": 2, "command": b"\x46" + bytes(8), "command_length": 9, "length": 512},
        {"phase": 1, "command": b"\x45" + bytes(8), "command_length": 9, "length": 512},
    ],
    ids=lambda state: ",".join(state),
)
def test_a_state_that_cannot_be_is_refused(floppy, image, state):
    for name, value in state.items():
        setattr(floppy.chip, name, value)
    with pytest.raises(MigrationError, match="fdc"):
        Floppy(image, start=False).load(floppy.save())


def test_moved_while_a_sector_is_transferred(pio):
    pio.transfer(READ, 0, 0, 1)
    for _ in range(100):
        pio.read(FIFO)
    pio.chip.set_base(0x370)
    assert bytes(pio.read(0x375) for _ in range(412)) == CONTENT[100:512]

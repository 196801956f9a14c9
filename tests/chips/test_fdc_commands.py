# SPDX-License-Identifier: MIT
"""Registers and commands of the floppy controller that need no data to move."""

import pytest
from chips.fdc_driver import CCR, DIR, DOR, MFM, MSR, Rig

from pyemu.chips.fdc import FloppyController
from pyemu.device import BlockBackend
from pyemu.errors import ConfigError


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def running(rig):
    rig.start()
    return rig


def test_leaving_reset_interrupts_and_reports_four_drives(rig):
    rig.outb(DOR, 0x0C)
    assert rig.irq
    assert rig.command(0x08) == [0xC0, 0]
    assert not rig.irq
    assert [rig.command(0x08) for _ in range(4)] == [[0xC1, 0], [0xC2, 0], [0xC3, 0], [0x80]]


def test_a_poll_that_is_not_looked_at_loses_no_interrupt(running):
    running.outb(DOR, 0x38)
    running.outb(DOR, 0x3C)
    running.command(0x08)
    running.edges()
    running.send(0x0F, 0, 5)
    assert running.edges() == 1
    assert running.command(0x08) == [0x20, 5]
    assert running.command(0x08) == [0x80]


def test_a_seeking_drive_is_busy_until_sensed(running):
    running.send(0x0F, 0, 10)
    assert running.inb(MSR) == 0x81
    assert running.irq
    assert running.command(0x08) == [0x20, 10]
    assert running.inb(MSR) == 0x80
    assert not running.irq


def test_two_seeks_are_sensed_one_by_one_with_an_edge_each(running):
    running.send(0x0F, 1, 7)
    running.send(0x0F, 0, 3)
    assert running.inb(MSR) == 0x83
    assert running.edges() == 2
    assert running.command(0x08) == [0x20, 3]
    assert running.edges() == 1
    assert running.command(0x08) == [0x21, 7]
    assert not running.irq


def test_recalibrate_without_a_drive_is_an_equipment_check(running):
    running.send(0x07, 1)
    assert running.command(0x08) == [0x71, 0]


def test_recalibrate_gives_up_after_79_steps(running):
    running.seek(82)
    running.send(0x07, 0)
    assert running.command(0x08) == [0x70, 0]
    running.send(0x07, 0)
    assert running.command(0x08) == [0x20, 0]


def test_relative_seek_steps_from_where_the_head_is(running):
    running.seek(10)
    running.send(0xCF, 0, 5)
    assert running.command(0x08) == [0x20, 15]
    running.send(0x8F, 0, 7)
    assert running.command(0x08) == [0x20, 8]


def test_drive_status(running):
    assert running.command(0x04, 0x00) == [0x38]
    running.seek(3)
    assert running.command(0x04, 0x04) == [0x2C]
    assert running.command(0x04, 0x01) == [0x29]


def test_drive_status_of_a_write_protected_disk(tmp_path):
    rig = Rig(tmp_path, read_only=True)
    rig.start()
    assert rig.command(0x04, 0) == [0x78]
    rig.close()


def test_dumpreg_shows_what_was_set(running):
    running.seek(4)
    running.command(0x03, 0xAF, 0x1E)
    running.command(0x13, 0x00, 0x57, 0x11)
    running.command(0x12, 0x87)
    assert running.command(0x0E) == [4, 0, 0, 0, 0xAF, 0x1E, 0, 0x07, 0x57, 0x11]


def test_lock_keeps_the_fifo_settings_over_a_reset(running):
    running.command(0x13, 0x00, 0x57, 0x11)
    assert running.command(0x94) == [0x10]
    running.outb(DOR, 0x38)
    running.outb(DOR, 0x3C)
    assert running.command(0x0E)[7:] == [0x80, 0x07, 0x11]
    assert running.command(0x14) == [0x00]
    running.outb(DOR, 0x38)
    running.outb(DOR, 0x3C)
    assert running.command(0x0E)[7:] == [0x00, 0x20, 0x00]


def test_perpendicular_drive_bits_need_the_overwrite_bit(running):
    running.command(0x12, 0x3C)
    assert running.command(0x0E)[7] == 0x00
    running.command(0x12, 0x84)
    running.command(0x12, 0x03)
    assert running.command(0x0E)[7] == 0x07


def test_disk_change_is_set_until_a_step_with_a_disk(running, tmp_path):
    assert running.inb(DIR) & 0x80
    running.seek(0)
    assert running.inb(DIR) & 0x80, "no step, no change of the line"
    running.seek(1)
    assert not running.inb(DIR) & 0x80
    running.fdc.eject(0)
    running.seek(2)
    assert running.inb(DIR) & 0x80
    running.fdc.insert(0, running.backend)
    assert running.inb(DIR) & 0x80
    running.seek(1)
    assert not running.inb(DIR) & 0x80


def test_an_unfitted_drive_has_no_change_line(running):
    running.outb(DOR, 0x3D)
    assert running.inb(DIR) == 0x7F


def test_read_id_sees_the_sectors_pass(running):
    running.seek(2)
    seen = [running.command(MFM | 0x0A, 0x04)[3:] for _ in range(19)]
    assert seen[0] == [2, 1, 1, 2]
    assert [s[2] for s in seen] == [*range(1, 19), 1]
    assert running.edges() == 19 + 1


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda rig: rig.outb(CCR, 2), id="wrong rate"),
        pytest.param(lambda rig: rig.outb(DOR, 0x2C), id="motor off"),
        pytest.param(lambda rig: rig.fdc.eject(0), id="no disk"),
        pytest.param(lambda rig: rig.seek(81), id="beyond the last track"),
    ],
)
def test_no_address_mark_passes(running, spoil):
    spoil(running)
    assert running.command(MFM | 0x0A, 0x00)[:3] == [0x40, 0x01, 0x00]


def test_single_density_finds_nothing(running):
    assert running.command(0x0A, 0x00)[:2] == [0x40, 0x01]


def test_status_b_shows_drive_and_motors(running):
    assert running.inb(0x3F1) == 0xC3
    running.outb(DOR, 0x1D)
    assert running.inb(0x3F1) == 0xE1


def test_an_odd_image_is_the_beginning_of_a_usual_disk(tmp_path):
    rig = Rig(tmp_path, data=b"\x55" * 512)
    assert rig.fdc.drives_state[0].media.name == "1.44M"
    rig.close()


def test_an_image_larger_than_a_floppy_is_refused(tmp_path):
    path = tmp_path / "large.img"
    with path.open("wb") as file:
        file.truncate(4 << 20)
    backend = BlockBackend(path)
    with pytest.raises(ConfigError, match="4194304 bytes is larger than any floppy"):
        FloppyController(drive0=backend)
    backend.close()

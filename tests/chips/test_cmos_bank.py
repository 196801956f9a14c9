# SPDX-License-Identifier: MIT
"""The upper CMOS bytes, and the file that keeps all of them."""

import pytest

from pyemu import ConfigError, Machine
from pyemu.chips.cmos_bank import CMOSBanks
from pyemu.testing import DeviceConformance
from pyemu.testing.board import Board


class TestCMOSBanks(DeviceConformance):
    device_class = CMOSBanks
    accesses = 60

    def test_reset_brings_the_power_on_state_back(self) -> None:
        # The bytes are on a battery.
        fixture, device = self._plugged()
        self._exercise(fixture, seed=3)
        kept = bytes(device.upper)
        device.reset()
        assert (bytes(device.indexes), bytes(device.upper)) == (bytes(2), kept)


def test_the_second_pair_is_shown_by_the_bridge_and_both_reach_the_clocks_bytes():
    with Board("via-pc") as board:
        board.outb(0x70, 0x40)
        board.outb(0x71, 0x12)
        board.outb(0x72, 0x40)
        assert board.inb(0x73) == 0x12
        board.outb(0x72, 0xC0)
        board.outb(0x73, 0x34)
        assert (board.inb(0x72), board.inb(0x73), board.inb(0x75)) == (0xC0, 0x34, 0xFF)
        board.set_cfg(0, 0x5B, 0x02)
        board.outb(0x74, 0xC0)
        assert board.inb(0x75) == 0x34
        board.machine.reset()
        assert board.inb(0x75) == 0xFF
        board.outb(0x72, 0xC0)
        assert board.inb(0x73) == 0x34, "a reset does not reach what is on a battery"


@pytest.mark.parametrize("name", ["via-pc", "isa-pc"])
def test_a_file_keeps_the_bytes_but_not_what_describes_the_machine(name, tmp_path):
    path = tmp_path / "cmos"
    with Board(name, nvram=path) as board:
        for index, value in ((0x40, 0x5A), (0x15, 0xEE)):
            board.outb(0x70, index)
            board.outb(0x71, value)
    assert len(path.read_bytes()) == 256
    with Board(name, nvram=path) as board:
        found = []
        for index in (0x40, 0x15):
            board.outb(0x70, index)
            found.append(board.inb(0x71))
    assert found == [0x5A, 0x80], "640 KiB below 1 MiB, whatever the guest wrote"


def test_a_file_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "cmos"
    path.write_bytes(bytes(257))
    with pytest.raises(ConfigError, match="larger than 256 bytes"):
        Machine("isa-pc", cpu="none", properties={"nvram": str(path)})
    with pytest.raises(ConfigError, match="nvram="):
        Machine("isa-pc", cpu="none", properties={"nvram": str(tmp_path)})


def test_a_file_that_cannot_be_written_is_only_logged(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    board = Board("isa-pc", nvram=folder / "cmos")
    folder.rmdir()
    board.close()
    assert "the CMOS memory is lost" in caplog.text

# SPDX-License-Identifier: MIT
"""Function 4: power-management timer, block placement, SMBus, soft-off."""

from __future__ import annotations

import pytest

from pyemu.testing.board import Board


@pytest.fixture
def board():
    with Board("via-pc") as board:
        yield board


def pm(board, base=0x4000):
    board.set_cfg(4, 0x48, base, 4)
    board.set_cfg(4, 0x41, 0x80)
    return base


def test_the_pm_timer_counts_at_its_rate(board):
    base = pm(board)
    first = board.inb(base + 8, 4)
    board.step(1_000_000_000)
    assert abs(board.inb(base + 8, 4) - first - 3579545) <= 1
    board.step(4_000_000_000)
    assert board.inb(base + 8, 4) < 1 << 24, "24 bits"
    board.set_cfg(4, 0x41, 0x88)
    assert board.inb(base + 8, 4) == 5 * 3579545 + first, "32 bits on request"


def test_the_pm_timers_top_bit_interrupts(board):
    base = pm(board)
    board.outb(0x4D1, 0xDE)
    board.init_pic()
    board.set_cfg(4, 0x42, 0x59)
    board.outb(base + 4, 0x0001, 2)
    board.outb(base + 2, 0x0001, 2)
    board.step(2_300_000_000)
    assert board.requests() == set()
    board.step(100_000_000)
    assert board.requests() == {9}
    assert board.inb(base, 2) & 1
    board.outb(base, 0x0001, 2)
    assert board.requests() == set()
    board.step(2_400_000_000)
    assert board.requests() == {9}


def test_blocks_move_when_their_base_alone_is_written(board):
    pm(board)
    board.outb(0x4002, 0x21, 2)
    board.set_cfg(4, 0x48, 0x6000, 4)
    assert (board.inb(0x6002, 2), board.inb(0x4002, 2)) == (0x21, 0xFFFF)
    board.set_cfg(4, 0x48, 0x80, 4)
    assert board.inb(0x82, 1) == 0x00, "below 100 lie the core devices, here the page registers"
    assert board.cfg(4, 0x48, 4) == 0x81


def test_the_smbus_block_is_16_ports_and_nobody_acknowledges(board):
    board.set_cfg(4, 0x90, 0x5000, 4)
    board.set_cfg(4, 0xD2, 0x01)
    assert board.inb(0x5010) == 0xFF
    board.outb(0x5004, 0xA1)
    board.outb(0x5002, 0x48)
    assert (board.inb(0x5000), board.inb(0x5002)) == (0x04, 0x08)
    board.outb(0x5000, 0x1E)
    assert board.inb(0x5000) == 0


def test_smbus_block_data_is_a_buffer_that_reading_control_rewinds(board):
    board.set_cfg(4, 0x90, 0x5000, 4)
    board.set_cfg(4, 0xD2, 0x01)
    board.inb(0x5002)
    for value in range(32):
        board.outb(0x5007, 0x40 + value)
    board.inb(0x5002)
    assert [board.inb(0x5007) for _ in range(32)] == list(range(0x40, 0x60))


def test_acpi_is_switched_on_by_the_smi_command(board):
    base = pm(board)
    board.outb(0xB2, 0xF1)
    assert (board.inb(base + 4, 2), board.inb(0xB2)) == (1, 0xF1)
    board.outb(0xB2, 0xF0)
    assert board.inb(base + 4, 2) == 0


def test_soft_off_shuts_the_machine_down(board):
    base = pm(board)
    board.outb(base + 4, 0x2800, 2)
    assert board.machine.exited.wait(10)
    assert board.machine.run_state == "shutdown"


def smbus(board, base=0x5000, select=0x00):
    board.set_cfg(4, 0x90, base, 4)
    board.set_cfg(4, 0xD2, 0x01 | select)
    return base


def read_byte(board, base, address, command, control=0x48):
    board.outb(base + 3, command)
    board.outb(base + 4, address << 1 | 1)
    board.outb(base + 2, control)
    status = board.inb(base)
    board.outb(base, 0x1E)
    return board.inb(base + 5) if status == 0x02 else None


def test_the_modules_descriptions_can_be_read():
    with Board("via-pc", memory="96M") as board:
        base = smbus(board)
        assert [read_byte(board, base, 0x50 + n, 2) for n in range(4)] == [4, 4, None, None]
        assert [read_byte(board, base, 0x50 + n, 31) for n in range(2)] == [16, 8]
        data = [read_byte(board, base, 0x51, n) for n in range(64)]
        assert data[63] == sum(data[:63]) & 0xFF


def test_an_smbus_transaction_interrupts_until_its_status_is_cleared():
    with Board("via-pc", memory="96M") as board:
        base = smbus(board, select=0x08)
        board.outb(0x4D1, 0xDE)
        board.init_pic()
        board.outb(base + 4, 0xA1)
        board.outb(base + 2, 0x49)
        assert board.requests() == {9}
        board.outb(base, 0x02)
        assert board.requests() == set()


def test_a_block_comes_through_the_buffer():
    with Board("via-pc", memory="96M") as board:
        base = smbus(board)
        board.outb(base + 3, 0)
        board.outb(base + 4, 0xA1)
        board.outb(base + 5, 8)
        board.outb(base + 2, 0x74)
        assert board.inb(base) == 0x02
        board.inb(base + 2)
        assert [board.inb(base + 7) for _ in range(4)] == [0x80, 0x08, 0x04, 12]


def test_an_smbus_block_of_an_impossible_length_is_an_error():
    with Board("via-pc", memory="96M") as board:
        base = smbus(board)
        board.outb(base + 3, 0)
        board.outb(base + 4, 0xA1)
        board.outb(base + 2, 0x54)
        assert board.inb(base) == 0x04, "the first byte of a description, 80, is no length of a block"


def test_a_killed_transaction_failed(board):
    base = smbus(board)
    board.outb(base + 2, 0x42)
    assert board.inb(base) == 0x10


def test_the_hardware_monitor_measures_once_started_and_moves(board):
    board.set_cfg(4, 0x70, 0x6000, 4)
    assert board.inb(0x6040) == 0xFF
    board.set_cfg(4, 0x74, 0x01)
    assert (board.inb(0x6020), board.inb(0x6029)) == (0, 0)
    board.outb(0x6040, 0x01)
    hot, warm, cool = board.inb(0x6020), board.inb(0x6021), board.inb(0x601F)
    assert hot > warm > cool > 128
    assert board.inb(0x6029) == 1_350_000 // (3000 * 2)
    assert board.inb(0x6041, 2) == 0
    board.outb(0x6039, hot - 1)
    board.outb(0x603C, 100)
    assert board.inb(0x6041, 2) == 0x0090, "temperature 1 and fan 2"
    board.set_cfg(4, 0x70, 0x6100, 4)
    assert (board.inb(0x6139), board.inb(0x6039)) == (hot - 1, 0xFF)


def test_the_power_button_is_an_sci(board):
    base = pm(board)
    board.outb(0x4D1, 0xDE)
    board.init_pic()
    board.set_cfg(4, 0x42, 0x59)
    board.outb(base + 4, 0x0001, 2)
    board.outb(base + 2, 0x0100, 2)
    power = board.machine.devices["via-pm"]
    board.call(power.press_power_button)
    assert (board.requests(), board.inb(base, 2)) == ({9}, 0x0100)
    board.outb(base, 0x0100, 2)
    assert board.requests() == set()

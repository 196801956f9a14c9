# SPDX-License-Identifier: MIT
"""Port 92: address line 20 and the fast reset."""

from __future__ import annotations

import pytest

from pyemu.chips.port92 import SystemControlA
from pyemu.device import IRQLine
from pyemu.testing import ISAFixture


@pytest.fixture
def board():
    fixture = ISAFixture()
    fixture.chip = fixture.plug(SystemControlA())
    fixture.a20, fixture.resets = [], []
    fixture.chip.a20_out.connect(IRQLine("a20", 0, lambda n, level: fixture.a20.append(level)))
    fixture.chip.on_reset = lambda: fixture.resets.append(1)
    return fixture


def test_bit_1_is_address_line_20(board):
    for value in (0x02, 0x00, 0x02):
        board.write(0x92, value)
        assert board.read(0x92) == value
    assert board.a20 == [1, 0, 1]


def test_a_rising_bit_0_resets(board):
    board.write(0x92, 0x01)
    board.write(0x92, 0x03)
    assert board.resets == [1]
    board.write(0x92, 0x02)
    board.write(0x92, 0x03)
    assert board.resets == [1, 1]


def test_reset_closes_the_gate_and_is_ready_for_the_next_pulse(board):
    board.write(0x92, 0x03)
    board.bus.reset()
    assert (board.read(0x92), board.a20) == (0, [1, 0])
    board.write(0x92, 0x01)
    assert board.resets == [1, 1]

# SPDX-License-Identifier: MIT
"""The reset control register: which writes reset, and how hard."""

import pytest

from pyemu.chips.cf9 import ResetControl
from pyemu.testing import ISAFixture

PORT = 0xCF9


@pytest.fixture
def control():
    fixture = ISAFixture()
    chip = fixture.plug(ResetControl())
    chip.resets = []
    chip.on_reset = chip.resets.append
    chip.out, chip.inp = lambda value: fixture.write(PORT, value), lambda: fixture.read(PORT)
    return chip


@pytest.mark.parametrize(("kind", "hard"), [(0x00, False), (0x02, True), (0x0A, True)])
def test_the_rising_edge_of_bit_2_resets(control, kind, hard):
    control.out(kind)
    assert control.resets == []
    control.out(kind | 0x04)
    assert control.resets == [hard]


def test_a_bit_that_stays_set_resets_once(control):
    control.out(0x06)
    control.out(0x06)
    assert control.resets == [True]
    control.out(0x02)
    control.out(0x06)
    assert control.resets == [True, True]


def test_it_reads_back_its_own_bits_only(control):
    control.out(0xFB)
    assert control.inp() == 0x0A
    assert control.resets == []


def test_a_system_reset_clears_it(control):
    control.out(0x0E)
    control.reset()
    assert control.inp() == 0


def test_nobody_listening_is_no_error(control):
    control.on_reset = None
    control.out(0x06)
    assert control.inp() == 0x06

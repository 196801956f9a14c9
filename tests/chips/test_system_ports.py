# SPDX-License-Identifier: MIT
"""Ports 61 and 92."""

import pytest

from pyemu.chips.i8254 import PIT
from pyemu.chips.port61 import SystemControlB
from pyemu.chips.port92 import SystemControlA
from pyemu.device import IRQLine
from pyemu.errors import ConfigError
from pyemu.testing import DeviceConformance
from pyemu.testing.fakes import ISAFixture

HZ, SECOND = 1193182, 10**9


class BoardWithTimer(ISAFixture):
    def __init__(self):
        super().__init__()
        self.pit = self.plug(PIT())
        self.plug(SystemControlB())

    def to_clock(self, clocks):
        self.clock.advance(-(-clocks * SECOND // HZ) - self.clock.now_ns)


class TestSystemControlB(DeviceConformance):
    device_class = SystemControlB
    live_registers = True

    def make(self):
        device = SystemControlB()
        device.connect_pit(PIT())
        return device


def test_a_guest_measures_time_with_channel_2():
    board = BoardWithTimer()
    board.write(0x61, 0x01)
    for port, value in ((0x43, 0xB0), (0x42, 100), (0x42, 0)):
        board.write(port, value)
    assert not board.read(0x61) & 0x20
    board.to_clock(100)
    assert not board.read(0x61) & 0x20
    board.to_clock(101)
    assert board.read(0x61) & 0x20


def test_the_gate_stops_channel_2():
    board = BoardWithTimer()
    for port, value in ((0x43, 0xB0), (0x42, 100), (0x42, 0)):
        board.write(port, value)
    board.to_clock(1000)
    assert board.pit.counter(2) == 100
    board.write(0x61, 0x01)
    board.to_clock(1040)
    assert board.pit.counter(2) == 60


def test_the_refresh_bit_toggles_every_18_clocks():
    board = BoardWithTimer()
    seen = []
    for n in range(72):
        board.to_clock(n)
        seen.append(board.read(0x61) >> 4 & 1)
    assert seen == [0] * 18 + [1] * 18 + [0] * 18 + [1] * 18


def test_only_the_low_four_bits_are_kept():
    board = BoardWithTimer()
    board.write(0x61, 0xFF)
    assert board.read(0x61) & 0xCF == 0x0F
    board.bus.reset()
    assert board.read(0x61) & 0xCF == 0


def test_it_needs_a_timer_chip():
    with pytest.raises(ConfigError, match="timer chip"):
        ISAFixture().plug(SystemControlB())


def test_port_92_opens_the_gate_and_resets_on_a_rising_bit():
    fixture, gate, resets = ISAFixture(), [], []
    port = SystemControlA()
    port.a20_out.connect(IRQLine("a20", 0, lambda n, level: gate.append(level)))
    port.on_reset = lambda: resets.append(1)
    fixture.plug(port)
    for value in (0x02, 0x02, 0x03, 0x03, 0x00, 0x01):
        fixture.write(0x92, value)
        assert fixture.read(0x92) == value
    assert gate == [1, 0]
    assert len(resets) == 2

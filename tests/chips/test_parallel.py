# SPDX-License-Identifier: MIT
"""The parallel port: its lines, its modes and the printer's acknowledge."""

from __future__ import annotations

import pytest

from pyemu.chips.parallel import ParallelPort
from pyemu.device import open_chardev
from pyemu.testing import ISAFixture

BASE, IRQ = 0x378, 7
DATA, STATUS, CONTROL = BASE, BASE + 1, BASE + 2
STROBE, IRQ_ENABLE, INPUT = 0x01, 0x10, 0x20


class Port:
    def __init__(self, **properties):
        self.fixture = ISAFixture()
        self.paper = open_chardev("memory")
        self.chip = self.fixture.plug(ParallelPort(chardev=self.paper, **properties))
        self.read, self.write = self.fixture.read, self.fixture.write

    @property
    def irq(self):
        return self.fixture.lines[IRQ].level

    def strobe(self, value, control=0x0C):
        self.write(DATA, value)
        self.write(CONTROL, control | STROBE)
        self.write(CONTROL, control)


@pytest.fixture
def port():
    return Port()


def test_idle(port):
    assert (port.read(DATA), port.read(STATUS), port.read(CONTROL)) == (0, 0xDF, 0xCC)


@pytest.mark.parametrize("value", [0x00, 0x55, 0xAA, 0xFF])
def test_latches_read_back(port, value):
    port.write(DATA, value)
    port.write(CONTROL, value & ~INPUT)
    assert (port.read(DATA), port.read(CONTROL)) == (value, value & 0x1F | 0xC0)


def test_status_is_read_only(port):
    port.write(STATUS, 0)
    assert port.read(STATUS) == 0xDF


@pytest.mark.parametrize(("mode", "pins"), [("spp", 0x5A), ("ps2", 0xFF), ("epp", 0xFF), ("ecp", 0xFF)])
def test_the_data_lines_turn_round_except_in_mode_spp(mode, pins):
    port = Port(mode=mode)
    port.write(DATA, 0x5A)
    port.write(CONTROL, INPUT)
    assert port.read(DATA) == pins
    port.write(CONTROL, 0)
    assert port.read(DATA) == 0x5A


@pytest.mark.parametrize(("mode", "ports"), [("spp", 4), ("ps2", 4), ("epp", 8), ("ecp", 4)])
def test_ports_decoded_by_mode(port, mode, ports):
    port.chip.set_mode(mode)
    assert port.fixture.mapped() == list(range(BASE, BASE + ports))


def test_no_phantom_of_epp_or_ecp(port):
    port.chip.set_mode("epp")
    port.write(STATUS, 1)
    assert port.read(STATUS) & 1, "a time-out that cannot be cleared"
    port.write(BASE + 0x402, 0x34)
    assert port.read(BASE + 0x402) == 0xFF


def test_a_byte_is_printed_when_strobe_ends(port):
    port.write(DATA, ord("x"))
    port.write(CONTROL, 0x0D)
    assert port.paper.capture.data() == b""
    port.write(CONTROL, 0x0C)
    port.strobe(ord("y"))
    assert port.paper.capture.data() == b"xy"


def test_nothing_is_printed_while_the_lines_are_inputs(port):
    port.strobe(ord("x"), control=0x0C | INPUT)
    assert port.paper.capture.data() == b""


def test_the_acknowledge_interrupts_where_enabled(port):
    port.strobe(ord("x"))
    assert port.irq == 0
    port.strobe(ord("y"), control=0x0C | IRQ_ENABLE)
    assert port.irq == 1
    assert (port.read(STATUS) & 4, port.irq) == (0, 0), "reading the status ends it"
    assert port.read(STATUS) & 4


def test_disabling_the_interrupt_drops_the_line(port):
    port.strobe(ord("y"), control=0x0C | IRQ_ENABLE)
    port.write(CONTROL, 0x0C)
    assert port.irq == 0

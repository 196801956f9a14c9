# SPDX-License-Identifier: MIT
"""The parallel port."""

import pytest

from pyemu.chips.parallel import ParallelPort
from pyemu.testing.fakes import ISAFixture

BASE, DATA, STATUS, CONTROL = 0x378, 0x378, 0x379, 0x37A
STROBE, IRQ, INPUT = 0x01, 0x10, 0x20
IDLE = 0x0C


class Printer:
    def __init__(self):
        self.paper = bytearray()

    def set_receiver(self, receive, can_receive=None):
        raise AssertionError("a printer says nothing")

    def write(self, data):
        self.paper += data
        return len(data)


def plugged(**properties):
    fixture, printer = ISAFixture(), Printer()
    port = fixture.plug(ParallelPort(chardev=printer, **properties))
    return fixture, port, printer


def send(fixture, byte, flags=0):
    fixture.write(DATA, byte)
    fixture.write(CONTROL, IDLE | STROBE | flags)
    fixture.write(CONTROL, IDLE | flags)


def test_reset_values():
    fixture, _, _ = plugged()
    assert [fixture.read(BASE + n) for n in range(4)] == [0x00, 0xDF, 0xCC, 0xFF]


def test_a_strobe_prints_a_byte():
    fixture, _, printer = plugged()
    for byte in b"hi":
        send(fixture, byte)
    assert printer.paper == b"hi"
    assert fixture.edges == []


def test_the_acknowledge_interrupts_where_enabled_until_the_status_is_read():
    fixture, _, _ = plugged()
    send(fixture, 0x41, IRQ)
    assert fixture.edges == [(7, 1)]
    assert not fixture.read(STATUS) & 0x04
    assert fixture.edges == [(7, 1), (7, 0)]
    assert fixture.read(STATUS) & 0x04
    send(fixture, 0x42, IRQ)
    fixture.write(CONTROL, IDLE)
    assert fixture.lines[7].level == 0


@pytest.mark.parametrize(("mode", "value"), [("spp", 0x12), ("ps2", 0xFF), ("epp", 0xFF), ("ecp", 0xFF)])
def test_the_direction_bit_counts_in_all_modes_but_spp(mode, value):
    fixture, _, _ = plugged(mode=mode)
    fixture.write(DATA, 0x12)
    fixture.write(CONTROL, IDLE | INPUT)
    assert fixture.read(DATA) == value
    fixture.write(CONTROL, IDLE)
    assert fixture.read(DATA) == 0x12


@pytest.mark.parametrize(
    ("mode", "window", "ports"),
    [("spp", "mode", 4), ("ps2", "mode", 4), ("ecp", "mode", 4), ("epp", "mode", 8), ("spp", "8", 8)],
)
def test_it_decodes_what_its_mode_needs(mode, window, ports):
    fixture, _, _ = plugged(mode=mode, window=window)
    assert enabled(fixture) == list(range(BASE, BASE + ports))


def enabled(fixture):
    return sorted({p for p in range(0x270, 0x400) if fixture.ports.region_at(p) is not None})


def test_changing_the_mode_shows_and_hides_the_upper_ports_wherever_it_is():
    fixture, port, _ = plugged()
    port.set_base(0x3BC)
    assert enabled(fixture) == list(range(0x3BC, 0x3C0))
    port.set_enabled(False)
    port.set_mode("epp")
    assert enabled(fixture) == []
    port.set_base(0x278)
    port.set_enabled(True)
    assert enabled(fixture) == list(range(0x278, 0x280))
    port.set_mode("spp")
    assert enabled(fixture) == list(range(0x278, 0x27C))


def test_the_latch_survives_a_move():
    fixture, port, _ = plugged()
    fixture.write(DATA, 0x5A)
    port.set_base(0x3BC)
    assert fixture.read(0x3BC) == 0x5A
    fixture.write(0x3BE, 0x0E)
    assert fixture.read(0x3BE) & 0x1F == 0x0E


def test_no_epp_is_announced():
    # A driver that can clear the time-out bit takes the port for EPP.
    for mode in ("spp", "epp"):
        fixture, _, _ = plugged(mode=mode)
        fixture.write(STATUS, 0x01)
        fixture.write(STATUS, 0x00)
        assert fixture.read(STATUS) & 0x01

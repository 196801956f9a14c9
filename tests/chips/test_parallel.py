# SPDX-License-Identifier: MIT
"""The parallel port."""

import pytest

from pyemu.chips.i8237 import DMAController
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


@pytest.mark.parametrize(("mode", "value"), [("spp", 0x12), ("ps2", 0xFF), ("epp", 0xFF), ("ecp", 0x12)])
def test_the_direction_bit_counts_where_the_mode_has_two_directions(mode, value):
    fixture, _, _ = plugged(mode=mode)
    fixture.write(DATA, 0x12)
    fixture.write(CONTROL, IDLE | INPUT)
    assert fixture.read(DATA) == value
    fixture.write(CONTROL, IDLE)
    assert fixture.read(DATA) == 0x12


@pytest.mark.parametrize(
    ("mode", "window", "ports"),
    [("spp", "mode", 4), ("ps2", "mode", 4), ("ecp", "mode", 4), ("epp", "mode", 8), ("ecp+epp", "mode", 8), ("spp", "8", 8)],
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


def test_only_modes_with_epp_let_the_time_out_be_cleared():
    # A driver that can clear the time-out bit takes the port for EPP.
    for mode, there in (("spp", False), ("ps2", False), ("ecp", False), ("epp", True), ("ecp+epp", True)):
        fixture, _, _ = plugged(mode=mode)
        fixture.write(STATUS, 0x01)
        fixture.write(STATUS, 0x00)
        assert fixture.read(STATUS) & 0x01 == (not there), mode


class Scanner:
    """An EPP and ECP peripheral with sixteen registers, and bytes to send."""

    def __init__(self):
        self.registers, self.selected, self.log, self.sends, self.takes = bytearray(16), 0, [], bytearray(), 99

    def strobe(self, value):
        self.log.append(("strobe", value))

    def fifo_write(self, data, command):
        taken = data[: self.takes]
        self.log.append(("command" if command else "data", taken))
        return len(taken)

    def fifo_read(self, limit):
        data, self.sends = bytes(self.sends[:limit]), self.sends[limit:]
        return data

    def epp_write(self, value, address):
        if address:
            self.selected = value
        elif self.selected < 16:
            self.registers[self.selected] = value
        return self.selected < 16

    def epp_read(self, address):
        if address:
            return self.selected
        return self.registers[self.selected] if self.selected < 16 else None


def with_scanner(mode):
    fixture, port, _ = plugged(mode=mode)
    scanner = Scanner()
    port.attach(scanner)
    return fixture, port, scanner


def test_epp_cycles_reach_the_peripheral_at_any_width():
    fixture, _, scanner = with_scanner("epp")
    fixture.write(BASE + 3, 5)
    fixture.write(BASE + 4, 0x77)
    assert (scanner.registers[5], fixture.read(BASE + 4), fixture.read(BASE + 3)) == (0x77, 0x77, 5)
    fixture.write(BASE + 4, 0x44332211, 4)
    assert scanner.registers[5] == 0x44, "four cycles, the highest byte last"
    assert not fixture.read(STATUS) & 1


def test_a_peripheral_that_does_not_answer_is_a_time_out():
    fixture, _, _ = with_scanner("epp")
    fixture.write(BASE + 3, 99)
    assert fixture.read(STATUS) & 1
    fixture.write(STATUS, 0x01)
    assert not fixture.read(STATUS) & 1
    assert fixture.read(BASE + 4) == 0xFF
    assert fixture.read(STATUS) & 1


ECR, FIFO = BASE + 0x402, BASE + 0x400


def test_the_extended_control_register_is_what_drivers_look_for():
    fixture, port, _ = plugged(mode="ecp")
    assert fixture.read(ECR) == 0x15
    fixture.write(ECR, 0x34)
    assert fixture.read(ECR) == 0x35
    port.set_mode("ps2")
    assert fixture.read(ECR) == 0xFF
    port.set_mode("ecp")
    port.set_base(0x278)
    assert (fixture.read(ECR), fixture.read(0x67A)) == (0xFF, 0x35)


def test_the_fifo_has_sixteen_places_and_asks_for_service_at_half():
    fixture, _, _ = plugged(mode="ecp")
    fixture.write(ECR, 0xD4)
    depth = 0
    while not fixture.read(ECR) & 2:
        fixture.write(FIFO, 0x40 + depth)
        depth += 1
    assert depth == 16
    fixture.write(ECR, 0xD0)
    for n in range(1, 17):
        assert fixture.read(FIFO) == 0x40 + n - 1
        assert bool(fixture.lines[7].level) == (n == 8)
        assert bool(fixture.read(ECR) & 4) == (n >= 8)
    assert fixture.read(ECR) & 1
    assert fixture.read(FIFO) == 0xFF


def test_ecp_sends_data_and_commands_in_order_as_the_peripheral_takes_them():
    fixture, port, scanner = with_scanner("ecp")
    scanner.takes = 0
    fixture.write(ECR, 0x74)
    for at, value in ((FIFO, 1), (FIFO, 2), (BASE, 0x83), (FIFO, 4)):
        fixture.write(at, value)
    assert not fixture.read(ECR) & 1
    scanner.takes, scanner.log = 99, []
    port.set_base(0x278)
    fixture.read(0x67A)
    assert scanner.log == [("data", b"\x01\x02"), ("command", b"\x83"), ("data", b"\x04")]
    assert fixture.read(0x67A) & 1


def test_ecp_receives_in_reverse():
    fixture, _, scanner = with_scanner("ecp")
    scanner.sends += bytes(range(20))
    fixture.write(ECR, 0x20)
    fixture.write(CONTROL, IDLE | INPUT)
    fixture.write(ECR, 0x74)
    got = []
    while not fixture.read(ECR) & 1:
        got.append(fixture.read(FIFO))
    assert got == list(range(20))


def test_configuration_names_line_and_channel():
    fixture, port, _ = plugged(mode="ecp")
    fixture.write(ECR, 0xF4)
    assert (fixture.read(FIFO), fixture.read(FIFO + 1)) == (0x14, 0x0B)
    port.set_irq(5)
    port.set_dma(1)
    assert fixture.read(FIFO + 1) == 0x39


def test_dma_feeds_the_fifo_and_ends_with_an_interrupt():
    fixture = ISAFixture()
    dma, printer = fixture.plug(DMAController()), Printer()
    fixture.plug(ParallelPort(chardev=printer, mode="ecp"))
    fixture.memory.write(0x12340, bytes(range(100)))
    for port, value in ((0x0C, 0), (0x06, 0x40), (0x06, 0x23), (0x07, 99), (0x07, 0), (0x82, 1), (0x0B, 0x4B), (0x0A, 3)):
        fixture.write(port, value)
    fixture.write(ECR, 0x5C)
    assert printer.paper == b""
    fixture.write(ECR, 0x58)
    assert (printer.paper, dma.channel(3).ready) == (bytes(range(100)), False)
    assert fixture.lines[7].level == 1
    assert fixture.read(ECR) & 0x05 == 0x05
    assert fixture.lines[7].level == 0

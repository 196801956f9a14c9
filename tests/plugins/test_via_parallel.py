# SPDX-License-Identifier: MIT
"""The parallel port as the VIA chips' registers set it up: mode, FIFO block, window, interrupt and DMA."""

from __future__ import annotations

import pytest

from pyemu.testing.board import Board

CHIPS = {
    "vt82c686b": {"open": (0x85, 0x02), "select": 0xE2, "base": 0xE6, "control": 0xF0, "dma": 0x50, "irq": 0x51},
    "vt8231": {"open": (0x50, 0x04), "select": 0xF2, "base": 0xF6, "control": 0xFA, "dma": 0x44, "irq": 0x45},
}
SPP, ECP, EPP = 0, 1, 2


@pytest.fixture(params=CHIPS)
def port(request):
    with Board("via-pc", southbridge=request.param) as board:
        yield Port(board, **CHIPS[request.param])


class Port:
    def __init__(self, board, open, **registers):
        self.board, self.registers = board, registers
        board.set_cfg(0, *open)
        self.board.sio(registers["base"], 0xDE)

    def mode(self, select, control=0):
        self.board.sio(self.registers["control"], control)
        self.board.sio(self.registers["select"], select)

    def move(self, base):
        self.board.sio(self.registers["base"], base >> 2)

    def answers(self, *ports):
        return [self.board.machine.ports.region_at(p) is not None for p in ports]


def test_the_mode_decides_which_ports_there_are(port):
    for select, control, expected in (
        (SPP, 0x00, [True, False, False]),
        (ECP, 0x00, [True, False, True]),
        (ECP, 0xA0, [True, True, True]),
        (EPP, 0x00, [True, True, False]),
        (3, 0x00, [False, False, False]),
    ):
        port.mode(select, control)
        assert port.answers(0x378, 0x37C, 0x77A) == expected, (select, control)


def test_the_fifo_block_follows_the_port_with_what_is_in_it(port):
    port.mode(ECP)
    port.board.outb(0x77A, 0xD4)
    for value in b"abc":
        port.board.outb(0x778, value)
    port.move(0x278)
    assert port.answers(0x778, 0x678) == [False, True]
    port.mode(3)
    port.mode(ECP)
    assert bytes(port.board.inb(0x678) for _ in range(3)) == b"abc"
    assert port.board.inb(0x67A) & 1


def test_an_epp_base_has_one_bit_less(port):
    port.mode(EPP)
    port.move(0x3BC)
    assert port.answers(0x3B8, 0x3BF, 0x3BC) == [True, True, True]
    port.mode(SPP)
    assert port.answers(0x3B8, 0x3BC) == [False, True]


def test_configuration_b_tells_the_routing_and_dma_uses_it(port):
    board = port.board
    board.set_cfg(0, port.registers["irq"], 0x56)
    board.set_cfg(0, port.registers["dma"], 0x06)  # parallel 1, floppy 2
    port.mode(ECP)
    board.outb(0x77A, 0xF4)
    assert board.inb(0x779) == 7 << 3 | 1
    # Four bytes for channel 1 from 1000; the test mode's FIFO takes them.
    board.call(lambda: board.machine.memory.write(0x1000, b"data"))
    for at, value in ((0x0C, 0), (0x02, 0x00), (0x02, 0x10), (0x03, 3), (0x03, 0), (0x83, 0), (0x0B, 0x49), (0x0A, 1)):
        board.outb(at, value)
    board.init_pic()
    board.outb(0x77A, 0xD8)
    assert board.requests() == {5}
    assert board.inb(0x77A) & 0x04
    assert bytes(board.inb(0x778) for _ in range(4)) == b"data"
    assert board.requests() == set()


def test_the_pc87312_has_the_bidirectional_mode():
    with Board("isa-pc", config=0) as board:
        board.outb(0x37A, 0x20)
        board.outb(0x378, 0x55)
        assert board.inb(0x378) == 0x55
        board.outb(0x398, 2)
        board.outb(0x399, 0x80)
        assert board.inb(0x378) == 0xFF
        assert board.machine.ports.region_at(0x77A) is None

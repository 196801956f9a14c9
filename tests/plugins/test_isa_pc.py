# SPDX-License-Identifier: MIT
"""The PC87312 on board isa-pc: identification, double writes, lock, power-down, moving, save and restore."""

from __future__ import annotations

import logging

import pytest
from pyemu_pc87312.chip import PC87312
from pyemu_pc87312.layout import STRAPS

import pyemu
from pyemu.device import open_chardev
from pyemu.errors import ConfigError
from pyemu.machine.restoration import from_description
from pyemu.testing.board import Board
from pyemu.testing.conformance import DeviceConformance

INDEX = 0x398
FER, FAR, PTR = 0, 1, 2


class TestTheChipAlone(DeviceConformance):
    device_class = PC87312
    properties = {"config": 12}


class TestTheChipAloneWithStrictDoubleWrite(DeviceConformance):
    device_class = PC87312
    properties = {"strict-double-write": True}


@pytest.fixture
def board():
    with Board("isa-pc", config=12) as board:
        yield board


def put(board, index, value):
    board.sio(index, value, INDEX)


def get(board, index):
    return board.get_sio(index, INDEX)


def registers(board):
    return [get(board, index) for index in (FER, FAR, PTR)]


@pytest.mark.parametrize("config", range(32))
def test_every_strap_is_there_at_power_up_and_after_a_reset(config):
    with Board("isa-pc", config=config) as board:
        assert registers(board) == list(STRAPS[config])
        put(board, FAR, 0xFF)
        put(board, FER, 0x00)
        board.machine.reset()
        assert registers(board) == list(STRAPS[config])


def test_the_index_has_five_bits_and_other_registers_read_zero(board):
    board.outb(INDEX, 0xE2)
    assert board.inb(INDEX) == 0x02
    for index in range(3, 32):
        put(board, index, 0xFF)
        assert get(board, index) == 0
    assert registers(board) == [0x0F, 0x10, 0x00]


def test_the_identification_does_not_come_back_after_many_reads(board):
    assert [board.inb(INDEX) for _ in range(600)] == [0x88] + [0] * 599


def test_the_pair_moves_by_property():
    with Board("isa-pc", iobase=0x26E) as board:
        assert board.inb(0x26E) == 0x88
        assert board.get_sio(FER, 0x26E) == 0x4F
        assert board.inb(0x398) == 0xFF


# -- double writes ------------------------------------------------------------------------------------


@pytest.fixture
def strict():
    with Board("isa-pc", config=12, strict_double_write="on") as board:
        yield board


def test_a_single_write_is_taken_by_default(board):
    put(board, FER, 0x0D)
    assert (get(board, FER), board.inb(0x3FD)) == (0x0D, 0xFF)


def test_a_strict_chip_wants_it_twice(strict):
    board = strict
    board.outb(INDEX, FER)
    board.outb(INDEX + 1, 0x0D)
    assert board.inb(INDEX + 1) == 0x0F
    board.outb(INDEX + 1, 0x0D)
    assert board.inb(INDEX + 1) == 0x0F, "the read in between started over"
    board.outb(INDEX + 1, 0x0D)
    board.outb(INDEX + 1, 0x0D)
    assert (board.inb(INDEX + 1), board.inb(0x3FD)) == (0x0D, 0xFF)


@pytest.mark.parametrize("between", ["index", "other value", "read of the index"])
def test_what_starts_a_double_write_over(strict, between):
    board = strict
    board.outb(INDEX, FER)
    board.outb(INDEX + 1, 0x0D)
    if between == "index":
        board.outb(INDEX, FER)
    elif between == "other value":
        board.outb(INDEX + 1, 0x0E)
    else:
        board.inb(INDEX)
    board.outb(INDEX + 1, 0x0D)
    assert get(board, FER) == 0x0F


def test_a_third_write_is_a_first_half_again(strict):
    board = strict
    board.outb(INDEX, PTR)
    for value in (0x08, 0x08, 0x08, 0x80, 0x80):
        board.outb(INDEX + 1, value)
    assert get(board, PTR) == 0x80


# -- lock and power-down ------------------------------------------------------------------------------


def test_the_lock_holds_until_reset_and_is_logged_once(board, caplog):
    put(board, PTR, 0x48)
    with caplog.at_level(logging.WARNING):
        for index in (FER, FAR, PTR):
            put(board, index, 0x00)
    assert registers(board) == [0x0F, 0x10, 0x48]
    assert [record.getMessage() for record in caplog.records] == [
        "pc87312: write of 0x00 to register 0 ignored: locked until reset"
    ]
    assert board.inb(0x3FD) == 0x60
    board.machine.reset()
    put(board, FER, 0x00)
    assert get(board, FER) == 0


def test_power_down_silences_everything_but_the_configuration(board):
    put(board, FER, 0x4F)
    board.outb(0x3FF, 0x5A)
    put(board, PTR, 0x01)
    assert [board.inb(p) for p in (0x3FD, 0x2FD, 0x37A, 0x3F4, 0x1F7)] == [0xFF] * 5
    assert get(board, PTR) == 0x01
    put(board, PTR, 0x00)
    assert board.inb(0x3FF) == 0x5A


# -- moving while running -----------------------------------------------------------------------------


def test_functions_off_at_power_up_exist_and_can_be_switched_on():
    with Board("isa-pc", config=31) as board:
        assert [board.inb(p) for p in (0x3FD, 0x2FD, 0x37A, 0x3F4, 0x1F7)] == [0xFF] * 5
        put(board, FER, 0x4F)
        assert [board.inb(p) for p in (0x3FD, 0x2FD, 0x1F7)] == [0x60, 0x60, 0x7F]
        board.outb(0x378, 0x5A)
        assert board.inb(0x378) == 0x5A
        put(board, FER, 0xEF)
        assert [board.inb(p) for p in (0x1F7, 0x177, 0x376, 0x3F2, 0x3F4)] == [0xFF, 0x7F, 0x7F, 0xFF, 0xFF]
        board.outb(0x372, 0x0C)
        assert board.inb(0x372) == 0x0C


def test_the_interrupt_goes_with_the_address(board):
    board.outb(0x4D0, 0xF8)
    board.init_pic()
    board.outb(0x3FC, 0x0B)
    board.outb(0x3F9, 0x02)
    assert board.requests() == {4}
    put(board, FAR, 0x14)
    assert board.requests() == {3}, "UART 1 at 2F8"
    assert board.inb(0x2F9) == 0x02
    put(board, FAR, 0x18)
    assert board.requests() == {4}, "UART 1 at 3E8"
    put(board, FER, 0x0D)
    assert board.requests() == set()
    put(board, FER, 0x0F)
    assert board.requests() == {4}


def test_the_parallel_ports_line_is_chosen_at_378(board):
    chip = board.machine.devices["pc87312"]
    parallel = chip.functions["parallel"]
    for far, ptr, base, irq in ((0, 0, 0x378, 5), (0, 8, 0x378, 7), (1, 0, 0x3BC, 7), (2, 8, 0x278, 5)):
        put(board, FAR, far | 0x10)
        put(board, PTR, ptr)
        assert (parallel.iobase, parallel.irq) == (base, irq)
        board.outb(base, 0x42)
        assert board.inb(base) == 0x42
    put(board, FAR, 0x13)
    assert not parallel.enabled


def test_two_uarts_at_one_address_come_back_unharmed(board):
    board.outb(0x3FF, 0x11)
    board.outb(0x2FF, 0x22)
    put(board, FAR, 0x00)
    assert board.inb(0x3FF) in (0x11, 0x22)
    put(board, FAR, 0x10)
    assert (board.inb(0x3FF), board.inb(0x2FF)) == (0x11, 0x22)


def test_a_restored_machine_has_the_same_map(tmp_path, board):
    put(board, FAR, 0xB8)
    board.outb(0x2EF, 0x71)
    put(board, PTR, 0x80)
    path = tmp_path / "saved"
    board.machine.save(path)
    with Board(machine=pyemu.restore(path, cpu="none")) as restored:
        assert restored.inb(INDEX) == PTR, "the identification is over"
        assert registers(restored) == [0x0F, 0xB8, 0x80]
        assert (restored.inb(0x2EF), restored.inb(0x3FF)) == (0x71, 0xFF)


def test_there_is_no_pci(board):
    board.outb(0xCF8, 0x80000000, 4)
    assert board.inb(0xCF8, 4) == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"config": 32}, "config='32' is not between 0 and 31"),
        ({"superio": "fdc37"}, "superio='fdc37' is not one of pc87312"),
        ({"iobase": 0x20}, "iobase='32' is not between"),
    ],
)
def test_bad_properties_are_named(properties, message):
    with pytest.raises(ConfigError, match=message):
        Board("isa-pc", **properties)


def test_a_file_neither_carries_nor_decides_what_of_the_host_is_opened(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    serial = ("isa-serial", {"chardev": open_chardev("memory"), "iobase": "0x3e0"})
    with pyemu.Machine("isa-pc", cpu="none", devices=[serial]) as m:
        description = m.description()
    assert description["devices"] == [["isa-serial", {"iobase": "0x3e0"}]]
    description["devices"][0][1]["chardev"] = f"file:{precious}"
    with from_description(description) as back:
        [port] = [d for d in back.devices.values() if getattr(d, "iobase", None) == 0x3E0]
        assert port.chardev is None
    assert precious.read_text() == "keep me"

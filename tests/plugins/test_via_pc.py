# SPDX-License-Identifier: MIT
"""Board via-pc: bridge registers, routing, hiding, reset, save and restore, memory map."""

from __future__ import annotations

import pytest
from pyemu_via.firmware import SETUP_686, SETUP_8231, perform
from pyemu_via.layout import PRESET_686

import pyemu
from pyemu.device import IRQOut
from pyemu.errors import ConfigError
from pyemu.testing.board import SLOT, Board

CHIPS = ("vt82c686a", "vt82c686b", "vt8231")


@pytest.fixture
def board():
    with Board("via-pc") as board:
        yield board


@pytest.fixture(params=CHIPS)
def any_board(request):
    with Board("via-pc", southbridge=request.param) as board:
        board.chip = request.param
        yield board


def open_sio(board):
    board.set_cfg(0, 0x85, 0x02)


def set_up(board):
    """Serial ports at the PC's places with their lines."""
    board.set_cfg(0, 0x51, 0x76)
    board.set_cfg(0, 0x52, 0x34)
    open_sio(board)
    for index, value in ((0xE7, 0xFE), (0xE8, 0xBE), (0xE3, 0xFC), (0xE6, 0xDE), (0xE2, 0x0F)):
        board.sio(index, value)


# -- identity -----------------------------------------------------------------------------------------


def test_the_revision_of_function_0_tells_the_chips_apart(any_board):
    wanted = {"vt82c686a": (0x06861106, 0x14), "vt82c686b": (0x06861106, 0x40), "vt8231": (0x82311106, 0x10)}
    assert (any_board.cfg(0, 0, 4), any_board.cfg(0, 8)) == wanted[any_board.chip]


def test_what_sits_on_the_bus(any_board):
    found = {
        (slot, function): any_board.cfg(function, 0x0A, 2, slot)
        for slot in range(32)
        for function in range(8)
        if any_board.cfg(function, 0, 2, slot) != 0xFFFF
    }
    assert found == {
        (0, 0): 0x0600, (7, 0): 0x0601, (7, 1): 0x0101, (7, 2): 0x0C03, (7, 3): 0x0C03,
        (7, 4): 0x0680, (7, 5): 0x0401, (7, 6): 0x0780,
    }  # fmt: skip


def test_subsystem_ids_are_zero_or_those_of_qemu():
    with Board("via-pc") as board:
        assert [board.cfg(n, 0x2C, 4) for n in range(7)] == [0] * 7
    with Board("via-pc", reset_style="qemu") as board:
        assert [board.cfg(n, 0x2C, 4) for n in range(7)] == [0x11001AF4] * 7


def test_the_subsystem_id_is_written_through_other_registers(board):
    board.set_cfg(0, 0x70, 0x12345678, 4)
    board.set_cfg(0, 0x2C, 0xFFFFFFFF, 4)
    assert board.cfg(0, 0x2C, 4) == 0x12345678
    board.set_cfg(5, 0x2C, 0x1111, 2)
    assert board.cfg(5, 0x2C, 2) == 0
    board.set_cfg(5, 0x42, 0x20)
    board.set_cfg(5, 0x2C, 0x1111, 2)
    assert board.cfg(5, 0x2C, 2) == 0x1111


# -- the configuration pair ---------------------------------------------------------------------------


@pytest.mark.parametrize(("register", "size", "value"), [(0x84, 2, 0x0200), (0x85, 2, 0x0002), (0x84, 4, 0x0200)])
def test_the_opening_bit_acts_in_writes_of_any_size(board, register, size, value):
    board.set_cfg(0, register, value, size)
    assert board.get_sio(0xE0) == 0x3C
    board.set_cfg(0, register, 0, size)
    assert board.inb(0x3F1) == 0xFF


def test_the_8231_opens_in_a_wide_write_too():
    with Board("via-pc", southbridge="vt8231") as board:
        board.set_cfg(0, 0x4C, 0, 4)
        board.set_cfg(0, 0x50, 0x00040000 >> 16, 2)
        assert board.get_sio(0xF0) == 0x3C


def test_the_open_pair_wins_over_a_floppy_moved_onto_it(board):
    set_up(board)
    board.sio(0xE2, 0x1F)
    board.sio(0xE3, 0x40)
    board.sio(0xE3, 0xFC)
    assert board.get_sio(0xE3) == 0xFC, "the floppy came last, and the pair still answers"
    board.outb(0x3F2, 0x0C)
    assert board.inb(0x3F2) == 0x0C
    board.set_cfg(0, 0x85, 0)
    assert board.inb(0x3F1) != 0xFC, "closed, the port is the floppy's"


def test_reset_closes_the_pair_and_brings_the_defaults_back(board):
    set_up(board)
    board.outb(0x3FF, 0x5A)
    board.set_cfg(0, 0x55, 0x90)
    board.machine.reset()
    assert board.inb(0x3F0) == 0xFF
    assert board.inb(0x3FD) == 0xFF
    assert [board.cfg(0, r) for r in (0x50, 0x51, 0x52, 0x55, 0x85)] == [0x0E, 0, 0, 0, 0]
    open_sio(board)
    assert [board.get_sio(r) for r in (0xE2, 0xE7, 0xE8)] == [0x03, 0x00, 0x00]
    set_up(board)
    assert board.inb(0x3FF) == 0x00, "reset clears the functions"


def test_reset_as_in_qemu_has_both_serial_ports_and_their_lines_at_once():
    with Board("via-pc", reset_style="qemu") as board:
        board.init_pic()
        assert (board.inb(0x3FD), board.inb(0x2FD)) == (0x60, 0x60)
        board.outb(0x3FC, 0x0B)
        board.outb(0x3F9, 0x02)
        assert board.requests() == {4}
        open_sio(board)
        assert {index: board.get_sio(index) for index in PRESET_686} == PRESET_686


def test_the_index_reads_zero_for_registers_that_are_not_there(board):
    open_sio(board)
    for index in (0x00, 0xDF, 0xF9, 0xFC, 0xFF):
        board.sio(index, 0xFF)
        assert board.get_sio(index) == 0


# -- interrupts ---------------------------------------------------------------------------------------


def raise_pirq(board, slot, pin):
    """A card's pin, held high."""
    pci = board.machine.buses["pci"]
    card = IRQOut("card", pci.lines[(slot + pin) & 3])
    board.machine.call(lambda: card.set_level(1))
    return card


def test_a_pci_line_can_be_turned_round(board):
    board.outb(0x4D0, 0xF8)
    board.outb(0x4D1, 0xDE)
    board.init_pic()
    board.set_cfg(0, 0x55, 0x90)
    board.set_cfg(0, 0x54, 0x08)
    assert board.requests() == {9}
    card = raise_pirq(board, 0, 0)
    assert board.requests() == set()
    board.machine.call(lambda: card.set_level(0))
    board.set_cfg(0, 0x54, 0x00)
    assert board.requests() == set()


@pytest.mark.parametrize(("line", "register", "shift"), [(0, 0x55, 4), (1, 0x56, 0), (2, 0x56, 4), (3, 0x57, 4)])
def test_each_pci_line_has_its_nibble(board, line, register, shift):
    board.outb(0x4D1, 0xFF & 0xDE)
    board.outb(0x4D0, 0xF8)
    board.init_pic()
    raise_pirq(board, 0, line)
    seen = {}
    for value in range(16):
        board.set_cfg(0, register, value << shift)
        seen[value] = board.requests()
    legal = set(range(16)) - {0, 2, 8, 13}
    # Line 1 stays edge-triggered: the request latched on it shows while the pin is there.
    assert seen == {value: {value} if value in legal else set() for value in range(16)}
    assert board.cfg(0, register) == 15 << shift


def test_a_line_carries_the_or_of_its_sources(board):
    set_up(board)
    board.outb(0x4D0, 0xF8)
    board.init_pic()
    card = raise_pirq(board, 0, 0)
    board.set_cfg(0, 0x55, 0x40)
    board.outb(0x3FC, 0x0B)
    board.outb(0x3F9, 0x02)
    assert board.requests() == {4}
    board.machine.call(lambda: card.set_level(0))
    assert board.requests() == {4}, "the serial port still holds it"
    board.outb(0x3F9, 0x00)
    assert board.requests() == set()


def test_disabling_a_function_lowers_its_line_and_enabling_raises_it(board):
    set_up(board)
    board.outb(0x4D0, 0xF8)
    board.init_pic()
    board.outb(0x3FC, 0x0B)
    board.outb(0x3F9, 0x02)
    assert board.requests() == {4}
    board.sio(0xE2, 0x0B)
    assert board.requests() == set()
    board.sio(0xE2, 0x0F)
    assert board.requests() == {4}
    board.set_cfg(0, 0x52, 0x35)
    assert board.requests() == {5}
    board.set_cfg(0, 0x52, 0x3D)
    assert (board.requests(), board.cfg(0, 0x52), board.inb(0x3FD)) == (set(), 0x3D, 0x60)


@pytest.mark.parametrize("function", [2, 3, 5])
def test_functions_inside_are_routed_by_their_line_register(board, function):
    board.outb(0x4D0, 0xF8)
    board.outb(0x4D1, 0xDE)
    board.init_pic()
    device = board.machine.buses["pci"].by_devfn[SLOT << 3 | function]
    board.machine.call(lambda: device.irq_out.set_level(1))
    seen = {}
    for line in range(32):
        board.set_cfg(function, 0x3C, line)
        seen[line] = board.requests()
    routed = set(range(1, 15)) - {2, 8, 13}
    assert seen == {line: {line} if line in routed else set() for line in range(32)}


# -- functions ----------------------------------------------------------------------------------------

HIDES = [(1, 0x48, 2), (2, 0x48, 4), (3, 0x85, 0x10), (5, 0x85, 4), (6, 0x85, 8)]


@pytest.mark.parametrize(("function", "register", "bit"), HIDES)
def test_a_hidden_function_comes_back_as_it_was(board, function, register, bit):
    before = board.cfg(0, register)
    board.set_cfg(function, 0x44, 0x40)
    shown = bytes(board.cfg(function, n) for n in range(256))
    board.set_cfg(0, register, before | bit)
    board.set_cfg(function, 0x44, 0x00)
    assert {board.cfg(function, n) for n in range(256)} == {0xFF}
    board.set_cfg(0, register, before)
    assert bytes(board.cfg(function, n) for n in range(256)) == shown


def test_the_8231_hides_functions_through_register_50():
    with Board("via-pc", southbridge="vt8231") as board:
        for function, bit in ((1, 3), (2, 4), (3, 5), (5, 6), (6, 7)):
            board.set_cfg(0, 0x50, 1 << bit)
            gone = {n for n in range(1, 7) if board.cfg(n, 0, 4) == 0xFFFFFFFF}
            assert gone == {function}


def test_a_hidden_function_decodes_no_ports(board):
    board.set_cfg(2, 0x20, 0xE000, 4)
    board.set_cfg(2, 0x04, 1)
    assert board.inb(0xE00C) == 0x40
    board.set_cfg(0, 0x48, 0x05)
    assert board.inb(0xE00C) == 0xFF
    board.set_cfg(0, 0x48, 0x01)
    assert board.inb(0xE00C) == 0x40


def test_legacy_ide_channels_follow_their_enable_bits(board):
    assert (board.inb(0x1F7), board.inb(0x177)) == (0xFF, 0xFF)
    for value, answers in ((2, (0x7F, 0xFF)), (1, (0xFF, 0x7F)), (3, (0x7F, 0x7F)), (0, (0xFF, 0xFF))):
        board.set_cfg(1, 0x40, value)
        assert (board.inb(0x1F7), board.inb(0x177)) == answers
        assert (board.inb(0x3F6), board.inb(0x376)) == answers


def test_ide_in_native_mode_is_where_its_base_registers_say_also_when_entered_twice(board):
    board.set_cfg(1, 0x40, 0x03)
    board.set_cfg(1, 0x10, 0xFFFFFFFF, 4)
    assert board.cfg(1, 0x10, 4) == 0, "legacy mode has no base registers"
    for _ in range(2):
        board.set_cfg(1, 0x09, 0x8F)
        assert board.cfg(1, 0x09) == 0x8F
    for register, value in ((0x10, 0xE000), (0x14, 0xE010), (0x18, 0xE020), (0x1C, 0xE030)):
        board.set_cfg(1, register, 0xFFFFFFFF, 4)
        assert board.cfg(1, register, 4) == (0xFFF9 if register in (0x10, 0x18) else 0xFFFD)
        board.set_cfg(1, register, value, 4)
    assert board.inb(0xE007) == 0xFF
    board.set_cfg(1, 0x04, 0x01)
    assert [board.inb(p) for p in (0xE007, 0xE012, 0xE027, 0xE032)] == [0x7F] * 4
    assert [board.inb(p) for p in (0x1F7, 0x3F6, 0x177, 0x376)] == [0xFF] * 4
    board.set_cfg(1, 0x09, 0x8E)
    assert [board.inb(p) for p in (0x1F7, 0x3F6, 0x177, 0x376)] == [0x7F, 0x7F, 0xFF, 0xFF]
    assert board.inb(0xE027) == 0x7F
    assert board.inb(0xE007) == 0xFF


def test_ide_bases_of_the_bus_master(board):
    assert board.cfg(1, 0x20, 4) == 0xCC01
    board.set_cfg(1, 0x04, 0x01)
    board.outb(0xCC02, 0x60)
    assert board.inb(0xCC02) == 0x60


def test_usb_reset_and_halted_bit(board):
    board.set_cfg(2, 0x20, 0xE000, 4)
    board.set_cfg(2, 0x04, 1)
    assert board.inb(0xE002, 2) == 0x20
    board.outb(0xE000, 0x01, 2)
    assert board.inb(0xE002, 2) == 0x00
    board.outb(0xE00C, 0x21)
    board.outb(0xE000, 0x02, 2)
    assert (board.inb(0xE000, 2), board.inb(0xE002, 2), board.inb(0xE00C)) == (0, 0x20, 0x40)


def test_usb_frames_count_milliseconds_while_running(board):
    board.set_cfg(2, 0x20, 0xE000, 4)
    board.set_cfg(2, 0x04, 1)
    board.step(5_000_000)
    assert board.inb(0xE006, 2) == 0
    board.outb(0xE006, 0x7FE, 2)
    board.outb(0xE000, 0x01, 2)
    board.step(1_500_000)
    board.outb(0xE004, 0x0F, 2)
    assert board.inb(0xE006, 2) == 0x7FF
    board.step(1_500_000)
    assert board.inb(0xE006, 2) == 1
    board.outb(0xE000, 0x00, 2)
    board.step(5_000_000)
    assert board.inb(0xE006, 2) == 1


# -- firmware stand-in --------------------------------------------------------------------------------


def test_the_set_up_of_a_direct_kernel_start_leaves_a_pc(any_board):
    board = any_board
    setup = SETUP_8231 if board.chip == "vt8231" else SETUP_686
    board.machine.call(lambda: perform(setup, board.machine.ports, SLOT))
    board.outb(0x4D0, 0xF8)
    board.init_pic()
    assert board.inb(0x3FD) == 0x60
    assert board.inb(0x2FD) == (0xFF if board.chip == "vt8231" else 0x60)
    board.outb(0x378, 0x5A)
    assert board.inb(0x378) == 0x5A
    board.outb(0x3F2, 0x0C)
    assert board.inb(0x3F2) == 0x0C
    assert (board.inb(0x3F0), board.inb(0xCF8, 4)) == (0xFF, 0), "the pair is closed and the address register clear"
    assert (board.inb(0x1F7), board.inb(0x177)) == (0x7F, 0x7F)
    board.outb(0x3FC, 0x0B)
    board.outb(0x3F9, 0x02)
    assert 4 in board.requests()


def test_the_board_can_be_asked_to_set_the_chip_up_always():
    with Board("via-pc", firmware="always") as board:
        assert board.inb(0x3FD) == 0x60
        open_sio(board)
        board.sio(0xE2, 0x03)
        board.machine.reset()
        assert board.inb(0x3FD) == 0x60


def test_without_a_kernel_the_chip_stays_as_it_was_reset(board):
    assert board.inb(0x3FD) == 0xFF


# -- properties ---------------------------------------------------------------------------------------


def test_the_gate_needs_the_enable_bit():
    with Board("via-pc", superio_gate="on") as board:
        set_up(board)
        assert board.inb(0x3FD) == 0xFF
        board.set_cfg(0, 0x85, 0x03)
        assert board.inb(0x3FD) == 0x60


def test_fixed_routing_needs_no_registers():
    with Board("via-pc", routing="fixed") as board:
        open_sio(board)
        board.sio(0xE7, 0xFE)
        board.sio(0xE2, 0x07)
        board.init_pic()
        board.outb(0x3FC, 0x0B)
        board.outb(0x3F9, 0x02)
        assert board.requests() == {4}


@pytest.mark.parametrize(("wide", "answer"), [("lanes", 0xFFFF3CE0), ("qemu", 0x3C3C3CE0)])
def test_wide_accesses_beyond_the_pair(wide, answer):
    with Board("via-pc", wide_access=wide) as board:
        open_sio(board)
        board.outb(0x3F0, 0xE0)
        assert board.inb(0x3F0, 4) == answer


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"southbridge": "piix4"}, "southbridge='piix4' is not one of vt82c686a, vt82c686b, vt8231"),
        ({"reset_style": "soft"}, "is not one of hardware, qemu"),
        ({"colour": "red"}, "unknown property colour='red'"),
    ],
)
def test_bad_properties_are_named(properties, message):
    with pytest.raises(ConfigError, match=message):
        Board("via-pc", **properties)


def test_wide_accesses_of_a_serial_port_are_bytes_in_both_kinds():
    for wide in ("lanes", "qemu"):
        with Board("via-pc", wide_access=wide) as board:
            set_up(board)
            board.outb(0x3FB, 0x80)
            board.outb(0x3F8, 0x83000123, 4)
            assert (board.inb(0x3F8, 2), board.inb(0x3FB)) == (0x0123, 0x83)


# -- save and restore ---------------------------------------------------------------------------------


def test_a_restored_machine_has_the_same_map_and_state(tmp_path, any_board):
    board = any_board
    setup = SETUP_8231 if board.chip == "vt8231" else SETUP_686
    select, base = (0xF2, 0xF4) if board.chip == "vt8231" else (0xE2, 0xE7)
    board.machine.call(lambda: perform(setup, board.machine.ports, SLOT))
    board.set_cfg(0, *((0x50, 0x06) if board.chip == "vt8231" else (0x85, 0x02)))
    board.sio(base, 0xBA)
    board.outb(0x2EF, 0x5A)
    board.set_cfg(2, 0x20, 0xE040, 4)
    board.set_cfg(2, 0x04, 1)
    board.outb(0xE04C, 0x33)
    board.outb(0x4002, 0x0120, 2)
    board.set_cfg(4, 0x62, 0x0A)
    board.outb(0x3F0, select)
    value = board.inb(0x3F1)
    path = tmp_path / "saved"
    board.machine.save(path)
    with Board(machine=pyemu.restore(path, cpu="none")) as restored:
        assert (restored.inb(0x3F0), restored.inb(0x3F1)) == (select, value)
        assert (restored.inb(0x2EF), restored.inb(0x3FD)) == (0x5A, 0xFF)
        assert restored.inb(0xE04C) == 0x33
        assert (restored.inb(0x4002, 2), restored.cfg(4, 0x0A)) == (0x0120, 0x0A)
        assert ports(restored) == ports(board)
        restored.sio(base, 0xFE)
        assert restored.inb(0x3FF) == 0x5A


def ports(board):
    return [(r.start, r.length) for r in board.machine.call(board.machine.ports.regions)]


def test_bytes_in_a_uarts_fifo_survive_a_move_and_its_interrupt_follows_the_routing(board):
    board.set_cfg(0, 0x52, 0x34)
    open_sio(board)
    board.sio(0xE7, 0xFE)
    board.sio(0xE2, 0x07)
    board.init_pic()
    for port, value in ((0x3FA, 0x07), (0x3FC, 0x1B), (0x3F9, 0x01)):
        board.outb(port, value)
    for value in b"flight":
        board.outb(0x3F8, value)
    board.outb(0x3FC, 0x0B)
    assert board.requests() == {4}
    board.sio(0xE7, 0xBA)
    board.set_cfg(0, 0x52, 0x35)
    assert board.requests() == {5}
    assert bytes(board.inb(0x2E8) for _ in range(3)) == b"fli"
    board.sio(0xE2, 0x03)
    assert board.requests() == set()
    board.sio(0xE2, 0x07)
    assert board.requests() == {5}
    assert bytes(board.inb(0x2E8) for _ in range(3)) == b"ght"
    assert board.requests() == set()


def test_writes_to_configuration_registers_that_keep_nothing_are_logged_once(board, caplog):
    for _ in range(3):
        board.set_cfg(4, 0xFC, 0x12345678, 4)
        board.set_cfg(0, 0x90, 0x01)
        board.set_cfg(0, 0x90, 0x00)
    messages = [r.getMessage() for r in caplog.records if "configuration" in r.getMessage()]
    assert messages == ["vt82c686b-isa: write of 0x01 to configuration register 0x90 is ignored"]

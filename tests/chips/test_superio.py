# SPDX-License-Identifier: MIT
"""The SuperIO base: register tables, and the way from registers to placed functions."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.chips.superio import FunctionLayout, Register, RegisterTable, SuperIO, legal_irq, place
from pyemu.device import ISAFunction
from pyemu.errors import ConfigError
from pyemu.memory import PortioEntry
from pyemu.testing.fakes import ISAFixture

SELECT, BASE_A, BASE_B, LINES, ID = range(5)


class Latch(ISAFunction):
    """Four ports that remember, and a pin; counts how often it is placed."""

    type_name = "latch"
    iobase = 0x200

    def __init__(self):
        super().__init__()
        self.data = bytearray(4)
        self.calls = []

    def table(self):
        return [PortioEntry(0, 4, 1, lambda offset, size: self.data[offset], self.write)]

    def write(self, offset, size, value):
        self.data[offset] = value

    def set_enabled(self, enabled):
        self.calls.append(("enabled", enabled))
        super().set_enabled(enabled)

    def set_base(self, base):
        self.calls.append(("base", base))
        super().set_base(base)

    def set_irq(self, irq):
        self.calls.append(("irq", irq))
        super().set_irq(irq)


class Chip(SuperIO):
    """Two latches: a select register, a base register each in steps of 4, one register of line nibbles."""

    type_name = "test-superio"
    table = RegisterTable(
        [
            Register(SELECT, "select", 0x00, 0x03),
            Register(BASE_A, "base a", 0x80),
            Register(BASE_B, "base b", 0x90),
            Register(LINES, "lines", 0x53),
            Register(ID, "id", 0x3C, 0),
        ]
    )
    function_names = ("a", "b")

    @staticmethod
    def layout(registers):
        select, lines = registers[SELECT], registers[LINES]
        return {
            "a": place(bool(select & 1), registers[BASE_A] << 2, lines & 15),
            "b": place(bool(select & 2), registers[BASE_B] << 2, lines >> 4),
        }

    def current_layout(self):
        return self.layout(self.registers)


@pytest.fixture
def setup():
    return build()


def build():
    fixture = ISAFixture()
    chip = Chip()
    functions = {}
    for name in chip.function_names:
        functions[name] = Latch()
        chip.attach(name, functions[name])
        fixture.bus.plug(functions[name], name)
    fixture.plug(chip)
    return fixture, chip, functions


def test_registers_keep_masked_bits_and_read_only_ones_stay():
    table = RegisterTable([Register(1, "r", 0x81, 0x7E, 0x01), Register(2, "id", 0x3C, 0)])
    assert table.written(0x81, 1, 0xFF) == 0xFF
    assert table.written(0x81, 1, 0x00) == 0x81
    assert table.written(0x00, 1, 0x00) == 0x01, "fixed bits read 1 once anything was written"
    assert table.written(0x3C, 2, 0xFF) == 0x3C
    assert table.written(0x00, 3, 0xFF) == 0x00
    assert [table.ignores(n) for n in (1, 2, 3)] == [False, True, True]
    assert table.reset_values({1: 0x55})[1:3] == bytes((0x55, 0x3C))


@pytest.mark.parametrize(
    "registers",
    [
        [(0x100, "far")],
        [(1, "one"), (1, "two")],
        [(1, "both", 0, 0xFF, 0x01)],
        [(1, "wide", 0x100)],
    ],
)
def test_a_table_that_contradicts_itself_is_refused(registers):
    with pytest.raises(ValueError, match="register"):
        RegisterTable([Register(*register) for register in registers])


def test_lines_that_no_function_can_have():
    assert [n for n in range(16) if legal_irq(n) is None] == [0, 2, 8, 13]


def test_functions_start_where_the_reset_values_say(setup):
    fixture, _, functions = setup
    assert fixture.mapped() == []
    assert [(f.iobase, f.irq, f.enabled) for f in functions.values()] == [(0x200, 3, False), (0x240, 5, False)]


def test_enable_move_and_disable_keep_the_functions_state(setup):
    fixture, chip, _ = setup
    chip.store(SELECT, 1)
    fixture.write(0x203, 0x5A)
    chip.store(BASE_A, 0xC0)
    assert fixture.mapped() == [0x300, 0x301, 0x302, 0x303]
    assert fixture.read(0x303) == 0x5A
    chip.store(SELECT, 0)
    assert fixture.mapped() == []
    chip.store(BASE_A, 0xA0)
    assert fixture.mapped() == [], "a base written while the function is off waits"
    chip.store(SELECT, 1)
    assert fixture.read(0x283) == 0x5A


def test_only_what_differs_is_touched(setup):
    _, chip, functions = setup
    for function in functions.values():
        function.calls.clear()
    chip.store(BASE_A, 0xC0)
    chip.store(BASE_A, 0xC0)
    chip.store(LINES, 0x73)
    assert functions["a"].calls == [("base", 0x300)]
    assert functions["b"].calls == [("irq", 7)]


def test_the_line_follows_the_register_while_the_pin_is_high(setup):
    fixture, chip, functions = setup
    chip.store(SELECT, 1)
    functions["a"].irq_out.set_level(1)
    chip.store(LINES, 0x54)
    chip.store(SELECT, 0)
    chip.store(SELECT, 1)
    assert fixture.edges == [(3, 1), (3, 0), (4, 1), (4, 0), (4, 1)]


def test_what_is_refused_reads_back_and_is_logged_once(setup, caplog):
    fixture, chip, _ = setup
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            chip.store(SELECT, 1)
            chip.store(BASE_A, 0x3F)
            chip.store(LINES, 0x5D)
            chip.store(BASE_A, 0x80)
    assert chip.registers[LINES] == 0x5D
    assert fixture.mapped() == [0x200, 0x201, 0x202, 0x203], "an illegal line does not hide the ports"
    assert [record.getMessage() for record in caplog.records] == [
        "test-superio: a: base 0xfc is below 0x100: not decoded",
        "test-superio: a: interrupt line 13 cannot be routed to: not connected",
    ]


def test_an_ignored_write_is_logged_once_a_register(setup, caplog):
    _, chip, _ = setup
    with caplog.at_level(logging.WARNING):
        for value in range(4):
            chip.store(ID, value)
            chip.store(0x77, value)
    assert [record.getMessage() for record in caplog.records] == [
        "test-superio: write of 0x00 to registers 0x04 (id) is ignored",
        "test-superio: write of 0x00 to registers 0x77 is ignored",
    ]


def test_functions_that_swap_places_both_arrive():
    fixture, chip, functions = build()
    chip.store(SELECT, 3)
    fixture.write(0x200, 0xA)
    fixture.write(0x240, 0xB)
    # One register write cannot swap them; two layouts in a row through one base can overlap.
    chip.store(BASE_A, 0x90)
    chip.store(BASE_B, 0x80)
    assert (fixture.read(0x240), fixture.read(0x200)) == (0xA, 0xB)
    assert functions["a"].iobase == 0x240


def test_reset_brings_the_layout_back(setup):
    fixture, chip, _ = setup
    chip.store(SELECT, 3)
    chip.store(BASE_B, 0xC0)
    chip.index = 7
    chip.reset()
    assert (fixture.mapped(), chip.index, chip.registers[BASE_B]) == ([], 0, 0x90)


def test_loading_applies_the_map_and_leaves_the_functions_alone(setup):
    _, chip, functions = setup
    chip.store(SELECT, 3)
    chip.store(BASE_A, 0xC0)
    saved = chip.vmstate.encode(chip)
    other, twin, others = build()
    others["a"].data[:] = b"abcd"
    position = 0

    def read(n):
        nonlocal position
        position += n
        return saved[position - n : position]

    twin.vmstate.decode(twin, read, 1)
    twin.post_load(1)
    assert other.mapped() == [*range(0x240, 0x244), *range(0x300, 0x304)]
    assert others["a"].data == b"abcd"
    assert [f.irq for f in others.values()] == [f.irq for f in functions.values()]


def test_attach_refuses_unknown_and_double_functions(setup):
    _, chip, _ = setup
    with pytest.raises(ConfigError, match="no function 'c'; it has: a, b"):
        chip.attach("c", Latch())
    with pytest.raises(ConfigError, match="function a is"):
        chip.attach("a", Latch())


WRITES = st.lists(
    st.one_of(
        st.tuples(st.just(SELECT), st.integers(0, 3)),
        st.tuples(st.sampled_from([BASE_A, BASE_B]), st.integers(0, 255)),
        st.tuples(st.just(LINES), st.integers(0, 255)),
    ),
    max_size=12,
)


def expected(registers):
    """The ports in use, from the registers alone."""
    ports = set()
    for bit, index in ((1, BASE_A), (2, BASE_B)):
        base = registers[index] * 4
        if registers[SELECT] & bit and base >= 0x100:
            ports.update(range(base, base + 4))
    return sorted(ports)


@given(WRITES)
def test_after_any_writes_the_map_is_what_the_registers_say(writes):
    fixture, chip, functions = build()
    for index, value in writes:
        chip.store(index, value)
        assert fixture.mapped() == expected(chip.registers)
    for (name, function), nibble in zip(functions.items(), (0, 4), strict=True):
        line = chip.registers[LINES] >> nibble & 15
        shown = chip.current_layout()[name].enabled
        connected = function.irq_out.line
        if shown and line not in (0, 2, 8, 13):
            assert connected is fixture.lines[line]
        else:
            assert connected is None


def test_refusals_play_no_part_in_comparisons():
    assert FunctionLayout(False, 0, refused="x") == FunctionLayout(False, 0)

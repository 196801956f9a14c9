# SPDX-License-Identifier: MIT
"""VIA layouts, exhaustively, against a reference written from the register descriptions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyemu_via.layout import PRESET_686, TABLE_686, TABLE_8231, Registers, layout_686, layout_8231

# What one register says about one function, written down once more, bit by bit and without sharing code:
# address lines by register bit, and the tables of the select register.
ADDRESS_LINES_8 = {7: 0x200, 6: 0x100, 5: 0x80, 4: 0x40, 3: 0x20, 2: 0x10, 1: 0x8}
ADDRESS_LINES_16 = {bit: line for bit, line in ADDRESS_LINES_8.items() if bit >= 2}
ADDRESS_LINES_4 = {**ADDRESS_LINES_8, 0: 0x4}
NO_LINE = {0: None, 2: None, 8: None, 13: None}

CHIPS = {
    "686": {
        "layout": layout_686, "reset": bytes(TABLE_686.reset_values(PRESET_686)), "select": 0xE2, "parallel": 0xE6,
        "floppy": 0xE3, "serial": {"serial1": (0xE7, 4), "serial2": (0xE8, 8)}, "power": 0xEF, "control": 0xF0,
    },
    "8231": {
        "layout": layout_8231, "reset": bytes(TABLE_8231.reset_values()), "select": 0xF2, "parallel": 0xF6,
        "floppy": 0xF7, "serial": {"serial1": (0xF4, 4)}, "power": 0xF3, "control": 0xFA,
    },
}  # fmt: skip
PC_BRIDGE = bytearray(256)
PC_BRIDGE[0x44] = PC_BRIDGE[0x50] = 0x0E
PC_BRIDGE[0x45] = PC_BRIDGE[0x51] = 0x76
PC_BRIDGE[0x46], PC_BRIDGE[0x47], PC_BRIDGE[0x52] = 0x04, 0x03, 0x34


def address(value: int, lines: dict[int, int]) -> int:
    return sum(line for bit, line in lines.items() if value & 1 << bit)


def regs(chip: dict, **values: int) -> bytearray:
    """Registers after reset with those named in *values* changed, e.g. ``select=3``."""
    out = bytearray(chip["reset"])
    for name, value in values.items():
        index = chip["serial"][name][0] if name in chip["serial"] else chip[name]
        out[index] = value
    return out


@pytest.fixture(params=CHIPS)
def chip(request: pytest.FixtureRequest) -> dict:
    return CHIPS[request.param]


def test_every_select_value(chip):
    for value in range(256):
        layout = chip["layout"](Registers(regs(chip, select=value), PC_BRIDGE))
        for name, (_, bit) in chip["serial"].items():
            assert layout[name].enabled == bool(value & bit), hex(value)
        assert layout["floppy"].enabled == bool(value & 16), hex(value)
        assert layout["parallel"].enabled == (value % 4 != 3), hex(value)
        assert layout["parallel"].mode == ["spp", "ecp", "epp", ""][value % 4]
        assert set(layout) == {*chip["serial"], "floppy", "parallel"}


def test_every_serial_base(chip):
    for name, value in itertools.product(chip["serial"], range(256)):
        got = chip["layout"](Registers(regs(chip, select=0x0F, **{name: value}), PC_BRIDGE))[name]
        wanted = address(value, ADDRESS_LINES_8)
        assert (got.base, got.enabled) == (wanted, wanted >= 0x100), hex(value)
        assert bool(got.refused) == (wanted < 0x100)


def test_every_floppy_base(chip):
    for value in range(256):
        got = chip["layout"](Registers(regs(chip, select=0x13, floppy=value), PC_BRIDGE))["floppy"]
        wanted = address(value, ADDRESS_LINES_16)
        assert (got.base, got.enabled, got.irq, got.dma) == (wanted, wanted >= 0x100, 6, 2), hex(value)


def test_every_parallel_base_in_every_mode(chip):
    for value, mode in itertools.product(range(256), range(3)):
        got = chip["layout"](Registers(regs(chip, select=mode, parallel=value), PC_BRIDGE))["parallel"]
        wanted = address(value, ADDRESS_LINES_8 if mode == 2 else ADDRESS_LINES_4)
        assert (got.base, got.enabled, got.irq) == (wanted, wanted >= 0x100, 7), (hex(value), mode)
        assert got.dma == (3 if mode == 1 else None)


def test_a_base_is_known_also_while_the_function_is_off(chip):
    got = chip["layout"](Registers(regs(chip, select=0x03, serial1=0xFA), PC_BRIDGE))["serial1"]
    assert (got.enabled, got.base) == (False, 0x3E8)


@pytest.mark.parametrize(
    ("value", "off"),
    [(0x01, {"serial1", "serial2", "floppy", "parallel"}), (0x02, {"floppy"}), (0x04, {"serial1"}),
     (0x08, {"serial2"}), (0x10, {"parallel"}), (0x60, set())],
)  # fmt: skip
def test_power_down(chip, value, off):
    layout = chip["layout"](Registers(regs(chip, select=0x1C, power=value), PC_BRIDGE))
    assert {name for name, where in layout.items() if not where.enabled} == off & set(layout)


def test_parallel_control_selects_the_finer_modes(chip):
    def mode(select: int, control: int) -> str:
        return chip["layout"](Registers(regs(chip, select=select, control=control), PC_BRIDGE))["parallel"].mode

    assert [mode(0, 0x00), mode(0, 0x80)] == ["spp", "ps2"]
    assert [mode(1, 0x00), mode(1, 0x20), mode(1, 0xA0)] == ["ecp", "ecp+epp", "ecp+epp"]
    assert [mode(2, 0x00), mode(2, 0xA0)] == ["epp", "epp"]


def test_every_interrupt_routing_value():
    for value in range(256):
        bridge = bytearray(PC_BRIDGE)
        bridge[0x51] = bridge[0x52] = value
        low, high = value & 15, value >> 4
        layout = layout_686(Registers(regs(CHIPS["686"], select=0x1C), bridge))
        assert layout["serial1"].irq == layout["floppy"].irq == NO_LINE.get(low, low)
        assert layout["serial2"].irq == layout["parallel"].irq == NO_LINE.get(high, high)
        assert all(function.enabled for function in layout.values()), "a line that is refused does not hide the ports"


def test_every_interrupt_routing_value_of_the_8231():
    for value in range(256):
        bridge = bytearray(PC_BRIDGE)
        bridge[0x45] = bridge[0x46] = value
        low, high = value & 15, value >> 4
        layout = layout_8231(Registers(regs(CHIPS["8231"], select=0x14), bridge))
        assert layout["serial1"].irq == layout["floppy"].irq == NO_LINE.get(low, low)
        assert layout["parallel"].irq == NO_LINE.get(high, high)


def test_every_dma_routing_value(chip):
    for value in range(256):
        bridge = bytearray(PC_BRIDGE)
        bridge[0x44] = bridge[0x50] = value
        layout = chip["layout"](Registers(regs(chip, select=0x11), bridge))
        assert (layout["floppy"].dma, layout["parallel"].dma) == (value % 4, value // 4 % 4)


def test_fixed_routing_ignores_the_registers(chip):
    layout = chip["layout"](Registers(regs(chip, select=0x1D), bytearray(256), fixed_routing=True))
    lines = {name: (where.irq, where.dma) for name, where in layout.items()}
    wanted = {"serial1": (4, None), "serial2": (3, None), "parallel": (7, 3), "floppy": (6, 2)}
    assert lines == {name: wanted[name] for name in lines}


def test_gate(chip):
    gate = {"686": (0x85, 1), "8231": (0x50, 2)}["8231" if chip is CHIPS["8231"] else "686"]
    bridge = bytearray(PC_BRIDGE)
    bridge[gate[0]] &= ~gate[1]
    shut = chip["layout"](Registers(regs(chip, select=0x1C), bridge, gate=True))
    bridge[gate[0]] |= gate[1]
    opened = chip["layout"](Registers(regs(chip, select=0x1C), bridge, gate=True))
    assert not any(where.enabled for where in shut.values())
    assert all(where.enabled for where in opened.values())


@given(registers=st.binary(min_size=256, max_size=256), bridge=st.binary(min_size=256, max_size=256))
def test_any_registers_give_a_legal_layout(registers, bridge):
    for layout in (layout_686, layout_8231):
        for where in layout(Registers(registers, bridge)).values():
            assert not where.enabled or 0x100 <= where.base <= 0x3FC
            assert where.irq not in (0, 2, 8, 13)
            assert where.dma is None or 0 <= where.dma <= 3


# Written down from the hardware masks: index -> (bits that keep a write, bits that always read 1 afterwards).
MASKS_686 = {
    0xE0: (0, 0), 0xE1: (0, 0), 0xE2: (0xBF, 0), 0xE3: (0xFC, 0), 0xE4: (0xFC, 0), 0xE5: (0xFC, 3), 0xE6: (0xFF, 0),
    0xE7: (0xFE, 0), 0xE8: (0xFE, 0), 0xE9: (0xFF, 0), 0xEA: (0xFF, 0), 0xEB: (0xFF, 0), 0xEC: (0, 0), 0xED: (0x0F, 0),
    0xEE: (0xFF, 0), 0xEF: (0x7F, 0), 0xF0: (0xF4, 0), 0xF1: (0x3F, 0), 0xF2: (0xFF, 0), 0xF3: (0xFB, 0),
    0xF4: (0xFE, 0), 0xF5: (0xFF, 0), 0xF6: (0xF7, 0), 0xF7: (0xFE, 0), 0xF8: (0xFF, 0),
}  # fmt: skip
MASKS_8231 = {
    0xF2: (0x17, 0), 0xF3: (0xFF, 0), 0xF4: (0xFE, 0), 0xF6: (0xFF, 0), 0xF7: (0xFC, 0), 0xF9: (0xFF, 0),
    0xFA: (0xFF, 0), 0xFB: (0xFF, 0), 0xFC: (0xFF, 0), 0xFE: (0xFF, 0), 0xFF: (0xFF, 0),
}  # fmt: skip


@pytest.mark.parametrize(("table", "masks"), [(TABLE_686, MASKS_686), (TABLE_8231, MASKS_8231)])
def test_every_register_keeps_exactly_its_bits(table, masks):
    reset = table.reset_values()
    for index in range(256):
        mask, ones = masks.get(index, (0, 0))
        for value in range(256):
            wanted = (value & mask | ones) if mask else reset[index]
            assert table.written(reset[index], index, value) == wanted, (hex(index), hex(value))

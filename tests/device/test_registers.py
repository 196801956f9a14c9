# SPDX-License-Identifier: MIT
"""Declared registers: what follows from a declaration."""

from __future__ import annotations

import logging

import pytest

from pyemu.device import ISADevice, Register, RegisterBlock, RegisterTable, VMState, block_field
from pyemu.testing import DeviceConformance
from pyemu.testing.fakes import ISAFixture, PCIFixture

TABLE = RegisterTable(
    (
        Register(0, "control", 0x81, 0x0F, 0x40),
        Register(1, "status", 0x30, 0, clear=0x30),
        Register(4, "address", 0x12345678, 0xFFFFF000, size=4),
        Register(8, "latch", source="latch"),
    ),
    name="block", size=16,
)  # fmt: skip


class Sample(ISADevice):
    type_name = "sample"
    vmstate = VMState("sample", fields=(block_field("registers", TABLE),))
    register_tables = (TABLE,)
    latch = 0x5A

    def __init__(self, **properties):
        super().__init__(**properties)
        self.registers = RegisterBlock(TABLE, self)

    def realize(self):
        self.add_ports(self.registers.ports(), 0x200)

    def reset(self):
        self.registers.reset()


class TestSample(DeviceConformance):
    device_class = Sample
    accesses = 60


def test_writable_fixed_and_cleared_bits():
    fixture = ISAFixture()
    fixture.plug(Sample())
    fixture.write(0x200, 0xFF)
    assert fixture.read(0x200) == 0xCF
    fixture.write(0x201, 0x10)
    assert fixture.read(0x201) == 0x20
    fixture.write(0x204, 0xABCDEFFF, 4)
    assert fixture.read(0x204, 4) == 0xABCDE678
    fixture.write(0x205, 0x00)
    assert fixture.read(0x204, 4) == 0xABCD0678
    assert fixture.read(0x20C, 4) == 0


def test_values_come_by_name_with_reset_and_mask():
    fixture = ISAFixture()
    sample = fixture.plug(Sample())
    fixture.write(0x204, 0, 4)
    values = {v.name: v for v in sample.register_values()}
    assert [*values] == ["control", "status", "address", "latch"]
    assert values["address"] == ("block", "address", 4, 4, 0x678, 0x12345678, 0xFFFFF000)
    assert values["latch"].value == 0x5A


def test_an_ignored_write_is_logged_once_a_register(caplog):
    fixture = ISAFixture()
    fixture.plug(Sample())
    for port in (0x20C, 0x20C, 0x20D, 0x200):
        fixture.write(port, 1)
    assert [r.getMessage() for r in caplog.records] == [
        "sample: write of 0x01 to block 0x0c is ignored",
        "sample: write of 0x01 to block 0x0d is ignored",
    ]


def test_a_trace_calls_registers_by_their_names(caplog):
    caplog.set_level(logging.DEBUG, "pyemu.registers")
    fixture = ISAFixture()
    fixture.plug(Sample())
    fixture.write(0x201, 0x10)
    fixture.read(0x206, 2)
    assert [r.getMessage() for r in caplog.records] == [
        "sample: write block 0x01 (status) = 0x10",
        "sample: read block 0x06 (address+2) = 0x1234",
    ]


def test_a_pci_function_lists_its_header_and_what_it_declares():
    from pyemu.device import PCIDevice

    class Card(PCIDevice):
        type_name = "card"
        vendor_id, device_id, interrupt_pin = 0x1234, 0x5678, 1
        config_registers = (Register(0x40, "storage", size=8), Register(0x44, "mode", 0x11, 0x0F, effect="acts"))

    fixture = PCIFixture()
    card = fixture.plug(Card())
    fixture.config_write(card, 0x44, 0xFF, 1)
    values = {(v.offset, v.name): v for v in card.register_values()}
    assert values[0, "vendor id"].value == 0x1234
    assert values[0x44, "mode"][4:] == (0x1F, 0x11, 0x0F)
    assert (values[0x40, "storage"].size, values[0x45, "storage"].size) == (4, 3)


@pytest.mark.parametrize("register", [(0, "r", 0x100), (0, "r", 0, 3, 1), (-1, "r")])
def test_a_register_that_contradicts_itself_is_refused(register):
    with pytest.raises(ValueError, match="register r"):
        Register(*register)

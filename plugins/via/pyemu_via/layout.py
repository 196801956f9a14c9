# SPDX-License-Identifier: MIT
"""Register tables of the VIA SuperI/O parts and the pure functions from registers to layout.

A base register holds address bits 9-2, 9-3 or 9-4 in its upper bits; the function-select register
says which functions are on. Interrupt lines and DMA channels are not in the SuperI/O register file
but in the configuration space of PCI function 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pyemu.chips.superio import FunctionLayout, Register, RegisterTable, place

SELECT_PARALLEL = 0x03
SELECT_SERIAL1 = 0x04
SELECT_SERIAL2 = 0x08
SELECT_FLOPPY = 0x10
PARALLEL_OFF = 3
PARALLEL_MODES = ("spp", "ecp", "epp")
PARALLEL_BIDIRECTIONAL = 0x80
PARALLEL_EPP_WITH_ECP = 0x20

POWER_DOWN_ALL = 0x01
POWER_DOWN_FLOPPY = 0x02
POWER_DOWN_SERIAL1 = 0x04
POWER_DOWN_SERIAL2 = 0x08
POWER_DOWN_PARALLEL = 0x10


class Registers(NamedTuple):
    """Everything a VIA layout depends on.

    Attributes:
        superio: the SuperI/O register file.
        bridge: configuration space of PCI function 0.
        fixed_routing: use the PC's lines (4, 3, 6, 7 and DMA 2, 3) instead of the routing registers.
        gate: functions need the chip's SuperI/O enable bit (see :class:`Chip`).
    """

    superio: bytes | bytearray
    bridge: bytes | bytearray
    fixed_routing: bool = False
    gate: bool = False


@dataclass(frozen=True, slots=True)
class Chip:
    """Where one chip keeps what the layout needs: register numbers, and the enable bit in the bridge.

    ``dma``, ``irq_parallel_floppy`` and ``irq_serial`` are bridge registers. With one ``irq_serial``
    register its nibbles are serial 2 and serial 1; with two each has its own.
    """

    select: int
    floppy_base: int
    parallel_base: int
    serial_bases: tuple[int, ...]
    power_down: int
    parallel_control: int
    dma: int
    irq_parallel_floppy: int
    irq_serial: tuple[int, ...]
    gate_register: int
    gate_bit: int


CHIP_686 = Chip(
    select=0xE2, floppy_base=0xE3, parallel_base=0xE6, serial_bases=(0xE7, 0xE8), power_down=0xEF,
    parallel_control=0xF0, dma=0x50, irq_parallel_floppy=0x51, irq_serial=(0x52,),
    gate_register=0x85, gate_bit=0x01,
)  # fmt: skip
CHIP_8231 = Chip(
    select=0xF2, floppy_base=0xF7, parallel_base=0xF6, serial_bases=(0xF4,), power_down=0xF3,
    parallel_control=0xFA, dma=0x44, irq_parallel_floppy=0x45, irq_serial=(0x46, 0x47),
    gate_register=0x50, gate_bit=0x02,
)  # fmt: skip

PC_SERIAL_IRQS = (4, 3)
PC_FLOPPY_IRQ, PC_PARALLEL_IRQ = 6, 7
PC_FLOPPY_DMA, PC_PARALLEL_DMA = 2, 3

TABLE_686 = RegisterTable((
    Register(0xE0, "device id", 0x3C, 0),
    Register(0xE1, "revision", 0x00, 0),
    Register(0xE2, "function select", 0x03, 0xBF, effect="1-0 parallel mode, 2 and 3 serial, 4 floppy: on"),
    Register(0xE3, "floppy base", 0x00, 0xFC, effect="moves the floppy controller"),
    Register(0xE4, "reserved", 0x00, 0xFC),
    Register(0xE5, "reserved", 0x03, 0xFC, 0x03),
    Register(0xE6, "parallel base", effect="moves the parallel port"),
    Register(0xE7, "serial 1 base", 0x00, 0xFE, effect="moves it"),
    Register(0xE8, "serial 2 base", 0x00, 0xFE, effect="moves it"),
    Register(0xE9, "storage"),
    Register(0xEA, "storage"),
    Register(0xEB, "storage"),
    Register(0xEC, "reserved", 0x00, 0),
    Register(0xED, "reserved", 0x00, 0x0F),
    Register(0xEE, "serial configuration"),
    Register(0xEF, "power-down", 0x00, 0x7F, effect="0 all, 1 floppy, 2 and 3 serial, 4 parallel: off"),
    Register(0xF0, "parallel control", 0x00, 0xF4, effect="7 bidirectional, 5 EPP with ECP"),
    Register(0xF1, "serial control", 0x00, 0x3F),
    Register(0xF2, "serial test"),
    Register(0xF3, "reserved", 0x00, 0xFB),
    Register(0xF4, "test", 0x00, 0xFE),
    Register(0xF5, "reserved"),
    Register(0xF6, "floppy configuration", 0x00, 0xF7),
    Register(0xF7, "reserved", 0x00, 0xFE),
    Register(0xF8, "floppy drive control"),
))  # fmt: skip
#: The rescue image of one board prints to a port that it never enables, so emulators preset the PC's places.
PRESET_686 = {0xE2: 0x0F, 0xE3: 0xFC, 0xE5: 0x00, 0xE6: 0xDE, 0xE7: 0xFE, 0xE8: 0xBE}

TABLE_8231 = RegisterTable((
    Register(0xF0, "device id", 0x3C, 0),
    Register(0xF1, "revision", 0x01, 0),
    Register(0xF2, "function select", 0x03, 0x17, effect="1-0 parallel mode, 2 serial, 4 floppy: on"),
    Register(0xF3, "power-down", effect="0 all, 1 floppy, 2 serial, 4 parallel: off"),
    Register(0xF4, "serial base", 0xFE, 0xFE, effect="moves it"),
    Register(0xF5, "reserved", 0x00, 0),
    Register(0xF6, "parallel base", 0xDE, effect="moves the parallel port"),
    Register(0xF7, "floppy base", 0xFC, 0xFC, effect="moves the floppy controller"),
    Register(0xF8, "reserved", 0x00, 0),
    Register(0xF9, "serial control"),
    Register(0xFA, "parallel control", effect="7 bidirectional, 5 EPP with ECP"),
    Register(0xFB, "floppy configuration"),
    Register(0xFC, "floppy drive types"),
    Register(0xFD, "reserved", 0x00, 0),
    Register(0xFE, "test"),
    Register(0xFF, "test"),
))  # fmt: skip


def _parallel_mode(select: int, control: int) -> str:
    mode = select & SELECT_PARALLEL
    if mode == PARALLEL_OFF:
        return ""
    name = PARALLEL_MODES[mode]
    if name == "spp":
        return "ps2" if control & PARALLEL_BIDIRECTIONAL else "spp"
    if name == "ecp" and control & PARALLEL_EPP_WITH_ECP:
        return "ecp+epp"
    return name


def _layout(chip: Chip, registers: Registers) -> dict[str, FunctionLayout]:
    sio, bridge, fixed, gate = registers
    select, down, control = sio[chip.select], sio[chip.power_down], sio[chip.parallel_control]
    awake = not down & POWER_DOWN_ALL and (not gate or bool(bridge[chip.gate_register] & chip.gate_bit))

    serial_irqs = PC_SERIAL_IRQS
    floppy_irq, parallel_irq = PC_FLOPPY_IRQ, PC_PARALLEL_IRQ
    floppy_dma, parallel_dma = PC_FLOPPY_DMA, PC_PARALLEL_DMA
    if not fixed:
        if len(chip.irq_serial) == 1:
            both = bridge[chip.irq_serial[0]]
            serial_irqs = (both & 0x0F, both >> 4)
        else:
            serial_irqs = (bridge[chip.irq_serial[0]] & 0x0F, bridge[chip.irq_serial[1]] & 0x0F)
        lines, channels = bridge[chip.irq_parallel_floppy], bridge[chip.dma]
        floppy_irq, parallel_irq = lines & 0x0F, lines >> 4
        floppy_dma, parallel_dma = channels & 3, channels >> 2 & 3

    layout = {}
    for n, register in enumerate(chip.serial_bases):
        on = awake and bool(select & SELECT_SERIAL1 << n) and not down & POWER_DOWN_SERIAL1 << n
        layout[f"serial{n + 1}"] = place(on, (sio[register] & 0xFE) << 2, serial_irqs[n])

    mode = _parallel_mode(select, control)
    on = awake and mode != "" and not down & POWER_DOWN_PARALLEL
    # EPP registers fill eight ports, so its base has one programmable bit less.
    base = (sio[chip.parallel_base] & (0xFE if "epp" in mode else 0xFF)) << 2
    layout["parallel"] = place(on, base, parallel_irq, parallel_dma if "ecp" in mode else None, mode)

    on = awake and bool(select & SELECT_FLOPPY) and not down & POWER_DOWN_FLOPPY
    layout["floppy"] = place(on, (sio[chip.floppy_base] & 0xFC) << 2, floppy_irq, floppy_dma)
    return layout


def layout_686(registers: Registers) -> dict[str, FunctionLayout]:
    """Where the functions of a VT82C686A or B are: serial1, serial2, parallel, floppy."""
    return _layout(CHIP_686, registers)


def layout_8231(registers: Registers) -> dict[str, FunctionLayout]:
    """Where the functions of a VT8231 are: serial1, parallel, floppy."""
    return _layout(CHIP_8231, registers)

# SPDX-License-Identifier: MIT
"""The PC87312's three registers, its 32 power-up straps and the pure function from registers to layout."""

from __future__ import annotations

from typing import NamedTuple

from pyemu.chips.superio import FunctionLayout, Register, RegisterTable

REG_FER, REG_FAR, REG_PTR = 0, 1, 2

FER_PARALLEL = 0x01
FER_UART1 = 0x02
FER_UART2 = 0x04
FER_FLOPPY = 0x08
FER_FOUR_DRIVES = 0x10
FER_FLOPPY_SECONDARY = 0x20
FER_IDE = 0x40
FER_IDE_SECONDARY = 0x80

PTR_POWER_DOWN = 0x01
PTR_PARALLEL_IRQ7 = 0x08
PTR_LOCK = 0x40
PTR_BIDIRECTIONAL = 0x80

TABLE = RegisterTable((
    Register(REG_FER, "FER, function enable", effect="shows and hides each function; 5 and 7 move floppy and IDE"),
    Register(REG_FAR, "FAR, function address", effect="moves parallel port and UARTs"),
    Register(REG_PTR, "PTR, power and test", effect="0 powers down, 3 parallel IRQ 7, 6 locks until reset, 7 bidirectional"),
))  # fmt: skip


class Strap(NamedTuple):
    """Register values that one combination of the strap pins loads at power-up."""

    fer: int
    far: int
    ptr: int = 0


STRAPS: tuple[Strap, ...] = (
    Strap(0x4F, 0x10), Strap(0x4F, 0x11), Strap(0x4F, 0x11), Strap(0x4F, 0x39),
    Strap(0x4F, 0x24), Strap(0x4F, 0x38), Strap(0x4B, 0x00), Strap(0x4B, 0x01),
    Strap(0x4B, 0x01), Strap(0x4B, 0x09), Strap(0x4B, 0x08), Strap(0x4B, 0x08),
    Strap(0x0F, 0x10), Strap(0x0F, 0x11), Strap(0x0F, 0x39), Strap(0x0F, 0x24),
    Strap(0x49, 0x00), Strap(0x49, 0x01), Strap(0x49, 0x01), Strap(0x49, 0x00),
    Strap(0x07, 0x10), Strap(0x07, 0x11), Strap(0x07, 0x39), Strap(0x07, 0x24),
    Strap(0x47, 0x10), Strap(0x47, 0x11), Strap(0x47, 0x11), Strap(0x47, 0x39),
    Strap(0x47, 0x24), Strap(0x47, 0x38), Strap(0x08, 0x10), Strap(0x00, 0x10, 0x02),
)  # fmt: skip

#: COM3 and COM4 by FAR bits 7-6.
COM3_COM4 = ((0x3E8, 0x2E8), (0x338, 0x238), (0x2E8, 0x2E0), (0x220, 0x228))
#: Parallel base by FAR bits 1-0; the last code is "none".
PARALLEL_BASES = (0x378, 0x3BC, 0x278, 0)
FLOPPY_BASES = (0x3F0, 0x370)
IDE_BASES = (0x1F0, 0x170)
FLOPPY_IRQ, FLOPPY_DMA, IDE_IRQ = 6, 2, 14


def _uart(on: bool, far: int, code: int) -> FunctionLayout:
    base = (0x3F8, 0x2F8, *COM3_COM4[far >> 6])[code]
    return FunctionLayout(on, base, 3 if code & 1 else 4)


def layout(registers: bytes | bytearray) -> dict[str, FunctionLayout]:
    """Where the functions are: parallel, uart1, uart2, floppy, ide. *registers* begin with FER, FAR, PTR."""
    fer, far, ptr = registers[REG_FER], registers[REG_FAR], registers[REG_PTR]
    awake = not ptr & PTR_POWER_DOWN

    def on(bit: int) -> bool:
        return awake and bool(fer & bit)

    base = PARALLEL_BASES[far & 3]
    irq = {0x378: 7 if ptr & PTR_PARALLEL_IRQ7 else 5, 0x3BC: 7, 0x278: 5}.get(base)
    mode = "ps2" if ptr & PTR_BIDIRECTIONAL else "spp"
    return {
        "parallel": FunctionLayout(on(FER_PARALLEL) and base != 0, base, irq, None, mode),
        "uart1": _uart(on(FER_UART1), far, far >> 2 & 3),
        "uart2": _uart(on(FER_UART2), far, far >> 4 & 3),
        "floppy": FunctionLayout(
            on(FER_FLOPPY), FLOPPY_BASES[bool(fer & FER_FLOPPY_SECONDARY)], FLOPPY_IRQ, FLOPPY_DMA
        ),
        "ide": FunctionLayout(on(FER_IDE), IDE_BASES[bool(fer & FER_IDE_SECONDARY)], IDE_IRQ),
    }

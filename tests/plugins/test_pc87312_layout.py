# SPDX-License-Identifier: MIT
"""PC87312: the layout of all register values, and all 32 straps, against references of their own."""

from __future__ import annotations

import pytest
from pyemu_pc87312.layout import STRAPS, layout

# Places after power-up by strap: parallel, UART 1, UART 2, floppy, IDE; 0 is off.
POWER_UP = """
 0 378 3f8 2f8 3f0 1f0
 1 3bc 3f8 2f8 3f0 1f0
 2 3bc 3f8 2f8 3f0 1f0
 3 3bc 3e8 2e8 3f0 1f0
 4 378 2f8 3e8 3f0 1f0
 5 378 3e8 2e8 3f0 1f0
 6 378 3f8   0 3f0 1f0
 7 3bc 3f8   0 3f0 1f0
 8 3bc 3f8   0 3f0 1f0
 9 3bc 3e8   0 3f0 1f0
10 378 3e8   0 3f0 1f0
11 378 3e8   0 3f0 1f0
12 378 3f8 2f8 3f0   0
13 3bc 3f8 2f8 3f0   0
14 3bc 3e8 2e8 3f0   0
15 378 2f8 3e8 3f0   0
16 378   0   0 3f0 1f0
17 3bc   0   0 3f0 1f0
18 3bc   0   0 3f0 1f0
19 378   0   0 3f0 1f0
20 378 3f8 2f8   0   0
21 3bc 3f8 2f8   0   0
22 3bc 3e8 2e8   0   0
23 378 2f8 3e8   0   0
24 378 3f8 2f8   0 1f0
25 3bc 3f8 2f8   0 1f0
26 3bc 3f8 2f8   0 1f0
27 3bc 3e8 2e8   0 1f0
28 378 2f8 3e8   0 1f0
29 378 3e8 2e8   0 1f0
30   0   0   0 3f0   0
31   0   0   0   0   0
"""
ROWS = [line.split() for line in POWER_UP.split("\n") if line]
UART_LINE = {0x3F8: 4, 0x2F8: 3, 0x3E8: 4, 0x2E8: 3}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_strap(row):
    got = layout(bytes(STRAPS[int(row[0])]))
    places = [got[name].base if got[name].enabled else 0 for name in ("parallel", "uart1", "uart2", "floppy", "ide")]
    assert places == [int(place, 16) for place in row[1:]]
    for name in ("uart1", "uart2"):
        if got[name].enabled:
            assert got[name].irq == UART_LINE[got[name].base]


def test_the_last_strap_asks_to_stop_the_oscillator_in_power_down():
    assert STRAPS[31].ptr == 0x02
    assert all(strap.ptr == 0 for strap in STRAPS[:31])


def test_every_enable_value():
    for fer in range(256):
        got = layout(bytes((fer, 0x10, 0)))
        bits = f"{fer:08b}"[::-1]
        assert [got[name].enabled for name in ("parallel", "uart1", "uart2", "floppy", "ide")] == [
            bits[bit] == "1" for bit in (0, 1, 2, 3, 6)
        ]
        assert got["floppy"].base == (0x370 if bits[5] == "1" else 0x3F0)
        assert got["ide"].base == (0x170 if bits[7] == "1" else 0x1F0)
        assert (got["floppy"].irq, got["floppy"].dma, got["ide"].irq) == (6, 2, 14)


def test_every_address_value():
    pairs = {"00": (0x3E8, 0x2E8), "01": (0x338, 0x238), "10": (0x2E8, 0x2E0), "11": (0x220, 0x228)}
    for far in range(256):
        got = layout(bytes((0x4F, far, 0x08)))
        bits = f"{far:08b}"
        com3, com4 = pairs[bits[0:2]]
        uarts = {"00": (0x3F8, 4), "01": (0x2F8, 3), "10": (com3, 4), "11": (com4, 3)}
        assert (got["uart2"].base, got["uart2"].irq) == uarts[bits[2:4]]
        assert (got["uart1"].base, got["uart1"].irq) == uarts[bits[4:6]]
        parallel = {"00": (True, 0x378, 7), "01": (True, 0x3BC, 7), "10": (True, 0x278, 5), "11": (False, 0, None)}
        assert (got["parallel"].enabled, got["parallel"].base, got["parallel"].irq) == parallel[bits[6:8]]


def test_every_power_and_test_value():
    for ptr in range(256):
        got = layout(bytes((0x4F, 0x10, ptr)))
        assert {where.enabled for where in got.values()} == {ptr % 2 == 0}, "bit 0 powers everything down"
        assert got["parallel"].irq == (7 if ptr & 8 else 5)
        assert got["parallel"].mode == ("ps2" if ptr >= 0x80 else "spp")

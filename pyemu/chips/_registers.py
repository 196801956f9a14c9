# SPDX-License-Identifier: MIT
"""Register declarations of the chips whose registers are attributes: what each is called and where its value is."""

from __future__ import annotations

from ..device import Register, RegisterTable

UART = RegisterTable(
    (
        Register(0, "receiver buffer, transmitter holding", 0, source="rbr", effect="the FIFOs"),
        Register(0, "divisor latch", 12, size=2, source="divisor", effect="at 0 and 1 while LCR bit 7 is set"),
        Register(1, "interrupt enable (IER)", 0, 0x0F, source="ier"),
        Register(2, "FIFO control (FCR)", 0, source="fcr", effect="write-only; reads give the interrupt identification"),
        Register(3, "line control (LCR)", 0, source="lcr", effect="bit 7 shows the divisor latch, bit 6 sends a break"),
        Register(4, "modem control (MCR)", 0, 0x1F, source="mcr", effect="bit 3 lets the interrupt out, bit 4 loops back"),
        Register(5, "line status (LSR)", 0x60, 0, source="lsr", effect="reading clears the errors"),
        Register(6, "modem status (MSR)", 0xB0, 0, source="msr", effect="reading clears the changes in bits 3-0"),
        Register(7, "scratch (SCR)", 0, source="scr"),
    ),
    name="16550A", size=8,
)  # fmt: skip


def _pic(name: str, chip: str) -> RegisterTable:
    return RegisterTable(
        (
            Register(0, "requests (IRR)", 0, 0, source=f"{chip}.edges", effect="writes are ICW1, OCW2 and OCW3"),
            Register(0, "in service (ISR)", 0, 0, source=f"{chip}.isr"),
            Register(1, "mask (IMR)", 0, source=f"{chip}.imr", effect="during initialisation ICW2 to ICW4"),
            Register(1, "vector base (ICW2)", 0, 0xF8, source=f"{chip}.base"),
        ),
        name=name, size=2,
    )  # fmt: skip


PICS = (
    _pic("first 8259A, at 20", "master"),
    _pic("second 8259A, at A0", "slave"),
    RegisterTable(
        (
            Register(0, "ELCR 1", 0, 0xF8, source="master.elcr", effect="lines 3-7 that are level-triggered"),
            Register(1, "ELCR 2", 0, 0xDE, source="slave.elcr", effect="lines 9-12, 14, 15"),
        ),
        name="edge/level control, at 4D0", size=2,
    ),
)  # fmt: skip

PIT = RegisterTable(
    (
        *(Register(n, f"counter {n}", 0, size=2, source=f"channels.{n}.latch", effect="byte by byte, as its control word says")
          for n in range(3)),
        *(Register(3, f"control word {n}", 0x30, 0x3F, source=f"channels.{n}.control", effect="write-only") for n in range(3)),
    ),
    name="8254", size=5,
)  # fmt: skip


def _dma(name: str, n: int) -> RegisterTable:
    where = f"controllers.{n}"
    return RegisterTable(
        (
            *(Register(2 * c + half, f"channel {4 * n + c} {what}", 0, size=2, source=f"{where}.channels.{c}.{what}",
                       effect="byte by byte, low first") for c in range(4) for half, what in enumerate(("address", "count"))),
            Register(0x8, "command, status", 0, source=f"{where}.command", effect="reading the status clears terminal counts"),
            Register(0x9, "request", 0, 0x0F, source=f"{where}.request"),
            Register(0xF, "mask", 0x0F, 0x0F, source=f"{where}.mask", effect="one by one at A, cleared at E; D clears all"),
            *(Register(0xB, f"channel {4 * n + c} mode", 0, 0xFC, source=f"{where}.channels.{c}.mode") for c in range(4)),
        ),
        name=name, size=0x10,
    )  # fmt: skip


DMA = (
    _dma("first 8237, at 00", 0),
    _dma("second 8237, at C0, every second port", 1),
    RegisterTable(
        [
            Register(n, name, 0, source=f"pages.{n}")
            for n, name in enumerate(
                ["POST code", "page 2", "page 3", "page 1", "latch", "latch", "latch", "page 0",
                 "latch", "page 6", "page 7", "page 5", "latch", "latch", "latch", "refresh page"]
            )
        ],
        name="page registers, at 80", size=16,
    ),
)  # fmt: skip

FDC = RegisterTable(
    (
        Register(2, "digital output (DOR)", 0x00, source="dor", effect="7-4 motors, 3 DMA and interrupt, 2 not reset, 1-0 drive"),
        Register(3, "tape drive (TDR)", 0, 0x03, source="tdr"),
        Register(4, "data rate select (DSR)", 2, 0x03, source="rate", effect="bit 7 resets; reads give the main status (MSR)"),
        Register(7, "configuration control (CCR)", 2, 0x03, source="rate", effect="reads give the disk change in bit 7 (DIR)"),
    ),
    name="82077AA", size=8,
)  # fmt: skip

PORT61 = RegisterTable(
    (Register(0, "system control B", 0, 0x0F, source="latch", effect="0 gate of timer 2, 1 speaker; 5 reads its output"),),
    name="port 61", size=1,
)  # fmt: skip
PORT92 = RegisterTable(
    (Register(0, "system control A", 0, source="latch", effect="1 opens A20; 0 resets the processor when it rises"),),
    name="port 92", size=1,
)  # fmt: skip
CF9 = RegisterTable(
    (Register(0, "reset control", 0, 0x0E, source="value", effect="2 resets when it rises, 1 the whole system"),),
    name="port CF9", size=1,
)  # fmt: skip


IDE = RegisterTable(
    (
        Register(1, "error (device 0), features", 1, source="files.0.error", effect="written bytes are features"),
        Register(2, "sector count (device 0)", 1, source="files.0.count", effect="of two bytes with 48-bit commands"),
        Register(3, "address low (device 0)", 1, source="files.0.low", effect="likewise"),
        Register(4, "address middle (device 0)", 0, source="files.0.mid", effect="likewise"),
        Register(5, "address high (device 0)", 0, source="files.0.high", effect="likewise"),
        Register(6, "device", 0, source="device", effect="bit 4 selects device 1"),
        Register(7, "status (device 0), command", 0x00, source="statuses.0",
                 effect="writing starts a command, reading ends the interrupt"),
    ),
    name="ATA channel", size=8,
)  # fmt: skip

# SPDX-License-Identifier: MIT
"""What this distribution offers to pyemu."""

from __future__ import annotations

from collections.abc import Iterator

from pyemu.device import Property
from pyemu.plugin import Board, hookimpl


@hookimpl
def pyemu_boards() -> Iterator[Board]:
    yield Board(
        name="isa-pc",
        factory="pyemu_pc87312.board:build",
        help="PC without PCI, with a SuperI/O on its ISA bus",
        default_memory=16 << 20,
        properties=(
            Property("superio", "choice", "pc87312", "the SuperI/O", choices=("pc87312",)),
            Property("config", "int", 1, "power-up strap of the SuperI/O", 0, 31),
            Property("iobase", "int", 0x398, "its index/data ports", 0x100, 0xFFFE),
            Property("strict-double-write", "bool", False, "its data register takes what is written twice in a row"),
            Property(
                "wide-access", "choice", "lanes", "accesses wider than a port: byte lanes, or as QEMU does",
                choices=("lanes", "qemu"),
            ),
            Property("vga", "bool", False, "a VGA card"),
            Property("vgabios", "file", None, "its video BIOS; by default that of an installed SeaBIOS"),
            Property("nvram", "host", None, "file that keeps the CMOS memory from run to run"),
        ),
    )  # fmt: skip

# SPDX-License-Identifier: MIT
"""What this distribution offers to pyemu."""

from __future__ import annotations

from collections.abc import Iterator

from pyemu.device import Property
from pyemu.plugin import Board, hookimpl

SOUTHBRIDGES = ("vt82c686a", "vt82c686b", "vt8231")


@hookimpl
def pyemu_boards() -> Iterator[Board]:
    yield Board(
        name="via-pc",
        factory="pyemu_via.board:build",
        help="PC with a VIA south bridge",
        properties=(
            Property("southbridge", "choice", "vt82c686b", "the south bridge", choices=SOUTHBRIDGES),
            Property(
                "reset-style", "choice", "hardware", "registers after a reset: the chip's, or QEMU's",
                choices=("hardware", "qemu"),
            ),
            Property(
                "routing", "choice", "auto",
                "SuperI/O lines: by routing registers, or the PC's, fixed; auto: fixed with reset-style=qemu",
                choices=("auto", "registers", "fixed"),
            ),
            Property("superio-gate", "bool", False, "SuperI/O functions need the chip's enable bit"),
            Property(
                "firmware", "choice", "auto",
                "who sets the chip up as a PC: auto: the board, for a kernel that is started directly;"
                " always: the board, also for a BIOS that does not know the chip; none: nobody",
                choices=("auto", "always", "none"),
            ),
            Property(
                "wide-access", "choice", "lanes", "accesses wider than a port: byte lanes, or as QEMU does",
                choices=("lanes", "qemu"),
            ),
            Property("vga", "bool", False, "a VGA card"),
            Property("vgabios", "file", None, "its video BIOS; by default that of an installed SeaBIOS"),
            Property("wav", "host", None, "WAV file that gets what the guest plays"),
            Property("midi", "host", None, "chardev of the MIDI port, e.g. file:PATH"),
            Property("nvram", "host", None, "file that keeps the CMOS memory from run to run"),
        ),
    )  # fmt: skip

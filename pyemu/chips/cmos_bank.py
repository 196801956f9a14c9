# SPDX-License-Identifier: MIT
"""The upper half of a bridge's CMOS memory: 256 bytes through ports 72/73 and 74/75.

Below 80 both pairs reach the clock and its 128 bytes, as ports 70/71 do; above, 128 more bytes that a
reset leaves alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..device import ISADevice, Property, Register, RegisterTable, VMState, vmstate
from ..memory import PortioEntry
from .mc146818 import RTC
from .nvram import NVRAMFile

if TYPE_CHECKING:
    from ..memory import PortioList

BANK_BASE, UPPER = 0x72, 0x80

REGISTERS = RegisterTable(
    (
        Register(0, "CMOS index", 0, source="first_index", effect="of port 73; data follows at 73"),
        Register(2, "second CMOS index", 0, source="second_index", effect="of port 75, while the bridge shows the pair"),
    ),
    name="CMOS banks", size=4,
)  # fmt: skip


class CMOSBanks(ISADevice):
    """Both pairs of ports; the bridge shows and hides the second.

    Attributes:
        rtc: whose bytes lie below 80; set by the board.
        upper: the bytes from 80 on.
        indexes: the selected byte of each pair.
    """

    type_name = "cmos-banks"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("nvram", "host", None, "file that keeps the upper bytes from run to run"),
    )
    vmstate = VMState("cmos-banks", fields=(vmstate.buffer("upper", UPPER), vmstate.buffer("indexes", 2)))
    register_tables = (REGISTERS,)
    volatile: ClassVar[frozenset[str]] = frozenset({"rtc", "second", "nvram", "file"})
    nvram: str | None

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.rtc: RTC | None = None
        self.upper = bytearray(UPPER)
        self.indexes = bytearray(2)
        self.second: PortioList | None = None
        self.file: NVRAMFile | None = None

    def realize(self) -> None:
        first = [PortioEntry(n, 1, 1, self._read, self._write) for n in (0, 1)]
        self.add_ports(first, BANK_BASE, f"{self.id}.0")
        second = [PortioEntry(n, 1, 1, self._read, self._write) for n in (2, 3)]
        self.second = self.add_ports(second, BANK_BASE, f"{self.id}.1", enabled=False)
        if self.nvram is not None and self.file is None:
            self.file = NVRAMFile(self.nvram, 2 * UPPER)
            self.upper[:] = self.file.load()[UPPER:]

    def unrealize(self) -> None:
        if self.file is not None:
            self.file.keep(self, UPPER, bytes(self.upper))
        self.second = None
        super().unrealize()

    @property
    def first_index(self) -> int:
        return self.indexes[0]

    @property
    def second_index(self) -> int:
        return self.indexes[1]

    def show_second(self, shown: bool) -> None:
        """Whether ports 74 and 75 decode."""
        if self.second is not None:
            self.second.set_enabled(shown)

    def reset(self) -> None:
        self.indexes[:] = bytes(2)

    def _read(self, offset: int, size: int) -> int:
        index = self.indexes[offset >> 1]
        if not offset & 1:
            return index
        if index >= UPPER:
            return self.upper[index - UPPER]
        return self.rtc.read(index) if self.rtc is not None else 0xFF

    def _write(self, offset: int, size: int, value: int) -> None:
        if not offset & 1:
            self.indexes[offset >> 1] = value
            return
        index = self.indexes[offset >> 1]
        if index >= UPPER:
            self.upper[index - UPPER] = value
        elif self.rtc is not None:
            self.rtc.write(index, value)

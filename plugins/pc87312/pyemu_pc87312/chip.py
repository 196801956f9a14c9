# SPDX-License-Identifier: MIT
"""The PC87312: index/data pair, identification, straps, power-down, lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pyemu import PortioEntry, Property, VMState, vmstate
from pyemu.chips.superio import PRIORITY_CONFIG, FunctionLayout, SuperIO

from .layout import PTR_LOCK, REG_FAR, REG_FER, REG_PTR, STRAPS, TABLE, layout

#: What the first and the second read of the index port give after a reset.
IDENTIFICATION = (0x88, 0x00)
#: The index register has five bits.
INDEX_MASK = 0x1F


class PC87312(SuperIO):
    """National's SuperI/O: two UARTs, parallel port, floppy and one IDE channel.

    Its configuration ports always answer. The straps say where everything is after power-up; all of
    it moves when a register is written, until PTR's lock bit freezes the configuration.

    Attributes:
        identified: how many of the identification reads were made.
        pending: index and value of the first half of a double write, or -1.
    """

    type_name = "pc87312"
    properties = (
        Property("config", "int", 1, "power-up strap", 0, 31),
        Property("iobase", "int", 0x398, "index port", 0, 0xFFFE),
        Property("strict-double-write", "bool", False, "the data register takes what is written twice in a row"),
    )
    table = TABLE
    function_names = ("parallel", "uart1", "uart2", "floppy", "ide")
    vmstate = VMState(
        "pc87312",
        fields=(
            vmstate.buffer("registers", 256),
            vmstate.uint8("index", limit=INDEX_MASK),
            vmstate.uint8("identified", limit=len(IDENTIFICATION)),
            vmstate.int32("pending", limit=0xFFFF),
        ),
    )
    layout = staticmethod(layout)

    volatile: ClassVar[frozenset[str]] = SuperIO.volatile
    config: int
    iobase: int
    strict_double_write: bool

    def __init__(self, **properties: Any) -> None:
        self.identified = 0
        self.pending = -1
        super().__init__(**properties)

    def reset_overrides(self) -> Mapping[int, int]:
        strap = STRAPS[self.config]
        return {REG_FER: strap.fer, REG_FAR: strap.far, REG_PTR: strap.ptr}

    def realize(self) -> None:
        table = [
            PortioEntry(0, 1, 1, self._read_index, self._write_index),
            PortioEntry(1, 1, 1, self._read_data, self._write_data),
        ]
        self.add_ports(table, self.iobase, f"{self.id} configuration", PRIORITY_CONFIG, plain=True)

    def reset(self) -> None:
        self.identified = 0
        self.pending = -1
        super().reset()

    def layout_key(self) -> bytes:
        return bytes(self.registers[: REG_PTR + 1])

    def current_layout(self) -> dict[str, FunctionLayout]:
        return layout(self.registers)

    def _read_index(self, offset: int, size: int) -> int:
        self.pending = -1
        if self.identified < len(IDENTIFICATION):
            self.identified += 1
            return IDENTIFICATION[self.identified - 1]
        return self.index

    def _write_index(self, offset: int, size: int, value: int) -> None:
        self.pending = -1
        self.identified = len(IDENTIFICATION)
        self.index = value & INDEX_MASK

    def _read_data(self, offset: int, size: int) -> int:
        self.pending = -1
        return self.registers[self.index]

    def _write_data(self, offset: int, size: int, value: int) -> None:
        value &= 0xFF
        if self.strict_double_write:
            # Two equal halves in a row count once; the third starts anew.
            half = self.index << 8 | value
            if self.pending != half:
                self.pending = half
                return
            self.pending = -1
        if self.registers[REG_PTR] & PTR_LOCK:
            self.warn_once("lock", "write of 0x%02x to register %d ignored: locked until reset", value, self.index)
            return
        self.store(self.index, value)

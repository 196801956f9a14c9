# SPDX-License-Identifier: MIT
"""The SuperI/O inside the VIA south bridges: index/data pair, register file, functions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pyemu import PortioEntry, Property, VMState, vmstate
from pyemu.chips.superio import PRIORITY_CONFIG, FunctionLayout, RegisterTable, SuperIO

from .layout import PRESET_686, TABLE_686, TABLE_8231, Registers, layout_686, layout_8231

if TYPE_CHECKING:
    from pyemu import PortioList

    from .bridge import ViaBridge

CONFIG_BASE = 0x3F0
FIRST_REGISTER = 0xE0
#: Registers 44 to 52 of function 0 route, 50 and 85 gate, on one chip or the other.
ROUTING_REGISTERS = slice(0x44, 0x86)

RESET_STYLES = ("hardware", "qemu")
ROUTINGS = ("registers", "fixed")

RESET_STYLE = Property(
    "reset-style", "choice", "hardware", "register values after a reset: the chip's, or QEMU's", choices=RESET_STYLES
)
ROUTING = Property(
    "routing",
    "choice",
    "registers",
    "interrupt and DMA lines: by routing registers, or the PC's, fixed",
    choices=ROUTINGS,
)
GATE = Property("superio-gate", "bool", False, "functions decode only while the chip's SuperI/O enable bit is set")


class ViaSuperIO(SuperIO):
    """The SuperI/O part; PCI function 0 opens its ports and holds its routing registers.

    Attributes:
        open: the configuration ports answer.
        bridge: PCI function 0; set by it when it is wired.
    """

    properties = (RESET_STYLE, ROUTING, GATE)
    volatile: ClassVar[frozenset[str]] = SuperIO.volatile | {"bridge", "pair"}

    reset_style: str
    routing: str
    superio_gate: bool

    @staticmethod
    @abstractmethod
    def layout(registers: Registers) -> dict[str, FunctionLayout]:
        """Where the chip's functions are; pure."""

    def __init__(self, **properties: Any) -> None:
        self.open = False
        self.bridge: ViaBridge | None = None
        self.pair: PortioList | None = None
        super().__init__(**properties)

    def realize(self) -> None:
        table = [
            PortioEntry(0, 1, 1, self._read_index, self._write_index),
            PortioEntry(1, 1, 1, self._read_data, self._write_data),
        ]
        # Above the functions: while it is open the pair answers, whoever was moved onto its ports.
        self.pair = self.add_ports(table, CONFIG_BASE, f"{self.id} configuration", PRIORITY_CONFIG, self.open, plain=True)

    def set_open(self, open: bool) -> None:
        """Opens or closes the configuration ports; index and registers stay as they are."""
        self.open = open
        if self.pair is not None:
            self.pair.set_enabled(open)

    def reset(self) -> None:
        self.set_open(False)
        super().reset()

    def post_load(self, version: int) -> None:
        self.set_open(self.open)
        super().post_load(version)

    def layout_key(self) -> Hashable:
        # The SuperI/O registers, and of function 0 those that route and gate.
        if self.bridge is None:
            return None
        return bytes(self.registers[FIRST_REGISTER:]), bytes(self.bridge.config[ROUTING_REGISTERS])

    def current_layout(self) -> dict[str, FunctionLayout]:
        if self.bridge is None:
            return {}
        registers = Registers(self.registers, self.bridge.config, self.routing == "fixed", self.superio_gate)
        return type(self).layout(registers)

    def _read_index(self, offset: int, size: int) -> int:
        return self.index

    def _write_index(self, offset: int, size: int, value: int) -> None:
        self.index = value & 0xFF

    def _read_data(self, offset: int, size: int) -> int:
        return self.registers[self.index]

    def _write_data(self, offset: int, size: int, value: int) -> None:
        self.store(self.index, value & 0xFF)


def _state(name: str) -> VMState:
    return VMState(name, fields=(vmstate.buffer("registers", 256), vmstate.uint8("index"), vmstate.boolean("open")))


class SuperIO686(ViaSuperIO):
    """The SuperI/O of the VT82C686A and B: two serial ports, parallel port, floppy."""

    type_name = "vt82c686-superio"
    table: ClassVar[RegisterTable] = TABLE_686
    function_names = ("serial1", "serial2", "parallel", "floppy")
    layout = staticmethod(layout_686)
    vmstate = _state("vt82c686-superio")

    def reset_overrides(self) -> Mapping[int, int]:
        return PRESET_686 if self.reset_style == "qemu" else {}


class SuperIO8231(ViaSuperIO):
    """The SuperI/O of the VT8231: one serial port, parallel port, floppy."""

    type_name = "vt8231-superio"
    table: ClassVar[RegisterTable] = TABLE_8231
    function_names = ("serial1", "parallel", "floppy")
    layout = staticmethod(layout_8231)
    vmstate = _state("vt8231-superio")

# SPDX-License-Identifier: MIT
"""The parallel port in the modes SPP, PS/2, EPP and ECP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..device import ISAFunction, Property, Register, RegisterTable, VMState, vmstate
from ._ecp import ECP_OFFSET, ECP_PORTS, ECP_REGISTERS, ECP_STATE, ECPBlock

if TYPE_CHECKING:
    from ..device import Chardev
    from ..memory import PortioEntry, PortioList

DATA, STATUS, CONTROL, EPP_ADDRESS, EPP_DATA = range(5)

STATUS_NOT_BUSY = 0x80
STATUS_NOT_ACK = 0x40
STATUS_SELECT = 0x10
STATUS_NOT_ERROR = 0x08
STATUS_NO_IRQ = 0x04
#: Bit 1 is reserved; bit 0 is the EPP time-out where there is EPP. Elsewhere it reads 1, since drivers take a
#: time-out that they can clear for EPP.
STATUS_RESERVED, STATUS_TIMEOUT = 0x02, 0x01
STATUS_IDLE = STATUS_NOT_BUSY | STATUS_NOT_ACK | STATUS_SELECT | STATUS_NOT_ERROR | STATUS_RESERVED

CONTROL_STROBE = 0x01
CONTROL_INIT = 0x04
CONTROL_SELECT = 0x08
CONTROL_IRQ = 0x10
CONTROL_INPUT = 0x20
CONTROL_ALWAYS = 0xC0
CONTROL_WRITABLE = 0x3F

MODES = ("spp", "ps2", "epp", "ecp", "ecp+epp")
#: Registers 0 to 3 are there in each mode, 4 to 7 belong to EPP.
LOWER, UPPER = 4, 8

REGISTERS = RegisterTable(
    (
        Register(DATA, "data", source="data", effect="with the direction bit set reads see the pins"),
        Register(STATUS, "status", STATUS_IDLE | STATUS_NO_IRQ | STATUS_TIMEOUT, 0, clear=STATUS_TIMEOUT, source="status",
                 effect="reading ends the acknowledge interrupt; bit 0 is the EPP time-out"),
        Register(CONTROL, "control", CONTROL_ALWAYS | CONTROL_INIT | CONTROL_SELECT, CONTROL_WRITABLE, source="control_pins",
                 effect="a falling STROBE (bit 0) hands the data byte to the peripheral"),
        Register(EPP_ADDRESS, "EPP address", 0xFF, source="open_bus", effect="an address cycle, in EPP mode"),
        Register(EPP_DATA, "EPP data, also at 5 to 7", 0xFF, source="open_bus", effect="a data cycle for each byte, in EPP mode"),
    ),
    name="parallel port", size=UPPER,
)  # fmt: skip


class ParallelPeripheral(Protocol):
    """What is plugged into a parallel port; see :meth:`ParallelPort.attach`. The methods must not block."""

    def strobe(self, value: int) -> None:
        """Takes a byte that software strobed (SPP, PS/2)."""

    def fifo_write(self, data: bytes, command: bool) -> int:
        """How many of these bytes it takes that the port's FIFO offers; *command*: they are ECP addresses or counts."""

    def fifo_read(self, limit: int) -> bytes:
        """Up to *limit* bytes that it sends in ECP's reverse direction."""

    def epp_write(self, value: int, address: bool) -> bool:
        """An EPP write cycle; false when the peripheral does not answer, which is a time-out."""

    def epp_read(self, address: bool) -> int | None:
        """An EPP read cycle; None when the peripheral does not answer."""


class Printer:
    """The peripheral behind the property ``chardev``: takes everything, says nothing."""

    def __init__(self, chardev: Chardev) -> None:
        self.chardev = chardev

    def strobe(self, value: int) -> None:
        self.chardev.write(bytes((value,)))

    def fifo_write(self, data: bytes, command: bool) -> int:
        if not command:
            self.chardev.write(data)
        return len(data)

    def fifo_read(self, limit: int) -> bytes:
        return b""

    def epp_write(self, value: int, address: bool) -> bool:
        if not address:
            self.chardev.write(bytes((value,)))
        return True

    def epp_read(self, address: bool) -> int | None:
        return None


class ParallelPort(ISAFunction):
    """A parallel port at 378 (or 278, 3BC, or wherever its SuperIO puts it).

    A byte is printed on the falling edge of STROBE, and the printer's acknowledge pulse follows at once,
    which is an interrupt where the guest enabled it.

    In mode ``spp`` the data lines always drive; in the others control bit 5 turns them round, and reads then
    see the open pins (FF). Modes with ``epp`` decode eight ports, the others four: what lies behind, such as the
    display's registers behind 3BC, is not covered. A cycle that no peripheral answers reads FF and sets the
    time-out bit, which writing 1 to it clears. Modes with ``ecp`` also decode three ports at base+400: the
    extended control register chooses what the port does, see :mod:`pyemu.chips._ecp`.
    """

    type_name = "isa-parallel"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("chardev", "chardev", None, "where printed bytes go"),
        Property("iobase", "int", 0x378, "first of its ports", minimum=0, maximum=0xFFF8),
        Property("irq", "int", 7, "interrupt line, 0 for none", minimum=0, maximum=15),
        Property("dma", "int", 3, "DMA channel of ECP mode", minimum=0, maximum=3),
        Property("mode", "choice", "ps2", "operating mode", choices=MODES),
        Property("window", "choice", "mode", "ports it decodes: as its mode says, or always 8", choices=("mode", "8")),
    )
    vmstate = VMState(
        "parallel",
        fields=(
            vmstate.uint8("data"),
            vmstate.uint8("control", limit=CONTROL_WRITABLE),
            vmstate.boolean("acknowledged"),
            vmstate.boolean("timeout"),
            vmstate.nested("ecp", ECP_STATE),
        ),
    )
    register_tables = (REGISTERS, ECP_REGISTERS)
    volatile: ClassVar[frozenset[str]] = frozenset({"chardev", "mode", "window", "upper", "extended", "peripheral"})

    chardev: Chardev | None
    mode: str
    window: str
    #: What nobody drives reads; shown for registers that have no contents.
    open_bus: ClassVar[int] = 0xFF

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.data = 0
        self.control = CONTROL_INIT | CONTROL_SELECT
        self.acknowledged = False
        self.timeout = False
        self.ecp = ECPBlock()
        self.upper: PortioList | None = None
        self.extended: PortioList | None = None
        self.peripheral: ParallelPeripheral | None = Printer(self.chardev) if self.chardev is not None else None

    def attach(self, peripheral: ParallelPeripheral | None) -> None:
        """Plugs a peripheral in instead of the printer, or pulls it out."""
        self.peripheral = peripheral
        self._move_bytes()

    # -- placement --------------------------------------------------------------------------------

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (PortioEntry(0, LOWER, 1, read=self.io_read, write=self.io_write),)

    def realize(self) -> None:
        from ..memory import PortioEntry

        super().realize()
        entry = PortioEntry(LOWER, UPPER - LOWER, 1, read=self.io_read, write=self.io_write)
        self.upper = self.add_ports((entry,), self.iobase, f"{self.id}.epp", enabled=self._shows_upper())
        entry = PortioEntry(0, ECP_PORTS, 1, read=self._read_extended, write=self._write_extended)
        place, shown = _ecp_place(self.iobase), self._shows_extended()
        self.extended = self.add_ports((entry,), place, f"{self.id}.ecp", enabled=shown)

    def unrealize(self) -> None:
        self.upper = self.extended = None
        super().unrealize()

    def set_enabled(self, enabled: bool) -> None:
        super().set_enabled(enabled)
        self._show()

    def set_base(self, base: int) -> None:
        if self.upper is not None and self.extended is not None:
            self.upper.set_address(base)
            self.extended.set_address(_ecp_place(base))
        super().set_base(base)

    def set_mode(self, mode: str) -> None:
        """Chooses ``spp``, ``ps2``, ``epp``, ``ecp`` or ``ecp+epp``. What the registers hold stays."""
        self.mode = mode
        self._show()
        self._move_bytes()

    def _show(self) -> None:
        if self.upper is not None and self.extended is not None:
            self.upper.set_enabled(self._shows_upper())
            self.extended.set_enabled(self._shows_extended())

    def _shows_upper(self) -> bool:
        return self.enabled and (self.window == "8" or "epp" in self.mode)

    def _shows_extended(self) -> bool:
        return self.enabled and "ecp" in self.mode

    # -- life -------------------------------------------------------------------------------------

    def reset(self) -> None:
        self.data = 0
        self.control = CONTROL_INIT | CONTROL_SELECT
        self.acknowledged = False
        self.timeout = False
        self.ecp.reset()
        self._drive()

    def post_load(self, version: int) -> None:
        self.ecp.check()
        self._drive()

    # -- registers --------------------------------------------------------------------------------

    @property
    def protocol(self) -> str:
        """What the port does now: its mode, or within ECP what the control register says (``fifo``, ``test``, ...)."""
        return self.ecp.protocol("epp" in self.mode) if "ecp" in self.mode else self.mode

    @property
    def reverse(self) -> bool:
        """Whether the data lines are inputs."""
        return self.protocol != "spp" and bool(self.control & CONTROL_INPUT)

    @property
    def status(self) -> int:
        """The status register; looking at it here has no effect."""
        status = STATUS_IDLE if self.acknowledged else STATUS_IDLE | STATUS_NO_IRQ
        return status | STATUS_TIMEOUT if self.timeout or "epp" not in self.mode else status

    @property
    def control_pins(self) -> int:
        """The control register as it reads."""
        return self.control | CONTROL_ALWAYS

    def io_read(self, offset: int, size: int) -> int:
        if offset == DATA:
            return 0xFF if self.reverse else self.data
        if offset == STATUS:
            # Reading the status ends the acknowledge that raised the interrupt.
            status = self.status
            self.acknowledged = False
            self._drive()
            return status
        if offset == CONTROL:
            return self.control_pins
        if self.protocol != "epp":
            return 0xFF
        value = self.peripheral.epp_read(offset == EPP_ADDRESS) if self.peripheral is not None else None
        if value is None:
            self.timeout = True
            return 0xFF
        return value & 0xFF

    def io_write(self, offset: int, size: int, value: int) -> None:
        if offset == DATA:
            if self.protocol == "ecp":
                self._queue(value, command=True)
            else:
                self.data = value
        elif offset == STATUS:
            if "epp" not in self.mode:
                self.ignored_write(REGISTERS, offset, value)
            elif value & STATUS_TIMEOUT:
                self.timeout = False
        elif offset == CONTROL:
            self._write_control(value)
        elif self.protocol == "epp":
            self.data = value
            if self.peripheral is None or not self.peripheral.epp_write(value, offset == EPP_ADDRESS):
                self.timeout = True
        else:
            self.ignored_write(REGISTERS, offset, value)

    def _write_control(self, value: int) -> None:
        falling = self.control & ~value & CONTROL_STROBE
        self.control = value & CONTROL_WRITABLE
        # STROBE is inverted on the wire: the printer takes the byte when the bit goes back to 0.
        if falling and not value & CONTROL_INPUT and self.protocol not in ("fifo", "ecp"):
            if self.peripheral is not None:
                self.peripheral.strobe(self.data)
            self.acknowledged = bool(value & CONTROL_IRQ)
        if not value & CONTROL_IRQ:
            self.acknowledged = False
        self._move_bytes()

    # -- ECP --------------------------------------------------------------------------------------

    def _read_extended(self, offset: int, size: int) -> int:
        value = self.ecp.read(offset, self.protocol, self.irq, self.dma, self.reverse)
        self._move_bytes()
        return value

    def _write_extended(self, offset: int, size: int, value: int) -> None:
        if offset == 0 and self.protocol in ("fifo", "ecp", "test"):
            self._queue(value, command=False)
        elif not self.ecp.write(offset, value):
            self.ignored_write(ECP_REGISTERS, offset, value)
        self._move_bytes()

    def _queue(self, value: int, command: bool) -> None:
        # In reverse direction the FIFO belongs to the peripheral, except for tests of the FIFO itself.
        if not self.reverse or self.protocol == "test":
            self.ecp.push(value, command)
        self._move_bytes()

    def _move_bytes(self) -> None:
        """Lets the FIFO exchange bytes with the peripheral, then brings request and interrupt up to date."""
        protocol, peripheral = self.protocol, self.peripheral
        if peripheral is not None and protocol in ("fifo", "ecp"):
            if not self.reverse:
                self.ecp.drain(peripheral.fifo_write)
            elif protocol == "ecp" and self.ecp.room:
                self.ecp.fill(peripheral.fifo_read(self.ecp.room))
        self.ecp.update_service(protocol, self.reverse)
        self._drive()

    def _drive(self) -> None:
        ecp = "ecp" in self.mode
        self.irq_out.set_level(1 if self.acknowledged or (ecp and self.ecp.interrupt) else 0)
        if self.dma_request is not None:
            self.dma_request.set_level(1 if ecp and self.ecp.requests(self.protocol, self.reverse) else 0)

    def dma_read(self, length: int) -> bytes:
        data = self.ecp.take(length)
        self._move_bytes()
        return data

    def dma_write(self, data: bytes) -> int:
        taken = 0
        while taken < len(data) and self.ecp.room:
            piece = data[taken : taken + self.ecp.room]
            for value in piece:
                self.ecp.push(value, False)
            taken += len(piece)
            if self.peripheral is not None and self.protocol in ("fifo", "ecp"):
                self.ecp.drain(self.peripheral.fifo_write)
        self._move_bytes()
        return taken

    def dma_verify(self, length: int) -> int:
        return length

    def dma_terminal_count(self) -> None:
        self.ecp.end_of_transfer()
        self._drive()


def _ecp_place(base: int) -> int:
    # The upper block follows the lower one at a distance of 400, within 16 address bits.
    return (base + ECP_OFFSET) & 0xFFFF

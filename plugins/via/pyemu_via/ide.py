# SPDX-License-Identifier: MIT
"""PCI function 1: two IDE channels, at the PC's ports or where base registers say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pyemu import PortioEntry, vmstate
from pyemu.chips.busmaster import REGISTERS, BusMaster
from pyemu.device import Register, RegisterTable, VMState, pci_state

from .functions import (
    COMMAND_IO,
    COMMAND_MASTER,
    REG_CAPABILITIES,
    REG_COMMAND,
    REG_LINE,
    REG_PIN,
    REG_STATUS,
    STATUS_W1C,
    ViaFunction,
)

if TYPE_CHECKING:
    from pyemu.chips.ide import IDEChannel

REG_INTERFACE, REG_BAR0, REG_ENABLE = 0x09, 0x10, 0x40
#: Programming-interface bits that put a channel into native mode.
NATIVE = (0x01, 0x04)
#: Bits of register 40 that switch a channel on.
ENABLE = (0x02, 0x01)
#: Bit 7 of these shows the interrupt of each channel.
INTERRUPT_STATUS = (0x70, 0x78)
LEGACY_BASES = (0x1F0, 0x170)
#: The control register is the third of the four ports of its base register.
CONTROL_OFFSET = 2
#: What a two-bit field of the bridge's IDE routing register stands for.
ROUTED_LINES = (14, 15, 10, 11)


BUS_MASTER = RegisterTable(
    [
        register
        for n, name in enumerate(("primary", "secondary"))
        for register in (
            Register(REGISTERS * n, f"{name} command", 0, 0x09, source=f"masters.{n}.command", effect="0 starts, 3 to memory"),
            Register(REGISTERS * n + 2, f"{name} status", 0, 0x60, clear=0x06, source=f"masters.{n}.status"),
            Register(REGISTERS * n + 4, f"{name} table", 0, 0xFFFFFFFC, size=4, source=f"masters.{n}.table"),
        )
    ],
    name="bus masters", size=2 * REGISTERS,
)  # fmt: skip


class ViaIDE(ViaFunction):
    """The IDE controller. The board attaches the two channels.

    Attributes:
        channels: primary and secondary, empty until attached.
        masters: their bus masters.
    """

    type_name = "via-ide"
    device_id = 0x0571
    class_code = 0x01018A
    volatile: ClassVar[frozenset[str]] = ViaFunction.volatile | {"channels"}
    vmstate: ClassVar[VMState] = pci_state("via-ide", vmstate.nested("masters", BusMaster.vmstate, count=2))

    config_registers = (
        Register(REG_COMMAND, "command", 0x0080, COMMAND_IO | COMMAND_MASTER, size=2),
        Register(REG_STATUS, "status", 0x0280, 0, size=2, clear=STATUS_W1C),
        Register(REG_INTERFACE, "programming interface", 0x8A, NATIVE[0] | NATIVE[1], effect="0 and 2: native mode of a channel"),
        Register(REG_CAPABILITIES, "capabilities pointer", 0xC0, 0),
        Register(REG_LINE, "interrupt line", 0x0E, 0),
        Register(REG_PIN, "interrupt pin", 1, 0),
        Register(REG_ENABLE, "channel enable", 0x00, 0x0F, effect="1 primary, 0 secondary"),
        Register(0x41, "IDE configuration", 0x06, 0xF2),
        Register(0x42, "reserved", 0x09),
        Register(0x43, "FIFO configuration", 0x0A, 0x0F),
        Register(0x44, "miscellaneous control 1", 0x68, 0x7D),
        Register(0x45, "miscellaneous control 2", 0x20, 0x5C),
        Register(0x46, "miscellaneous control 3", 0xC0, 0xC0),
        *(Register(0x48 + n, f"drive {3 - n} timing", 0xA8) for n in range(4)),
        Register(0x4C, "address set-up time", 0xFF),
        *(Register(0x50 + n, f"drive {3 - n} UDMA timing", 0x07, 0xD7) for n in range(4)),
        Register(0x54, "UDMA FIFO control", 0x04),
        Register(0x60, "primary sector size", 0x0200, size=2),
        Register(0x68, "secondary sector size", 0x0200, size=2),
        Register(0xC0, "power management capability", 0x00020001, 0, size=4),
    )
    register_tables = (BUS_MASTER,)

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        if self.reset_style == "qemu":
            self.define(0x45, 1, 0x00, wmask=0x5C)
        self.channels: list[IDEChannel] = []
        self.masters = [BusMaster(self._may_master) for _ in range(2)]
        sizes = ((1, 16), (2, 15), (4, 13))
        table = [PortioEntry(0, length, size, self._read_master, self._write_master) for size, length in sizes]
        self.register_bar(4, table, 2 * REGISTERS, "io")
        self.define(REG_BAR0 + 16, 4, 0x0000CC01, wmask=0xFFFFFFF0)

    def attach(self, *channels: IDEChannel) -> None:
        """Makes *channels*, not yet plugged in, the primary and the secondary one."""
        for channel, master in zip(channels, self.masters, strict=True):
            channel.placed_by = self
            channel.connect_master(master)
            master.channel = channel
            channel.set_enabled(False)
            self.channels.append(channel)

    def realize(self) -> None:
        super().realize()
        for master in self.masters:
            master.memory = self.bus.memory

    def reset(self) -> None:
        for master in self.masters:
            master.reset()
        super().reset()

    def config_read(self, register: int, size: int) -> int:
        value = super().config_read(register, size)
        for channel, at in zip(self.channels, INTERRUPT_STATUS, strict=False):
            if register <= at < register + size and channel.irq_out.level:
                value |= 0x80 << 8 * (at - register)
        return value

    def _may_master(self) -> bool:
        return not self.hidden and bool(self.config[REG_COMMAND] & COMMAND_MASTER)

    def _read_master(self, offset: int, size: int) -> int:
        each = (self.masters[at // REGISTERS].read(at % REGISTERS) for at in range(offset, offset + size))
        return int.from_bytes(bytes(each), "little")

    def _write_master(self, offset: int, size: int, value: int) -> None:
        for n in range(size):
            at = offset + n
            self.masters[at // REGISTERS].write(at % REGISTERS, value >> 8 * n & 0xFF)

    def native(self, n: int) -> bool:
        """Whether channel *n* is at its base registers instead of the PC's ports."""
        return bool(self.config[REG_INTERFACE] & NATIVE[n])

    def follow(self) -> None:
        super().follow()
        for n in range(2):
            self._follow_bases(n)
        for master in self.masters:
            master.go()  # a transfer may have waited for the right to master the bus
        if self.isa is None or self.bridge is None:
            return
        with self.isa.ports.transaction():
            for n, channel in enumerate(self.channels):
                self._place(n, channel)

    def _follow_bases(self, n: int) -> None:
        """A channel's base registers exist in native mode only; in legacy mode they read 0."""
        for register, size in ((REG_BAR0 + 8 * n, 8), (REG_BAR0 + 8 * n + 4, 4)):
            old = int.from_bytes(self.config[register : register + 4], "little")
            mask, value = (0x10000 - size, old & (0x10000 - size) | 1) if self.native(n) else (0, 0)
            self.wmask[register : register + 4] = mask.to_bytes(4, "little")
            self.config[register : register + 4] = value.to_bytes(4, "little")

    def _base(self, register: int) -> int:
        return int.from_bytes(self.config[register : register + 2], "little") & 0xFFFC

    def _place(self, n: int, channel: IDEChannel) -> None:
        assert self.isa is not None and self.bridge is not None
        enabled = not self.hidden and bool(self.config[REG_ENABLE] & ENABLE[n])
        if self.native(n):
            base, control = self._base(REG_BAR0 + 8 * n), self._base(REG_BAR0 + 8 * n + 4) + CONTROL_OFFSET
            enabled = enabled and bool(self.config[REG_COMMAND] & COMMAND_IO) and base != 0
            irq = self.interrupt_line()
            where: tuple[int, int | None] = (base, control)
        else:
            where = (LEGACY_BASES[n], None)
            irq = ROUTED_LINES[self.bridge.config[self.bridge.ide_routing] >> 2 * n & 3]
        if not enabled:
            channel.set_enabled(False)
        if where != (channel.iobase, channel.control_base):
            channel.control_base = where[1]
            channel.set_base(where[0])
        if irq != channel.irq:
            channel.set_irq(irq)
        channel.set_enabled(enabled)

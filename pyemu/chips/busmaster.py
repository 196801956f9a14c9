# SPDX-License-Identifier: MIT
"""The bus master of a PCI IDE controller: registers and descriptor tables of one channel.

The interface is that of Intel's "Programming Interface for Bus Master IDE Controller" 1.0: a table of physical regions, each
an address, a length in bytes (0 is 65536) and a mark on the last.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from ..device import VMState, vmstate
from ..memory import AddressSpace

COMMAND, STATUS, TABLE = 0, 2, 4
REGISTERS = 8
START, TO_MEMORY = 0x01, 0x08
ACTIVE, ERROR, INTERRUPT, CAPABLE = 0x01, 0x02, 0x04, 0x60
END_OF_TABLE = 0x80000000
#: Descriptors that one step looks at: a table of tiny regions takes more steps, not a longer one.
MAX_DESCRIPTORS = 1024


class DMAChannel(Protocol):
    """The channel that a bus master serves."""

    def dma_run(self) -> None:
        """Lets a transfer that waits for the bus master go on."""


class BusMaster:
    """Registers 0 to 7 of one channel.

    Args:
        enabled: whether the controller may master the bus, asked before each step.

    Attributes:
        channel: what it serves; None for a channel that is not there.
        memory: what it masters.
        command, status, table: the registers.
        next: address of the next descriptor.
        address, left: the region that is being filled or emptied, and how much of it is left.
        last: whether that is the table's last region.
    """

    vmstate = VMState(
        "bus-master",
        fields=(
            vmstate.uint8("command"),
            vmstate.uint8("status"),
            vmstate.uint32("table"),
            vmstate.uint32("next"),
            vmstate.uint32("address"),
            vmstate.uint32("left", limit=0x10000),
            vmstate.boolean("last"),
        ),
    )

    def __init__(self, enabled: Callable[[], bool]) -> None:
        self.channel: DMAChannel | None = None
        self.memory: AddressSpace | None = None
        self._enabled = enabled
        self.reset()

    def reset(self) -> None:
        self.command = self.status = 0
        self.table = self.next = self.address = self.left = 0
        self.last = False

    # -- registers --------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """One byte."""
        return struct.pack("<BxBxI", self.command, self.status, self.table)[offset]

    def write(self, offset: int, value: int) -> None:
        """One byte."""
        if offset == COMMAND:
            self._write_command(value & (START | TO_MEMORY))
        elif offset == STATUS:
            kept = self.status & ~(value & (ERROR | INTERRUPT)) & ~CAPABLE
            self.status = kept | value & CAPABLE
        elif offset >= TABLE:
            shift = 8 * (offset - TABLE)
            self.table = (self.table & ~(0xFF << shift) | value << shift) & 0xFFFFFFFC

    def _write_command(self, value: int) -> None:
        started, stopped = value & ~self.command & START, self.command & ~value & START
        self.command = value
        if stopped:
            self.status &= ~ACTIVE
        if started:
            self.status |= ACTIVE
            self.next, self.left, self.last = self.table, 0, False
            self.go()

    def go(self) -> None:
        """Lets the channel go on, if it waits."""
        if self.channel is not None and self.status & ACTIVE:
            self.channel.dma_run()

    # -- the channel's side -----------------------------------------------------------------------

    def interrupted(self) -> None:
        self.status |= INTERRUPT

    def serves(self, to_memory: bool) -> bool:
        return bool(self.status & ACTIVE and self._enabled() and bool(self.command & TO_MEMORY) == to_memory)

    def segments(self, length: int, unit: int) -> list[tuple[int, int]]:
        before = self.next, self.address, self.left, self.last
        found, total = self._walk(length)
        whole = total - total % unit
        if whole != total:
            # Whole units only; the part of one stays in the table for the next step.
            self.next, self.address, self.left, self.last = before
            found, _ = self._walk(whole)
        return found

    def _walk(self, length: int) -> tuple[list[tuple[int, int]], int]:
        found: list[tuple[int, int]] = []
        total = 0
        for _ in range(MAX_DESCRIPTORS):
            if total == length or (not self.left and not self._fetch()):
                break
            part = min(self.left, length - total)
            found.append((self.address, part))
            self.address = (self.address + part) & 0xFFFFFFFF
            self.left -= part
            total += part
        return found, total

    def _fetch(self) -> bool:
        if self.last or self.memory is None:
            return False
        address, count = struct.unpack("<II", self.memory.read(self.next, 8))
        self.next = (self.next + 8) & 0xFFFFFFFF
        self.address = address & 0xFFFFFFFE
        self.left = count & 0xFFFE or 0x10000
        self.last = bool(count & END_OF_TABLE)
        return True

    def short(self) -> None:
        self.status &= ~ACTIVE

    def finished(self) -> None:
        # With places left over it stays active until it is stopped: that is how a driver learns of it.
        if self.last and not self.left:
            self.status &= ~ACTIVE

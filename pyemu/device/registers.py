# SPDX-License-Identifier: MIT
"""Registers, declared once.

A device says of each register its offset, name, size, reset value and how software changes it. What
the device does at a reset, what is saved, what :meth:`Device.register_values` and the QMP command
``query-registers`` show, how log lines call a register and what its page in the documentation says
follow from that one declaration:

* a :class:`RegisterTable` is the declaration, shared by all devices of a class;
* a :class:`RegisterBlock` is a table with contents, for registers that are bytes at port offsets;
* a device whose registers are attributes of its own names them in :attr:`Register.source`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from . import vmstate

if TYPE_CHECKING:
    from ..memory import PortioEntry
    from .device import Device

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]

#: With a level of its own of DEBUG: every access to a register block by name. Looked at when the ports are mapped.
_trace = logging.getLogger("pyemu.registers")
if os.environ.get("PYEMU_TRACE_REGISTERS"):
    _trace.setLevel(logging.DEBUG)

ALL_BITS = -1


@dataclass(frozen=True, slots=True)
class Register:
    """One register.

    Args:
        offset: from the device's base, or its index behind an index/data pair.
        name: as manuals call it; shown in logs, listings and documentation.
        reset: value after a reset.
        mask: bits that keep what is written; by default all, 0 for none.
        fixed: bits that read 1 once anything was written, whatever it was.
        size: in bytes; several bytes are little-endian.
        clear: bits that writing 1 clears.
        effect: what reading or writing does besides, in a few words for the documentation.
        source: the attribute that holds the value, where that is not the table's; dots lead into parts and lists.

    Raises:
        ValueError: a value does not fit, or the bits contradict each other.
    """

    offset: int
    name: str
    reset: int = 0
    mask: int = ALL_BITS
    fixed: int = 0
    size: int = 1
    clear: int = 0
    effect: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        every = (1 << 8 * self.size) - 1
        if self.mask == ALL_BITS:
            object.__setattr__(self, "mask", every & ~self.clear)
        if self.offset < 0 or (self.mask | self.fixed | self.reset | self.clear) & ~every:
            raise ValueError(f"register {self.name} at {self.offset:#x}: a value does not fit {self.size} bytes")
        if self.mask & self.fixed or self.mask & self.clear:
            raise ValueError(f"register {self.name} at {self.offset:#x}: mask, fixed and clear bits contradict each other")

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.size

    @property
    def ignores(self) -> bool:
        """Whether no bit of it can be written."""
        return not self.mask | self.clear


class RegisterValue(NamedTuple):
    """A register as it is now; see :meth:`Device.register_values`."""

    table: str
    name: str
    offset: int
    size: int
    value: int
    reset: int
    mask: int


class RegisterTable:
    """The registers of one block; offsets that are not listed read 0 and ignore writes.

    Args:
        registers: in any order, not overlapping.
        name: of the block, e.g. ``SMBus host``.
        size: of the block in bytes.
        attribute: of the device, that holds the values: bytes, a :class:`RegisterBlock`, or nothing of
            the kind when every register names its own source.

    Raises:
        ValueError: a register does not fit into the block or overlaps another.
    """

    def __init__(
        self, registers: Iterable[Register], *, name: str = "registers", size: int = 0x100, attribute: str = "registers"
    ) -> None:
        self.name, self.size, self.attribute = name, size, attribute
        self._by_offset: dict[int, Register] = {}
        self._at: dict[int, Register] = {}
        self._all = tuple(registers)
        for register in self._all:
            taken = [at for at in range(register.offset, register.end) if at in self._at]
            # Registers that are attributes may share an offset, as one is read and the other written there.
            if register.end > size or (taken and not register.source):
                raise ValueError(
                    f"register {register.name}: {register.offset:#x}-{register.end - 1:#x} is taken or above {size - 1:#x}"
                )
            self._by_offset.setdefault(register.offset, register)
            for at in range(register.offset, register.end):
                self._at.setdefault(at, register)

    def __iter__(self) -> Iterator[Register]:
        return iter(self._all)

    def get(self, offset: int) -> Register | None:
        """The register that begins at *offset*."""
        return self._by_offset.get(offset)

    def at(self, offset: int) -> Register | None:
        """The register that *offset* lies in."""
        return self._at.get(offset)

    def called(self, offset: int) -> str:
        """How log lines call what is at *offset*."""
        register = self._at.get(offset)
        if register is None:
            return f"{self.name} {offset:#04x}"
        within = f"+{offset - register.offset}" if offset > register.offset else ""
        return f"{self.name} {offset:#04x} ({register.name}{within})"

    def reset_values(self, overrides: Mapping[int, int] | None = None) -> bytearray:
        """All bytes after a reset, with *overrides* by offset for chips that come up otherwise."""
        values = bytearray(self.size)
        for register in self:
            values[register.offset : register.end] = register.reset.to_bytes(register.size, "little")
        for offset, value in (overrides or {}).items():
            values[offset] = value
        return values

    def masks(self) -> dict[int, tuple[int, int, int]]:
        """Of each one-byte register that takes writes: the bits that keep them, are fixed, and are cleared by 1."""
        return {r.offset: (r.mask, r.fixed, r.clear) for r in self if r.size == 1 and not r.ignores}

    def written(self, old: int, offset: int, value: int) -> int:
        """What the one-byte register at *offset*, holding *old*, holds after *value* was written to it."""
        register = self._by_offset.get(offset)
        if register is None or register.ignores:
            return old
        kept = old & ~register.mask & ~register.fixed & ~(value & register.clear)
        return kept | (value & register.mask) | register.fixed

    def ignores(self, offset: int) -> bool:
        """True if no bit at *offset* can be written."""
        register = self._at.get(offset)
        return register is None or register.ignores

    def values(self, device: Any) -> list[RegisterValue]:
        """The registers of *device* as they are now. Reads attributes, and so has no side effects."""
        return [
            RegisterValue(self.name, r.name, r.offset, r.size, self._value(device, r), r.reset, r.mask) for r in self
        ]

    def _value(self, device: Any, register: Register) -> int:
        if register.source:
            return int(_held(device, register.source)) & (1 << 8 * register.size) - 1
        held = _held(device, self.attribute)
        data = held.data if isinstance(held, RegisterBlock) else held
        return int.from_bytes(bytes(data[register.offset : register.end]), "little")


class RegisterBlock:
    """The registers of a table with their contents, decoded by bytes and reached by accesses of any size.

    Args:
        table: the declaration.
        owner: the device; ignored writes are logged in its name, once for each register.

    Attributes:
        data: the bytes as they are.
    """

    def __init__(self, table: RegisterTable, owner: Device | None = None) -> None:
        self.declaration = table
        self.owner = owner
        self.size = table.size
        self.data = table.reset_values()
        self._resets = bytes(self.data)
        self._wmask = bytearray(self.size)
        self._w1c = bytearray(self.size)
        self._fixed = bytearray(self.size)
        for register in table:
            for array, bits in ((self._wmask, register.mask), (self._w1c, register.clear), (self._fixed, register.fixed)):
                array[register.offset : register.end] = bits.to_bytes(register.size, "little")

    def field(self, path: str) -> vmstate.Field:
        """The block as a field of a device's declared state; *path* is the block's attribute."""
        return block_field(path, self.declaration)

    def reset(self) -> None:
        self.data[:] = self._resets

    def get(self, offset: int, size: int) -> int:
        return int.from_bytes(self.data[offset : offset + size], "little")

    def put(self, offset: int, size: int, value: int) -> None:
        """Sets a register from the chip's side, whatever software may write."""
        self.data[offset : offset + size] = value.to_bytes(size, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write; bytes beyond the block are lost."""
        reached = False
        for at in range(offset, min(offset + size, self.size)):
            byte = value >> 8 * (at - offset) & 0xFF
            wmask, w1c = self._wmask[at], self._w1c[at]
            if wmask or w1c:
                reached = True
                keep = self.data[at] & ~wmask & ~(byte & w1c)
                self.data[at] = (keep | byte & wmask | self._fixed[at]) & 0xFF
        if not reached and self.owner is not None:
            self.owner.ignored_write(self.declaration, offset, value)

    def ports(self, read: Read | None = None, write: Write | None = None) -> list[PortioEntry]:
        """Port handlers for accesses of 1, 2 and 4 bytes; by default plain :meth:`get` and :meth:`write`."""
        from ..memory import PortioEntry

        read, write = read or self.get, write or self.write
        # Not for a level that is inherited: --debug is not meant to drown in port accesses.
        if _trace.level == logging.DEBUG and self.owner is not None:
            read, write = _traced(self.owner, self.declaration, read, write)
        return [
            PortioEntry(0, self.size - size + 1, size, read, write) for size in (1, 2, 4) if size <= self.size
        ]


def block_field(path: str, table: RegisterTable) -> vmstate.Field:
    """The contents of the :class:`RegisterBlock` at attribute *path* as a field of declared state."""
    return vmstate.buffer(f"{path}.data", table.size)


def touches(offset: int, size: int, register: int, length: int = 1) -> bool:
    """Whether an access of *size* bytes at *offset* reaches the register of *length* bytes."""
    return offset < register + length and register < offset + size


def _held(part: Any, path: str) -> Any:
    """What the attributes named in *path* lead to; numbers are indexes."""
    for name in path.split("."):
        part = part[int(name)] if name.isdigit() else getattr(part, name)
    return part


def _traced(owner: Device, table: RegisterTable, read: Read, write: Write) -> tuple[Read, Write]:
    def traced_read(offset: int, size: int) -> int:
        value = read(offset, size)
        _trace.debug("%s: read %s = 0x%0*x", owner.id, table.called(offset), 2 * size, value)
        return value

    def traced_write(offset: int, size: int, value: int) -> None:
        _trace.debug("%s: write %s = 0x%0*x", owner.id, table.called(offset), 2 * size, value)
        write(offset, size, value)

    return traced_read, traced_write

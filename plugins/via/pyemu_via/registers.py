# SPDX-License-Identifier: MIT
"""Register blocks that are decoded by bytes and reached by accesses of any size."""

from __future__ import annotations

from collections.abc import Callable

from pyemu import PortioEntry

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]


class Block:
    """*size* bytes of registers with reset values, writable bits, and bits that writing 1 clears.

    Attributes:
        data: the registers as they are.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray(size)
        self._resets = bytearray(size)
        self._wmask = bytearray(size)
        self._w1c = bytearray(size)

    def define(self, offset: int, size: int, value: int = 0, *, wmask: int = 0, w1c: int = 0) -> None:
        """Declares a little-endian register; what is not declared reads 0 and ignores writes."""
        for array, number in ((self._resets, value), (self._wmask, wmask), (self._w1c, w1c)):
            array[offset : offset + size] = number.to_bytes(size, "little")
        self.data[offset : offset + size] = value.to_bytes(size, "little")

    def reset(self) -> None:
        self.data[:] = self._resets

    def get(self, offset: int, size: int) -> int:
        return int.from_bytes(self.data[offset : offset + size], "little")

    def put(self, offset: int, size: int, value: int) -> None:
        """Sets a register from the chip's side, whatever software may write."""
        self.data[offset : offset + size] = value.to_bytes(size, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write; bytes beyond the block are lost."""
        for at in range(offset, min(offset + size, self.size)):
            byte = value >> 8 * (at - offset) & 0xFF
            keep = self.data[at] & ~self._wmask[at] & ~(byte & self._w1c[at])
            self.data[at] = (keep | byte & self._wmask[at]) & 0xFF

    def table(self, read: Read | None = None, write: Write | None = None) -> list[PortioEntry]:
        """Port handlers for accesses of 1, 2 and 4 bytes; by default plain :meth:`get` and :meth:`write`."""
        read, write = read or self.get, write or self.write
        return [
            PortioEntry(0, self.size, 1, read, write),
            PortioEntry(0, self.size - 1, 2, read, write),
            PortioEntry(0, self.size - 3, 4, read, write),
        ]


def touches(offset: int, size: int, register: int, length: int = 1) -> bool:
    """Whether an access of *size* bytes at *offset* reaches the register of *length* bytes."""
    return offset < register + length and register < offset + size

# SPDX-License-Identifier: MIT
"""A dice on the ISA bus."""

from collections.abc import Sequence

import pyemu
from pyemu import vmstate
from pyemu.device import Register, RegisterTable

REG_ROLL, REG_SIDES, REG_COUNT, REG_ID = 0, 1, 2, 3
ID = 0xD1
SIDES_AT_RESET = 6
REGISTERS = RegisterTable(
    (
        Register(REG_SIDES, "sides", SIDES_AT_RESET, source="sides", effect="0 is ignored"),
        Register(REG_COUNT, "count of rolls", 0, 0, source="rolls", effect="its low byte"),
    ),
    name="dice",
    size=4,
)


class Dice(pyemu.ISAFunction):
    """Four byte-wide registers; each read of the first one rolls."""

    type_name = "dice"
    properties = (
        pyemu.Property("iobase", "int", 0x2A0, "first of four ports", minimum=0, maximum=0xFFFC),
        pyemu.Property("seed", "int", 1, "where the sequence of rolls begins", minimum=1, maximum=0xFFFFFFFF),
    )
    seed: int
    vmstate = pyemu.VMState(
        "dice",
        fields=(
            vmstate.uint32("generator"),
            vmstate.uint8("sides"),
            vmstate.uint32("rolls"),
        ),
    )
    register_tables = (REGISTERS,)

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.reset()

    def reset(self) -> None:
        self.generator = self.seed
        self.sides = SIDES_AT_RESET
        self.rolls = 0

    def post_load(self, version: int) -> None:
        if not self.generator or not self.sides:
            raise pyemu.MigrationError(f"{self.id}: generator={self.generator} and sides={self.sides} must not be 0")

    def table(self) -> Sequence[pyemu.PortioEntry]:
        return [pyemu.PortioEntry(0, 4, 1, read=self.read, write=self.write)]

    def read(self, offset: int, size: int) -> int:
        if offset == REG_ROLL:
            return self.roll()
        if offset == REG_SIDES:
            return self.sides
        if offset == REG_COUNT:
            return self.rolls & 0xFF
        return ID

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == REG_SIDES and value:
            self.sides = value
        elif offset == REG_ID and value:
            self.generator, self.rolls = value, 0
        else:
            self.ignored_write(REGISTERS, offset, value)

    def roll(self) -> int:
        """1 to the number of sides, from a 32-bit xorshift generator."""
        x = self.generator
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.generator = x
        self.rolls = self.rolls + 1 & 0xFFFFFFFF
        return 1 + x % self.sides

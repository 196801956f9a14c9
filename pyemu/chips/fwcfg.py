# SPDX-License-Identifier: MIT
"""The firmware configuration ports of emulated PCs: named files that SeaBIOS reads, e.g. the BIOS of an ISA video card.

No real PC has them. A board offers them only where its firmware could not find out otherwise: on a bus without PCI, SeaBIOS
looks for option ROMs here alone.
"""

from __future__ import annotations

import struct
from typing import ClassVar

from ..device import ISADevice, Register, RegisterTable, VMState, vmstate
from ..errors import ConfigError
from ..memory import PortioEntry

KEY_SIGNATURE, KEY_INTERFACE, KEY_PROCESSORS, KEY_BOOT_MENU, KEY_MOST_PROCESSORS = 0x00, 0x01, 0x05, 0x0E, 0x0F
KEY_DIRECTORY, KEY_FIRST_FILE = 0x19, 0x20
SIGNATURE = b"QEMU"
#: Bit 0: the two ports; there is no DMA interface.
INTERFACE = struct.pack("<I", 1)
NAME_SIZE = 56
MAX_FILES = 16


class FirmwareConfig(ISADevice):
    """The selector (510, 16 bits) and the data port (511): each read gives the next byte of the selected item.

    Items that do not exist, and bytes behind the end of one, read 0.
    """

    type_name = "fw-cfg"
    vmstate = VMState("fw-cfg", fields=(vmstate.uint16("key"), vmstate.uint32("position")))
    register_tables = (
        RegisterTable(
            (Register(0, "selector", size=2, source="key", effect="write-only; the port behind it gives the item byte by byte"),),
            name="firmware configuration, at 510", size=2,
        ),
    )  # fmt: skip
    volatile: ClassVar[frozenset[str]] = frozenset({"_items", "_names"})

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self._items: dict[int, bytes] = {KEY_SIGNATURE: SIGNATURE, KEY_INTERFACE: INTERFACE}
        # What a BIOS does without these ports: offer its menu, and expect one processor.
        self._items |= dict.fromkeys((KEY_PROCESSORS, KEY_BOOT_MENU, KEY_MOST_PROCESSORS), b"\1\0")
        self._names: tuple[str, ...] = ()
        self.key = self.position = 0

    def add_file(self, name: str, content: bytes) -> None:
        """Offers *content* as *name*; before the device is plugged in.

        Raises:
            ConfigError: the name is too long or taken, or there are too many files.
        """
        if len(name.encode()) >= NAME_SIZE or name in self._names or len(self._names) >= MAX_FILES:
            raise ConfigError(f"{self.type_name}: no file {name!r} can be added to {len(self._names)}")
        self._items[KEY_FIRST_FILE + len(self._names)] = content
        self._names = (*self._names, name)
        entries = b"".join(
            struct.pack(">IHH56s", len(self._items[KEY_FIRST_FILE + n]), KEY_FIRST_FILE + n, 0, file.encode())
            for n, file in enumerate(self._names)
        )
        self._items[KEY_DIRECTORY] = struct.pack(">I", len(self._names)) + entries

    def realize(self) -> None:
        table = [PortioEntry(0, 1, 2, self._read_select, self._select), PortioEntry(1, 1, 1, self._read)]
        self.add_ports(table, 0x510)

    def reset(self) -> None:
        self.key = self.position = 0

    def _read_select(self, offset: int, size: int) -> int:
        return 0

    def _select(self, offset: int, size: int, value: int) -> None:
        self.key, self.position = value, 0

    def _read(self, offset: int, size: int) -> int:
        item = self._items.get(self.key, b"")
        if self.position >= len(item):
            return 0
        self.position += 1
        return item[self.position - 1]

# SPDX-License-Identifier: MIT
"""The system management bus and the memory modules' EEPROMs on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..device import Bus, Device, Property, VMState, vmstate
from ..errors import ConfigError

#: Where memory modules have their EEPROMs.
SPD_ADDRESS, SPD_MODULES = 0x50, 4
EEPROM_SIZE = 256

MIB = 1 << 20
#: Sizes in MiB of the modules that the tables of :func:`spd` describe.
SMALLEST_MODULE, LARGEST_MODULE = 8, 1024


class SMBusDevice(Device):
    """A device on an SMBus. All transactions come down to bytes written and bytes read after its address.

    Class attributes:
        properties: must contain ``address``, 7 bits.
    """

    bus_kind = "smbus"
    address: int

    def quick(self, read: bool) -> bool:
        """An address with nothing after it; whether the device acknowledges."""
        return True

    def write_bytes(self, data: bytes) -> bool:
        """The bytes the host wrote, the command first; whether the device acknowledges them all."""
        return False

    def read_bytes(self, count: int) -> bytes:
        """*count* bytes for the host."""
        return bytes(count)

    def process_call(self, command: int, word: int) -> int | None:
        """Answers a word with a word; None when the device has no such call."""
        return None


class SMBus(Bus):
    """An SMBus: at most one device at each 7-bit address."""

    kind = "smbus"

    def __init__(self, name: str = "smbus.0") -> None:
        super().__init__(name)
        self.by_address: dict[int, SMBusDevice] = {}

    def plug(self, device: Device, id: str | None = None) -> Device:
        """Plugs *device* in at its address.

        Raises:
            ConfigError: it is no SMBus device, or the address is taken.
        """
        if not isinstance(device, SMBusDevice):
            raise ConfigError(f"{device.type_name}: is no SMBus device and cannot go into {self.name}")
        other = self.by_address.get(device.address)
        if other is not None and device.bus is None:
            raise ConfigError(f"{device.type_name}: address {device.address:#x} of {self.name} is taken by {other.id}")
        super().plug(device, id)
        self.by_address[device.address] = device
        return device

    def unplug(self, device: Device) -> None:
        super().unplug(device)
        if isinstance(device, SMBusDevice):
            del self.by_address[device.address]


class EEPROM(SMBusDevice):
    """A 24C02: 256 bytes behind an address pointer, write-protected as those of memory modules are.

    Attributes:
        contents: the bytes; the board puts a module's description there.
        pointer: what the next read returns.
    """

    type_name = "smbus-eeprom"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("address", "int", SPD_ADDRESS, "7-bit address", 0x08, 0x77),
        Property("protect", "bool", True, "writes change nothing"),
    )
    vmstate = VMState("smbus-eeprom", fields=(vmstate.uint8("pointer"), vmstate.buffer("contents", EEPROM_SIZE)))
    volatile: ClassVar[frozenset[str]] = frozenset({"address", "protect"})
    protect: bool

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.contents = bytearray(b"\xff" * EEPROM_SIZE)
        self.pointer = 0

    def reset(self) -> None:
        self.pointer = 0

    def write_bytes(self, data: bytes) -> bool:
        self.pointer = data[0]
        for value in data[1:]:
            if self.protect:
                return False
            self.contents[self.pointer] = value
            self.pointer = (self.pointer + 1) % EEPROM_SIZE
        return True

    def read_bytes(self, count: int) -> bytes:
        data = bytes(self.contents[(self.pointer + n) % EEPROM_SIZE] for n in range(count))
        self.pointer = (self.pointer + count) % EEPROM_SIZE
        return data


def modules(memory: int) -> list[int]:
    """Sizes in MiB of up to four memory modules that make up *memory* bytes, the largest first.

    What four modules of powers of two between 8 MiB and 1 GiB cannot make up is left out.
    """
    left = memory // MIB
    found: list[int] = []
    while left >= SMALLEST_MODULE and len(found) < SPD_MODULES:
        size = min(1 << left.bit_length() - 1, LARGEST_MODULE)
        found.append(size)
        left -= size
    return found


def spd(size: int) -> bytes:
    """The description (serial presence detect, JEDEC revision 1.2) of an SDRAM module of *size* MiB.

    Raises:
        ConfigError: *size* is not a power of two from 8 to 1024.
    """
    if size & (size - 1) or not SMALLEST_MODULE <= size <= LARGEST_MODULE:
        raise ConfigError(f"a memory module of {size} MiB cannot be described: not a power of two from 8 to 1024")
    ranks = 2 if size == LARGEST_MODULE else 1
    banks = 2 if size == SMALLEST_MODULE else 4
    # Address bits of a rank of 64-bit words in so many banks, split into rows and columns.
    bits = (size // ranks * MIB // 8 // banks).bit_length() - 1
    rows = 13 if bits >= 22 else 12 if bits >= 20 else 11
    data = bytearray(128)
    data[0:3] = 0x80, 0x08, 0x04  # bytes used, log2 of the device's size, SDRAM
    data[3:6] = rows, bits - rows, ranks
    data[6:9] = 64, 0, 0x01  # width, LVTTL
    data[9:11] = 0x75, 0x54  # 7.5 ns cycle, 5.4 ns access at the highest latency
    data[11:16] = 0x00, 0x82, 0x08, 0x00, 0x01  # no ECC, self refresh every 7.8 us, 8-bit devices
    data[16:21] = 0x8F, banks, 0x06, 0x01, 0x01  # bursts, banks, CAS latencies 2 and 3
    data[21:27] = 0x00, 0x0E, 0xA0, 0x60, 0x00, 0x00  # unbuffered, 10 ns at latency 2
    data[27:31] = 20, 15, 20, 45  # precharge, row to row, row to column, row active: ns
    # One bit a rank size in units of 4 MiB; ranks over 512 MiB do not exist.
    data[31] = size // ranks // 4
    data[32:36] = 0x15, 0x08, 0x15, 0x08  # set-up and hold times
    data[62] = 0x12
    data[63] = sum(data[:63]) & 0xFF
    data[73:91] = (b"pyemu %d MiB" % size).ljust(18)
    data[126:128] = 100, 0xFF
    return bytes(data) + b"\xff" * (EEPROM_SIZE - len(data))


def memory_modules(memory: int) -> Sequence[EEPROM]:
    """The EEPROMs of the modules that make up *memory* bytes, not plugged in."""
    found = []
    for n, size in enumerate(modules(memory)):
        eeprom = EEPROM(address=SPD_ADDRESS + n)
        eeprom.contents[:] = spd(size)
        found.append(eeprom)
    return found

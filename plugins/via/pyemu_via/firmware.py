# SPDX-License-Identifier: MIT
"""What firmware does to the chip before it starts a kernel, as tables of register writes.

A kernel that is started directly finds its console at the PC's place because these writes were made
through the same configuration registers that a BIOS uses. With a BIOS, or without a processor, nobody
makes them and the chip stays as it was reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
SUPERIO_INDEX, SUPERIO_DATA = 0x3F0, 0x3F1
ELCR2 = 0x4D1


class Ports(Protocol):
    def write(self, port: int, size: int, value: int) -> None: ...


class Config(NamedTuple):
    """A byte for configuration space of a function of the south bridge."""

    function: int
    register: int
    value: int


class Sio(NamedTuple):
    """A byte for a SuperI/O register."""

    register: int
    value: int


class Out(NamedTuple):
    """A byte for a port."""

    port: int
    value: int


Write = Config | Sio | Out

#: PCI interrupts on lines 9, 10 and 11, level-triggered; IDE channels on; power management at 4000, SMBus at 5000.
_COMMON: tuple[Write, ...] = (
    Config(0, 0x55, 0x90), Config(0, 0x56, 0xBA), Config(0, 0x57, 0x90), Out(ELCR2, 0x0E),
    Config(1, 0x40, 0x0B), Config(1, 0x04, 0x05),
    Config(4, 0x49, 0x40), Config(4, 0x41, 0x84), Config(4, 0x91, 0x50), Config(4, 0xD2, 0x01),
)  # fmt: skip

#: Both serial ports, parallel port and floppy at 3F8, 2F8, 378 and 3F0, on lines 4, 3, 7 and 6.
SETUP_686: tuple[Write, ...] = (
    Config(0, 0x50, 0x0E), Config(0, 0x51, 0x76), Config(0, 0x52, 0x34),
    Config(0, 0x85, 0x03),
    Sio(0xE3, 0xFC), Sio(0xE6, 0xDE), Sio(0xE7, 0xFE), Sio(0xE8, 0xBE), Sio(0xE2, 0x1C),
    Config(0, 0x85, 0x01),
    *_COMMON,
)  # fmt: skip
#: The one serial port, parallel port and floppy at the same places.
SETUP_8231: tuple[Write, ...] = (
    Config(0, 0x44, 0x0E), Config(0, 0x45, 0x76), Config(0, 0x46, 0x04), Config(0, 0x47, 0x03),
    Config(0, 0x50, 0x06),
    Sio(0xF4, 0xFE), Sio(0xF6, 0xDE), Sio(0xF7, 0xFC), Sio(0xF2, 0x14),
    Config(0, 0x50, 0x02),
    *_COMMON,
)  # fmt: skip


def perform(writes: Sequence[Write], ports: Ports, slot: int) -> None:
    """Makes the writes; the south bridge is in *slot*."""
    for write in writes:
        if isinstance(write, Config):
            address = 0x80000000 | slot << 11 | write.function << 8 | write.register & 0xFC
            ports.write(CONFIG_ADDRESS, 4, address)
            ports.write(CONFIG_DATA + (write.register & 3), 1, write.value)
        elif isinstance(write, Sio):
            ports.write(SUPERIO_INDEX, 1, write.register)
            ports.write(SUPERIO_DATA, 1, write.value)
        else:
            ports.write(write.port, 1, write.value)
    ports.write(CONFIG_ADDRESS, 4, 0)

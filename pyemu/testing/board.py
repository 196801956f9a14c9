# SPDX-License-Identifier: MIT
"""A machine without a processor, driven through its ports as a guest would."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from ..machine import Machine

T = TypeVar("T")

#: Where the boards have their south bridge.
SLOT = 7
CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
SUPERIO = 0x3F0
PIC_CASCADE = 2


class Board:
    """Ports, PCI configuration space and SuperIO registers of a machine, by short names.

    Each access happens on the machine's thread, and what a device raises comes out of it.

    Args:
        name: the board.
        machine: an assembled machine to drive instead of making one.
        memory, bios: as for :class:`~pyemu.machine.Machine`.
        properties: of the board.
    """

    def __init__(
        self,
        name: str = "",
        *,
        machine: Machine | None = None,
        memory: str = "2M",
        bios: str | os.PathLike[str] | None = None,
        **properties: object,
    ) -> None:
        self.machine = machine or Machine(
            name,
            cpu="none",
            clock="step",
            memory=memory,
            bios=bios,
            properties={key: str(value) for key, value in properties.items()},
        )

    def close(self) -> None:
        self.machine.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, function: Callable[[], T]) -> T:
        """Runs *function* on the machine's thread.

        Raises:
            DeviceError: a device failed in it.
        """

        def checked() -> T:
            result = function()
            fault = self.machine.take_fault()
            if fault is not None:
                raise fault
            return result

        return self.machine.call(checked)

    def inb(self, port: int, size: int = 1) -> int:
        """Reads a port."""
        return self.call(lambda: int(self.machine.ports.read(port, size)))

    def outb(self, port: int, value: int, size: int = 1) -> None:
        """Writes a port."""
        self.call(lambda: self.machine.ports.write(port, size, value))

    def step(self, ns: int) -> None:
        """Lets guest time pass."""
        self.call(lambda: self.machine.clock.advance(ns))

    def cfg(self, function: int, register: int, size: int = 1, slot: int = SLOT) -> int:
        """Reads PCI configuration space through CF8 and CFC."""
        self._select(function, register, slot)
        return self.inb(CONFIG_DATA + (register & 3), size)

    def set_cfg(self, function: int, register: int, value: int, size: int = 1, slot: int = SLOT) -> None:
        """Writes PCI configuration space through CF8 and CFC."""
        self._select(function, register, slot)
        self.outb(CONFIG_DATA + (register & 3), value, size)

    def _select(self, function: int, register: int, slot: int) -> None:
        self.outb(CONFIG_ADDRESS, 0x80000000 | slot << 11 | function << 8 | register & 0xFC, 4)

    def sio(self, index: int, value: int, pair: int = SUPERIO) -> None:
        """Writes a SuperIO register through the index/data pair."""
        self.outb(pair, index)
        self.outb(pair + 1, value)

    def get_sio(self, index: int, pair: int = SUPERIO) -> int:
        """Reads a SuperIO register through the index/data pair."""
        self.outb(pair, index)
        return self.inb(pair + 1)

    def init_pic(self) -> None:
        """Initialises both interrupt controllers, all masked, with the request registers selected for reading."""
        for base, vector, wiring in ((0x20, 0x20, 1 << PIC_CASCADE), (0xA0, 0x28, PIC_CASCADE)):
            self.outb(base, 0x11)
            for value in (vector, wiring, 0x01, 0xFF):
                self.outb(base + 1, value)
            self.outb(base, 0x0A)

    def requests(self) -> set[int]:
        """Interrupt lines that are requested, after :meth:`init_pic`."""
        bits = self.inb(0x20) | self.inb(0xA0) << 8
        return {n for n in range(16) if bits >> n & 1 and n != PIC_CASCADE}

# SPDX-License-Identifier: MIT
"""The guest's side of a UHCI controller: schedules in memory, control and bulk transfers."""

from __future__ import annotations

import struct

from pyemu.chips import uhci
from pyemu.chips.usb import PID_IN, PID_OUT, PID_SETUP, USBBus
from pyemu.device import IRQLine, IRQOut
from pyemu.memory import PortioList
from pyemu.testing.fakes import ISAFixture

BASE, LIST, QUEUE, DESCRIPTORS, BUFFERS = 0xC000, 0x10000, 0x20000, 0x21000, 0x30000
ACTIVE, COMPLETE, THREE_ERRORS, SHORT = 1 << 23, 1 << 24, 3 << 27, 1 << 29
END = 1


class Driver(ISAFixture):
    """A controller at BASE with one queue in every frame."""

    def __init__(self, *devices):
        super().__init__()
        self.level = []
        self.line = IRQLine("usb", 0, lambda n, level: self.level.append(level))
        self.usb = USBBus(2)
        self.controller = uhci.UHCIController(IRQOut("uhci", self.line), lambda: True)
        self.controller.attach(self.clock, self.memory)
        self.controller.own_ports(self.usb, 0)
        PortioList("uhci", self.controller.ports(), "uhci").add(self.ports, BASE)
        for device in devices:
            self.usb.plug(device)
        for n in range(1024):
            self.memory.store(LIST + 4 * n, 4, QUEUE | uhci.LINK_QUEUE)
        self.queue(END)

    def queue(self, element):
        self.memory.write(QUEUE, struct.pack("<2I", END, element))

    def start(self):
        self.write(BASE + uhci.LIST, LIST, 4)
        self.write(BASE + uhci.INTERRUPTS, 0x0F, 2)
        self.write(BASE + uhci.COMMAND, 0x01, 2)

    def enable_port(self, n=0):
        port = BASE + uhci.PORTS[n]
        self.write(port, uhci.PORT_RESET, 2)
        self.write(port, 0, 2)
        self.write(port, uhci.PORT_ENABLED | 0x0A, 2)

    def frames(self, n=1):
        self.clock.advance(n * uhci.FRAME_NS)

    def descriptor(self, n, link, pid, address, endpoint, data, length, flags=0):
        """Writes transfer descriptor *n* and its buffer; the address of the descriptor."""
        at, buffer = DESCRIPTORS + 32 * n, BUFFERS + 2048 * n
        token = pid | address << 8 | endpoint << 15 | (length - 1 & 0x7FF) << 21
        self.memory.write(at, struct.pack("<4I", link, ACTIVE | THREE_ERRORS | flags, token, buffer))
        self.memory.write(buffer, data)
        return at

    def status(self, n):
        return self.memory.load(DESCRIPTORS + 32 * n + 4, 4)

    def result(self, n):
        length = (self.status(n) & 0x7FF) + 1 & 0x7FF
        return self.memory.read(BUFFERS + 2048 * n, length)

    def transfer(self, *packets, flags=0, address=1):
        """Runs ``(pid, endpoint, data, length)`` one after the other in one queue; the statuses afterwards."""
        for n, (pid, endpoint, data, length) in enumerate(packets):
            last = n + 1 == len(packets)
            link = END if last else DESCRIPTORS + 32 * (n + 1) | uhci.LINK_DEPTH
            self.descriptor(n, link, pid, address, endpoint, data, length, flags | (COMPLETE if last else 0))
        self.queue(DESCRIPTORS)
        self.frames(2)
        return [self.status(n) for n in range(len(packets))]

    def control(self, kind, number, value=0, index=0, length=0, data=b"", address=1):
        """A control transfer; the data, or None when the device refuses."""
        setup = (PID_SETUP, 0, struct.pack("<BBHHH", kind, number, value, index, length or len(data)), 8)
        if kind & 0x80:
            packets = [(PID_IN, 0, b"", min(8, length - at)) for at in range(0, length, 8)]
            status = (PID_OUT, 0, b"", 0)
        else:
            packets = [(PID_OUT, 0, data[at : at + 8], len(data[at : at + 8])) for at in range(0, len(data), 8)]
            status = (PID_IN, 0, b"", 0)
        found = self.transfer(setup, *packets, status, address=address)
        if any(s & (uhci.TD_STALLED | ACTIVE) for s in found):
            return None
        return b"".join(self.result(n + 1) for n in range(len(packets))) if kind & 0x80 else b""

    def configure(self):
        """Port enabled, address 1, configuration 1."""
        self.start()
        self.enable_port()
        assert self.control(0x00, 5, 1, address=0) == b""
        assert self.control(0x00, 9, 1) == b""

    def bulk_out(self, data, endpoint=2):
        pieces = [data[at : at + 64] for at in range(0, len(data), 64)]
        return self.transfer(*[(PID_OUT, endpoint, piece, len(piece)) for piece in pieces])

    def bulk_in(self, length, endpoint=1):
        sizes = [min(64, length - at) for at in range(0, length, 64)]
        self.transfer(*[(PID_IN, endpoint, b"", size) for size in sizes], flags=SHORT)
        done = [n for n in range(len(sizes)) if not self.status(n) & ACTIVE]
        return b"".join(self.result(n) for n in done)

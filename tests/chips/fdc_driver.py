# SPDX-License-Identifier: MIT
"""A small floppy driver: what tests use to make the controller do things, by its ports alone."""

from pyemu.chips.fdc import FloppyController
from pyemu.chips.i8237 import DMAController
from pyemu.device import BlockBackend
from pyemu.testing.fakes import ISAFixture

DOR, MSR, FIFO, DIR, CCR = 0x3F2, 0x3F4, 0x3F5, 0x3F7, 0x3F7
MFM, MT = 0x40, 0x80
DMA_BUFFER = 0x20000
SIZES = {"160K": 160, "360K": 360, "720K": 720, "1.2M": 1200, "1.44M": 1440, "2.88M": 2880}
RATES = {"160K": 2, "360K": 2, "720K": 2, "1.2M": 0, "1.44M": 0, "2.88M": 3}


def pattern(size):
    """Bytes that tell every sector from every other."""
    return b"".join(n.to_bytes(4, "big") * 128 for n in range(size // 512))


class Rig:
    """An ISA bus with a DMA controller, a floppy controller and disks made of image files."""

    def __init__(self, tmp_path, media="1.44M", *, data=None, second=None, **properties):
        self.fixture = ISAFixture()
        self.dma = self.fixture.plug(DMAController())
        self.path = tmp_path / "disk.img"
        self.path.write_bytes(pattern(SIZES[media] * 1024) if data is None else data)
        self.backend = BlockBackend(self.path, interface="floppy", read_only=properties.pop("read_only", False))
        self.fdc = self.fixture.plug(FloppyController(drive0=self.backend, **properties))
        self.rate = RATES[media]

    def close(self):
        self.backend.close()

    # ports

    def inb(self, port):
        return self.fixture.read(port)

    def outb(self, port, value):
        self.fixture.write(port, value)

    @property
    def irq(self):
        return self.fixture.lines[6].level

    def edges(self):
        """Rising edges of the interrupt line since the last call."""
        count = self.fixture.edges.count((6, 1))
        self.fixture.edges.clear()
        return count

    # commands

    def start(self, *, dma=True):
        """Out of reset, motors on, rate chosen, transfers as wanted, drive 0 on track 0."""
        self.outb(DOR, 0x3C)
        for unit in range(4):
            assert self.command(0x08) == [0xC0 | unit, 0]
        self.outb(CCR, self.rate)
        self.command(0x03, 0xDF, 0x02 if dma else 0x03)
        self.command(0x07, 0x00)
        assert self.command(0x08) == [0x20, 0]
        self.edges()

    def send(self, *values):
        for value in values:
            assert self.inb(MSR) & 0xC0 == 0x80, "the controller does not want a byte"
            self.outb(FIFO, value)

    def result(self):
        values = []
        while self.inb(MSR) & 0xD0 == 0xD0 and not self.inb(MSR) & 0x20:
            values.append(self.inb(FIFO))
            assert len(values) <= 10
        return values

    def command(self, *values):
        self.send(*values)
        return self.result()

    def seek(self, cylinder, unit=0):
        self.send(0x0F, unit, cylinder)
        assert self.command(0x08) == [0x20 | unit, cylinder]

    def program_dma(self, length, *, to_memory, address=DMA_BUFFER, autoinit=False, masked=False):
        """Channel 2, as any BIOS does it."""
        self.outb(0x0A, 0x06)
        self.outb(0x0B, (0x46 if to_memory else 0x4A) | (0x10 if autoinit else 0))
        self.outb(0x0C, 0)
        self.outb(0x04, address & 0xFF)
        self.outb(0x04, address >> 8 & 0xFF)
        self.outb(0x81, address >> 16)
        self.outb(0x05, (length - 1) & 0xFF)
        self.outb(0x05, (length - 1) >> 8 & 0xFF)
        if not masked:
            self.outb(0x0A, 0x02)

    def memory(self, length, address=DMA_BUFFER):
        return self.fixture.ram.read(address, length)

    def image(self):
        return self.path.read_bytes()

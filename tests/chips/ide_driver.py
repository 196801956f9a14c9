# SPDX-License-Identifier: MIT
"""A driver for tests of IDE channels: PACKET commands, 48-bit commands, DMA through a bus master."""

import io
import struct

from pyemu.chips.busmaster import BusMaster
from pyemu.chips.ide import IDEChannel
from pyemu.testing import ISAFixture

BASE, CONTROL, IRQ = 0x1F0, 0x3F6, 14
DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS = range(BASE, BASE + 8)
FEATURES, COMMAND = ERROR, STATUS
READY, DRQ, ERR = 0x50, 0x08, 0x01
TABLE, MEMORY = 0x1000, 0x10000
START, TO_MEMORY, ACTIVE, INTERRUPT = 1, 8, 1, 4


class Driver:
    """A channel with a bus master over the fixture's memory."""

    def __init__(self, drive=None, drive1=None, dma=True):
        self.fixture = ISAFixture()
        self.chip = IDEChannel(drive0=drive, drive1=drive1)
        self.allowed = True
        self.master = BusMaster(lambda: self.allowed)
        self.master.memory = self.fixture.memory
        self.master.channel = self.chip
        if dma:
            self.chip.connect_master(self.master)
        self.fixture.plug(self.chip)
        self.read, self.write = self.fixture.read, self.fixture.write

    @property
    def irq(self):
        return self.fixture.lines[IRQ].level

    def status(self):
        return self.read(STATUS), self.read(ERROR)

    # -- disks ------------------------------------------------------------------------------------

    def lba28(self, sector, count=1, device=0):
        self.write(DEVICE, 0xE0 | device << 4 | sector >> 24)
        for port, value in ((COUNT, count), (LOW, sector), (MID, sector >> 8), (HIGH, sector >> 16)):
            self.write(port, value & 0xFF)

    def lba48(self, sector, count=1, device=0):
        self.write(DEVICE, 0x40 | device << 4)
        for shift in (8, 0):
            self.write(COUNT, count >> shift & 0xFF)
            for n, port in enumerate((LOW, MID, HIGH)):
                self.write(port, sector >> (3 * shift + 8 * n) & 0xFF)

    def where48(self):
        self.write(CONTROL, 0x80)
        upper = [self.read(port) for port in (LOW, MID, HIGH)]
        self.write(CONTROL, 0x00)
        lower = [self.read(port) for port in (LOW, MID, HIGH)]
        return int.from_bytes(bytes(lower + upper), "little")

    def take(self, length):
        return b"".join(self.read(DATA, 2).to_bytes(2, "little") for _ in range((length + 1) // 2))[:length]

    def give(self, data):
        for at in range(0, len(data), 2):
            self.write(DATA, int.from_bytes(data[at : at + 2], "little"), 2)

    # -- DMA --------------------------------------------------------------------------------------

    def regions(self, *regions, end=True):
        """Writes a descriptor table and points the bus master at it."""
        table = b"".join(
            struct.pack("<IHH", at, length & 0xFFFF, 0x8000 if end and n == len(regions) - 1 else 0)
            for n, (at, length) in enumerate(regions)
        )
        self.fixture.memory.write(TABLE, table)
        for n, value in enumerate(struct.pack("<I", TABLE)):
            self.master.write(4 + n, value)

    def start(self, to_memory=True):
        self.master.write(0, TO_MEMORY if to_memory else 0)
        self.master.write(0, (TO_MEMORY if to_memory else 0) | START)

    def settle(self):
        """Lets the steps that wait for the timer happen."""
        while self.chip.dma_timer.armed:
            self.fixture.clock.advance(1)

    # -- packets ----------------------------------------------------------------------------------

    def send(self, *packet, dma=False, limit=0xFFFE, device=0):
        """A PACKET command up to the moment at which the drive has the packet."""
        self.write(DEVICE, 0xA0 | device << 4)
        self.write(FEATURES, 1 if dma else 0)
        self.write(MID, limit & 0xFF)
        self.write(HIGH, limit >> 8)
        self.write(COMMAND, 0xA0)
        assert (self.read(COUNT), self.read(CONTROL) & DRQ) == (1, DRQ)
        self.give(bytes(packet).ljust(12, b"\0"))

    def packet(self, *packet, limit=0xFFFE, device=0):
        """A whole PACKET command through the data port: (answer, sizes of its blocks)."""
        self.send(*packet, limit=limit, device=device)
        answer, sizes = b"", []
        while True:
            assert self.irq == 1
            status = self.read(STATUS)
            if not status & DRQ:
                assert self.read(COUNT) == 3
                return answer, sizes
            assert self.read(COUNT) == 2
            sizes.append(self.read(MID) | self.read(HIGH) << 8)
            answer += self.take(sizes[-1])

    def sense(self, device=0):
        """(key, code, qualifier) of the last packet."""
        answer, _ = self.packet(0x03, 0, 0, 0, 18, device=device)
        return answer[2], answer[12], answer[13]

    # -- saving -----------------------------------------------------------------------------------

    def save(self):
        return self.chip.vmstate.encode(self.chip), self.master.vmstate.encode(self.master)

    def load(self, saved):
        for obj, data in zip((self.chip, self.master), saved, strict=True):
            stream = io.BytesIO(data)
            obj.vmstate.decode(obj, stream.read, obj.vmstate.version, lambda n, s=stream: s.getvalue()[s.tell() :][:n])
        self.chip.post_load(self.chip.vmstate.version)

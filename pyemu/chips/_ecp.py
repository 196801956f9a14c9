# SPDX-License-Identifier: MIT
"""The extended-capabilities half of a parallel port: control register and FIFO at base+400.

The extended control register (ECR) chooses what the port does:

===  ==========  =====================================================================
ECR  protocol    the FIFO
===  ==========  =====================================================================
0    ``spp``     empty
1    ``ps2``     empty
2    ``fifo``    its bytes are strobed out by hardware
3    ``ecp``     bytes, and addresses or counts (base+0), in both directions
4    ``epp``     empty; only where the chip allows EPP beside ECP
6    ``test``    is filled and emptied by software
7    ``config``  shows configuration A and B instead
===  ==========  =====================================================================

While ECR bit 2 (service) is 0 the port asks for service: with DMA (bit 3) by its request pin until
terminal count, without by an interrupt when half of the FIFO is free (or full, in reverse). It then
sets the bit itself.
"""

from __future__ import annotations

from collections.abc import Callable

from ..device import Register, RegisterTable, VMState, vmstate

ECP_OFFSET, ECP_PORTS = 0x400, 3
FIFO, CONFIG_B, ECR = 0, 1, 2

ECR_MODE = 0xE0
ECR_NO_ERROR_IRQ, ECR_DMA, ECR_SERVICE, ECR_FULL, ECR_EMPTY = 0x10, 0x08, 0x04, 0x02, 0x01
ECR_WRITABLE = ECR_MODE | ECR_NO_ERROR_IRQ | ECR_DMA | ECR_SERVICE
ECR_RESET = ECR_NO_ERROR_IRQ | ECR_SERVICE

DEPTH = 16
#: Free bytes, or bytes to read, at which service is asked for.
THRESHOLD = 8

#: Pulsed interrupts, 8-bit words, no byte in the pipeline.
CONFIG_A_VALUE = 0x14
#: Configuration B names the line in bits 5-3; 0 for one that it cannot name.
_IRQ_CODES = {7: 1, 9: 2, 10: 3, 11: 4, 14: 5, 15: 6, 5: 7}

_PROTOCOLS = ("spp", "ps2", "fifo", "ecp", "epp", "ps2", "test", "config")

ECP_REGISTERS = RegisterTable(
    (
        Register(FIFO, "FIFO, configuration A", 0, source="ecp.first", effect="what it is depends on the ECR"),
        Register(CONFIG_B, "configuration B", 0, 0, source="ecp.none", effect="line and channel, in configuration mode"),
        Register(ECR, "extended control", ECR_RESET | ECR_EMPTY, ECR_WRITABLE, source="ecp.control",
                 effect="bits 7-5 choose the protocol; leaving the FIFO modes empties the FIFO"),
    ),
    name="ECP", size=ECP_PORTS,
)  # fmt: skip
ECP_STATE = VMState(
    "parallel-ecp",
    fields=(
        vmstate.uint8("ecr"),
        vmstate.buffer("fifo", DEPTH),
        vmstate.uint16("commands"),
        vmstate.uint8("count", limit=DEPTH),
        vmstate.boolean("interrupt"),
    ),
)


class ECPBlock:
    """Registers and FIFO; the port moves bytes in and out.

    Attributes:
        ecr: the writable bits of the extended control register.
        fifo: the bytes, oldest first; the first :attr:`count` count.
        commands: a bit for each byte of the FIFO: it is an address or a count.
        interrupt: service was asked for, and nobody has looked at the ECR since.
    """

    #: Configuration B has no contents of its own.
    none = 0

    def __init__(self) -> None:
        self.fifo = bytearray(DEPTH)
        self.reset()

    def reset(self) -> None:
        self.ecr = ECR_RESET
        self.interrupt = False
        self.clear()

    def clear(self) -> None:
        """Empties the FIFO."""
        self.fifo[:] = bytes(DEPTH)
        self.commands = 0
        self.count = 0

    def check(self) -> None:
        """Drops from a loaded state what no register could hold."""
        self.ecr &= ECR_WRITABLE
        self.commands &= (1 << self.count) - 1

    def protocol(self, epp: bool) -> str:
        """What the ECR asks for; without *epp* its EPP mode is PS/2."""
        name = _PROTOCOLS[self.ecr >> 5]
        return "ps2" if name == "epp" and not epp else name

    @property
    def control(self) -> int:
        """The ECR as it reads."""
        state = ECR_EMPTY if self.count == 0 else ECR_FULL if self.count == DEPTH else 0
        return self.ecr | state

    @property
    def first(self) -> int:
        """The oldest byte of the FIFO, 0 when it is empty."""
        return self.fifo[0] if self.count else 0

    @property
    def room(self) -> int:
        return DEPTH - self.count

    # -- the FIFO ---------------------------------------------------------------------------------

    def push(self, value: int, command: bool) -> None:
        """Appends a byte; one too many is lost."""
        if self.count < DEPTH:
            self.fifo[self.count] = value
            self.commands |= command << self.count
            self.count += 1

    def take(self, limit: int) -> bytes:
        """Removes and returns the oldest bytes."""
        n = min(limit, self.count)
        taken = bytes(self.fifo[:n])
        self.fifo[:] = self.fifo[n:] + bytes(n)
        self.commands >>= n
        self.count -= n
        return taken

    def drain(self, out: Callable[[bytes, bool], int]) -> None:
        """Offers the bytes to the peripheral, as runs of data and of commands, until it takes no more."""
        while self.count:
            command = bool(self.commands & 1)
            run = 1
            while run < self.count and bool(self.commands >> run & 1) == command:
                run += 1
            taken = min(max(out(bytes(self.fifo[:run]), command), 0), run)
            self.take(taken)
            if taken < run:
                return

    def fill(self, data: bytes) -> None:
        """Bytes from the peripheral."""
        for value in data:
            self.push(value, False)

    # -- registers --------------------------------------------------------------------------------

    def read(self, offset: int, protocol: str, irq: int | None, dma: int | None, reverse: bool) -> int:
        if offset == ECR:
            self.interrupt = False
            return self.control
        if protocol == "config":
            if offset == FIFO:
                return CONFIG_A_VALUE
            return _IRQ_CODES.get(irq or 0, 0) << 3 | (dma or 0) & 7
        if offset == FIFO and (protocol == "test" or (protocol == "ecp" and reverse)) and self.count:
            return self.take(1)[0]
        return 0xFF

    def write(self, offset: int, value: int) -> bool:
        """Whether anything took the write; the FIFO is the port's matter."""
        if offset != ECR:
            return False
        # The way between the modes with a FIFO leads through the first two, which empty it.
        if value >> 5 in (0, 1, 4):
            self.clear()
        self.ecr = value & ECR_WRITABLE
        self.interrupt = False
        return True

    # -- service ----------------------------------------------------------------------------------

    def update_service(self, protocol: str, reverse: bool) -> None:
        """Without DMA: an interrupt once the FIFO has room or bytes enough."""
        if self.ecr & (ECR_SERVICE | ECR_DMA) or protocol not in ("fifo", "ecp", "test"):
            return
        if (self.count if reverse else self.room) >= THRESHOLD:
            self.ecr |= ECR_SERVICE
            self.interrupt = True

    def requests(self, protocol: str, reverse: bool) -> bool:
        """Whether the port wants DMA now."""
        if self.ecr & (ECR_SERVICE | ECR_DMA) != ECR_DMA or protocol not in ("fifo", "ecp", "test"):
            return False
        return bool(self.count if reverse else self.room)

    def end_of_transfer(self) -> None:
        """Terminal count: ends DMA with an interrupt."""
        if self.ecr & ECR_DMA and not self.ecr & ECR_SERVICE:
            self.ecr |= ECR_SERVICE
            self.interrupt = True

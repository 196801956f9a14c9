# SPDX-License-Identifier: MIT
"""The PC's DMA: two 8237A controllers and the page latches at 80-8F.

Channels 0-3 (first controller) move bytes, channels 5-7 (second controller) move words; channel 4 cascades the first
controller. Devices are served through :class:`~pyemu.device.DMAClient`: a client whose request is up is called as soon
as the guest's programming lets it through, and is served until it drops the request, has no more to give or take, or
the channel reaches its terminal count.

Port 80 is a page latch that no channel uses; PCs show boot progress there. See :attr:`DMAController.on_post`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from ..device import DMAClient, ISADevice, Property, VMState, vmstate
from ..errors import ConfigError
from ..memory import PortioEntry
from . import _registers

if TYPE_CHECKING:
    from ..memory import AddressSpace

# Registers of one controller, by its four address lines; 0-7 are address and count of channels 0-3.
REG_COMMAND_STATUS, REG_REQUEST, REG_MASK_ONE, REG_MODE = 0x8, 0x9, 0xA, 0xB
REG_CLEAR_POINTER, REG_MASTER_CLEAR_TEMPORARY, REG_CLEAR_MASK, REG_MASK_ALL = 0xC, 0xD, 0xE, 0xF

COMMAND_MEMORY_TO_MEMORY = 0x01
COMMAND_ADDRESS_HOLD = 0x02  # of channel 0, during memory-to-memory
COMMAND_DISABLE = 0x04
COMMAND_ROTATE = 0x10

MODE_TYPE = 0x0C
MODE_TYPE_VERIFY, MODE_TYPE_WRITE, MODE_TYPE_READ = 0x00, 0x04, 0x08  # "write" writes memory, "read" reads it
MODE_AUTOINIT = 0x10
MODE_DECREMENT = 0x20
MODE_CASCADE = 0xC0

CASCADE_CHANNEL = 4
POST_LATCH = 0x0
REFRESH_LATCH = 0xF
#: Which latch holds the page of a channel. Channel 4 has none; it shows the refresh latch.
PAGE_OF_CHANNEL = (0x7, 0x3, 0x1, 0x2, REFRESH_LATCH, 0xB, 0x9, 0xA)

FLOATING = 0xFF


#: Bytes fetched from memory before a device is asked how many it takes.
CHUNK = 4096


def _reverse_units(data: bytes, unit: int) -> bytes:
    if unit == 1:
        return data[::-1]
    out = bytearray(len(data))
    out[0::2] = data[-2::-2]
    out[1::2] = data[-1::-2]
    return bytes(out)


def _copied(data: bytes, ahead: int, together: bool) -> bytes:
    """What a copy byte by byte moves, given the source as it was before.

    The two ranges may overlap, and then bytes are read that the copy itself has written.

    Args:
        data: the source's bytes in the order of transfer.
        ahead: how many steps of the target's address the target begins after the source, modulo 64 KiB.
        together: both addresses run in the same direction.
    """
    if together:
        return (data[:ahead] * (len(data) // ahead + 1))[: len(data)] if 0 < ahead < len(data) else data
    out = bytearray(data)
    for n in range(len(out)):
        written = (-ahead - n) & 0xFFFF  # the transfer that writes where transfer n reads
        if written < n:
            out[n] = out[written]
    return bytes(out)


class DMAChannel:
    """One channel: its registers, and the devices that request it.

    ``unit`` is the size of one transfer in bytes, and what the count register counts.
    """

    vmstate: ClassVar[VMState] = VMState(
        "i8237/channel",
        fields=(
            vmstate.uint16("base_address"),
            vmstate.uint16("base_count"),
            vmstate.uint16("address"),
            vmstate.uint16("count"),
            vmstate.uint8("mode", limit=0xFC),
        ),
    )

    def __init__(self, dma: DMAController, controller: _Controller, number: int) -> None:
        self.dma = dma
        self.controller = controller
        self.number = number
        self.unit = 1 if number < CASCADE_CHANNEL else 2
        self.requests: list[DMAClient] = []
        self._serving = False
        self.reset()

    def reset(self) -> None:
        self.base_address = self.base_count = self.address = self.count = self.mode = 0

    @property
    def ready(self) -> bool:
        """Whether the guest's programming lets a device's request through now."""
        if self.number == CASCADE_CHANNEL or self.mode & MODE_CASCADE == MODE_CASCADE:
            return False
        if self.controller.mask >> (self.number & 3) & 1 or not self.controller.enabled:
            return False
        return self.dma.cascade_open(self.number)

    def set_request(self, client: DMAClient, level: int) -> None:
        """The DREQ wire of one client; raising it serves the client at once where that is possible."""
        if not level:
            if client in self.requests:
                self.requests.remove(client)
        elif client not in self.requests:
            self.requests.append(client)
            self.serve()

    def serve(self) -> None:
        """Serves the clients that request, in turn, while the channel is ready.

        A client that changes its request from inside its own transfer is not served twice at once.
        """
        if self._serving:
            return
        self._serving = True
        try:
            for client in list(self.requests):
                self._serve(client)
        finally:
            self._serving = False

    def _serve(self, client: DMAClient) -> None:
        while client in self.requests and self.ready:
            self.controller.last_served = self.number & 3
            left = (self.count + 1) * self.unit
            kind = self.mode & MODE_TYPE
            if kind == MODE_TYPE_WRITE:
                data = bytes(client.dma_read(left))[:left]
                moved = len(data) // self.unit
                if moved:
                    self.store(data[: moved * self.unit])
            elif kind == MODE_TYPE_READ:
                data = self.load(min(left, CHUNK) // self.unit)
                moved = min(max(client.dma_write(data), 0), len(data)) // self.unit
            else:
                moved = min(max(client.dma_verify(left), 0), left) // self.unit
            if not moved:
                return
            if self._advance(moved):
                client.dma_terminal_count()
                return

    # -- address and count ------------------------------------------------------------------------

    def _spans(self, units: int, page: int | None) -> list[tuple[int, int]]:
        """(guest address, units) of the contiguous pieces of the next *units* transfers, lowest address each.

        The address counter has 16 bits: it wraps inside the 64 KiB (words: 128 KiB) that the page latch selects.
        """
        if page is None:
            page = self.dma.pages[PAGE_OF_CHANNEL[self.number]]
        base = page << 16 if self.unit == 1 else (page & 0xFE) << 16
        spans = []
        address = self.address
        while units:
            if self.mode & MODE_DECREMENT:
                length = min(units, address + 1)
                first = address - length + 1
                address = (address - length) & 0xFFFF
            else:
                length = min(units, 0x10000 - address)
                first = address
                address = (address + length) & 0xFFFF
            spans.append((base + first * self.unit, length))
            units -= length
        return spans

    def load(self, units: int, page: int | None = None) -> bytes:
        """The next *units* of memory in the order of transfer, from the channel's own page or another."""
        pieces = []
        for gpa, length in self._spans(units, page):
            piece = self.dma.memory.read(gpa, length * self.unit)
            pieces.append(_reverse_units(piece, self.unit) if self.mode & MODE_DECREMENT else piece)
        return b"".join(pieces)

    def store(self, data: bytes, page: int | None = None) -> None:
        """Writes *data* to memory in the order of transfer; as :meth:`load`."""
        start = 0
        for gpa, length in self._spans(len(data) // self.unit, page):
            piece = data[start : start + length * self.unit]
            self.dma.memory.write(gpa, _reverse_units(piece, self.unit) if self.mode & MODE_DECREMENT else piece)
            start += len(piece)

    def _advance(self, units: int, *, hold: bool = False) -> bool:
        """Counts *units* transfers, at most ``count + 1``; true when that reached the terminal count."""
        if not hold:
            step = -units if self.mode & MODE_DECREMENT else units
            self.address = (self.address + step) & 0xFFFF
        reached = units == self.count + 1
        self.count = (self.count - units) & 0xFFFF
        if reached:
            bit = 1 << (self.number & 3)
            self.controller.terminal |= bit
            self.controller.request &= ~bit
            if self.mode & MODE_AUTOINIT:
                self.address, self.count = self.base_address, self.base_count
            else:
                self.controller.mask |= bit
        return reached

    def run_software_request(self) -> None:
        """The block that a software request starts. No device answers, so memory is written with a floating bus."""
        units = self.count + 1
        if self.mode & MODE_TYPE == MODE_TYPE_WRITE:
            self.store(bytes([FLOATING]) * (units * self.unit))
        self._advance(units)

    def __repr__(self) -> str:
        return f"<DMAChannel {self.number} address={self.address:#06x} count={self.count:#06x} mode={self.mode:#04x}>"


class _Controller:
    """One 8237A. Offsets are its own register numbers, whatever the distance between its ports."""

    vmstate: ClassVar[VMState] = VMState(
        "i8237/controller",
        fields=(
            vmstate.uint8("command"),
            vmstate.uint8("mask", limit=0xF),
            vmstate.uint8("request", limit=0xF),
            vmstate.uint8("terminal", limit=0xF),
            vmstate.uint8("temporary"),
            vmstate.uint8("flip_flop", limit=1),
            vmstate.uint8("last_served", limit=3),
            vmstate.nested("channels", DMAChannel.vmstate, count=4),
        ),
    )

    def __init__(self, dma: DMAController, first_channel: int) -> None:
        self.dma = dma
        self.channels = [DMAChannel(dma, self, first_channel + n) for n in range(4)]
        self.reset()

    def reset(self) -> None:
        for channel in self.channels:
            channel.reset()
        self.last_served = 3
        self.master_clear()

    def master_clear(self) -> None:
        """What the data sheet's master clear does: as the reset pin, but addresses, counts and modes stay."""
        self.command = self.request = self.terminal = self.temporary = self.flip_flop = 0
        self.mask = 0xF

    @property
    def enabled(self) -> bool:
        return not self.command & COMMAND_DISABLE

    def read(self, register: int) -> int:
        if register < 8:
            channel = self.channels[register >> 1]
            value = channel.count if register & 1 else channel.address
            value >>= 8 * self.flip_flop
            self.flip_flop ^= 1
            return value & 0xFF
        if register == REG_COMMAND_STATUS:
            pending = sum(1 << n for n, channel in enumerate(self.channels) if channel.requests)
            value = (pending | self.request) << 4 | self.terminal
            self.terminal = 0
            return value
        if register == REG_MASTER_CLEAR_TEMPORARY:
            return self.temporary
        if register == REG_MASK_ALL:
            return self.mask
        return FLOATING

    def write(self, register: int, value: int) -> None:
        if register < 8:
            self._write_half(self.channels[register >> 1], register & 1, value)
        elif register == REG_COMMAND_STATUS:
            self.command = value
        elif register == REG_REQUEST:
            bit = 1 << (value & 3)
            self.request = self.request | bit if value & 4 else self.request & ~bit
        elif register == REG_MASK_ONE:
            bit = 1 << (value & 3)
            self.mask = self.mask | bit if value & 4 else self.mask & ~bit
        elif register == REG_MODE:
            self.channels[value & 3].mode = value & 0xFC
        elif register == REG_CLEAR_POINTER:
            self.flip_flop = 0
        elif register == REG_MASTER_CLEAR_TEMPORARY:
            self.master_clear()
        elif register == REG_CLEAR_MASK:
            self.mask = 0
        elif register == REG_MASK_ALL:
            self.mask = value & 0xF
        if register >= REG_COMMAND_STATUS:
            self.dma.arbitrate()

    def _write_half(self, channel: DMAChannel, is_count: int, value: int) -> None:
        """Writes go to the base register and the current one alike, a byte at a time, low one first."""
        shift = 8 * self.flip_flop
        keep = 0x00FF if shift else 0xFF00
        if is_count:
            channel.base_count = channel.base_count & keep | value << shift
            channel.count = channel.count & keep | value << shift
        else:
            channel.base_address = channel.base_address & keep | value << shift
            channel.address = channel.address & keep | value << shift
        self.flip_flop ^= 1

    def arbitrate(self) -> None:
        """Runs every request that the present programming allows, in the order of priority."""
        if not self.enabled:
            return
        first = (self.last_served + 1) & 3 if self.command & COMMAND_ROTATE else 0
        for n in range(4):
            channel = self.channels[(first + n) & 3]
            bit = 1 << (channel.number & 3)
            if self.request & bit and self.dma.cascade_open(channel.number):
                if channel.number == 0 and self.command & COMMAND_MEMORY_TO_MEMORY:
                    self._copy_memory()
                elif channel.mode & MODE_CASCADE != MODE_CASCADE:
                    channel.run_software_request()
            channel.serve()

    def _copy_memory(self) -> None:
        """Memory to memory: channel 0 reads, channel 1 writes and counts, through the temporary register.

        No DACK wire is active meanwhile, so the page comes from the refresh latch on a PC.
        """
        source, target = self.channels[0], self.channels[1]
        page = self.dma.pages[REFRESH_LATCH]
        step_from = 0 if self.command & COMMAND_ADDRESS_HOLD else -1 if source.mode & MODE_DECREMENT else 1
        step_to = -1 if target.mode & MODE_DECREMENT else 1
        units = target.count + 1
        if step_from:
            ahead = (target.address - source.address) * step_to & 0xFFFF
            data = _copied(source.load(units, page), ahead, step_from == step_to)
        else:
            data = source.load(1, page) * units
        target.store(data, page)
        self.temporary = data[-1]
        # Channel 0's own count plays no part; it counts along and may wrap without ending anything.
        source.address = (source.address + units * step_from) & 0xFFFF
        source.count = (source.count - units) & 0xFFFF
        self.request &= ~1
        target._advance(units)


class DMAController(ISADevice):
    """Both controllers of a PC and their page latches.

    Attributes:
        pages: the 16 latches of ports 80-8F.
        on_post: called with each value written to port 80, or None.
    """

    type_name = "i8237"
    properties = (
        Property(
            "strict-cascade",
            "bool",
            False,
            "channels 0-3 work only while channel 4 is unmasked and in cascade mode, which a BIOS sets up",
        ),
    )
    vmstate = VMState(
        "i8237",
        fields=(
            vmstate.nested("controllers", _Controller.vmstate, count=2),
            vmstate.uint8("pages", 16),
        ),
    )
    register_tables = _registers.DMA
    volatile = frozenset({"on_post"})

    strict_cascade: bool
    channels = 8

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.controllers = [_Controller(self, 0), _Controller(self, CASCADE_CHANNEL)]
        self.pages = bytearray(16)
        self.on_post: Callable[[int], None] | None = None

    @property
    def memory(self) -> AddressSpace:
        """The address space that transfers go to."""
        assert self.bus.memory is not None  # realize() saw to it
        return self.bus.memory

    def realize(self) -> None:
        if self.bus.memory is None or self.bus.dma not in (None, self):
            lacks = "no memory to transfer to" if self.bus.memory is None else "a DMA controller already"
            raise ConfigError(f"{self.id}: {self.bus.name} has {lacks}")
        self.add_ports([PortioEntry(0, 16, 1, self._read_first, self._write_first)], 0x00, "dma1")
        second = [PortioEntry(2 * n, 1, 1, self._read_second, self._write_second) for n in range(16)]
        self.add_ports(second, 0xC0, "dma2")
        self.add_ports([PortioEntry(0, 16, 1, self._read_page, self._write_page)], 0x80, "dma-page")
        self.bus.dma = self

    def unrealize(self) -> None:
        if self.bus is not None and self.bus.dma is self:
            self.bus.dma = None
        super().unrealize()

    def reset(self) -> None:
        for controller in self.controllers:
            controller.reset()
        self.pages[:] = bytes(16)

    def channel(self, number: int) -> DMAChannel:
        """The registers of channel 0-7.

        Raises:
            ConfigError: there is no such channel.
        """
        if not 0 <= number < self.channels:
            raise ConfigError(f"{self.id}: DMA channel {number} is not between 0 and {self.channels - 1}")
        return self.controllers[number >> 2].channels[number & 3]

    # -- for devices (see pyemu.device.DMAController) ----------------------------------------------

    def attach(self, channel: int, client: DMAClient) -> None:
        self.channel(channel)

    def detach(self, channel: int, client: DMAClient) -> None:
        self.channel(channel).set_request(client, 0)

    def set_request(self, channel: int, client: DMAClient, level: int) -> None:
        self.channel(channel).set_request(client, level)

    # -- state -------------------------------------------------------------------------------------

    @property
    def post_code(self) -> int:
        """The value last written to port 80."""
        return self.pages[POST_LATCH]

    def cascade_open(self, number: int) -> bool:
        """Whether the second controller lets a request of channel *number* reach the processor."""
        if number >= CASCADE_CHANNEL or not self.strict_cascade:
            return True
        second = self.controllers[1]
        cascade = second.channels[0]
        return second.enabled and not second.mask & 1 and cascade.mode & MODE_CASCADE == MODE_CASCADE

    def arbitrate(self) -> None:
        """Looks at all requests anew, after a register write."""
        for controller in self.controllers:
            controller.arbitrate()

    # -- ports ------------------------------------------------------------------------------------

    def _read_first(self, offset: int, size: int) -> int:
        return self.controllers[0].read(offset)

    def _write_first(self, offset: int, size: int, value: int) -> None:
        self.controllers[0].write(offset, value)

    def _read_second(self, offset: int, size: int) -> int:
        return self.controllers[1].read(offset >> 1)

    def _write_second(self, offset: int, size: int, value: int) -> None:
        self.controllers[1].write(offset >> 1, value)

    def _read_page(self, offset: int, size: int) -> int:
        return self.pages[offset]

    def _write_page(self, offset: int, size: int, value: int) -> None:
        self.pages[offset] = value
        if offset == POST_LATCH and self.on_post is not None:
            self.on_post(value)

# SPDX-License-Identifier: MIT
"""The DMA controllers: registers, the four directions of transfers, and who is served when."""

from __future__ import annotations

import random

import pytest

from pyemu.chips.i8237 import DMAController
from pyemu.errors import ConfigError
from pyemu.testing import ISAFixture

#: Page latches of the channels.
PAGES = (0x87, 0x83, 0x81, 0x82, None, 0x8B, 0x89, 0x8A)
VERIFY, WRITE, READ, AUTOINIT, DECREMENT, SINGLE, CASCADE = 0x00, 0x04, 0x08, 0x10, 0x20, 0x40, 0xC0


class Client:
    """A device with *data* to give, or room for *room* bytes."""

    def __init__(self, data=b"", room=1 << 20, chunk=1 << 20):
        self.data, self.room, self.chunk = data, room, chunk
        self.taken, self.ended = bytearray(), 0

    def dma_read(self, length):
        given, self.data = self.data[: min(length, self.chunk)], self.data[min(length, self.chunk) :]
        return given

    def dma_write(self, data):
        part = data[: min(self.room, self.chunk)]
        self.room -= len(part)
        self.taken += part
        return len(part)

    def dma_verify(self, length):
        return length

    def dma_terminal_count(self):
        self.ended += 1


class DMA:
    """The controllers by channel number, as a driver sees them."""

    def __init__(self, **properties):
        self.fixture = ISAFixture()
        self.chip = self.fixture.plug(DMAController(**properties))
        self.inb, self.outb = self.fixture.read, self.fixture.write

    def port(self, channel, register):
        """The port of a register of the controller that *channel* is on."""
        return register if channel < 4 else 0xC0 + 2 * register

    def word(self, channel, register, value=None):
        port = self.port(channel, 2 * (channel & 3) + register)
        self.outb(self.port(channel, 0xC), 0)
        if value is None:
            return self.inb(port) | self.inb(port) << 8
        self.outb(port, value & 0xFF)
        self.outb(port, value >> 8)
        return value

    def address(self, channel):
        return self.word(channel, 0)

    def count(self, channel):
        return self.word(channel, 1)

    def program(self, channel, mode, address, count, page=0):
        self.outb(self.port(channel, 0xA), 4 | channel & 3)
        self.outb(self.port(channel, 0xB), mode | channel & 3)
        self.word(channel, 0, address)
        self.word(channel, 1, count)
        self.outb(PAGES[channel], page)
        self.unmask(channel)

    def unmask(self, channel):
        self.outb(self.port(channel, 0xA), channel & 3)

    def masks(self, channel):
        return self.inb(self.port(channel, 0xF))

    def status(self, channel):
        return self.inb(self.port(channel, 8))

    def request(self, channel, client, level=1):
        self.chip.set_request(channel, client, level)


@pytest.fixture
def dma():
    return DMA()


# -- registers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", range(8))
def test_address_and_count_go_through_the_byte_pointer(dma, channel):
    dma.word(channel, 0, 0x1234)
    dma.word(channel, 1, 0xABCD)
    assert (dma.address(channel), dma.count(channel)) == (0x1234, 0xABCD)


def test_each_controller_has_one_byte_pointer(dma):
    dma.outb(0x0C, 0)
    dma.outb(0x00, 0x11)
    dma.outb(0x02, 0x22)
    assert (dma.address(0), dma.address(1)) == (0x0011, 0x2200)


def test_masks_by_one_and_all(dma):
    assert dma.masks(0) == 0x0F, "all masked at first"
    dma.outb(0x0A, 2)
    assert dma.masks(0) == 0x0B
    dma.outb(0x0F, 0x05)
    assert dma.masks(0) == 0x05
    dma.outb(0x0E, 0)
    assert (dma.masks(0), dma.masks(4)) == (0x00, 0x0F)


def test_master_clear(dma):
    dma.outb(0x0E, 0)
    dma.outb(0x08, 0x10)
    dma.word(1, 0, 0x5678)
    dma.outb(0x0C, 0)
    dma.outb(0x02, 0x99)
    dma.outb(0x0D, 0)
    assert (dma.masks(0), dma.status(0), dma.inb(0x02)) == (0x0F, 0, 0x99), "the pointer is at the low byte"


def test_page_latches(dma):
    for port in range(0x80, 0x90):
        dma.outb(port, port)
    assert [dma.inb(port) for port in range(0x80, 0x90)] == list(range(0x80, 0x90))


def test_port_80_shows_boot_progress(dma):
    seen = []
    dma.chip.on_post = seen.append
    dma.outb(0x80, 0x42)
    dma.outb(0x84, 0x43)
    assert (seen, dma.chip.post_code) == ([0x42], 0x42)


def test_odd_ports_of_the_second_controller_are_nobodys(dma):
    assert dma.inb(0xC1) == 0xFF
    assert 0xC1 not in dma.fixture.mapped()


@pytest.mark.parametrize("number", [-1, 8])
def test_there_are_eight_channels(dma, number):
    with pytest.raises(ConfigError, match=f"DMA channel {number}"):
        dma.chip.channel(number)


def test_a_bus_has_one(dma):
    with pytest.raises(ConfigError, match="has a DMA controller already"):
        dma.fixture.plug(DMAController())


# -- transfers -----------------------------------------------------------------------------------


def test_bytes_to_memory(dma):
    dma.program(1, SINGLE | WRITE, 0x2345, 9, page=0x03)
    client = Client(b"0123456789rest")
    dma.request(1, client)
    assert dma.fixture.memory.read(0x32345, 11) == b"0123456789\0"
    assert (client.ended, client.data) == (1, b"rest")
    assert (dma.address(1), dma.count(1)) == (0x234F, 0xFFFF)
    assert dma.masks(1) & 2, "the channel masks itself at its terminal count"


def test_bytes_from_memory(dma):
    dma.fixture.memory.write(0x10000, b"from memory")
    dma.program(3, SINGLE | READ, 0, 10, page=1)
    client = Client()
    dma.request(3, client)
    assert (bytes(client.taken), client.ended) == (b"from memory", 1)


def test_words_have_addresses_of_words(dma):
    dma.program(5, SINGLE | WRITE, 0x1000, 3, page=0x05)
    dma.request(5, Client(b"abcdefghij"))
    assert dma.fixture.memory.read(0x42000, 9) == b"abcdefgh\0", "bit 0 of the page is not used"


def test_verify_counts_and_leaves_memory_alone(dma):
    dma.program(2, SINGLE | VERIFY, 0x4000, 99)
    client = Client()
    dma.request(2, client)
    assert (client.ended, dma.address(2)) == (1, 0x4064)
    assert dma.fixture.memory.read(0x4000, 100) == bytes(100)


def test_downwards(dma):
    dma.program(1, SINGLE | WRITE | DECREMENT, 0x2003, 3)
    dma.request(1, Client(b"abcd"))
    assert dma.fixture.memory.read(0x1FFF, 6) == b"\0dcba\0"
    assert dma.address(1) == 0x1FFF


def test_words_downwards_keep_their_bytes_in_order(dma):
    dma.program(6, SINGLE | WRITE | DECREMENT, 0x1001, 1)
    dma.request(6, Client(b"abcd"))
    assert dma.fixture.memory.read(0x2000, 4) == b"cdab"


@pytest.mark.parametrize(("direction", "first", "top", "bottom"), [(0, 0xFFFE, b"ab", b"cd"), (DECREMENT, 1, b"dc", b"ba")])
def test_addresses_wrap_inside_the_page(dma, direction, first, top, bottom):
    dma.program(1, SINGLE | WRITE | direction, first, 3, page=1)
    dma.request(1, Client(b"abcd"))
    assert dma.fixture.memory.read(0x1FFFE, 2) == top
    assert dma.fixture.memory.read(0x10000, 2) == bottom


def test_auto_initialise_starts_over(dma):
    dma.program(1, SINGLE | WRITE | AUTOINIT, 0x2000, 3)
    client = Client(b"abcd")
    dma.request(1, client)
    assert (dma.address(1), dma.count(1), dma.masks(1) & 2) == (0x2000, 3, 0)
    dma.request(1, client, 0)
    client.data = b"WXYZ"
    dma.request(1, client)
    assert (dma.fixture.memory.read(0x2000, 4), client.ended) == (b"WXYZ", 2)


def test_a_device_that_stops_goes_on_where_it_was(dma):
    dma.program(1, SINGLE | WRITE, 0x2000, 9)
    client = Client(b"abc")
    dma.request(1, client)
    assert (dma.address(1), dma.count(1), client.ended) == (0x2003, 6, 0)
    dma.request(1, client, 0)
    client.data = b"defghij"
    dma.request(1, client)
    assert (dma.fixture.memory.read(0x2000, 10), client.ended) == (b"abcdefghij", 1)


def test_a_device_that_takes_a_little_at_a_time(dma):
    dma.fixture.memory.write(0x2000, bytes(range(100)))
    dma.program(1, SINGLE | READ, 0x2000, 99)
    client = Client(chunk=7)
    dma.request(1, client)
    assert (bytes(client.taken), client.ended) == (bytes(range(100)), 1)


def test_the_longest_transfer(dma):
    data = bytes(n * 7 & 0xFF for n in range(0x10000))
    dma.fixture.memory.write(0x20000, data)
    dma.program(1, SINGLE | READ, 0, 0xFFFF, page=2)
    client = Client()
    dma.request(1, client)
    assert (bytes(client.taken), client.ended) == (data, 1)


# -- who is served when --------------------------------------------------------------------------


def test_status_shows_requests_and_terminal_counts_once(dma):
    client = Client(b"x")
    dma.request(1, client)
    assert dma.status(1) == 0x20
    dma.program(1, SINGLE | WRITE, 0, 0)
    dma.request(1, client, 0)
    assert dma.status(1) == 0x02
    assert dma.status(1) == 0x00, "reading clears the terminal count"


def test_a_masked_channel_waits(dma):
    dma.program(1, SINGLE | WRITE, 0x2000, 0)
    dma.outb(0x0A, 5)
    dma.request(1, Client(b"x"))
    assert dma.fixture.memory.read(0x2000, 1) == b"\0"
    dma.unmask(1)
    assert dma.fixture.memory.read(0x2000, 1) == b"x"


def test_a_disabled_controller_waits(dma):
    dma.outb(0x08, 0x04)
    dma.program(1, SINGLE | WRITE, 0x2000, 0)
    dma.request(1, Client(b"x"))
    assert dma.fixture.memory.read(0x2000, 1) == b"\0"
    dma.outb(0x08, 0x00)
    assert dma.fixture.memory.read(0x2000, 1) == b"x"


def test_a_request_taken_back_is_forgotten(dma):
    client = Client(b"x")
    dma.request(1, client)
    dma.request(1, client, 0)
    dma.program(1, SINGLE | WRITE, 0x2000, 0)
    assert client.data == b"x"


@pytest.mark.parametrize(("command", "order"), [(0x00, [0, 1, 3]), (0x10, [3, 0, 1])])
def test_priority_is_fixed_or_rotates(dma, command, order):
    served = []

    class Noting(Client):
        def dma_read(self, length):
            served.append(self.number)
            return b"x" * length

    dma.program(2, SINGLE | WRITE, 0, 0)
    dma.request(2, Client(b"x"))
    dma.outb(0x08, command | 0x04)
    for number in (0, 1, 3):
        dma.program(number, SINGLE | WRITE, 0x100 * number, 0)
        client = Noting()
        client.number = number
        dma.request(number, client)
    assert served == []
    dma.outb(0x08, command)
    assert served == order


def test_a_software_request_needs_no_device_and_heeds_no_mask(dma):
    dma.program(1, SINGLE | WRITE, 0x2000, 3)
    dma.outb(0x0F, 0x0F)
    dma.outb(0x09, 5)
    assert dma.fixture.memory.read(0x2000, 5) == b"\xff\xff\xff\xff\0"
    assert dma.status(1) == 0x02


def test_memory_to_memory(dma):
    dma.fixture.memory.write(0x1000, b"copied")
    dma.program(0, READ, 0x1000, 0)
    dma.program(1, WRITE, 0x3000, 5)
    dma.outb(0x08, 0x01)
    dma.outb(0x09, 4)
    assert dma.fixture.memory.read(0x3000, 7) == b"copied\0"
    assert (dma.status(0), dma.inb(0x0D)) == (0x02, ord("d"))


@pytest.mark.parametrize("seed", range(24))
def test_memory_to_memory_is_byte_by_byte_also_where_it_overlaps(dma, seed):
    chance = random.Random(seed)
    source, count = chance.choice((0x0020, 0x8000, 0xFFF0)), chance.randrange(1, 100)
    target = source + chance.randrange(-120, 121) & 0xFFFF
    steps = chance.choice((1, -1)), chance.choice((1, -1))
    memory = bytearray(chance.randbytes(0x10000))
    dma.fixture.memory.write(0x30000, bytes(memory))
    dma.outb(0x8F, 3)
    dma.program(0, READ | (DECREMENT if steps[0] < 0 else 0), source, 0)
    dma.program(1, WRITE | (DECREMENT if steps[1] < 0 else 0), target, count - 1)
    dma.outb(0x08, 0x01)
    dma.outb(0x09, 4)
    for n in range(count):
        memory[target + n * steps[1] & 0xFFFF] = memory[source + n * steps[0] & 0xFFFF]
    assert dma.fixture.memory.read(0x30000, 0x10000) == bytes(memory)
    assert (dma.address(0), dma.address(1)) == (source + count * steps[0] & 0xFFFF, target + count * steps[1] & 0xFFFF)


def test_memory_filled_from_one_byte(dma):
    dma.fixture.memory.write(0x1000, b"*-")
    dma.program(0, READ, 0x1000, 0)
    dma.program(1, WRITE, 0x3000, 5)
    dma.outb(0x08, 0x03)
    dma.outb(0x09, 4)
    assert dma.fixture.memory.read(0x3000, 7) == b"******\0"


def test_strict_cascade_holds_the_first_controller_off():
    dma = DMA(strict_cascade="on")
    dma.program(1, SINGLE | WRITE, 0x2000, 0)
    dma.request(1, Client(b"x"))
    assert dma.fixture.memory.read(0x2000, 1) == b"\0"
    dma.outb(0xD6, CASCADE)
    dma.outb(0xD4, 0)
    assert dma.fixture.memory.read(0x2000, 1) == b"x"


def test_a_channel_in_cascade_mode_serves_nobody(dma):
    dma.program(1, CASCADE | WRITE, 0x2000, 0)
    client = Client(b"x")
    dma.request(1, client)
    assert (client.data, client.ended) == (b"x", 0)


def test_reset_masks_everything(dma):
    dma.program(1, SINGLE | WRITE, 0x2000, 7, page=9)
    dma.fixture.bus.reset()
    assert (dma.masks(0), dma.masks(4), dma.address(1), dma.inb(0x83)) == (0x0F, 0x0F, 0, 0)

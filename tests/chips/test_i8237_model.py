# SPDX-License-Identifier: MIT
"""The DMA controllers against a model that moves one unit at a time."""

import numpy as np
from chips.model_i8237 import Channel
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyemu.chips.i8237 import PAGE_OF_CHANNEL, DMAController
from pyemu.testing import ISAFixture

#: Few addresses and counts, most of them where something wraps or ends.
words16 = st.sampled_from([0, 1, 2, 3, 15, 0x7F, 0xFF, 0x100, 0x7FFE, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF)
kinds = st.sampled_from([0x00, 0x04, 0x08])
lengths = st.integers(0, 50)
#: A whole transfer as a driver programs it; single steps alone would seldom come to one.
transfers = st.builds(
    lambda address, count, mode, page, serve: [
        ("clear pointer",), ("program", address, count), ("mode", *mode), ("page", page), ("unmask",), ("serve", *serve),
    ],
    words16,
    st.integers(0, 60) | words16,
    st.tuples(kinds, st.booleans(), st.booleans()),
    st.integers(0, 15),
    st.tuples(lengths, st.integers(0, 255)),
)  # fmt: skip
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 1), st.integers(0, 255)),
        st.tuples(st.just("read"), st.integers(0, 1)),
        st.tuples(st.just("program"), words16, st.integers(0, 40) | words16),
        st.tuples(st.just("mode"), kinds, st.booleans(), st.booleans()),
        st.tuples(st.just("page"), st.integers(0, 15)),
        st.tuples(st.just("clear pointer")),
        st.tuples(st.just("unmask")),
        st.tuples(st.just("mask")),
        st.tuples(st.just("status")),
        st.tuples(st.just("serve"), lengths, st.integers(0, 255)),
    ),
    max_size=12,
)
operations = st.lists(steps | transfers, max_size=6).map(lambda parts: [step for part in parts for step in part])


class Device:
    """Gives a fixed number of bytes, or takes as many; the terminal count ends it."""

    def __init__(self, data):
        self.data, self.moved, self.taken = data, 0, b""

    def _move(self, length):
        part, self.data = self.data[:length], self.data[length:]
        self.moved += len(part)
        return part

    def dma_read(self, length):
        return self._move(length)

    def dma_write(self, data):
        part = data[: len(self._move(len(data)))]
        self.taken += part
        return len(part)

    def dma_verify(self, length):
        return len(self._move(length))

    def dma_terminal_count(self):
        self.data = b""


def over_the_edge(mode, address):
    """Ten units from near the end of a page: the examples that random ones may miss."""
    program = [("program", address, 9), ("mode", mode, False, address < 0x8000), ("page", 4), ("unmask",)]
    return [*program, ("serve", 10, 1)]


@example(1, over_the_edge(0x04, 0xFFFC))
@example(1, over_the_edge(0x04, 0x0003))
@example(5, over_the_edge(0x04, 0xFFFC))
@example(5, over_the_edge(0x04, 0x0003))
@settings(max_examples=2 * settings.default.max_examples)
@given(st.sampled_from([0, 1, 2, 3, 5, 6, 7]), operations)
def test_it_moves_what_the_data_sheet_says(number, steps):
    fixture = ISAFixture()
    dma = fixture.plug(DMAController())
    memory = {}
    model = Channel(memory, words=number >= 4)
    bit = number & 3

    def port(register):
        return register if number < 4 else 0xC0 + 2 * register

    for step in steps:
        kind, *values = step
        if kind == "write":
            fixture.write(port(2 * bit + values[0]), values[1])
            model.write(*values)
        elif kind == "read":
            assert fixture.read(port(2 * bit + values[0])) == model.read(values[0])
        elif kind == "program":
            for register, value in enumerate(values):
                for half in (value & 0xFF, value >> 8):
                    fixture.write(port(2 * bit + register), half)
                    model.write(register, half)
        elif kind == "mode":
            model.mode = 0x40 | values[0] | values[1] << 4 | values[2] << 5
            fixture.write(port(0xB), model.mode | bit)
        elif kind == "page":
            model.page = values[0]
            fixture.write(0x80 + PAGE_OF_CHANNEL[number], values[0])
        elif kind == "clear pointer":
            model.flip_flop = 0
            fixture.write(port(0xC), 0)
        elif kind in ("mask", "unmask"):
            model.masked = kind == "mask"
            fixture.write(port(0xA), bit | model.masked << 2)
        elif kind == "status":
            assert fixture.read(port(8)) == model.terminal << bit
            model.terminal = False
        elif kind == "serve":
            data = bytes((values[1] + n) & 0xFF for n in range(values[0] * (2 if model.words else 1)))
            model.terminal = False
            fixture.read(port(8))
            device = Device(data)
            dma.set_request(number, device, 1)
            dma.set_request(number, device, 0)
            moved, given_out = model.serve(data, len(data))
            assert (device.moved, device.taken if given_out else b"") == (moved, given_out)
            assert bool(fixture.read(port(8)) >> bit & 1) == model.terminal
            model.terminal = False
    channel = dma.channel(number)
    assert (channel.address, channel.count) == (model.address, model.count)
    assert dma.controllers[number >> 2].mask >> bit & 1 == model.masked
    for at, value in memory.items():
        assert fixture.ram.read(at, 1)[0] == value, hex(at)
    assert np.count_nonzero(fixture.ram.array) == sum(v != 0 for v in memory.values())

# SPDX-License-Identifier: MIT
"""The timer: against a model that counts every clock, and feature by feature."""

import io

import pytest
from chips.model_i8254 import PITModel
from hypothesis import given, settings
from hypothesis import strategies as st

from pyemu.chips.i8254 import PIT
from pyemu.device import Clock, IRQLine, IRQOut
from pyemu.errors import MigrationError
from pyemu.testing.fakes import ISAFixture

HZ, SECOND = 1193182, 10**9
CONTROL = 3


def clock_ns(clocks):
    """The first nanosecond of an input clock."""
    return -(-clocks * SECOND // HZ)


class Bench:
    """A timer chip on a clock that is moved by input clocks; rising edges of its pin are counted."""

    def __init__(self, kind="step"):
        self.pit, self.clock = PIT(), Clock(kind)
        self.edges = []
        self.line = IRQLine("line", 0, lambda n, level: self.edges.append(level))
        self.pit.attach(self.clock, IRQOut("pin", self.line))
        self.now = 0

    @property
    def rises(self):
        return self.edges.count(1)

    def advance(self, clocks):
        self.now += clocks
        self.clock.advance(clock_ns(self.now) - self.clock.now_ns)

    def program(self, channel, mode, count, *, bcd=False):
        self.pit.write(CONTROL, channel << 6 | 0x30 | mode << 1 | bcd)
        self.pit.write(channel, count & 0xFF)
        self.pit.write(channel, count >> 8)


# -- against the model ----------------------------------------------------------------------------

# Counts of 1 are illegal in modes 2 and 3 and have a test of their own.
count_bytes = st.sampled_from((2, 3, 4, 5, 6, 7, 9, 0x10, 0x12))
programs = st.tuples(
    st.just("program"),
    st.builds(
        lambda access, mode, bcd: access << 4 | mode << 1 | bcd,
        st.sampled_from((1, 1, 1, 1, 2, 3)),
        st.integers(0, 7),
        st.integers(0, 1),
    ),
    count_bytes,
)
operations = st.one_of(
    programs,
    st.tuples(st.just("write"), st.just(0), count_bytes),
    st.tuples(st.just("read"), st.just(0), st.just(0)),
    st.tuples(st.just("read-back"), st.sampled_from((0xC0, 0xD0, 0xE0, 0xF0, 0x00)), st.just(0)),
    st.tuples(st.just("gate"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("pulse"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("advance"), st.sampled_from((1, 2, 3, 4, 6, 11)), st.just(0)),
    st.tuples(st.just("advance"), st.sampled_from((1, 2, 3, 4, 6, 11)), st.just(0)),
)


@settings(max_examples=3 * settings.default.max_examples)
@given(st.sampled_from((0, 0, 1, 2)), programs, st.lists(operations, min_size=3, max_size=30))
def test_it_does_what_the_model_does(channel, first, steps):
    bench, model = Bench(), PITModel()
    pit, counter = bench.pit, model.counters[channel]

    def control(value):
        pit.write(CONTROL, value)
        model.control(value)

    def advance(clocks):
        bench.advance(clocks)
        for _ in range(clocks):
            model.clock()

    def gate(level):
        pit.set_gate(channel, level)
        counter.set_gate(level)

    gate(True)
    for what, a, b in (first, *steps):
        if what == "program":
            control(channel << 6 | a)
        if what in ("program", "write"):
            pit.write(channel, b)
            counter.write(b)
        elif what == "read":
            assert pit.read(channel) == counter.read()
        elif what == "read-back":
            control(a | 2 << channel if a else channel << 6)
            assert pit.read(channel) == counter.read()
        elif what == "gate":
            gate(bool(a))
        elif what == "pulse":
            gate(False)
            advance(a)
            gate(True)
        else:
            advance(a)
        for n, other in enumerate(model.counters):
            assert (pit.output(n), pit.counter(n)) == (other.out, other.value()), f"{what}: channel {n}"
        assert bench.rises == model.counters[0].rises, what


@pytest.mark.parametrize("mode", [2, 3])
@pytest.mark.parametrize("count", [2, 3, 1000, 1001, 0])
@pytest.mark.parametrize("bcd", [False, True])
def test_whole_periods_of_the_generators(mode, count, bcd):
    bench, model = Bench(), PITModel()
    raw = int(str(count), 16) if bcd else count
    bench.program(0, mode, raw, bcd=bcd)
    model.control(0x30 | mode << 1 | bcd)
    for byte in raw.to_bytes(2, "little"):
        model.counters[0].write(byte)
    for step in (1, 2, 999, 1000, 500, 501, 5000):
        bench.advance(step)
        for _ in range(step):
            model.clock()
        assert (bench.pit.output(0), bench.pit.counter(0)) == (model.counters[0].out, model.counters[0].value())
    assert bench.rises == model.counters[0].rises


# -- one behaviour each ---------------------------------------------------------------------------


def test_the_rate_does_not_drift():
    bench = Bench()
    bench.program(0, 2, 1193)
    before = bench.rises
    for _ in range(50):
        bench.clock.advance(SECOND // 10)
    # Loaded at clock 1, the n-th edge is at clock 1 + n * 1193.
    assert bench.rises - before == (5 * HZ - 1) // 1193


def test_the_clock_divides_exactly_after_a_year():
    bench = Bench()
    year = 365 * 86400
    bench.clock.set_ns(year * SECOND)
    bench.program(2, 2, 0)
    bench.pit.set_gate(2, True)
    start = year * HZ + 1
    bench.clock.set_ns(clock_ns(start + 65536 * 1000 + 123))
    assert bench.pit.counter(2) == 65536 - 123


def test_a_late_host_makes_one_edge_of_many():
    bench = Bench()
    bench.program(0, 2, 1000)
    bench.advance(10)
    before = bench.rises
    # The clock jumps as if the machine thread had slept: no timer has run in between.
    bench.clock.set_ns(clock_ns(1_000_500))
    bench.clock.run_due()
    assert bench.rises - before == 1
    bench.clock.set_ns(clock_ns(1_001_001))
    bench.clock.run_due()
    assert bench.rises - before == 2


def test_an_edge_that_is_due_comes_before_the_guest_stops_the_timer():
    bench = Bench()
    bench.program(0, 2, 1000)
    bench.advance(10)
    before = bench.rises
    bench.clock.set_ns(clock_ns(1500))
    bench.pit.write(CONTROL, 0x30)
    assert bench.rises - before == 1


def test_a_count_of_one_makes_no_interrupts():
    for mode in (2, 3):
        bench = Bench()
        bench.program(0, mode, 1)
        before = bench.rises
        bench.advance(1000)
        assert bench.rises == before


def test_the_control_port_cannot_be_read():
    assert Bench().pit.read(CONTROL) == 0xFF


def test_latched_status_comes_before_latched_count():
    bench = Bench()
    bench.program(0, 2, 0x1234)
    bench.advance(1)
    bench.pit.write(CONTROL, 0xC2)
    bench.advance(100)
    assert [bench.pit.read(0) for _ in range(3)] == [0xB4, 0x34, 0x12]


def test_it_drives_line_0_of_its_bus():
    fixture = ISAFixture()
    fixture.plug(PIT())
    for port, value in ((0x43, 0x34), (0x40, 100), (0x40, 0)):
        fixture.write(port, value)
    fixture.edges.clear()
    fixture.clock.advance(clock_ns(301))
    assert fixture.edges == [(0, 0), (0, 1)] * 3


def test_a_running_timer_survives_saving():
    bench = Bench()
    bench.program(0, 3, 1001)
    bench.advance(700)
    twin = Bench()
    twin.advance(700)
    load(twin.pit, PIT.vmstate.encode(bench.pit))
    assert twin.line.level == bench.line.level
    del bench.edges[:], twin.edges[:]
    for step in (1, 300, 500, 5000):
        bench.advance(step)
        twin.advance(step)
        assert twin.pit.counter(0) == bench.pit.counter(0)
        assert twin.edges == bench.edges


def load(pit, saved):
    PIT.vmstate.decode(pit, io.BytesIO(saved).read, 1)
    pit.post_load(1)


@pytest.mark.parametrize(("field", "value"), [("count", 0), ("start", 1 << 60), ("load_at", 1 << 60), ("paused_at", -(1 << 60))])
def test_state_that_the_arithmetic_could_not_bear_is_refused(field, value):
    bench = Bench()
    bench.program(0, 2, 1000)
    bench.advance(10)
    assert bench.pit.counter(0)
    setattr(bench.pit.channels[0], field, value)
    with pytest.raises(MigrationError, match="channel 0"):
        load(PIT(), PIT.vmstate.encode(bench.pit))

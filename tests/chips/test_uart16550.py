# SPDX-License-Identifier: MIT
"""The 16550A: against a model, and feature by feature."""

import io

import pytest
from chips.model_uart import UARTModel
from hypothesis import given, settings
from hypothesis import strategies as st

from pyemu.chips._uart16550 import UARTCore
from pyemu.chips.uart16550 import UART16550
from pyemu.device import Clock, IRQOut
from pyemu.errors import DeviceError
from pyemu.testing.fakes import ISAFixture

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
FCR = IIR
DLAB, LOOP, OUT2 = 0x80, 0x10, 0x08


class Line:
    """A chardev that keeps what is written, with input that waits for room."""

    def __init__(self):
        self.sent = bytearray()
        self.waiting = bytearray()
        self.receive = self.can_receive = None

    def write(self, data):
        self.sent += data
        return len(data)

    def set_receiver(self, receive, can_receive=None):
        self.receive, self.can_receive = receive, can_receive

    def feed(self, data):
        self.waiting += data
        self.accept_input()

    def accept_input(self):
        while self.waiting and (room := self.can_receive()):
            data, self.waiting = self.waiting[:room], self.waiting[room:]
            self.receive(bytes(data))


def core(**properties):
    uart = UART16550(**properties)
    clock, pin, sent = Clock("step"), IRQOut("test"), bytearray()
    uart.attach(clock, pin)
    uart.configure(pacing=uart.pacing, out2_gates_irq=uart.out2_gates_irq, sink=sent.extend)
    return uart, clock, pin, sent


def plugged(**properties):
    fixture, line = ISAFixture(), Line()
    uart = fixture.plug(UART16550(chardev=line, **properties))
    return fixture, uart, line


# -- against the model ----------------------------------------------------------------------------

controls = (
    st.tuples(st.just("write"), st.just(IER), st.integers(0, 15)),
    st.tuples(st.just("write"), st.just(FCR), st.sampled_from((0, 1, 3, 5, 0x41, 0x81, 0xC1))),
    st.tuples(st.just("write"), st.just(LCR), st.sampled_from((0, 3, 0x1B, 0x43, 0x83))),
    st.tuples(st.just("write"), st.just(MCR), st.sampled_from((OUT2, OUT2, 0x0F, LOOP | OUT2, 0x1F))),
)
operations = st.one_of(
    *controls,
    st.tuples(st.just("write"), st.just(RBR), st.integers(0, 255)),
    st.tuples(st.just("write"), st.integers(0, 7), st.integers(0, 255)),
    st.tuples(st.just("read"), st.just(RBR), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 7), st.just(0)),
    st.tuples(st.just("receive"), st.integers(0, 255), st.sampled_from((1, 1, 3, 7, 17))),
    st.tuples(st.just("break"), st.just(0), st.just(0)),
    st.tuples(st.just("line"), st.sampled_from((0x10, 0x20, 0x40, 0x80)), st.integers(0, 1)),
    st.tuples(st.just("advance"), st.just(0), st.sampled_from((1, 400_000, 5_000_000))),
)
LINES = {0x10: "cts", 0x20: "dsr", 0x40: "ri", 0x80: "dcd"}


@settings(max_examples=3 * settings.default.max_examples)
@given(st.tuples(*controls), st.lists(operations, min_size=5, max_size=40))
def test_it_does_what_the_model_does(setup, steps):
    uart, clock, pin, sent = core()
    model = UARTModel()
    for what, a, b in (*setup, *steps):
        if what == "write":
            uart.write(a, 1, b)
            model.write(a, b)
        elif what == "read":
            assert uart.read(a) == model.read(a), f"register {a}"
        elif what == "receive":
            if not model.loop:
                uart.receive(bytes((a + i) & 0xFF for i in range(b)))
                for i in range(b):
                    model.arrive((a + i) & 0xFF)
        elif what == "break":
            uart.receive_break()
            model.arrive(0, 0x18)
        elif what == "line":
            uart.set_modem_lines(**{LINES[a]: bool(b)})
            model.set_line(a, bool(b))
        else:
            clock.advance(b)
            model.advance(b)
        assert (uart.lsr, pin.level) == (model.lsr, model.pin), what
    assert sent == model.sent


# -- one behaviour each ---------------------------------------------------------------------------


def test_reset_values():
    uart, *_ = core()
    assert [uart.read(n) for n in (IER, IIR, LCR, MCR, LSR, MSR, SCR)] == [0, 1, 0, 0, 0x60, 0xB0, 0]
    uart.write(LCR, 1, DLAB)
    assert (uart.read(0), uart.read(1)) == (12, 0)


def test_each_byte_sent_makes_an_edge_of_the_interrupt_line():
    fixture, _, line = plugged()
    fixture.write(0x3F8 + MCR, OUT2)
    fixture.write(0x3F8 + IER, 2)
    fixture.edges.clear()
    for byte in b"abc":
        fixture.write(0x3F8, byte)
    assert fixture.edges == [(4, 0), (4, 1)] * 3
    assert line.sent == b"abc"


def test_interrupts_need_out2_unless_told_otherwise():
    for gated, level in ((True, 0), (False, 1)):
        uart, _, pin, _ = core(**{"out2-gates-irq": gated})
        uart.write(IER, 1, 2)
        assert pin.level == level


def test_priority_of_the_five_sources():
    uart, clock, _, _ = core()
    uart.write(IER, 1, 0x0F)
    uart.write(FCR, 1, 0x41)
    uart.set_modem_lines(cts=False)
    uart.receive(b"a")
    clock.advance(10**9)
    uart.receive_break()
    uart.read(RBR)  # brings the break to the top
    clock.advance(10**9)
    seen = []
    for clear in (LSR, RBR, None, MSR):
        seen.append(uart.read(IIR) & 0x0F)
        if clear is not None:
            uart.read(clear)
    assert seen == [6, 12, 2, 0]
    assert uart.read(IIR) & 0x0F == 1


def test_errors_show_when_their_byte_is_at_the_top_and_go_with_a_status_read():
    uart, *_ = core()
    uart.write(FCR, 1, 1)
    uart.receive(b"a")
    uart.receive_break()
    assert uart.read(LSR) == 0x60 | 0x80 | 0x01
    assert uart.read(RBR) == ord("a")
    assert uart.read(LSR) == 0x60 | 0x80 | 0x19
    assert uart.read(LSR) == 0x60 | 0x01
    assert uart.read(RBR) == 0


@pytest.mark.parametrize(("fcr", "kept"), [(0, b"b"), (1, bytes(range(16)))])
def test_overrun_keeps_the_newest_byte_without_fifo_and_the_oldest_with(fcr, kept):
    uart, *_ = core()
    uart.write(FCR, 1, fcr)
    uart.receive(b"ab" if not fcr else bytes(range(17)))
    assert uart.read(LSR) & 2
    assert not uart.read(LSR) & 2
    assert bytes(uart.read(RBR) for _ in kept) == kept
    assert not uart.read(LSR) & 1


def test_ring_is_noted_when_it_ends_and_loopback_wires_the_outputs_back():
    uart, *_ = core()
    uart.set_modem_lines(ri=True)
    assert uart.read(MSR) == 0xF0
    uart.set_modem_lines(ri=False)
    assert uart.read(MSR) == 0xB4
    uart.write(MCR, 1, LOOP | 0x0A)
    assert uart.read(MSR) & 0xF0 == 0x90
    uart.write(MCR, 1, LOOP | 0x04)
    assert uart.read(MSR) == 0x49
    uart.write(MCR, 1, LOOP)
    assert uart.read(MSR) == 0x04


def test_a_waiting_host_gets_rid_of_everything_in_order():
    fixture, uart, line = plugged()
    text = bytes(range(256)) * 2
    line.feed(text)
    fixture.write(0x3F8 + FCR, 1)  # loses the byte that was in the receiver
    got = bytearray()
    while fixture.read(0x3F8 + LSR) & 1:
        assert not fixture.read(0x3F8 + LSR) & 2
        got.append(fixture.read(0x3F8))
    assert got == text[1:]
    assert uart.rx_count == 0


def test_input_waits_while_in_loopback():
    fixture, uart, line = plugged()
    fixture.write(0x3F8 + MCR, LOOP)
    line.feed(b"x")
    assert uart.rx_count == 0
    fixture.write(0x3F8, 0x55)
    assert fixture.read(0x3F8) == 0x55
    assert line.sent == b""
    fixture.write(0x3F8 + MCR, 0)
    assert fixture.read(0x3F8) == ord("x")


def test_registers_and_fifos_survive_a_move():
    fixture, uart, line = plugged()
    fixture.write(0x3F8 + FCR, 1)
    fixture.write(0x3F8 + SCR, 0x5A)
    line.feed(b"hello")
    uart.set_base(0x2E8)
    assert fixture.read(0x3F8 + SCR) == 0xFF
    assert fixture.read(0x2E8 + SCR) == 0x5A
    assert bytes(fixture.read(0x2E8) for _ in range(5)) == b"hello"


def test_a_pending_interrupt_leaves_and_comes_back_with_the_function():
    fixture, uart, _ = plugged()
    fixture.write(0x3F8 + MCR, OUT2)
    fixture.write(0x3F8 + IER, 2)
    assert fixture.lines[4].level == 1
    uart.set_enabled(False)
    assert fixture.lines[4].level == 0
    uart.set_irq(3)
    uart.set_enabled(True)
    assert (fixture.lines[4].level, fixture.lines[3].level) == (0, 1)


@pytest.mark.parametrize(("lcr", "half_bits"), [(0x03, 20), (0x00, 14), (0x04, 15), (0x1F, 24)])
def test_paced_bytes_leave_at_the_rate_of_the_divisor(lcr, half_bits):
    uart, clock, _, sent = core(pacing="on")
    uart.write(LCR, 1, lcr)
    uart.write(RBR, 1, 0x41)
    uart.write(RBR, 1, 0x42)
    character = half_bits * 12 * 10**9 // (2 * 115200)
    assert (uart.read(LSR), sent) == (0x00, b"")
    clock.advance(character)
    assert (uart.read(LSR), sent) == (0x20, b"A")
    clock.advance(character - 1)
    assert sent == b"A"
    clock.advance(1)
    assert (uart.read(LSR), sent) == (0x60, b"AB")


def test_paced_transmitter_interrupts_when_its_fifo_is_empty():
    uart, clock, pin, sent = core(pacing="on")
    for offset, value in ((FCR, 1), (MCR, OUT2), (IER, 2)):
        uart.write(offset, 1, value)
    assert uart.read(IIR) & 0x0F == 2
    for byte in range(20):  # one on the wire, sixteen wait, three are lost
        uart.write(RBR, 1, byte)
    assert pin.level == 0
    clock.advance(10**9)
    assert pin.level == 1
    assert sent == bytes(range(17))


def test_paced_input_comes_at_the_rate_of_the_divisor_and_is_not_lost():
    fixture, uart, line = plugged(pacing="on")
    fixture.write(0x3F8 + FCR, 1)
    line.feed(bytes(40))
    fixture.clock.advance(10 * uart_character(uart))
    assert uart.rx_count == 10
    fixture.clock.advance(10**9)
    assert uart.rx_count == 16
    assert not fixture.read(0x3F8 + LSR) & 2


def uart_character(uart):
    assert uart.read(LCR) == 0
    return 14 * 12 * 10**9 // (2 * 115200)


def test_a_byte_on_the_wire_is_state():
    uart, clock, _, _ = core(pacing="on")
    uart.write(RBR, 1, 0x41)
    clock.advance(1000)
    twin, other, _, sent = core(pacing="on")
    other.advance(1000)
    UART16550.vmstate.decode(twin, io.BytesIO(UART16550.vmstate.encode(uart)).read, 1)
    twin.post_load(1)
    other.advance(10**9)
    assert sent == b"A"


@pytest.mark.parametrize("pacing", ["off", "on"])
def test_a_chardev_that_raises_stops_the_machine_by_name(pacing):
    class Gone(Line):
        def write(self, data):
            raise OSError("gone")

    fixture = ISAFixture()
    uart = fixture.plug(UART16550(chardev=Gone(), pacing=pacing))
    with pytest.raises(DeviceError) as caught:
        fixture.write(0x3F8 + RBR, 0x41)
        # With pacing it is the timer's fault, and found at the next look.
        fixture.clock.advance(10**9)
        fixture.read(0x3F8 + LSR)
    assert str(caught.value) == f"{uart.id}: write of 1 bytes at offset 0x0 failed: OSError: gone"
    assert isinstance(caught.value.__cause__, OSError)
    # The byte is lost, and the chip is as it is after any other.
    assert fixture.read(0x3F8 + LSR) == 0x60


def test_a_chardev_whose_input_raises_stops_the_machine_by_name():
    class Broken(Line):
        def accept_input(self):
            raise ValueError("no more")

    fixture = ISAFixture()
    line = Broken()
    uart = fixture.plug(UART16550(chardev=line))
    line.receive(b"A")
    assert line.can_receive() == 0
    with pytest.raises(DeviceError) as caught:
        fixture.read(0x3F8 + RBR)
    assert str(caught.value) == f"{uart.id}: read of 1 bytes at offset 0x0 failed: ValueError: no more"


def test_a_core_without_a_bus_reports_what_its_functions_raise(monkeypatch):
    reports = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: reports.append(report.exc_value))
    alone = UARTCore()

    def fail(data):
        raise OSError("gone")

    alone.configure(pacing=False, out2_gates_irq=True, sink=fail)
    alone.write(RBR, 1, 0x41)
    assert [str(error) for error in reports] == ["gone"]

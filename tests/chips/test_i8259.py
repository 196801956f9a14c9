# SPDX-License-Identifier: MIT
"""The pair of interrupt controllers: against a model, and feature by feature."""

import ctypes
import gc
import io
import weakref

import pytest
from chips.model_i8259 import PairModel
from hypothesis import given, settings
from hypothesis import strategies as st

from pyemu.chips.i8259 import PICPair
from pyemu.device import IRQOut
from pyemu.testing.fakes import ISAFixture

MASTER, SLAVE, ELCR = range(3)


def pair(*, edge=0x11, mode=0x01, masks=(0, 0)):
    """A pair set up as a PC's BIOS does, with a pin on each line."""
    pic = PICPair()
    for chip, base in ((MASTER, 0x20), (SLAVE, 0x28)):
        pic.write(chip, 0, edge)
        for value in (base, 4 >> chip, mode, masks[chip]):
            pic.write(chip, 1, value)
    return pic, [IRQOut(f"pin{n}", line) for n, line in enumerate(pic.lines)]


def eoi(pic, chip=MASTER):
    pic.write(chip, 0, 0x20)


# -- against the model ----------------------------------------------------------------------------

# Few lines and few masks, so that requests meet each other.
chips = st.sampled_from((MASTER, MASTER, SLAVE))
lines = st.sampled_from((1, 4, 5, 9, 9, 12, 12, 15, 7, 2))
masks = st.sampled_from((0, 0, 0, 0x10, 0x04, 0x02, 0x32, 0xFB))
ocw2 = st.builds(lambda command, n: command << 5 | n, st.integers(0, 7), st.sampled_from((1, 2, 4, 5)))
ocw3 = st.sampled_from((0x0A, 0x0B, 0x0C, 0x0C, 0x68, 0x68, 0x48, 0x0F))
raises = st.tuples(st.just("line"), lines, st.just(1))
operations = st.one_of(
    raises,
    raises,
    st.tuples(st.just("line"), lines, st.just(0)),
    st.tuples(st.just("ack"), st.just(0), st.just(0)),
    st.tuples(st.just("ack"), st.just(0), st.just(0)),
    st.tuples(st.just("end"), chips, st.just(0)),
    st.tuples(st.just("command"), chips, ocw2),
    st.tuples(st.just("command"), chips, ocw3),
    st.tuples(st.just("mask"), chips, masks),
    st.tuples(st.just("level"), st.integers(0, 1), st.sampled_from((0, 0x10, 0x20, 0xFF))),
    st.tuples(st.just("read"), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.just("start"), chips, st.sampled_from((0x11, 0x19, 0x13, 0x10))),
)
modes = st.sampled_from((0x01, 0x01, 0x03, 0x11, 0x13))


@settings(max_examples=3 * settings.default.max_examples)
@given(modes, modes, st.lists(operations, min_size=5, max_size=40))
def test_it_does_what_the_model_does(master_mode, slave_mode, steps):
    pic, model = PICPair(), PairModel()
    pins = [IRQOut(f"pin{n}", line) for n, line in enumerate(pic.lines)]

    def write(chip, port, value):
        pic.write(chip, port, value)
        model.write(chip, port, value)

    def start(chip, mode, icw1=0x11):
        write(chip, 0, icw1)
        for value in (0x20 + 8 * chip, 4 >> chip, mode, 0):
            write(chip, 1, value)

    start(MASTER, master_mode)
    start(SLAVE, slave_mode)
    for what, a, b in steps:
        if what == "line":
            pins[a].set_level(b)
            model.line(a, bool(b))
        elif what == "ack":
            assert pic.ack() == model.ack()
        elif what == "read":
            assert pic.read(a, b) == model.read(a, b)
        elif what == "start":
            start(a, slave_mode if a else master_mode, b)
        elif what == "end":
            write(a, 0, 0x20)
        else:
            write(ELCR if what == "level" else a, a if what == "level" else int(what == "mask"), b)
        assert pic.intr.level == model.intr, what
        for chip, other in ((pic.master, model.master), (pic.slave, model.slave)):
            assert chip.requests == sum(1 << n for n in other.requests())
            assert chip.isr == sum(1 << n for n in other.serving)


# -- one behaviour each ---------------------------------------------------------------------------


def test_an_edge_is_served_once():
    pic, pins = pair()
    pins[4].set_level(1)
    assert pic.ack() == 0x24
    eoi(pic)
    assert pic.intr.level == 0
    pins[4].set_level(0)
    pins[4].set_level(1)
    assert pic.intr.level == 1


def test_a_request_whose_line_drops_is_forgotten_and_gives_the_spurious_vector():
    pic, pins = pair()
    pins[4].pulse()
    assert pic.intr.level == 0
    assert pic.ack() == 0x27
    assert pic.master.isr == 0


def test_a_spurious_request_of_the_slave_is_in_service_at_the_master_only():
    pic, pins = pair()
    pins[12].set_level(1)
    pic.slave.imr = 0xFF  # as the real slave, if its request goes away during the acknowledge
    assert pic.ack() == 0x2F
    assert (pic.master.isr, pic.slave.isr) == (4, 0)


def test_a_level_is_served_as_long_as_it_is_high():
    pic, pins = pair()
    pic.write(ELCR, 1, 0x08)
    pins[11].set_level(1)
    for _ in range(3):
        assert pic.ack() == 0x2B
        eoi(pic, SLAVE)
        eoi(pic)
    pins[11].set_level(0)
    assert pic.intr.level == 0


def test_two_requests_of_the_slave_are_both_served():
    pic, pins = pair()
    pins[12].set_level(1)
    pins[9].set_level(1)
    got = []
    while pic.intr.level:
        got.append(pic.ack())
        eoi(pic, SLAVE)
        eoi(pic)
    assert got == [0x29, 0x2C]


def test_priority_and_nesting():
    pic, pins = pair()
    pins[5].set_level(1)
    assert pic.ack() == 0x25
    pins[6].set_level(1)
    assert pic.intr.level == 0  # lower, has to wait
    pins[1].set_level(1)
    assert pic.ack() == 0x21  # higher, does not
    eoi(pic)
    eoi(pic)
    assert pic.ack() == 0x26


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself():
    for mode, level in ((0x01, 0), (0x11, 1)):
        pic, pins = pair(mode=mode)
        pins[12].set_level(1)
        assert pic.ack() == 0x2C
        pins[9].set_level(1)
        assert pic.intr.level == level
        pins[5].set_level(1)
        assert pic.ack() == (0x29 if level else 0x27)


def test_automatic_end_of_interrupt_rotates_if_told_to():
    pic, pins = pair(mode=0x03)
    pic.write(MASTER, 0, 0x80)
    for n in (1, 3, 5):
        pins[n].set_level(1)
    got = []
    for _ in range(3):
        got.append(pic.ack())
        pins[1].set_level(0)
        pins[1].set_level(1)  # would win again if it had not become the lowest
    assert got == [0x21, 0x23, 0x25]
    pic.write(MASTER, 0, 0x00)
    assert pic.ack() == 0x21


def test_special_mask_mode_lets_lower_ones_in_and_its_end_spares_the_masked():
    pic, pins = pair()
    pins[1].set_level(1)
    assert pic.ack() == 0x21
    pins[5].set_level(1)
    assert pic.intr.level == 0
    pic.write(MASTER, 0, 0x68)
    pic.write(MASTER, 1, 0x02)
    assert pic.ack() == 0x25
    eoi(pic)
    assert pic.master.isr == 0x02
    pic.write(MASTER, 0, 0x48)
    eoi(pic)
    assert pic.master.isr == 0


def test_rotation_and_specific_end():
    pic, pins = pair()
    pins[3].set_level(1)
    pins[6].set_level(1)
    pic.ack()
    pic.write(MASTER, 0, 0xE3)  # end of 3, which becomes the lowest
    pins[3].set_level(0)
    pins[3].set_level(1)
    assert pic.ack() == 0x26
    pic.write(MASTER, 0, 0x66)
    pic.write(MASTER, 0, 0xC2)  # lowest is 2: 3 is the highest
    pins[1].set_level(1)
    assert pic.ack() == 0x23


def test_poll_acknowledges():
    pic, pins = pair()
    pic.write(MASTER, 0, 0x0C)
    assert pic.read(MASTER, 0) == 0
    pins[5].set_level(1)
    pic.write(MASTER, 0, 0x0C)
    assert pic.read(MASTER, 1) == 0x85
    assert (pic.master.isr, pic.intr.level) == (0x20, 0)
    assert pic.read(MASTER, 1) == 0


def test_system_lines_stay_edge_triggered():
    pic, _ = pair()
    pic.write(ELCR, 0, 0xFF)
    pic.write(ELCR, 1, 0xFF)
    assert (pic.read(ELCR, 0), pic.read(ELCR, 1)) == (0xF8, 0xDE)


def test_initialization_forgets_edges_but_not_lines_or_edge_level_control():
    pic, pins = pair()
    pic.write(ELCR, 0, 0x20)
    pins[4].set_level(1)
    pins[5].set_level(1)
    pic.write(MASTER, 0, 0x11)
    assert pic.read(MASTER, 0) == 0x20
    assert pic.read(ELCR, 0) == 0x20


def test_what_drives_line_2_has_no_effect():
    pic, pins = pair()
    pins[2].set_level(1)
    assert pic.intr.level == 0


def test_loading_in_any_order_makes_no_second_edge():
    pic, pins = pair()
    pins[4].set_level(1)
    pic.ack()
    eoi(pic)
    saved = PICPair.vmstate.encode(pic)
    for pic_first in (True, False):
        twin = PICPair()
        pin = IRQOut("pin", twin.lines[4])
        if pic_first:
            load(twin, saved)
        pin.set_level(1)
        if not pic_first:
            load(twin, saved)
        assert twin.intr.level == 0
        pin.pulse()
        pin.set_level(1)
        assert twin.intr.level == 1


def load(pic, saved):
    PICPair.vmstate.decode(pic, io.BytesIO(saved).read, 1)
    pic.post_load(1)


class _AckTable(ctypes.Structure):
    _fields_ = (
        ("abi_version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("opaque", ctypes.c_void_p),
        ("ack", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)),
    )


def test_the_acknowledge_capsule_works_and_keeps_the_pair_alive():
    pic, pins = pair()
    pins[4].set_level(1)
    alive = weakref.ref(pic)
    capsule = pic.ack_capsule()
    del pic, pins
    gc.collect()
    assert alive() is not None
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = _AckTable.from_address(get(capsule, b"pyemu.irq_ack"))
    assert (table.abi_version, table.size) == (1, ctypes.sizeof(_AckTable))
    assert table.ack(table.opaque) == 0x24
    del capsule
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(("port", "chip"), [(0x20, MASTER), (0xA0, SLAVE), (0x4D0, ELCR)])
def test_the_ports_of_a_pc(port, chip):
    fixture, pic = ISAFixture(), PICPair()
    fixture.plug(pic)
    fixture.write(port + 1, 0x5A)
    assert fixture.read(port + 1) == pic.read(chip, 1) == 0x5A

# SPDX-License-Identifier: MIT
"""Handlers that change the map they are called from, and handlers that fail."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

from pyemu.errors import DeviceError
from pyemu.memory import AddressSpace, IoHandler, MemoryRegion, PortioEntry, PortioList, PortSpace


class Device:
    """Two ports whose handlers do what the test says."""

    def __init__(self, space, act):
        self.id = "uart1"
        self.act = act
        self.values = []
        self.ports = PortioList(self, [PortioEntry(0, 4, 1, self.read, self.write)], "uart1")
        self.ports.add(space, 0x100)

    def read(self, offset, size):
        self.act(self)
        return 0x40 + offset

    def write(self, offset, size, value):
        self.act(self)
        self.values.append((offset, value))


def remove(device):
    if device.ports.mapped:
        device.ports.remove()
        device.ports.destroy()


def test_a_handler_may_remove_and_destroy_itself():
    space = PortSpace()
    Device(space, remove)
    assert space.in_(0x102) == 0x42
    assert space.in_(0x102) == 0xFF


def test_what_a_handler_removed_lives_until_the_outermost_access_ends():
    space = PortSpace()
    alive = []

    def vanish(device):
        remove(device)
        alive.append(weakref.ref(device))
        inner.ports.set_enabled(True)
        assert space.in_(0x200) == 0x40  # a nested access must not release what the outer one still runs in

    inner = Device(space, lambda d: None)
    inner.ports.set_enabled(False)
    inner.ports.set_address(0x200)
    Device(space, vanish)
    gc.collect()
    assert space.in_(0x101) == 0x41
    gc.collect()
    assert alive[0]() is None


@pytest.mark.parametrize("wide", ["lanes", "qemu"])
def test_each_piece_of_a_split_access_is_looked_up_anew(wide):
    space = PortSpace("io", wide)
    device = Device(space, remove)
    # In QEMU's way the chunk of the first byte takes the whole word.
    assert space.in_(0x100, 2) == (0xFF40 if wide == "lanes" else 0x4140)
    assert device.values == []


def test_a_handler_may_move_itself_in_the_middle_of_a_wide_access():
    space = PortSpace()
    device = Device(space, lambda d: d.ports.set_address(0x300))
    space.out(0x100, 4, 0x44332211)
    assert device.values == [(0, 0x11)]
    space.out(0x300, 2, 0x6655)
    assert device.values == [(0, 0x11), (0, 0x55), (1, 0x66)]


def test_a_handler_may_cover_itself_by_another():
    space = PortSpace()
    other = Device(space, lambda d: None)
    other.ports.set_address(0x200)
    device = Device(space, lambda d: other.ports.set_address(0x100))
    space.out(0x100, 2, 0x2211)
    assert (device.values, other.values) == ([(0, 0x11)], [(1, 0x22)])


def test_memory_handlers_may_take_their_region_away():
    root = MemoryRegion.container("root", 1 << 32)
    space = AddressSpace("memory", root)
    alive = []

    class Card:
        def __init__(self):
            self.region = MemoryRegion.io("card", 16, self.read, owner="card", max_access=1)
            root.add_subregion(0x1000, self.region)

        def read(self, offset, size):
            if self.region.parent is not None:
                root.remove_subregion(self.region)
            return 0x40 + offset

    alive = weakref.ref(Card())
    assert space.load(0x1000, 4) == 0xFFFFFF40
    gc.collect()
    assert alive() is None
    assert space.unassigned_reads == 1


# -- failing handlers -------------------------------------------------------------------------------


def failing(read=None, write=None):
    space = PortSpace()
    owner = type("Dev", (), {"id": "dice0"})()
    PortioList(owner, [PortioEntry(0, 4, 1, read, write), PortioEntry(0, 1, 4, read, write)], "dice").add(space, 0x100)
    return space


def test_the_first_fault_is_kept_with_device_offset_and_cause():
    def read(offset, size):
        raise ZeroDivisionError(f"at {offset}")

    space = failing(read)
    told = []
    space.set_fault_listener(lambda: told.append(space.take_fault()))
    assert space.in_(0x102) == 0xFF
    (fault,) = told
    assert isinstance(fault, DeviceError)
    assert str(fault) == "dice0: read of 1 bytes at offset 0x2 failed: ZeroDivisionError: at 2"
    assert (fault.device, fault.offset, type(fault.__cause__)) == ("dice0", 2, ZeroDivisionError)
    assert space.take_fault() is None


def test_later_faults_do_not_displace_the_first_and_tell_nobody():
    def write(offset, size, value):
        raise ValueError(value)

    space = failing(write=write)
    told = []
    space.set_fault_listener(lambda: told.append(1))
    space.out(0x100, 1, 1)
    space.out(0x101, 1, 2)
    assert len(told) == 1
    assert "offset 0x0 failed: ValueError: 1" in str(space.take_fault())
    space.out(0x101, 1, 3)
    assert "ValueError: 3" in str(space.take_fault())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "TypeError: read returned None"),
        ("7", "TypeError: read returned '7'"),
        (1.0, "TypeError: read returned 1.0"),
        (0x100, "ValueError: read returned 0x100, which does not fit 1 bytes"),
        (-1, "ValueError: read returned -0x1"),
        (1 << 70, "ValueError: read returned 0x4"),
    ],
)
def test_what_is_no_answer_is_a_fault(value, words):
    space = failing(lambda offset, size: value)
    assert space.in_(0x101) == 0xFF
    assert words in str(space.take_fault())


def test_a_whole_dword_fits_its_entry_and_integer_likes_are_ints():
    numpy = pytest.importorskip("numpy")
    space = failing(lambda offset, size: numpy.uint32(0xFFFFFFFF) if size == 4 else True)
    assert (space.in_(0x100, 4), space.in_(0x101)) == (0xFFFFFFFF, 1)
    assert space.take_fault() is None


def test_interrupts_of_the_user_do_not_escape_from_a_handler():
    def read(offset, size):
        raise KeyboardInterrupt

    space = failing(read)
    assert space.in_(0x100) == 0xFF
    assert isinstance(space.take_fault().__cause__, KeyboardInterrupt)


def test_a_failing_listener_is_reported_and_the_fault_kept(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    space = failing(lambda offset, size: 1 // 0)
    space.set_fault_listener(lambda: {}["listener"])
    space.in_(0x100)
    assert [type(r.exc_value) for r in reported] == [KeyError]
    assert isinstance(space.take_fault(), DeviceError)


def test_memory_faults_carry_the_region_owner():
    root = MemoryRegion.container("root", 1 << 20)
    space = AddressSpace("memory", root)
    root.add_subregion(0x100, MemoryRegion.io("regs", 16, lambda o, s: 1 // 0, lambda o, s, v: None, owner="vga"))
    assert space.load(0x104, 4) == 0xFFFFFFFF
    assert str(space.take_fault()).startswith("vga: read of 4 bytes at offset 0x4 failed: ZeroDivisionError: ")


def test_a_handler_serves_several_spaces_and_faults_go_where_the_access_was():
    handler = IoHandler.python(lambda offset, size: 1 // 0, None, "shared")
    spaces = [PortSpace("a"), PortSpace("b")]
    for space in spaces:
        PortioList("dev", [PortioEntry(0, 1, 1, handler=handler)], "dev").add(space, 0)
    spaces[1].in_(0)
    assert spaces[0].take_fault() is None
    assert spaces[1].take_fault().device == "shared"

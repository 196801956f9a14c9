# SPDX-License-Identifier: MIT
import gc
import weakref

import pytest

from pyemu.errors import MemoryMapError
from pyemu.memory import PortioEntry, PortioList, PortSpace


class Latch:
    """Eight byte registers that remember."""

    def __init__(self, name="latch", **options):
        self.id = name
        self.data = bytearray(8)
        self.list = PortioList(self, [PortioEntry(0, 8, 1, self.read, self.write)], name, **options)

    def read(self, offset, size):
        return self.data[offset]

    def write(self, offset, size, value):
        self.data[offset] = value


@pytest.fixture
def space():
    return PortSpace()


def test_a_moved_function_answers_at_its_new_base_at_once_with_its_state(space):
    latch = Latch()
    latch.list.add(space, 0x3F8)
    space.out(0x3FF, 1, 0x5A)
    latch.list.set_address(0x2E8)
    assert (space.in_(0x2EF), space.in_(0x3FF)) == (0x5A, 0xFF)
    latch.list.set_address(0x3BC)  # 4 modulo 8: offsets count from the base, not from the port's low bits
    assert [space.in_(0x3BC + n) for n in range(8)] == [0, 0, 0, 0, 0, 0, 0, 0x5A]


def test_a_list_of_several_chunks_moves_as_one_and_leaves_its_holes_to_others(space):
    floppy = PortioList("fdc", [PortioEntry(1, 5, 1, lambda o, s: 0xF0 | o), PortioEntry(7, 1, 1, lambda o, s: 0xF7)], "fdc")
    other = PortioList("ide", [PortioEntry(0, 1, 1, lambda o, s: 0x1D)], "ide")
    other.add(space, 0x3F6)
    floppy.add(space, 0x3F0)
    seen = [0xFF, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0x1D, 0xF7]
    assert [space.in_(0x3F0 + n) for n in range(8)] == seen
    floppy.set_address(0x370)
    assert [space.in_(0x370 + n) for n in range(8)] == [*seen[:6], 0xFF, 0xF7]
    floppy.set_address(0x3F0)
    assert [space.in_(0x3F0 + n) for n in range(8)] == seen


def test_a_hidden_function_keeps_its_address_and_can_be_moved_meanwhile(space):
    latch = Latch()
    latch.list.add(space, 0x100, enabled=False)
    assert (space.in_(0x100), latch.list.address, latch.list.enabled) == (0xFF, 0x100, False)
    latch.list.set_address(0x200)
    assert space.in_(0x200) == 0xFF
    latch.list.set_enabled(True)
    assert (space.in_(0x200), space.in_(0x100)) == (0, 0xFF)
    latch.list.set_enabled(False)
    assert space.in_(0x200) == 0xFF


def test_the_last_mapped_wins_and_the_other_comes_back_unharmed(space):
    one, two = Latch("one"), Latch("two")
    one.data[0], two.data[0] = 1, 2
    one.list.add(space, 0x100)
    two.list.add(space, 0x200)
    two.list.set_address(0x100)
    assert space.in_(0x100) == 2
    one.list.set_address(0x100)  # no change of address: not mapped again
    one.list.set_enabled(True)
    assert space.in_(0x100) == 2
    one.list.set_address(0x300)
    one.list.set_address(0x100)
    assert space.in_(0x100) == 1
    one.list.set_enabled(False)
    assert space.in_(0x100) == 2
    one.list.set_enabled(True)
    assert space.in_(0x100) == 1


def test_a_higher_priority_wins_whatever_the_order(space):
    config, function = Latch("config"), Latch("function")
    config.data[0], function.data[0] = 0xC0, 0xF0
    config.list.add(space, 0x3F0, priority=10)
    function.list.add(space, 0x3F0)
    function.list.set_address(0x370)
    function.list.set_address(0x3F0)
    assert space.in_(0x3F0) == 0xC0
    config.list.remove()
    assert space.in_(0x3F0) == 0xF0


def test_a_transaction_shows_only_its_end(space):
    one, two = Latch("one"), Latch("two")
    one.data[0], two.data[0] = 1, 2
    one.list.add(space, 0x100)
    two.list.add(space, 0x200)
    with space.transaction():
        one.list.set_address(0x200)
        with space.transaction():
            two.list.set_address(0x100)
        assert (space.in_(0x100), space.in_(0x200)) == (1, 2)
    assert (space.in_(0x100), space.in_(0x200)) == (2, 1)


def test_a_function_that_ends_where_it_was_keeps_its_rank(space):
    one, two = Latch("one"), Latch("two")
    one.data[0], two.data[0] = 1, 2
    one.list.add(space, 0x100)
    two.list.add(space, 0x100)
    with space.transaction():
        one.list.set_address(0x200)
        one.list.set_enabled(False)
        one.list.set_enabled(True)
        one.list.set_address(0x100)
    assert space.in_(0x100) == 2


def test_a_transaction_left_by_an_exception_still_carries_out_what_was_asked(space):
    latch = Latch()
    latch.list.add(space, 0x100)
    with pytest.raises(KeyError), space.transaction():
        latch.list.set_address(0x200)
        raise KeyError
    assert (space.in_(0x200), space.in_(0x100)) == (0, 0xFF)


def test_removal_inside_a_transaction(space):
    one, two = Latch("one"), Latch("two")
    one.list.add(space, 0x100)
    with space.transaction():
        one.list.set_address(0x200)
        one.list.remove()
        two.list.add(space, 0x100)
    assert [r.name for r in space.regions()] == ["two"]


def test_regions_name_what_is_mapped(space):
    latch = Latch("uart1")
    latch.list.add(space, 0x3F8, priority=3)
    region = space.region_at(0x3FA)
    assert (region.name, region.owner, region.start, region.length, region.offset, region.priority) == (
        "uart1", latch, 0x3F8, 8, 0, 3,
    )  # fmt: skip
    assert space.regions() == [region]
    assert space.region_at(0x400) is None
    assert repr(region) == "<PortRegion uart1 0x3f8-0x3ff>"


@pytest.mark.parametrize("base", [-1, 0xFFF9, 0x10000, 1 << 80])
def test_a_base_that_does_not_fit_changes_nothing(space, base):
    latch = Latch("uart1")
    with pytest.raises(MemoryMapError, match=f"uart1: ports uart1 does not fit at {base:#x}"):
        latch.list.add(space, base)
    assert not latch.list.mapped
    latch.list.add(space, 0xFFF8)
    with pytest.raises(MemoryMapError, match="does not fit"):
        latch.list.set_address(base)
    assert (latch.list.address, space.in_(0xFFFF)) == (0xFFF8, 0)


def test_adding_twice_names_both_places(space):
    latch = Latch("uart1")
    latch.list.add(space, 0x3F8)
    with pytest.raises(MemoryMapError, match="uart1: ports uart1 cannot be added to other at 0x2f8: it is in io at 0x3f8"):
        latch.list.add(PortSpace("other"), 0x2F8)
    with pytest.raises(MemoryMapError, match="cannot be destroyed: it is in io at 0x3f8"):
        latch.list.destroy()
    latch.list.remove()
    with pytest.raises(MemoryMapError, match="is not mapped"):
        latch.list.remove()
    latch.list.destroy()
    latch.list.add(space, 0x2F8)
    assert space.in_(0x2F8) == 0


def test_coalesced_flushing_is_asked_for_before_mapping(space):
    latch = Latch()
    latch.list.set_flush_coalesced()
    latch.list.add(space, 0x100)
    assert latch.list.flush_coalesced
    with pytest.raises(MemoryMapError, match="set_flush_coalesced comes before add"):
        latch.list.set_flush_coalesced()


@pytest.mark.parametrize(("port", "size"), [(-1, 1), (0x10000, 1), (0, 3), (0, 8), (0, 0)])
def test_impossible_accesses_from_python_are_refused(space, port, size):
    with pytest.raises(MemoryMapError):
        space.in_(port, size)
    with pytest.raises(MemoryMapError):
        space.out(port, size, 0)
    assert (space.unassigned_reads, space.unassigned_writes) == (0, 0)


def test_unassigned_accesses_count_once_each(space):
    assert [space.in_(0x300, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    assert space.unassigned_reads == 3
    space.out(0x301, 4, 0)
    assert space.unassigned_writes == 1
    latch = Latch()
    latch.list.add(space, 0x300)
    space.in_(0x304, 4)
    assert space.unassigned_reads == 3
    space.in_(0x306, 4)
    assert space.unassigned_reads == 4


def test_written_values_are_cut_to_the_access(space):
    latch = Latch()
    latch.list.add(space, 0x100)
    space.out(0x100, 1, 0x1FF)
    space.out(0x101, 2, -1)
    assert latch.data[:4] == b"\xff\xff\xff\x00"


def test_names_of_wide_modes_are_checked(space):
    with pytest.raises(MemoryMapError, match="'wide' are not one of lanes, qemu"):
        PortSpace("io", "wide")
    space.wide = "qemu"
    assert space.wide == "qemu"


def test_a_space_keeps_its_functions_and_lets_them_go(space):
    latch = Latch()
    latch.list.add(space, 0x100)
    alive = weakref.ref(latch)
    del latch
    gc.collect()
    assert space.in_(0x100) == 0
    space.region_at(0x100).owner.list.remove()
    gc.collect()
    assert alive() is None


def test_a_dropped_space_takes_cycles_with_it():
    space = PortSpace()
    latch = Latch()
    latch.space = space
    latch.list.add(space, 0x100)
    alive = weakref.ref(latch)
    del latch, space
    gc.collect()
    assert alive() is None

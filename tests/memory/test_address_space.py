# SPDX-License-Identifier: MIT
"""Accesses through an address space."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.errors import MemoryMapError
from pyemu.memory import AddressSpace, MemoryRegion, RAMBlock

PAGE = 4096


class Registers:
    """A device that remembers its accesses; each byte reads as its offset."""

    def __init__(self, size=32, **limits):
        self.log = []
        self.region = MemoryRegion.io("regs", size, self.read, self.write, **limits)

    def read(self, offset, size):
        self.log.append((offset, size))
        return int.from_bytes(bytes((offset + n) & 0xFF for n in range(size)), "little")

    def write(self, offset, size, value):
        self.log.append((offset, size, value))


@pytest.fixture
def root():
    return MemoryRegion.container("root", 1 << 32)


@pytest.fixture
def space(root):
    return AddressSpace("memory", root)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_ram_loads_and_stores_are_little_endian(root, space, size):
    block = RAMBlock("ram", PAGE)
    root.add_subregion(0x1000, MemoryRegion.ram("ram", block))
    space.store(0x1003, size, 0x8877665544332211)
    assert block.read(3, 8) == bytes([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88])[:size].ljust(8, b"\0")
    assert space.load(0x1003, size) == 0x8877665544332211 & ((1 << 8 * size) - 1)


def test_ram_writes_mark_pages_and_tell_listeners(root, space):
    block = RAMBlock("ram", 4 * PAGE)
    root.add_subregion(0x10000, MemoryRegion.ram("ram", block, PAGE))
    bitmap = block.dirty_client("migration")
    told = []
    block.add_write_listener(lambda offset, length: told.append((offset, length)))
    space.store(0x10FFF, 2, 0xFFFF)
    space.write(0x12000, b"xyz")
    assert list(bitmap.runs()) == [(1, 3)]
    assert told == [(0x1FFF, 2), (0x3000, 3)]


def test_rom_ignores_and_counts_writes(root, space):
    block = RAMBlock("rom", PAGE)
    block.write(0, b"boot")
    bitmap = block.dirty_client("migration")
    root.add_subregion(0, MemoryRegion.rom("rom", block))
    space.write(0, b"oops")
    space.store(0, 4, 0)
    assert (space.read(0, 4), space.rom_writes, bitmap.count(), space.unassigned_writes) == (b"boot", 2, 0, 0)


def test_unassigned_addresses_read_as_ones_and_count_once_an_access(root, space):
    assert space.load(0x5000, 8) == (1 << 64) - 1
    assert space.read(0x5000, 100) == b"\xff" * 100
    space.write(0x5000, bytes(100))
    assert (space.unassigned_reads, space.unassigned_writes) == (2, 1)


def test_a_missing_direction_is_unassigned(root, space):
    root.add_subregion(0, MemoryRegion.io("ro", 4, lambda o, s: 7))
    root.add_subregion(4, MemoryRegion.io("wo", 4, None, lambda o, s, v: None))
    space.store(0, 4, 1)
    assert space.load(4, 4) == 0xFFFFFFFF
    assert (space.unassigned_reads, space.unassigned_writes) == (1, 1)


def test_wide_and_misaligned_accesses_are_cut(root, space):
    regs = Registers(max_access=4)
    root.add_subregion(0x100, regs.region)
    assert space.load(0x100, 8) == 0x0706050403020100
    assert regs.log == [(0, 4), (4, 4)]
    regs.log.clear()
    assert space.load(0x103, 4) == 0x06050403
    assert regs.log == [(3, 1), (4, 2), (6, 1)]
    regs.log.clear()
    space.store(0x106, 4, 0xDDCCBBAA)
    assert regs.log == [(6, 2, 0xBBAA), (8, 2, 0xDDCC)]


def test_narrow_reads_take_part_of_a_register_and_narrow_writes_are_lost(root, space):
    regs = Registers(min_access=4, max_access=4)
    root.add_subregion(0x100, regs.region)
    assert space.load(0x105, 2) == 0x0605
    assert regs.log == [(4, 4)]
    regs.log.clear()
    assert space.load(0x102, 4) == 0x05040302
    assert regs.log == [(0, 4), (4, 4)]
    regs.log.clear()
    space.store(0x102, 2, 0)
    assert (regs.log, space.unassigned_writes) == ([], 1)
    space.store(0x104, 4, 9)
    assert regs.log == [(4, 4, 9)]


def test_accesses_across_borders_are_split(root, space):
    block, regs = RAMBlock("ram", PAGE), Registers()
    root.add_subregion(0, MemoryRegion.ram("ram", block))
    root.add_subregion(PAGE, regs.region)
    block.write(PAGE - 2, b"\xaa\xbb")
    assert space.load(PAGE - 2, 4) == 0x0100BBAA
    assert space.read(PAGE - 2, 40) == b"\xaa\xbb" + bytes(range(32)) + b"\xff" * 6
    space.store(PAGE - 2, 4, 0x44332211)
    assert block.read(PAGE - 2, 2) == b"\x11\x22"
    assert regs.log[-1] == (0, 2, 0x4433)


def test_offsets_count_from_the_region_where_only_part_of_it_shows(root, space):
    regs = Registers(256)
    root.add_subregion(0, MemoryRegion.alias("window", regs.region, 0x40, 0x20))
    assert space.load(4, 4) == 0x47464544
    assert regs.log == [(0x44, 4)]


@pytest.mark.parametrize(("gpa", "size"), [(-1, 1), (1 << 64, 1), (0, 3), (0, 0), (0, 16)])
def test_impossible_accesses_are_refused(space, gpa, size):
    with pytest.raises(MemoryMapError):
        space.load(gpa, size)
    with pytest.raises(MemoryMapError):
        space.store(gpa, size, 0)


@pytest.mark.parametrize(("gpa", "length"), [(-1, 1), (0, -1), ((1 << 64) - 1, 2), (0, (1 << 30) + 1), (0, 1 << 70)])
def test_impossible_ranges_are_refused_before_memory_is_taken(space, gpa, length):
    with pytest.raises(MemoryMapError, match=f"no range of {length} bytes"):
        space.read(gpa, length)


def test_empty_accesses_are_fine(space):
    assert space.read(0, 0) == b""
    space.write((1 << 64) - 1, b"")
    assert (space.unassigned_reads, space.unassigned_writes) == (0, 0)


def test_memory_in_a_view_outlives_its_block(root, space):
    block = RAMBlock("ram", 1 << 20)
    block.write(0, b"here")
    root.add_subregion(0, MemoryRegion.ram("ram", block))
    block.close()
    gc.collect()
    assert space.read(0, 4) == b"here"


@given(
    starts=st.lists(st.integers(0, 120), min_size=1, max_size=5),
    accesses=st.lists(st.tuples(st.integers(0, 140), st.sampled_from([1, 2, 4, 8])), max_size=12),
    limits=st.sampled_from([(1, 1), (1, 4), (1, 8), (2, 4), (4, 4), (8, 8)]),
)
def test_any_access_equals_its_bytes(starts, accesses, limits):
    """Whatever an access crosses and however it is cut, it gives the bytes that single reads give."""
    root = MemoryRegion.container("root", 160)
    space = AddressSpace("memory", root)
    low, high = limits
    for n, start in enumerate(starts):
        if n % 2:
            block = RAMBlock("ram", PAGE)
            block.write(0, bytes(0x80 + (i & 0x7F) for i in range(32)))
            root.add_subregion(start, MemoryRegion.ram(f"r{n}", block, 0, 24))
        else:
            root.add_subregion(start, Registers(16, min_access=low, max_access=high).region)
    for at, size in accesses:
        single = bytes(space.load(at + n, 1) for n in range(size))
        assert space.load(at, size).to_bytes(size, "little") == single
        assert space.read(at, size) == single

# SPDX-License-Identifier: MIT
import gc
import mmap
import os
import pathlib
import sys

import numpy as np
import pytest

from pyemu.errors import ConfigError, MemoryMapError
from pyemu.memory import RAMBlock

PAGE = 4096


def resident():
    """Bytes of this process in memory."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("backing", ["anon", "memfd"])
def test_the_array_is_the_memory(backing):
    block = RAMBlock("ram", 3 * PAGE, backing=backing)
    array = block.array
    assert (array.dtype, array.shape, array.flags.writeable) == (np.uint8, (3 * PAGE,), True)
    assert array.ctypes.data == block.pointer
    array[5] = 7
    block.write(6, b"ab")
    assert block.read(5, 3) == b"\x07ab"
    assert array[6:8].tobytes() == b"ab"
    assert (block.pages, block.page_size, block.used_length) == (3, PAGE, 3 * PAGE)


@pytest.mark.parametrize("backing", ["anon", "memfd"])
@pytest.mark.parametrize("size", [PAGE, (2 << 20) + PAGE, 64 << 20])
def test_blocks_begin_where_a_huge_page_can(backing, size):
    assert RAMBlock("ram", size, backing=backing).pointer % (2 << 20) == 0


def test_memory_is_taken_when_it_is_used_and_not_before():
    before = resident()
    block = RAMBlock("ram", 1 << 40)
    assert block.pages == 1 << 28
    block.dirty_client("migration")
    array = block.array
    array[1 << 39] = 1
    assert array[(1 << 39) + 1] == 0
    assert resident() - before < 64 << 20


def test_memory_goes_with_the_last_view():
    block = RAMBlock("ram", 16 << 20)
    block.array[:] = 1
    part = block.array[:10]
    held = resident()
    block.close()
    gc.collect()
    assert part.sum() == 10
    assert resident() > held - (8 << 20)
    del part
    gc.collect()
    assert resident() < held - (8 << 20)


def test_a_closed_block_says_so():
    block = RAMBlock("ram", PAGE)
    block.close()
    block.close()
    assert block.closed
    for use in (lambda: block.array, lambda: block.pointer, lambda: block.read(0, 1), lambda: block.write(0, b"x")):
        with pytest.raises(MemoryMapError, match="RAM block ram is closed"):
            use()


def test_a_memfd_is_shared_with_whoever_maps_it():
    block = RAMBlock("pc.ram", 2 * PAGE, backing="memfd")
    with mmap.mmap(block.fd, 2 * PAGE) as other:
        block.write(PAGE, b"here")
        assert other[PAGE : PAGE + 4] == b"here"
        other[0:2] = b"hi"
    assert block.read(0, 2) == b"hi"
    assert RAMBlock("ram", PAGE).fd == -1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ram", 0), "RAM block ram: size 0 is not a positive multiple of 4096"),
        (("ram", -PAGE), "size -4096 is not"),
        (("ram", 5000), "size 5000 is not"),
        (("ram", (1 << 40) + PAGE), "size 1099511631872 is not"),
        (("ram", 1 << 80), "is not a positive multiple"),
        (("", PAGE), "does not take 1 to 255 bytes"),
        (("x" * 256, PAGE), "does not take 1 to 255 bytes"),
    ],
)
def test_impossible_blocks_are_refused_by_name(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RAMBlock(*arguments)


@pytest.mark.parametrize("page_size", [0, 1024, 4097, 12288, 4 << 20])
def test_impossible_page_sizes_are_refused(page_size):
    with pytest.raises(ConfigError, match=f"page size {page_size} is not a power of two"):
        RAMBlock("ram", 8 << 20, page_size=page_size)


def test_unknown_backings_are_refused():
    with pytest.raises(ConfigError, match="backing 'tape' is not one of anon, memfd"):
        RAMBlock("ram", PAGE, backing="tape")


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (PAGE, 1), (PAGE - 1, 2), (1 << 70, 1), (0, 1 << 70)])
def test_ranges_outside_are_refused(offset, length):
    block = RAMBlock("ram", PAGE)
    with pytest.raises(MemoryMapError, match="are not inside its 4096 bytes"):
        block.read(offset, length)
    with pytest.raises(MemoryMapError, match="are not inside its 4096 bytes"):
        block.mark_dirty(offset, length)


def test_writes_beyond_the_end_store_nothing():
    block = RAMBlock("ram", PAGE)
    with pytest.raises(MemoryMapError):
        block.write(PAGE - 2, b"abc")
    assert not block.array.any()


@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), np.frombuffer(b"ab", np.uint8), memoryview(b"ab")])
def test_anything_of_bytes_can_be_written(data):
    block = RAMBlock("ram", PAGE)
    block.write(1, data)
    assert block.read(0, 4) == b"\0ab\0"


@pytest.mark.parametrize("page_size", [4096, 65536, 2 << 20])
def test_marks_reach_every_client(page_size):
    block = RAMBlock("ram", 4 * page_size, page_size=page_size)
    one, two = block.dirty_client("migration"), block.dirty_client("display")
    assert block.dirty_client("display") is two
    block.write(page_size - 1, b"ab")
    block.mark_dirty(3 * page_size, 1)
    assert list(one.runs()) == list(two.runs()) == [(0, 2), (3, 1)]
    one.clear_all()
    block.drop_dirty_client("display")
    block.drop_dirty_client("display")
    block.mark_dirty(0, 1)
    assert (list(one.runs()), list(two.runs())) == ([(0, 1)], [(0, 2), (3, 1)])
    assert block.dirty_client("display").count() == 0


def test_empty_writes_mark_nothing():
    block = RAMBlock("ram", PAGE)
    client = block.dirty_client("migration")
    block.write(PAGE, b"")
    block.mark_dirty(0, 0)
    assert client.count() == 0


def test_listeners_come_go_and_may_fail(monkeypatch):
    block = RAMBlock("ram", PAGE)
    heard, reported = [], []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def bad(offset, length):
        raise KeyError(offset)

    def good(offset, length):
        heard.append((offset, length))

    block.add_write_listener(bad)
    block.add_write_listener(good)
    block.write(3, b"abc")
    assert heard == [(3, 3)]
    assert [type(r.exc_value) for r in reported] == [KeyError]
    block.remove_write_listener(bad)
    block.remove_write_listener(good)
    block.write(3, b"abc")
    assert heard == [(3, 3)]
    with pytest.raises(MemoryMapError, match="is no write listener of it"):
        block.remove_write_listener(good)

# SPDX-License-Identifier: MIT
"""Records of a file, taken by several threads, against the same records taken one after the other."""

from __future__ import annotations

import os
import struct
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.memory import RAMBlock
from pyemu.migration import _records, pages, records
from pyemu.migration.channels import open_file
from pyemu.migration.framing import StreamReader

PAGE = 4096
COUNT = 200
ZERO, DATA, CONTINUE = 0x02, 0x08, 0x20


def record(number, data):
    """A record that continues its block; *data* is None for a page of zeros."""
    flags = CONTINUE | (ZERO if data is None else DATA)
    return struct.pack(">Q", number * PAGE | flags) + (b"\0" if data is None else data)


def content(number, salt=0):
    return struct.pack("<QQ", number + 1, salt) * (PAGE // 16)


def scatter(path, position, *, threads, piece=8 + PAGE, before=0xEE, count=COUNT):
    """What a block that was full of *before* holds afterwards, and how far it went."""
    block = RAMBlock("ram", count * PAGE)
    block.array[:] = before
    touched = np.full((count + 63) // 64, (1 << 64) - 1, dtype=np.uint64) if before else pages.new_bits(count)
    with open(path, "rb") as file:
        work = _records.FileScatter(
            file.fileno(), position, block.pointer, count, PAGE, touched, pages.new_bits(count), piece
        )
        helpers = [threading.Thread(target=work.work) for _ in range(threads - 1)]
        for helper in helpers:
            helper.start()
        work.work()
        for helper in helpers:
            helper.join()
    return block, work


items = st.lists(st.tuples(st.integers(0, COUNT + 2), st.booleans()), max_size=60)


@given(items, st.integers(0, 9000), st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_threads_take_what_one_reader_takes(tmp_path_factory, found, cut, threads, pieces, junk):
    path = tmp_path_factory.mktemp("records") / "stream"
    data = b"".join(record(n, content(n, at) if filled else None) for at, (n, filled) in enumerate(found))
    data = data[: max(len(data) - cut, 0)]
    # What stands behind whole records must not be taken for one.
    path.write_bytes(b"head" + data + (b"\xff" * 30 if junk and not cut else b""))
    block, work = scatter(path, 4, threads=threads, piece=pieces * 5000)

    expected = np.full((COUNT, PAGE), 0xEE, dtype=np.uint8)
    at, seen, normal, zero = 4, set(), 0, 0
    for salt, (number, filled) in enumerate(found):
        length = 8 + (PAGE if filled else 1)
        if number >= COUNT or number in seen or at - 4 + length > len(data):
            break
        seen.add(number)
        expected[number] = np.frombuffer(content(number, salt), dtype=np.uint8) if filled else 0
        at += length
        normal, zero = normal + filled, zero + (not filled)
    assert (work.end, work.normal, work.zero) == (at, normal, zero)
    assert (block.array.reshape(COUNT, PAGE) == expected).all()


def test_a_page_that_comes_again_is_not_overtaken(tmp_path):
    """The later record counts, whichever thread has it."""
    path = tmp_path / "stream"
    count = 2000
    numbers = [*range(count), *range(0, count, 3), *range(0, count, 5)]
    with path.open("wb") as file:
        for salt, number in enumerate(numbers):
            file.write(record(number, content(number, salt)))
    last = {number: salt for salt, number in enumerate(numbers)}
    block = RAMBlock("ram", count * PAGE)
    touched = pages.new_bits(count)
    with open_file(path) as channel:
        stream = StreamReader(channel)
        normal = 0
        while not stream.at_end():
            stream.peek(8 + PAGE)
            normal += records.scatter_stream(block, stream, touched)[0]
        assert (normal, stream.transferred) == (len(numbers), path.stat().st_size)
    assert all(bytes(block.array[n * PAGE : (n + 1) * PAGE]) == content(n, last[n]) for n in range(count))
    assert pages.count_bits(touched, count) == count


def test_zero_pages_clear_only_what_was_touched(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(b"".join(record(n, None) for n in range(COUNT)))
    block, work = scatter(path, 0, threads=2, before=0)
    assert (work.zero, work.end, int(block.array.max())) == (COUNT, 9 * COUNT, 0)
    block, _ = scatter(path, 0, threads=2, before=0xEE)
    assert int(block.array.max()) == 0


@pytest.mark.parametrize("position", [0, 10**12], ids=["at the start", "far behind the end"])
def test_nothing_there(tmp_path, position):
    path = tmp_path / "stream"
    path.write_bytes(b"")
    _, work = scatter(path, position, threads=3)
    assert (work.end, work.normal, work.zero) == (position, 0, 0)


def test_a_descriptor_that_cannot_be_read_takes_nothing(tmp_path):
    fd = os.open(tmp_path / "written", os.O_WRONLY | os.O_CREAT)
    try:
        block = RAMBlock("ram", PAGE)
        work = _records.FileScatter(fd, 0, block.pointer, 1, PAGE, pages.new_bits(1), pages.new_bits(1), 2 * PAGE)
        work.work()
        assert work.end == 0
    finally:
        os.close(fd)


def test_bad_sizes_are_refused():
    block, bits, small = RAMBlock("ram", 128 * PAGE), pages.new_bits(128), pages.new_bits(64)
    cases = [(small, bits, 9000, 0), (bits, small, 9000, 0), (bits, bits, 100, 0), (bits, bits, 9000, -1)]
    for touched, seen, piece, position in cases:
        with pytest.raises(ValueError, match="bitmaps of|pieces of"):
            _records.FileScatter(0, position, block.pointer, 128, PAGE, touched, seen, piece)

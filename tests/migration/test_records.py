# SPDX-License-Identifier: MIT
"""Compiled record and page work against plain models of it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.memory import RAMBlock
from pyemu.migration import _records, pages, records
from pyemu.migration.framing import StreamWriter

PAGE = 4096
COUNT = 24
BLOCK = RAMBlock("ram", COUNT * PAGE)
OTHER = RAMBlock("rom", 4 * PAGE)
#: Some pages are zero, the others all different.
for _n in range(COUNT):
    BLOCK.array[_n * PAGE + _n * 97] = 0 if _n % 3 == 1 else _n + 1

rows = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT)), max_size=8).map(
    lambda items: [(first, min(count, COUNT - first)) for first, count in items]
)


class Output:
    """A channel that keeps what is written."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data):
        self.data += data


def flat(runs):
    return [n for first, count in runs for n in range(first, first + count)]


def page(block, n):
    return bytes(block.array[n * PAGE : (n + 1) * PAGE])


def model(block, numbers, named, detect):
    out = bytearray()
    for n in numbers:
        name = bytes([3]) + block.idstr.encode() if named else b""
        zero = detect and not any(page(block, n))
        out += struct.pack(">Q", n * PAGE | (2 if zero else 8) | (0 if named else 0x20)) + name
        out += b"\0" if zero else page(block, n)
        named = False
    return bytes(out)


@given(rows, rows, st.booleans())
def test_records_follow_the_model(first, second, detect):
    output = Output()
    stream = StreamWriter(output)
    writer = records.RecordWriter(stream)
    expected = b""
    for block, runs, named in ((BLOCK, first, True), (BLOCK, second, not flat(first)), (OTHER, [(1, 2)], True)):
        count = writer.write(block, pages.as_runs(runs), detect_zero=detect)
        zero = sum(not any(page(block, n)) for n in flat(runs)) if detect else 0
        assert (count.normal, count.zero, count.size) == (len(flat(runs)) - zero, zero, 0)
        expected += model(block, flat(runs), named, detect)
    stream.flush()
    assert output.data == expected


def test_a_full_buffer_goes_on_where_it_ended():
    block = RAMBlock("ram", 1 << 20)
    block.array[: 200 * PAGE] = 7
    output = Output()
    stream = StreamWriter(output)
    count = records.RecordWriter(stream).write(block, pages.as_runs([(0, 150), (160, 96)]))
    stream.flush()
    assert (count.normal, count.zero) == (190, 56)
    assert output.data == model(block, [*range(150), *range(160, 256)], True, True)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, COUNT + 1), st.sampled_from([8, 0x28, 0x28, 0x28, 0x22, 0x22, 0x2A, 0x10, 0x21])),
            st.just((1 << 50, 0x28)),
        ),
        max_size=12,
    ),
    st.integers(0, 5000),
    st.sets(st.integers(0, COUNT - 1)),
    st.sampled_from([b"\0", b"\0", b"\1"]),
)
def test_scattered_records_follow_the_model(items, cut, before, zero_byte):
    data, ends, actions = b"", [], []
    for number, flags in items:
        word = struct.pack(">Q", number * PAGE | flags)
        filling = bytes([len(ends) + 1]) * PAGE
        data += word + (zero_byte if flags == 0x22 else filling)
        good = number < COUNT and (flags == 0x28 or (flags == 0x22 and zero_byte == b"\0"))
        ends.append(len(data))
        actions.append((number, filling if flags == 0x28 else None) if good else None)
    data = data[: max(len(data) - cut, 0)]
    block = RAMBlock("ram", COUNT * PAGE)
    touched = pages.new_bits(COUNT)
    records.touch(block, np.array(sorted(before), dtype=np.int64), touched)
    # What was touched is not zero; what was not is, and stays as it is even if it had something in it.
    block.array[:] = 0xEE
    expected = dict.fromkeys(range(COUNT), b"\xee" * PAGE)
    known, taken, normal, zero = set(before), 0, 0, 0
    for end, action in zip(ends, actions, strict=True):
        if action is None or end > len(data):
            break
        number, filling = action
        taken = end
        if filling is None:
            zero += 1
            if number in known:
                expected[number] = bytes(PAGE)
        else:
            normal += 1
            known.add(number)
            expected[number] = filling
    assert records.scatter_records(block, data, touched) == (taken, normal, zero)
    assert {n: page(block, n) for n in range(COUNT)} == expected
    assert flat(pages.runs_of(touched, COUNT).tolist()) == sorted(known)


@given(rows)
def test_pages_are_sorted_gathered_and_scattered(runs):
    given_runs = pages.as_runs(runs)
    assert records.numbers_of(given_runs).tolist() == flat(runs)
    data, zero = records.sort_pages(BLOCK, given_runs)
    assert data.tolist() == [n for n in flat(runs) if any(page(BLOCK, n))]
    assert zero.tolist() == [n for n in flat(runs) if not any(page(BLOCK, n))]
    together = b"".join(page(BLOCK, n) for n in data.tolist())
    assert bytes(records.gather_pages(BLOCK, data)) == together
    pieces = records.slices(BLOCK, data)
    assert b"".join(pieces) == together
    joints = sum(b != a + 1 for a, b in zip(data.tolist(), data.tolist()[1:], strict=False))
    assert len(pieces) == (joints + 1 if len(data) else 0)
    other = RAMBlock("ram", COUNT * PAGE)
    records.scatter_pages(other, data, together)
    assert all(page(other, n) == (page(BLOCK, n) if n in data else bytes(PAGE)) for n in range(COUNT))


def test_only_touched_pages_are_cleared():
    block = RAMBlock("ram", 4 * PAGE)
    block.array[:] = 1
    touched = pages.new_bits(4)
    records.touch(block, np.array([1, 3]), touched)
    records.clear_touched(block, np.array([0, 1]), touched)
    assert block.array.reshape(4, PAGE).any(axis=1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("number", [-1, 4, 1 << 50])
def test_pages_outside_of_the_memory_are_refused(number):
    numbers, words = np.array([0, number]), pages.new_bits(4)
    for call in (
        lambda: records.gather_pages(OTHER, numbers),
        lambda: records.scatter_pages(OTHER, numbers, bytes(2 * PAGE)),
        lambda: records.slices(OTHER, numbers),
        lambda: records.clear_touched(OTHER, numbers, words),
    ):
        with pytest.raises(ValueError, match="4 pages"):
            call()


def test_wrong_buffers_are_refused():
    numbers, empty = np.array([0, 1]), b""
    with pytest.raises(ValueError, match="8191 bytes for 2 pages"):
        records.scatter_pages(OTHER, numbers, bytes(2 * PAGE - 1))
    with pytest.raises(ValueError, match="bitmap of 0 words"):
        records.scatter_records(OTHER, empty, pages.new_bits(0))
    runs = pages.as_runs([(0, 1)])
    with pytest.raises(ValueError, match="buffer of 4096 bytes"):
        _records.gather_records(OTHER.pointer, 4, PAGE, runs, 0, 0, bytearray(PAGE), empty, True)

# SPDX-License-Identifier: MIT
"""The compiled page work against plain models of it."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.errors import MigrationError
from pyemu.memory import RAMBlock
from pyemu.migration import _pages, pages

PAGE = 4096
LEVELS = ("avx2", "sse2", "plain")


@pytest.fixture
def level(request):
    try:
        pages.select_simd(request.param)
    except ValueError:
        # Other processors have other levels; which one is in use is part of the name.
        pages.select_simd("plain")
    yield pages.simd()
    pages.select_simd()


def bits_of(flags):
    words = pages.new_bits(len(flags))
    for i, flag in enumerate(flags):
        if flag:
            words[i >> 6] |= np.uint64(1 << (i & 63))
    return words


def flags_of(words, count):
    return [bool(int(words[i >> 6]) >> (i & 63) & 1) for i in range(count)]


def model_runs(flags, value=True):
    runs, start = [], None
    for i, flag in enumerate([*flags, not value]):
        if flag == value and start is None:
            start = i
        elif flag != value and start is not None:
            runs.append((start, i - start))
            start = None
    return runs


FLAGS = st.lists(st.booleans(), max_size=200) | st.integers(0, 200).map(lambda n: [True] * n)


@pytest.mark.parametrize("level", LEVELS, indirect=True)
def test_zero_test_finds_a_single_bit_anywhere(level):
    block = RAMBlock("ram", 4 * PAGE)
    everything = pages.as_runs([(0, 4)])
    assert pages.zero_flags_of(block, everything).tolist() == [1, 1, 1, 1]
    for offset in [*range(0, PAGE, 61), 127, 128, 255, 256, PAGE - 1]:
        block.array[PAGE + offset] = 0x80
        assert pages.zero_flags_of(block, everything).tolist() == [1, 0, 1, 1], (level, offset)
        block.array[PAGE + offset] = 0


def test_unknown_zero_test_is_refused():
    with pytest.raises(ValueError, match="'mmx' is not available"):
        pages.select_simd("mmx")


@given(FLAGS)
def test_runs_and_count_follow_the_model(flags):
    words = bits_of(flags)
    for value in (True, False):
        assert pages.runs_of(words, len(flags), value).tolist() == [list(r) for r in model_runs(flags, value)]
    assert pages.count_bits(words, len(flags)) == sum(flags)


@given(FLAGS, st.integers(0, 220), st.integers(1, 100))
def test_take_runs_takes_the_lowest_bits_and_clears_them(flags, start, limit):
    words = bits_of(flags)
    runs, after = pages.take_runs(words, len(flags), start, limit)
    taken = [p for first, count in runs.tolist() for p in range(first, first + count)]
    expected = [i for i, flag in enumerate(flags) if flag and i >= start][:limit]
    assert taken == expected
    assert flags_of(words, len(flags)) == [flag and i not in set(expected) for i, flag in enumerate(flags)]
    # Nothing is left between the start and where the next call goes on.
    assert not any(flags_of(words, len(flags))[start:after])
    assert all(a[0] + a[1] < b[0] for a, b in zip(runs.tolist(), runs.tolist()[1:], strict=False))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 300)), max_size=20), st.integers(1, 64))
def test_split_runs_keeps_every_page_in_order(rows, limit):
    portions = pages.split_runs(pages.as_runs(rows), limit)
    flat = [p for portion in portions for first, count in portion.tolist() for p in range(first, first + count)]
    assert flat == [p for first, count in rows for p in range(first, first + count)]
    assert all(0 < portion[:, 1].sum() <= limit for portion in portions)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.booleans(), st.data())
def test_place_and_fetch_follow_the_model(tmp_path_factory, kinds, detect, data):
    """Kinds: 0 a zero page, 1 a data page, 2 a data page that is not dirty."""
    block, count = RAMBlock("ram", len(kinds) * PAGE), len(kinds)
    for i, kind in enumerate(kinds):
        block.array[i * PAGE + (i * 97) % PAGE] = kind and i % 255 + 1
    runs = model_runs([k != 2 for k in kinds])
    present = bits_of([data.draw(st.booleans()) for _ in kinds])
    before, written = flags_of(present, count), pages.new_bits(count)
    path = tmp_path_factory.getbasetemp() / "pages"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        done = pages.place(fd, block, 3 * PAGE, pages.as_runs(runs), present, written, detect_zero=detect)
        sent = [k != 2 and (k == 1 or not detect) for k in kinds]
        assert (done.normal, done.zero) == (sum(sent), sum(k == 0 for k in kinds) if detect else 0)
        assert flags_of(written, count) == sent
        assert flags_of(present, count) == [
            s or (b and k == 2) for s, b, k in zip(sent, before, kinds, strict=True)
        ]
        other = RAMBlock("ram", len(kinds) * PAGE)
        pages.fetch(fd, other, 3 * PAGE, pages.as_runs(model_runs(sent)))
        for i, flag in enumerate(sent):
            page = slice(i * PAGE, (i + 1) * PAGE)
            assert (other.array[page] == (block.array[page] if flag else 0)).all()
    finally:
        os.close(fd)


@given(st.lists(st.sampled_from([0, 0, 1, 1, 2]), max_size=120), st.integers(0, 10))
def test_bridged_gaps_follow_the_model(tmp_path_factory, kinds, gap):
    """As above; a gap of zero pages that is no longer than may be bridged is written as zeros, others are holes."""
    block, count = RAMBlock("ram", max(len(kinds), 1) * PAGE), len(kinds)
    for i, kind in enumerate(kinds):
        block.array[i * PAGE + (i * 97) % PAGE] = kind and i % 255 + 1
    present, written = bits_of([True] * count), pages.new_bits(count)
    runs = pages.as_runs(model_runs([k != 2 for k in kinds]))
    longest = min(gap, 8)
    path = tmp_path_factory.getbasetemp() / "bridged"
    path.write_bytes(b"x" * count * PAGE)
    with open(path, "r+b") as file:
        done = _pages.write_pages(file.fileno(), block.pointer, count, PAGE, 0, runs, present, written, True, -1, gap)
    data = path.read_bytes()
    # Within each run of dirty pages: zero pages between data pages.
    bridged = [False] * count
    for start, length in model_runs([k != 2 for k in kinds]):
        for first, zeros in model_runs([k == 0 for k in kinds[start : start + length]]):
            if first > 0 and first + zeros < length and zeros <= longest:
                bridged[start + first : start + first + zeros] = [True] * zeros
    for i, kind in enumerate(kinds):
        page = data[i * PAGE : (i + 1) * PAGE]
        wanted = block.array[i * PAGE : (i + 1) * PAGE].tobytes() if kind == 1 else bytes(PAGE)
        assert page == (wanted if kind == 1 or bridged[i] else b"x" * PAGE), (i, kind)
    assert done[:2] == (kinds.count(1), kinds.count(0))
    assert flags_of(present, count) == [k != 0 for k in kinds]
    assert flags_of(written, count) == [k == 1 for k in kinds]

    other = RAMBlock("ram", max(len(kinds), 1) * PAGE)
    other.array[:] = 0x5A
    wanted_runs = pages.as_runs(model_runs([k == 1 for k in kinds]))
    with open(path, "rb") as file:
        assert _pages.read_pages(file.fileno(), other.pointer, count, PAGE, 0, wanted_runs, -1, gap) == kinds.count(1)
    for i, kind in enumerate(kinds):
        page = slice(i * PAGE, (i + 1) * PAGE)
        assert (other.array[page] == (block.array[page] if kind == 1 else 0x5A)).all(), (i, kind)


def test_bridging_makes_few_calls_of_many(tmp_path):
    block = RAMBlock("ram", 16 << 20)
    block.array.reshape(-1, PAGE)[np.arange(4096) % 4 != 3] = 1
    bits = pages.new_bits(4096)
    calls = {}
    for gap in (0, 1):
        with open(tmp_path / "f", "wb") as out:
            done = _pages.write_pages(
                out.fileno(), block.pointer, 4096, PAGE, 0, pages.as_runs([(0, 4096)]), bits, bits.copy(), True, -1, gap
            )
        assert done[:2] == (3072, 1024)
        calls[gap] = done[2]
        assert (tmp_path / "f").read_bytes() == block.array.tobytes()[: -PAGE]
    assert calls == {0: 1024, 1: 4}


def test_long_runs_go_out_in_few_calls(tmp_path):
    block = RAMBlock("ram", 16 << 20)
    block.array[:] = 1
    bits = pages.new_bits(4096)
    with open(tmp_path / "f", "wb") as out:
        done = _pages.write_pages(
            out.fileno(), block.pointer, 4096, PAGE, 0, pages.as_runs([(0, 4096)]), bits, bits.copy(), True
        )
    assert done == (4096, 0, 4)


@pytest.mark.parametrize("run", [(-1, 1), (0, 5), (4, 1), (2, -1), (1 << 62, 1 << 62)])
def test_runs_outside_of_the_memory_are_refused(run):
    block = RAMBlock("ram", 4 * PAGE)
    runs = pages.as_runs([run])
    with pytest.raises(ValueError, match="outside of 4 pages"):
        pages.zero_flags_of(block, runs)
    with pytest.raises(ValueError, match="outside of 4 pages"):
        pages.fetch(0, block, 0, runs)


def test_failed_writes_say_why_and_leave_the_bits(tmp_path):
    block = RAMBlock("ram", 4 * PAGE)
    block.array[:] = 1
    present, written = pages.new_bits(4), pages.new_bits(4)
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(MigrationError, match="Unable to write to file: No space left on device"):
            pages.place(fd, block, 0, pages.as_runs([(0, 4)]), present, written)
    finally:
        os.close(fd)
    assert not present.any()
    # What a failed write left in the file is not known.
    assert flags_of(written, 4) == [True] * 4


def test_short_files_are_reported_with_page_and_position(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * (PAGE + 10))
    block = RAMBlock("ram", 4 * PAGE)
    with open(tmp_path / "f", "rb") as file, pytest.raises(MigrationError) as caught:
        pages.fetch(file.fileno(), block, 0, pages.as_runs([(0, 2)]))
    assert "page at 0x1000 ends before its 4096 bytes, file position 0x100a" in str(caught.value)
    with open(tmp_path / "w", "wb") as file, pytest.raises(MigrationError, match=os.strerror(errno.EBADF)):
        pages.fetch(file.fileno(), block, 0, pages.as_runs([(0, 2)]))


def test_clear_touches_nothing_that_is_not_used():
    block = RAMBlock("ram", 64 << 20)
    everything = pages.as_runs([(0, 16384)])
    block.array[5 * PAGE] = 1
    # The first huge page is there now, the rest of the block is not.
    used = pages._used_bits(block, 0, 16384)
    before = pages.count_bits(used, 16384)
    assert 1 <= before <= 512
    assert pages.clear(block, everything) == 1
    assert not block.array[5 * PAGE]
    assert pages.count_bits(pages._used_bits(block, 0, 16384), 16384) == before
    # Runs that do not begin where the block does.
    block.array[600 * PAGE :: 1000 * PAGE] = 1
    assert pages.clear(block, pages.as_runs([(601, 1000), (1601, 9000)])) == 10
    assert block.array[600 * PAGE] == 1


@pytest.mark.parametrize("backing", ["anon", "memfd"])
def test_clear_counts_what_was_not_zero(backing):
    block = RAMBlock("ram", 64 * PAGE, backing=backing)
    block.array[5 * PAGE] = 1
    block.array[7 * PAGE + 100] = 1
    block.array[9 * PAGE] = 1
    assert pages.clear(block, pages.as_runs([(0, 8), (10, 54)])) == 2
    assert np.flatnonzero(block.array).tolist() == [9 * PAGE]


def test_clear_file_leaves_zeros(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * (4 * PAGE))
    with open(path, "r+b") as file:
        pages.clear_file(file.fileno(), PAGE, 2 * PAGE)
    assert path.read_bytes() == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE

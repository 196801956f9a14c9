# SPDX-License-Identifier: MIT
"""Runs of records that several threads take from a file: the outcome is that of reading one record after the other."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyemu import Machine, MigrationError, restore
from pyemu.memory import RAMBlock
from pyemu.migration import _records, pages, records
from pyemu.migration.channels import FileInput
from pyemu.migration.framing import StreamReader

PAGE = 4096
COUNT = 80
DATA, ZERO, CONTINUE = 0x008, 0x002, 0x020


@pytest.fixture(scope="module", autouse=True)
def short_runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "RUN", 16)
        patch.setattr(records, "SHORTEST_RUN", 4)
        patch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def word(page, kind):
    return struct.pack(">Q", page * PAGE | kind | CONTINUE)


def record(page, data):
    filling = bytes([page % 251 + 1]) * PAGE
    return word(page, DATA) + filling if data else word(page, ZERO) + b"\0"


def load(path, *, ahead, before=()):
    """Memory, touched pages, pages counted, where it ended, and whether guessing went on to the end."""
    block = RAMBlock("ram", COUNT * PAGE)
    touched = pages.new_bits(COUNT)
    for page in before:
        block.array[page * PAGE : (page + 1) * PAGE] = 255
    records.touch(block, np.array(sorted(before), dtype=np.int64), touched)
    channel = FileInput(str(path))
    stream = StreamReader(channel)
    reader = records.RecordReader(stream)
    counted = [0, 0]

    def loaded(normal, zero):
        counted[0] += normal
        counted[1] += zero

    try:
        if ahead:
            reader.take(block, 0, touched, loaded)
        in_runs = sum(counted)
        while True:
            taken, normal, zero = records.scatter_records(block, stream.buffered(), touched)
            if not taken:
                break
            stream.skip(taken)
            loaded(normal, zero)
        return bytes(block.array), touched.tolist(), counted, stream.position, in_runs
    finally:
        reader.close()
        channel.close()


def both(path, **more):
    """Loads one after the other and ahead; the same must come of it. Returns how many pages came in runs."""
    plain, ahead = load(path, ahead=False, **more), load(path, ahead=True, **more)
    assert ahead[:-1] == plain[:-1]
    return ahead[-1]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["data", "zero", "mixed"])), min_size=1, max_size=4),
    st.sampled_from([None, None, "jump", "name", "zero byte", "back"]),
    st.integers(0, COUNT),
    st.integers(0, 9000),
    st.sets(st.integers(0, COUNT - 1), max_size=2),
)
def test_the_outcome_is_that_of_reading_one_after_the_other(folder, pieces, fault, where, cut, before):
    out, page = [], 0
    for length, kind in pieces:
        for _ in range(length):
            if page < COUNT:
                out.append(record(page, kind == "data" or (kind == "mixed" and page % 4 != 3)))
                page += 1
    if fault and where < len(out):
        out[where] = {
            "jump": record((where + 7) % COUNT, True),
            "name": struct.pack(">Q", where * PAGE | DATA) + b"\3ram" + bytes(PAGE),
            "zero byte": word(where, ZERO) + b"\1",
            "back": record(where // 2, False),
        }[fault]
    data = b"".join(out)
    path = folder / "stream"
    path.write_bytes(data[: max(len(data) - cut, 0)])
    both(path, before=before)


@pytest.mark.parametrize("zeros", [[], range(COUNT), range(3, COUNT, 4), range(16, 48)])
def test_long_runs_are_taken_by_threads(folder, zeros):
    path = folder / "stream"
    path.write_bytes(b"".join(record(n, n not in zeros) for n in range(COUNT)))
    assert both(path) == COUNT


def test_a_guess_that_was_wrong_is_undone(folder):
    # One zero page among the first 16, and in a later page, where the record of page 16 would be without it, the word of that,
    # and a run of records that look right behind it: it is read before the first run turns out to be another one.
    data = bytearray(b"".join(record(n, n != 5) for n in range(COUNT)))
    record_length = 8 + PAGE
    at = 16 * record_length
    assert data[at : at + 8] != word(16, DATA)
    for n in range(16, 48):
        # Nothing but these words changes: the pages they lie in are their data.
        place = at + (n - 16) * record_length
        data[place : place + 8] = word(n, DATA)
    path = folder / "stream"
    path.write_bytes(data)
    assert both(path) == 0


def test_compiled_functions_check_what_they_are_given():
    touched = pages.new_bits(COUNT)
    block = RAMBlock("ram", COUNT * PAGE)
    with pytest.raises(ValueError, match="81 pages from page 0 on are not all in 80 pages"):
        _records.scan_records(0, 0, COUNT, PAGE, 0, COUNT + 1, 0, touched)
    with pytest.raises(ValueError, match="bitmap of 0 words is too short for 80 pages"):
        _records.scan_records(0, 0, COUNT, PAGE, 0, 1, 0, touched[:0])
    with pytest.raises(ValueError, match="5 pages from page -1 on"):
        _records.read_records(0, 0, 0, block.pointer, COUNT, PAGE, -1, 5, touched, bytearray(PAGE + 8))
    with pytest.raises(ValueError, match="buffer of 4103 bytes for records of pages of 4096"):
        _records.read_records(0, 0, 0, block.pointer, COUNT, PAGE, 0, 5, touched, bytearray(PAGE + 7))
    with pytest.raises(ValueError, match="1 pages from page 80 on"):
        _records.forget_records(block.pointer, COUNT, PAGE, COUNT, 1, touched)


def test_a_descriptor_that_cannot_be_read_is_left_to_whoever_reads_next(folder):
    block = RAMBlock("ram", COUNT * PAGE)
    touched = pages.new_bits(COUNT)
    fd = os.open(folder / "unreadable", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        assert _records.scan_records(fd, 0, COUNT, PAGE, 0, 16, 16, touched) == (0, 0, 0)
        assert _records.read_records(fd, 0, 9, block.pointer, COUNT, PAGE, 0, 1, touched, bytearray(1 << 14)) == -1
    finally:
        os.close(fd)


def test_a_machine_comes_back_and_a_file_that_was_cut_off_is_refused(folder):
    path = folder / "saved"
    machine = Machine("none", memory=1 << 20)
    rng = np.random.default_rng(3)
    machine.ram["ram"].array[: 200 * PAGE] = rng.integers(0, 256, 200 * PAGE, dtype=np.uint8)
    content = bytes(machine.ram["ram"].array)
    machine.save(path)
    back = restore(path)
    assert bytes(back.ram["ram"].array) == content
    ram = back.migration.query()["ram"]
    assert (ram["normal"], ram["duplicate"]) == (200, 56)
    assert ram["transferred"] == path.stat().st_size
    os.truncate(path, 100 * PAGE)
    with pytest.raises(MigrationError):
        restore(path)

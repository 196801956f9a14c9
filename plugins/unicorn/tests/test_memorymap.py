# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory map against a model that knows each page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyemu_unicorn.engine import UnicornEngine
from pyemu_unicorn.memorymap import END, PAGE, MemoryMap, Piece

from pyemu.errors import EngineError
from pyemu.testing.enginehost import Guest, HostRAM

PAGES = 48
#: Placed so that each cut (1 MiB, 16 MiB, 64 MiB, 4 GiB) falls into one of the windows.
WINDOWS = [(1 << 20) - 24 * PAGE, (16 << 20) - 24 * PAGE, (1 << 32) - 24 * PAGE]

steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, PAGES - 1), st.integers(1, 12), st.integers(1, 1000), st.booleans()),
    max_size=12,
)


@given(window=st.sampled_from(WINDOWS), changes=steps)
def test_pieces_show_what_was_mapped_last(window, changes):
    subject = MemoryMap()
    model: dict[int, tuple[int, bool]] = {}
    for add, first, count, host, writable in changes:
        gpa, size = window + first * PAGE, count * PAGE
        if add:
            subject.add(Piece(gpa, size, host << 20, writable))
        else:
            subject.remove(gpa, size)
        for n in range(first, first + count):
            model.pop(n, None)
            if add:
                model[n] = ((host << 20) + (n - first) * PAGE, writable)
    pieces = sorted(subject.pieces())
    at = 0
    for piece in pieces:  # the whole address space, once
        assert piece.gpa == at
        at = piece.end
    assert at == END
    for n in range(PAGES + 12):
        gpa = window + n * PAGE
        (piece,) = [p for p in pieces if p.gpa <= gpa < p.end]
        seen = (piece.pointer + gpa - piece.gpa, piece.writable) if piece.pointer else None
        assert seen == model.get(n)
    hosts = [(p, s) for p, s in subject.host_ranges(window, (PAGES + 12) * PAGE)]
    assert sum(s for _, s in hosts) == len(model) * PAGE
    pages = [pointer for pointer, _ in model.values()]
    assert subject.shared() == (len(set(pages)) != len(pages))


def test_a_change_in_the_first_mib_leaves_the_rest_alone():
    subject = MemoryMap()
    subject.add(Piece(0, 1 << 30, 1 << 40, True))
    before = subject.pieces()
    subject.remove(0xA0000, 0x20000)
    gone, come = before - subject.pieces(), subject.pieces() - before
    assert max(p.end for p in gone | come) == 1 << 20


@pytest.mark.parametrize(
    ("gpa", "size", "offset"), [(1, PAGE, 0), (0, 100, 0), (0, 0, 0), (END, PAGE, 0), (-PAGE, PAGE, 0), (0, PAGE, 8)]
)
def test_ranges_that_are_no_pages_are_refused(gpa, size, offset):
    guest = Guest(UnicornEngine)
    ram = HostRAM(PAGE * 2)
    with pytest.raises(EngineError):
        guest.engine.map_ram(gpa, size, ram.pointer + offset)
    guest.engine.close()

# SPDX-License-Identifier: MIT
"""Accesses of 2 and 4 bytes, and any sequence of moves, compared with the model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory.models import Entry, Function, PortModel, aligned_pieces, answer

from pyemu.memory import PortioEntry, PortioList, PortSpace

TABLES = {
    "uart": [Entry(0, 8, 1)],
    "floppy": [Entry(1, 5, 1), Entry(7, 1, 1)],
    "ide": [Entry(0, 8, 1), Entry(0, 1, 2), Entry(0, 1, 4)],
    "epp": [Entry(0, 8, 1), Entry(4, 1, 2), Entry(4, 1, 4)],
    "pair": [Entry(0, 2, 1)],
    "wide": [Entry(0, 4, 4), Entry(2, 3, 2, writes=False), Entry(3, 1, 1, reads=False)],
}
# Around the border of two leaves and at both ends of the space.
BASES = [*range(0xF6, 0x10A), 0, 1, 2, 0xFFF6, 0xFFF7, 0xFFF8]
PORTS = [*range(0xF6, 0x112), 0, 1, 2, 3, 0xFFF8, 0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF]


class Both:
    """The real thing and the model, driven alike."""

    def __init__(self, wide: str) -> None:
        self.space = PortSpace("io", wide)
        self.model = PortModel(wide)
        self.calls: list[tuple] = []
        self.lists: list[PortioList] = []
        for name, table in TABLES.items():
            function = Function(name, table, plain=name == "pair")
            self.model.functions.append(function)
            self.lists.append(PortioList(name, [self.entry(name, e) for e in table], name, plain=function.plain))

    def entry(self, name: str, e: Entry) -> PortioEntry:
        def read(offset: int, size: int) -> int:
            value = answer(name, offset, size)
            self.calls.append((name, "r", offset, size, value))
            return value

        def write(offset: int, size: int, value: int) -> None:
            self.calls.append((name, "w", offset, size, value))

        return PortioEntry(e.offset, e.length, e.size, read if e.reads else None, write if e.writes else None)

    def add(self, n: int, base: int, priority: int) -> None:
        f, ports = self.model.functions[n], self.lists[n]
        if ports.mapped:
            ports.remove()
            f.enabled = False
        else:
            ports.add(self.space, base, priority=priority)
            f.base, f.priority, f.enabled = base, priority, True
            self.model.mapped_now(f)

    def move(self, n: int, base: int) -> None:
        f, ports = self.model.functions[n], self.lists[n]
        if ports.mapped:
            ports.set_address(base)
            if f.enabled and f.base != base:
                self.model.mapped_now(f)
            f.base = base

    def show(self, n: int, enabled: bool) -> None:
        f, ports = self.model.functions[n], self.lists[n]
        if ports.mapped:
            ports.set_enabled(enabled)
            if enabled and not f.enabled:
                self.model.mapped_now(f)
            f.enabled = enabled

    def access(self, direction: str, port: int, size: int, value: int) -> None:
        self.calls.clear()
        self.model.calls.clear()
        counter = "unassigned_reads" if direction == "r" else "unassigned_writes"
        before = getattr(self.space, counter)
        if direction == "r":
            got = self.space.in_(port, size)
            assert got == self.model.access("r", port, size)
        else:
            value &= (1 << 8 * size) - 1
            self.space.out(port, size, value)
            self.model.access("w", port, size, value)
        assert self.calls == self.model.calls
        assert getattr(self.space, counter) - before == self.model.missed


functions = st.integers(0, len(TABLES) - 1)
bases = st.sampled_from(BASES)
steps = st.one_of(
    st.tuples(st.just("add"), functions, bases, st.sampled_from([0, 0, 0, 1, -1])),
    st.tuples(st.just("move"), functions, bases),
    st.tuples(st.just("show"), functions, st.booleans()),
    st.tuples(
        st.just("access"),
        st.sampled_from("rw"),
        st.sampled_from(PORTS),
        st.sampled_from([1, 2, 4]),
        st.integers(0, 0xFFFFFFFF),
    ),
)


@pytest.mark.parametrize("wide", ["lanes", "qemu"])
@given(script=st.lists(steps, min_size=5, max_size=40), probes=st.lists(st.sampled_from(PORTS), max_size=8))
def test_any_script_does_what_the_model_does(wide, script, probes):
    both = Both(wide)
    for step, *arguments in script:
        getattr(both, step)(*arguments)
    for port in probes:
        for size in (1, 2, 4):
            both.access("r", port, size, 0)
            both.access("w", port, size, 0x44332211)


def test_the_model_cuts_misaligned_accesses_as_a_bus_does():
    assert [aligned_pieces(a, 4) for a in range(4)] == [
        [(0, 4)],
        [(0, 1), (1, 2), (3, 1)],
        [(0, 2), (2, 2)],
        [(0, 1), (1, 2), (3, 1)],
    ]


def config_pair(wide):
    """The 2-port configuration pair with index E0 selected, whose register holds 3C."""
    space = PortSpace("io", wide)
    pair = PortioList("superio", [PortioEntry(0, 2, 1, lambda o, s: 0x3C if o else 0xE0)], "config", plain=True)
    pair.add(space, 0x3F0)
    return space


@pytest.mark.parametrize(("wide", "value"), [("lanes", 0xFFFF3CE0), ("qemu", 0x3C3C3CE0)])
def test_a_dword_on_the_configuration_pair(wide, value):
    assert config_pair(wide).in_(0x3F0, 4) == value


@pytest.mark.parametrize(("wide", "value"), [("lanes", 0x03020100), ("qemu", 0xFFFFFFFF)])
def test_a_dword_on_a_table_of_bytes(wide, value):
    space = PortSpace("io", wide)
    written = []
    entry = PortioEntry(0, 8, 1, lambda o, s: o, lambda o, s, v: written.append((o, s, v)))
    PortioList("lpt", [entry], "lpt").add(space, 0x378)
    assert space.in_(0x378, 4) == value
    assert space.in_(0x378, 2) == 0x0100
    space.out(0x378, 4, 0x44332211)
    assert written == ([(0, 1, 0x11), (1, 1, 0x22), (2, 1, 0x33), (3, 1, 0x44)] if wide == "lanes" else [])


def test_an_exactly_sized_entry_takes_the_access():
    space = PortSpace()
    sizes = []
    table = [PortioEntry(0, 8, 1, lambda o, s: sizes.append(s) or 0), PortioEntry(0, 1, 4, lambda o, s: sizes.append(s) or 0)]
    PortioList("ide", table, "ide").add(space, 0x1F0)
    space.in_(0x1F0, 4)
    space.in_(0x1F0, 2)
    assert sizes == [4, 1, 1]


def test_port_0_follows_the_last_port():
    space = PortSpace()
    PortioList("first", [PortioEntry(0, 1, 1, lambda o, s: 0x11)], "first").add(space, 0)
    PortioList("last", [PortioEntry(0, 1, 1, lambda o, s: 0x22)], "last").add(space, 0xFFFF)
    assert space.in_(0xFFFF, 2) == 0x1122

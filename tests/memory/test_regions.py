# SPDX-License-Identifier: MIT
"""The tree of regions and its flat view."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory.models import Node, resolve

from pyemu.errors import MemoryMapError
from pyemu.memory import AddressSpace, MemoryRegion, RAMBlock

SIZE = 64


def io(name, size, value=0):
    return MemoryRegion.io(name, size, lambda offset, n: value, lambda offset, n, v: None)


def view(space):
    return [(part.start, part.size, part.region.name, part.offset) for part in space.flat_view()]


@pytest.fixture
def root():
    return MemoryRegion.container("root", 1 << 32)


@pytest.fixture
def space(root):
    return AddressSpace("memory", root)


def test_priorities_and_holes(root, space):
    root.add_subregion(0, io("low", 0x100))
    window = MemoryRegion.container("window", 0x40)
    window.add_subregion(0x10, io("high", 0x10))
    root.add_subregion(0x20, window, 1)
    # What the window leaves open shows what lies below it; pieces of one region around it stay apart.
    assert view(space) == [(0, 0x30, "low", 0), (0x30, 0x10, "high", 0), (0x40, 0xC0, "low", 0x40)]
    window.set_enabled(False)
    assert view(space) == [(0, 0x100, "low", 0)]


def test_the_last_added_wins_and_a_move_counts_as_added(root, space):
    one, two = io("one", 16), io("two", 16)
    root.add_subregion(0, one)
    root.add_subregion(0, two)
    assert view(space) == [(0, 16, "two", 0)]
    one.set_address(0)
    assert view(space) == [(0, 16, "two", 0)]
    one.set_address(8)
    assert view(space) == [(0, 8, "two", 0), (8, 16, "one", 0)]


def test_containers_cut_their_children_off(root, space):
    box = MemoryRegion.container("box", 8)
    box.add_subregion(4, io("io", 100))
    root.add_subregion(0, box)
    assert view(space) == [(4, 4, "io", 0)]


def test_an_alias_shows_its_target_wherever_that_is(root, space):
    target = io("target", 0x100)
    root.add_subregion(0x1000, target)
    root.add_subregion(0x10, MemoryRegion.alias("alias", target, 0x20, 0x30))
    assert view(space) == [(0x10, 0x30, "target", 0x20), (0x1000, 0x100, "target", 0)]
    target.set_enabled(False)
    assert view(space) == []


def test_a_change_below_an_alias_reaches_the_space(root, space):
    elsewhere = MemoryRegion.container("elsewhere", 0x1000)
    root.add_subregion(0, MemoryRegion.alias("window", elsewhere, 0, 0x100))
    elsewhere.add_subregion(0x10, io("late", 4))
    assert view(space) == [(0x10, 4, "late", 0)]
    root.remove_subregion(root.subregions[0])
    assert view(space) == []
    assert elsewhere._aliases == []


def test_one_tree_in_several_spaces(root, space):
    other = AddressSpace("other", root)
    root.add_subregion(0, io("io", 4))
    assert view(space) == view(other) == [(0, 4, "io", 0)]
    other.close()
    root.remove_subregion(root.subregions[0])
    assert (view(space), view(other)) == ([], [])


def test_a_region_at_the_very_end(root):
    top = MemoryRegion.container("top", 1 << 64)
    space = AddressSpace("memory", top)
    top.add_subregion((1 << 64) - 16, io("last", 100, 0x5A))
    assert view(space) == [((1 << 64) - 16, 16, "last", 0)]
    assert space.load((1 << 64) - 1, 1) == 0x5A
    assert space.load((1 << 64) - 1, 2) == 0xFF5A  # address 0 follows the last one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MemoryRegion.container("c", 0), "region c: size 0 is not between"),
        (lambda: MemoryRegion.container("c", (1 << 64) + 1), "is not between"),
        (lambda: MemoryRegion.alias("a", io("t", 16), 8, 9), "region a: 9 bytes at 0x8 are not inside the 16 bytes of t"),
        (lambda: MemoryRegion.alias("a", io("t", 16), -1, 2), "not inside"),
        (lambda: MemoryRegion.io("i", 6, lambda o, s: 0, min_access=4), "size 6 is not a multiple of its smallest access 4"),
        (lambda: MemoryRegion.io("i", 8, lambda o, s: 0, min_access=4, max_access=2), "accesses of 4 to 2 bytes"),
        (lambda: MemoryRegion.io("i", 8), "needs read or write"),
        (lambda: MemoryRegion.ram("r", RAMBlock("b", 4096), 4000, 97), "97 bytes at 0xfa0 are not inside the 4096 bytes"),
    ],
)  # fmt: skip
def test_impossible_regions_are_refused(make, message):
    with pytest.raises(MemoryMapError, match=message):
        make()


def test_misuse_of_the_tree_is_refused_and_changes_nothing(root, space):
    box, part = MemoryRegion.container("box", 16), io("part", 4)
    box.add_subregion(0, part)
    root.add_subregion(0, box)
    before = view(space)
    with pytest.raises(MemoryMapError, match="region root: part is already in box at 0x0"):
        root.add_subregion(8, part)
    with pytest.raises(MemoryMapError, match="region root: part is not in it"):
        root.remove_subregion(part)
    with pytest.raises(MemoryMapError, match="region box: loop contains it"):
        box.add_subregion(0, MemoryRegion.alias("loop", root, 0, 16))
    with pytest.raises(MemoryMapError, match="no address -0x1"):
        part.set_address(-1)
    with pytest.raises(MemoryMapError, match="no offset -0x1"):
        root.add_subregion(-1, io("x", 1))
    assert view(space) == before


# -- what listeners hear ----------------------------------------------------------------------------


class Listener:
    def __init__(self):
        self.heard = []
        self.mapped = {}

    def map_ram(self, gpa, size, pointer, writable):
        assert not self.mapped or all(gpa >= g + s or gpa + size <= g for g, (s, _, _) in self.mapped.items())
        self.heard.append(("map", gpa, size, writable))
        self.mapped[gpa] = size, pointer, writable

    def unmap(self, gpa, size):
        self.heard.append(("unmap", gpa, size))
        assert self.mapped.pop(gpa)[0] == size


def test_listeners_hear_differences_only(root, space):
    block = RAMBlock("ram", 1 << 20)
    listener = Listener()
    root.add_subregion(0, MemoryRegion.ram("ram", block))
    space.add_listener(listener)
    assert listener.heard == [("map", 0, 1 << 20, True)]
    listener.heard.clear()
    root.add_subregion(1 << 20, MemoryRegion.rom("rom", block, 0x1000, 0x2000))
    assert listener.heard == [("map", 1 << 20, 0x2000, False)]
    assert listener.mapped[1 << 20][1] == block.pointer + 0x1000
    listener.heard.clear()
    root.add_subregion(0x80000000, io("far", 0x1000))
    assert listener.heard == []
    hole = io("hole", 0x1000)
    root.add_subregion(0xA0000, hole, 1)
    assert listener.heard == [("unmap", 0, 1 << 20), ("map", 0, 0xA0000, True), ("map", 0xA1000, 0x5F000, True)]
    listener.heard.clear()
    with space.transaction():
        hole.set_enabled(False)
        hole.set_enabled(True)
    assert listener.heard == []
    space.remove_listener(listener)
    hole.set_enabled(False)
    assert listener.heard == []
    with pytest.raises(MemoryMapError, match="is no listener of it"):
        space.remove_listener(listener)


def test_a_transaction_commits_once_even_when_it_fails(root, space):
    listener = Listener()
    space.add_listener(listener)
    with pytest.raises(KeyError), space.transaction():
        with space.transaction():
            root.add_subregion(0, MemoryRegion.ram("a", RAMBlock("a", 4096)))
        root.add_subregion(0x1000, MemoryRegion.ram("b", RAMBlock("b", 4096)))
        assert view(space) == []
        raise KeyError
    assert [kind for kind, *_ in listener.heard] == ["map", "map"]


def test_only_whole_pages_that_line_up_are_shown_to_listeners(root, space):
    block = RAMBlock("ram", 16 * 4096)
    listener = Listener()
    space.add_listener(listener)
    root.add_subregion(0, MemoryRegion.ram("ram", block))
    root.add_subregion(0x2800, io("half", 0x100), 1)
    assert sorted(listener.mapped) == [0, 0x3000]
    assert listener.mapped[0][0] == 0x2000
    root.add_subregion(0x100000, MemoryRegion.ram("shifted", block, 0x100, 0x3000))
    assert sorted(listener.mapped) == [0, 0x3000]
    block.write(0x2900, b"seen")
    assert space.read(0x2900, 4) == b"seen"


# -- any tree, compared with the model --------------------------------------------------------------


@st.composite
def trees(draw):
    """A tree of containers and regions as (region, model) pairs, the root first."""
    nodes = []
    for n in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(["container", "io", "alias"])) if n else "container"
        size = draw(st.integers(1, SIZE)) if n else SIZE
        if kind == "alias":
            target_region, target_node = nodes[draw(st.integers(1, n - 1))] if n > 1 else (io("t", SIZE), Node("t", SIZE, True))
            size = draw(st.integers(1, target_region.size))
            offset = draw(st.integers(0, target_region.size - size))
            region = MemoryRegion.alias(f"n{n}", target_region, offset, size)
            node = Node(f"n{n}", size, False, target=target_node, offset=offset)
        else:
            region = MemoryRegion.container(f"n{n}", size) if kind == "container" else io(f"n{n}", size)
            node = Node(f"n{n}", size, kind == "io")
        nodes.append((region, node))
    for n, (region, node) in enumerate(nodes[1:], 1):
        parent_region, parent_node = nodes[draw(st.integers(0, n - 1))]
        address, priority = draw(st.integers(0, SIZE)), draw(st.integers(-1, 1))
        try:
            parent_region.add_subregion(address, region, priority)
        except MemoryMapError:
            continue  # an alias of something above it
        node.address, node.priority, node.order = address, priority, n
        parent_node.children.append(node)
    return nodes


@given(nodes=trees(), data=st.data())
def test_any_flat_view_shows_what_the_model_resolves(nodes, data):
    root, model = nodes[0]
    space = AddressSpace("memory", root)
    order = len(nodes)
    for _ in range(3):
        seen = {}
        for part in space.flat_view():
            for n in range(part.size):
                assert part.start + n not in seen
                seen[part.start + n] = part.region.name, part.offset + n
        wanted = {at: found for at in range(SIZE) if (found := resolve(model, at)) is not None}
        assert seen == wanted
        region, node = data.draw(st.sampled_from(nodes))
        if data.draw(st.booleans()):
            node.enabled = not node.enabled
            region.set_enabled(node.enabled)
        elif node is not model and region.parent is not None:
            address = data.draw(st.integers(0, SIZE))
            if address != node.address:
                order += 1
                node.address, node.order = address, order
            region.set_address(address)

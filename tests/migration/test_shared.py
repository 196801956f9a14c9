# SPDX-License-Identifier: MIT
"""x-ignore-shared: RAM that both ends map is not sent, and nobody takes other memory for it."""

from __future__ import annotations

import numpy as np
import pytest
from migration.fakehost import FakeHost

import pyemu
from pyemu.errors import ConfigError, MigrationError
from pyemu.memory import RAMBlock
from pyemu.migration import read_header
from pyemu.plugin import PluginManager
from pyemu.snapshot import open_snapshot

SIZE = 1 << 20
KINDS = ["stream", "mapped", "mapped-multifd"]


@pytest.fixture
def ends(controller, tmp_path):
    """Makes source and destination whose first block is shared, and the second is not."""

    def make(kind, there, here):
        source, target = FakeHost((("own", 64 << 10),)), FakeHost((("own", 64 << 10),), run_state="inmigrate")
        source.blocks.insert(0, RAMBlock("ram", SIZE, **there))
        target.blocks.insert(0, RAMBlock("ram", SIZE, **(here if here is not None else {})))
        for block in source.blocks:
            block.array[:] = np.arange(block.used_length) % 251
        made = [controller(source, kind), controller(target, kind)]
        for one in made:
            one.set_capabilities({"x-ignore-shared": True})
        return (source, made[0]), (target, made[1])

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_map_one_file(ends, plugins, tmp_path, kind):
    file = {"backing": "file-shared", "path": tmp_path / "ram"}
    (source, leaving), (target, arriving) = ends(kind, file, file)
    leaving.migrate(f"file:{tmp_path}/x", blocking=True)
    assert (tmp_path / "x").stat().st_blocks * 512 < SIZE
    assert "x-ignore-shared" in read_header(tmp_path / "x").capabilities
    assert leaving.query()["ram"]["normal"] + leaving.query()["ram"]["duplicate"] == 16
    arriving.incoming(f"file:{tmp_path}/x", blocking=True)
    for mine, theirs in zip(target.blocks, source.blocks, strict=True):
        assert np.array_equal(mine.array, theirs.array)
    target.blocks[0].array[5] = 99
    assert source.blocks[0].array[5] == 99
    with open_snapshot(tmp_path / "x", plugins=plugins) as snapshot:
        assert np.array_equal(snapshot.blocks["own"].array(), source.blocks[1].array)


def test_a_descriptor_without_a_name_is_mapped_by_both(ends, tmp_path):
    (source, leaving), (target, arriving) = ends("stream", {"backing": "memfd"}, None)
    target.blocks[0] = RAMBlock("ram", SIZE, backing="file-shared", path=f"/proc/self/fd/{source.blocks[0].fd}")
    leaving.migrate(f"file:{tmp_path}/x", blocking=True)
    arriving.incoming(f"file:{tmp_path}/x", blocking=True)
    assert np.array_equal(target.blocks[0].array, source.blocks[0].array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ("memfd", "anon", "block ram is not in the stream, for it was shared memory .* here it is not shared"),
        ("memfd", "memfd", "block ram is not in the stream .* not the same memory"),
        ("anon", "memfd", "Can't find block ram|block ram: the file has pages of it, but it is shared memory here"),
    ],
)
def test_other_memory_is_refused_and_left_alone(ends, tmp_path, kind, there, here, message):
    (_, leaving), (target, arriving) = ends(kind, {"backing": there}, {"backing": here})
    target.blocks[0].array[:] = 7
    leaving.migrate(f"file:{tmp_path}/x", blocking=True)
    with pytest.raises(MigrationError, match=message):
        arriving.incoming(f"file:{tmp_path}/x", blocking=True)
    assert (target.blocks[0].array == (7 if here == "memfd" else 0)).all()
    assert not target.blocks[1].array.any()


def test_shared_memory_must_be_at_the_same_address(ends, tmp_path):
    file = {"backing": "file-shared", "path": tmp_path / "ram"}
    (_, leaving), (target, arriving) = ends("stream", file, file)
    leaving.migrate(f"file:{tmp_path}/x", blocking=True)
    target.ram_addresses = lambda: {"ram": 0x100000}
    with pytest.raises(MigrationError, match="block ram: shared memory is at 0x0 in the stream, at 0x100000 here"):
        arriving.incoming(f"file:{tmp_path}/x", blocking=True)
    # A failure clears what belongs to the destination; this belongs to both.
    assert target.blocks[0].array.any()


def test_one_sided(ends, tmp_path):
    (_, leaving), (_, arriving) = ends("stream", {}, {})
    arriving.set_capabilities({"x-ignore-shared": False})
    leaving.migrate(f"file:{tmp_path}/x", blocking=True)
    with pytest.raises(MigrationError, match="Capability x-ignore-shared is off, but received capability is on"):
        arriving.incoming(f"file:{tmp_path}/x", blocking=True)


def test_a_machine_with_memory_of_the_user(tmp_path):
    plugins = PluginManager()
    backend = f"file:{tmp_path}/ram,share=on"
    with pyemu.Machine("none", memory="1M", memory_backend=backend, plugins=plugins) as machine:
        block = machine.ram["ram"]
        assert (block.backing, block.shared, machine.ram_addresses()) == ("file-shared", True, {"ram": 0})
        block.array[7] = 8
        machine.migration.set_capabilities({"x-ignore-shared": True})
        machine.save(tmp_path / "x")
    with pyemu.restore(tmp_path / "x", memory_backend=backend, plugins=plugins) as back:
        assert back.ram["ram"].array[7] == 8
    with pytest.raises(ConfigError, match="memory backend 'disk' is none of"):
        pyemu.Machine("none", memory="1M", memory_backend="disk", plugins=plugins)
    with pytest.raises(MigrationError, match="here it is not shared"):
        pyemu.restore(tmp_path / "x", plugins=plugins)

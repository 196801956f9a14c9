# SPDX-License-Identifier: MIT
"""Pages past the page cache, from and to every place that a file has."""

from __future__ import annotations

import errno
import os

import pytest
from migration import streams
from migration.fakehost import FakeHost

from pyemu.errors import MigrationError
from pyemu.memory import select_dirty_source

BLOCKS = (("ram", 1 << 20), ("vga.vram", 77 * 4096), ("tiny", 4096))
#: Whether any one descriptor was opened for it.
DIRECT = os.O_DIRECT


@pytest.fixture
def opened(monkeypatch):
    """Flags of all files that are opened."""
    flags = []
    real = os.open

    def recording(path, how, *rest, **more):
        flags.append(how)
        return real(path, how, *rest, **more)

    monkeypatch.setattr(os, "open", recording)
    return flags


def target(blocks=BLOCKS):
    host = FakeHost(blocks, run_state="inmigrate")
    for block in host.blocks:
        block.array[:] = 0x5A
    return host


@pytest.mark.parametrize(
    ("saver", "loader", "offset"),
    [
        ("mapped-direct", "mapped", ""),
        ("mapped-direct", "mapped-direct", ",offset=1"),
        ("mapped-direct", "mapped-multifd-direct", ",offset=4660"),
        ("mapped-multifd-direct", "mapped-direct", ",offset=511"),
        ("mapped-multifd-direct", "mapped-multifd-direct", ""),
    ],
)
def test_small_blocks_anywhere(controller, filled, tmp_path, opened, saver, loader, offset):
    source, host = filled(blocks=BLOCKS), target()
    controller(source, saver).migrate(f"file:{tmp_path}/x{offset}", blocking=True, resume_after=True)
    assert any(how & DIRECT for how in opened)
    opened.clear()
    controller(host, loader).incoming(f"file:{tmp_path}/x{offset}", blocking=True)
    assert any(how & DIRECT for how in opened) == ("direct" in loader)
    assert all((a.array == b.array).all() for a, b in zip(source.blocks, host.blocks, strict=True))


def test_the_copy_of_a_comparing_dirty_source_is_written(controller, filled, tmp_path):
    source, host = filled(blocks=BLOCKS, run_state="running"), target()
    made = controller(source, "mapped-direct")
    made.use_dirty_source(select_dirty_source("compare"))
    made.migrate_file(tmp_path / "x")
    assert made.dirty_source_name == "compare"
    controller(host, "mapped-direct").incoming(f"file:{tmp_path}/x", blocking=True, autostart=False)
    assert all((a.array == b.array).all() for a, b in zip(source.blocks, host.blocks, strict=True))


def test_page_areas_that_are_aligned_to_pages_only(controller, tmp_path):
    """As other programs may lay them out; the stream of the tests does."""
    (tmp_path / "x").write_bytes(streams.mapped(4096).build())
    host = target(streams.RAM)
    controller(host, "mapped-direct").incoming(f"file:{tmp_path}/x", blocking=True)
    assert [page[0] for page in host.blocks[0].array.reshape(-1, 4096)] == [65, 0, 67] + [0] * 13


@pytest.mark.parametrize("kind", ["mapped-direct", "mapped-multifd-direct"])
def test_file_systems_that_refuse_it_are_named_and_nothing_is_left(controller, filled, tmp_path, monkeypatch, kind):
    real = os.open

    def refusing(path, flags, *rest, **more):
        if flags & DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, *rest, **more)

    (tmp_path / "good").write_bytes(streams.mapped(4096).build())
    monkeypatch.setattr(os, "open", refusing)
    source = filled(run_state="running")
    with pytest.raises(MigrationError, match=f"direct-io: the file system of '{tmp_path}/x' refuses O_DIRECT"):
        controller(source, kind).migrate_file(tmp_path / "x")
    assert source.run_state == "running" and os.listdir(tmp_path) == ["good"]
    with pytest.raises(MigrationError, match=f"direct-io: the file system of '{tmp_path}/good' refuses O_DIRECT"):
        controller(target(streams.RAM), kind).incoming(f"file:{tmp_path}/good", blocking=True)


def test_without_fixed_places_it_is_refused(controller, tmp_path):
    with pytest.raises(MigrationError, match="direct-io needs pages at fixed places in a file: switch mapped-ram on"):
        controller(**{"direct-io": True}).migrate_file(tmp_path / "x")
    assert os.listdir(tmp_path) == []

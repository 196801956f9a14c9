# SPDX-License-Identifier: MIT
"""Lazy restore: RAM over the file it was saved to, and everything that may happen to that file."""

from __future__ import annotations

import os

import numpy as np
import pytest
from migration.conftest import fill
from migration.fakehost import FakeHost, Guest

import pyemu
from pyemu.errors import MigrationError
from pyemu.migration.pages import new_bits
from pyemu.plugin import PluginManager

PAGE = 4096
BLOCKS = (("ram", 1 << 20), ("vga.vram", 64 << 10))


@pytest.fixture
def saved(controller, filled, tmp_path):
    """A saved machine: the host it was, and the file."""
    host = filled(blocks=BLOCKS)
    controller(host, "mapped").migrate_file(tmp_path / "x")
    return host, tmp_path / "x"


def load(controller, path, kind="mapped"):
    host = FakeHost(BLOCKS, run_state="inmigrate")
    made = controller(host, kind, **{"lazy-restore": True})
    made.incoming(f"file:{path}", blocking=True)
    return host, made


def same(one, other):
    return all(np.array_equal(a.array, b.array) for a, b in zip(one.blocks, other.blocks, strict=True))


@pytest.mark.parametrize("kind", ["mapped", "mapped-multifd", "mapped-direct"])
def test_the_same_memory_as_by_reading(controller, saved, kind):
    source, path = saved
    host, made = load(controller, path, kind)
    assert {block.backing for block in host.blocks} == {"file-private"}
    assert same(host, source)
    assert made.lazy.wait(20) and made.lazy.resident and made.lazy.error is None
    # Ours says that absent pages are zeros, so nobody had to look.
    assert (made.lazy.extents, made.lazy.stale_pages, made.lazy.check_seconds) == (0, 0, 0.0)
    assert host.chips[0].regs == source.chips[0].regs
    made.close()


def offset_of(path, page):
    """Where a page with these bytes is in the file."""
    return path.read_bytes().index(page)


@pytest.mark.parametrize("known", [False, True])
def test_bytes_under_clear_bits_are_not_used(controller, saved, known):
    source, path = saved
    data = source.blocks[0].array.tobytes()
    first = offset_of(path, data[:PAGE])
    assert not any(data[PAGE : 2 * PAGE])  # page 1 is absent
    text = path.read_bytes()
    with open(path, "r+b") as file:
        if known:
            # Zeros that are written are as good as holes.
            os.pwrite(file.fileno(), bytes(PAGE), first + PAGE)
        else:
            os.pwrite(file.fileno(), b"\xab" * PAGE, first + PAGE)
            os.pwrite(file.fileno(), b"absent-sides", text.index(b"absent-pages"))
    host, made = load(controller, path)
    assert same(host, source)
    assert (made.lazy.stale_pages, made.lazy.extents > 0) == (0 if known else 1, not known)
    made.close()


def test_a_save_over_the_file_replaces_it(controller, saved):
    source, path = saved
    host, made = load(controller, path)
    host.blocks[0].array[:PAGE] = 9
    made.migrate_file(path)
    host.blocks[0].array[:PAGE] = source.blocks[0].array[:PAGE]
    assert same(host, source)
    made.close()


def test_the_file_is_not_written_in_place(controller, saved):
    source, path = saved
    before = path.read_bytes()
    host, made = load(controller, path)
    link = path.with_name("link")
    link.symlink_to(path)
    for where in (f"{path},offset=0", f"{path},offset=4096", link):
        with pytest.raises(MigrationError, match="cannot be written in place: .*restored from it lazily"):
            controller(source).migrate(f"file:{where}", blocking=True)
    assert path.read_bytes() == before and same(host, source)
    made.lazy.stop()
    for block in host.blocks:
        block.settle()
    controller(source).migrate(f"file:{path},offset=0", blocking=True)
    made.close()


def test_other_formats_are_refused(controller, filled, tmp_path):
    controller(filled(blocks=BLOCKS)).migrate_file(tmp_path / "x")
    host = FakeHost(BLOCKS, run_state="inmigrate")
    made = controller(host, **{"lazy-restore": True})
    with pytest.raises(MigrationError, match="lazy-restore: StreamingBackend reads pages itself"):
        made.incoming(f"file:{tmp_path}/x", blocking=True)


def test_a_load_that_fails_leaves_zeros_and_no_file(controller, saved):
    _, path = saved
    data = bytearray(path.read_bytes())
    data[data.index(b"chip")] ^= 0x20
    path.write_bytes(data)
    host = FakeHost(BLOCKS, run_state="inmigrate")
    made = controller(host, "mapped", **{"lazy-restore": True})
    with pytest.raises(MigrationError, match="Chip"):
        made.incoming(f"file:{path}", blocking=True)
    assert {block.backing for block in host.blocks} == {"anon"}
    assert not any(block.array.any() for block in host.blocks)


def test_a_file_that_is_too_short_is_refused_before_it_is_mapped(controller, saved):
    _, path = saved
    os.truncate(path, path.stat().st_size - (1 << 20))
    host = FakeHost(BLOCKS, run_state="inmigrate")
    with pytest.raises(MigrationError):
        controller(host, "mapped", **{"lazy-restore": True}).incoming(f"file:{path}", blocking=True)
    assert {block.backing for block in host.blocks} == {"anon"}


def test_what_cannot_be_read_ahead_is_reported(controller, saved):
    _, path = saved
    _, made = load(controller, path)
    assert made.lazy.wait(20)
    from pyemu.migration import LazyRestore

    other = FakeHost(BLOCKS).blocks[0]
    lazy = LazyRestore(known=True)
    fd = os.open(path, os.O_RDONLY)
    lazy.map(other, fd, 1 << 20, ~new_bits(other.pages))
    os.close(fd)
    os.truncate(path, 1 << 20)
    lazy.start()
    assert not lazy.wait(20)
    assert "RAM block ram: file not read at 0x0" in str(lazy.error)
    lazy.drop()
    assert not other.array.any()
    made.lazy.drop()


@pytest.mark.parametrize("background", [False, True])
def test_a_machine_over_a_file_is_saved_live(controller, saved, tmp_path, background):
    _, path = saved
    host, made = load(controller, path)
    host.vm_start()

    def step(n):
        host.blocks[0].array[n % 256 * PAGE] ^= 1

    with Guest(host, step) as guest:
        made.set_capabilities({"background-snapshot": background})
        try:
            made.migrate_file(tmp_path / "y")
        except MigrationError as error:
            if background and "needs the kernel's userfaultfd" in str(error):
                pytest.skip(f"needs userfaultfd: {error}")
            raise
    (picture,) = guest.pictures
    back, again = load(controller, tmp_path / "y")
    assert [block.array.tobytes() for block in back.blocks] == picture
    if background:
        # What cannot be protected was made independent of the file first.
        assert {block.backing for block in host.blocks} == {"anon"}
    again.close()
    made.close()


def test_errors_of_threads_that_read_are_raised(controller, saved, monkeypatch):
    _, path = saved
    source = FakeHost(BLOCKS, run_state="inmigrate")
    calls = []

    def fetch(fd, block, offset, runs, **more):
        calls.append(len(runs))
        raise MigrationError("no more")

    monkeypatch.setattr("pyemu_mapped_ram.backend.page_io.fetch", fetch)
    with pytest.raises(MigrationError, match="no more"):
        controller(source, "mapped").incoming(f"file:{path}", blocking=True)
    assert calls and not source.blocks[0].array.any()


def test_from_python_and_settled(tmp_path):
    plugins = PluginManager()
    with pyemu.Machine("none", memory="9M", plugins=plugins) as machine:
        fill(machine.ram["ram"])
        want = machine.ram["ram"].array.copy()
        machine.save(tmp_path / "x", mapped_ram=True)
        machine.save(tmp_path / "stream")
    with pyemu.restore(tmp_path / "x", lazy=True, plugins=plugins) as back:
        block = back.ram["ram"]
        assert block.backing == "file-private" and back.migration.lazy.wait(20)
        back.settle()
        assert block.backing == "anon"
        (tmp_path / "x").write_bytes(b"")
        assert np.array_equal(block.array, want)
        back.settle()
    with pytest.raises(MigrationError, match="stream: .*lazy-restore"):
        pyemu.restore(tmp_path / "stream", lazy=True, plugins=plugins)

# SPDX-License-Identifier: MIT
"""Machines go to a file and come back."""

from __future__ import annotations

import numpy as np
import pytest
from migration.conftest import KINDS
from migration.fakehost import FakeHost, FakeSource, Guest

from pyemu.errors import ConfigError
from pyemu.memory import select_dirty_source

BLOCKS = (("ram", 4 << 20), ("vga.vram", 77 * 4096), ("tiny", 4096))


def load(controller, kind, path, *, autostart=True, host=None, **options):
    host = host or FakeHost(BLOCKS, run_state="inmigrate", **options)
    controller(host, kind).incoming(f"file:{path}", blocking=True, autostart=autostart)
    return host


def same(a, b):
    return all((x.array == y.array).all() for x, y in zip(a.blocks, b.blocks, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_ram_and_devices_come_back(controller, filled, tmp_path, kind):
    source = filled(blocks=BLOCKS, devices=2)
    source.chips[1].regs = [9, 8, 7, 0xFFFFFFFF]
    source.clock.set_ns(123456789)
    controller(source, kind).migrate_file(tmp_path / "x")
    # Bytes that are left over from something else must go where the file says nothing or zero.
    target = FakeHost(BLOCKS, run_state="inmigrate", devices=2)
    for block in target.blocks:
        block.array[:] = 0x5A
    load(controller, kind, tmp_path / "x", host=target)
    assert same(source, target)
    assert target.chips[1].regs == [9, 8, 7, 0xFFFFFFFF]
    assert target.clock.now_ns == 123456789
    assert target.ram_changes == 1
    assert source.run_state == target.run_state == "paused"


@pytest.mark.parametrize("saver", ["mapped", "mapped-multifd", "mapped-multifd-direct", "mapped-dense"])
@pytest.mark.parametrize("loader", ["mapped", "mapped-multifd", "mapped-direct"])
def test_mapped_files_are_the_same_whoever_wrote_them(controller, filled, tmp_path, saver, loader):
    source = filled(blocks=BLOCKS)
    controller(source, saver).migrate_file(tmp_path / "x")
    assert same(source, load(controller, loader, tmp_path / "x"))


@pytest.mark.parametrize(
    ("state", "autostart", "expected"),
    [
        ("running", True, "running"),
        ("running", False, "paused"),
        ("paused", True, "paused"),
        ("prelaunch", True, "prelaunch"),
        ("io-error", True, "io-error"),
    ],
)
def test_run_state_comes_back(controller, tmp_path, state, autostart, expected):
    source = FakeHost(BLOCKS, run_state=state)
    made = controller(source)
    made.use_dirty_source(FakeSource())
    made.migrate_file(tmp_path / "x")
    assert source.run_state == state
    assert load(controller, "stream", tmp_path / "x", autostart=autostart).run_state == expected


def test_machine_without_ram(controller, tmp_path):
    source = FakeHost(())
    source.chips[0].index = 77
    controller(source).migrate_file(tmp_path / "x")
    target = FakeHost((), run_state="inmigrate")
    controller(target).incoming(f"file:{tmp_path}/x", blocking=True)
    assert target.chips[0].index == 77


def test_offset_leaves_what_is_before_and_cuts_what_is_behind(controller, filled, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"head" * 1000 + b"old" * 100000)
    for kind in ("stream", "mapped-multifd"):
        source = filled(blocks=BLOCKS)
        controller(source, kind).migrate(f"file:{path},offset=0xfa0", blocking=True, resume_after=True)
        assert path.read_bytes().startswith(b"head" * 1000 + b"QEVM")
        target = FakeHost(BLOCKS, run_state="inmigrate")
        controller(target, kind).incoming(f"file:{path},offset=4000", blocking=True)
        assert same(source, target)


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd"])
def test_live_save_is_a_picture_of_one_moment(controller, filled, tmp_path, kind):
    source = filled(blocks=BLOCKS, run_state="running")
    block = source.blocks[0]
    made = controller(source, kind, **{"max-bandwidth": 60 << 20, "downtime-limit": 20})
    tracker = FakeSource()
    made.use_dirty_source(tracker)

    def step(n):
        # Some pages turn zero again.
        block.write(n % block.pages * 4096, (n if n % 5 else 0).to_bytes(8, "little") * 512)
        block.write(0, n.to_bytes(8, "little"))

    with Guest(source, step) as guest:
        before = guest.count
        made.migrate_file(tmp_path / "x")
        result = made.query()
        assert source.run_state == "running"
    assert (tracker.started, tracker.stopped) == (1, 1)
    assert result["ram"]["dirty-sync-count"] >= 3
    assert result["ram"]["precopy-bytes"] > 0 or kind == "mapped-multifd"
    target = load(controller, kind, tmp_path / "x")
    assert len(guest.pictures) == 1
    assert [b.array.tobytes() for b in target.blocks] == guest.pictures[0]
    assert int.from_bytes(target.blocks[0].read(0, 8), "little") > before
    # The client that migration had in each block is gone.
    assert all(not b.dirty_clients for b in source.blocks)


@pytest.mark.parametrize("kind", ["stream", "mapped-multifd"])
@pytest.mark.parametrize("name", ["uffd", "compare"])
def test_writes_that_nobody_reports_are_found(controller, filled, tmp_path, name, kind):
    """The guest writes through plain host memory, changes pages and changes them back."""
    try:
        tracker = select_dirty_source(name)
    except ConfigError as error:
        pytest.skip(str(error))
    source = filled(blocks=BLOCKS, run_state="running")
    arrays = [b.array for b in source.blocks]
    original = [a.copy() for a in arrays]
    made = controller(source, kind, **{"max-bandwidth": 60 << 20, "downtime-limit": 5})
    made.use_dirty_source(tracker)

    def step(n):
        for array, before in zip(arrays, original, strict=True):
            at = n * 4099 % len(array)
            array[at] = n % 256
            back = (n - 3) * 4099 % len(array)
            array[back] = before[back]

    with Guest(source, step) as guest:
        made.migrate_file(tmp_path / "x")
    assert made.dirty_source_name == name
    target = load(controller, kind, tmp_path / "x")
    assert [b.array.tobytes() for b in target.blocks] == guest.pictures[0]


def test_guest_that_starts_during_a_save_is_noticed(controller, filled, tmp_path):
    source = filled(blocks=BLOCKS)
    made = controller(source, "mapped")
    tracker = FakeSource()
    made.use_dirty_source(tracker)
    block = source.blocks[0]

    def progress(p):
        if source.run_state == "paused":
            source.vm_start()
            # A write that nobody logs, as of a guest whose tracking has not begun.
            block.array[5 * 4096 : 6 * 4096] = 0xEE

    made.migrate_file(tmp_path / "x", progress=progress)
    assert tracker.started == 1
    target = load(controller, "mapped", tmp_path / "x")
    assert same(source, target)


def test_pages_that_turned_zero_leave_no_bytes_behind(controller, filled, tmp_path):
    source = filled(blocks=BLOCKS, run_state="running")
    block = source.blocks[0]
    made = controller(source, "mapped", **{"max-bandwidth": 20 << 20})
    made.use_dirty_source(FakeSource())
    secret = b"a secret of the guest "
    block.write(0, secret * 100)

    def progress(p):
        if p.pass_ == 1 and p.done_bytes and block.array[0]:
            # It has been written by now, as the first page of the largest block.
            assert secret in next(tmp_path.iterdir()).read_bytes()
            block.write(0, bytes(4096))

    made.migrate_file(tmp_path / "x", progress=progress)
    target = load(controller, "mapped", tmp_path / "x")
    assert not target.blocks[0].array[:4096].any()
    assert secret not in (tmp_path / "x").read_bytes()


@pytest.mark.parametrize(("dirty", "low", "high"), [(1.0, 3, 5), (0.01, 29, 31)])
def test_guest_that_never_calms_down_is_stopped_in_the_end(controller, filled, tmp_path, dirty, low, high):
    source = filled(blocks=BLOCKS, run_state="running")
    made = controller(source, "mapped", **{"downtime-limit": 0})

    class Busy(FakeSource):
        def sync(self):
            super().sync()
            block = source.blocks[0]
            block.mark_dirty(0, int(block.used_length * dirty))

    busy = Busy()
    made.use_dirty_source(busy)
    made.migrate_file(tmp_path / "x")
    assert low <= busy.syncs <= high
    assert same(source, load(controller, "mapped", tmp_path / "x"))


def test_progress_goes_from_nothing_to_all(controller, filled, tmp_path):
    seen = []
    source = filled(blocks=BLOCKS)
    controller(source, "mapped").migrate_file(tmp_path / "x", progress=seen.append)
    total = sum(b.used_length for b in source.blocks)
    assert seen[0].done_bytes == 0 and seen[-1].done_bytes == total == seen[-1].total_bytes
    assert seen[-1].remaining_bytes == 0
    assert np.all(np.diff([p.elapsed for p in seen]) >= 0)

# SPDX-License-Identifier: MIT
"""Background snapshots hold the machine as it was at the command, and leave nothing behind when they fail."""

from __future__ import annotations

import os
import resource
import signal
import threading

import numpy as np
import pytest
from migration.fakehost import FakeHost, Guest

import pyemu
from pyemu.errors import MemoryMapError, MigrationError
from pyemu.memory import PageKeeper, RAMBlock
from pyemu.migration import Cancelled, MigrationController
from pyemu.plugin import PluginManager

PAGE = 4096
BLOCKS = (("ram", 2 << 20), ("vga.vram", 64 << 10))
KINDS = ["stream", "mapped"]


@pytest.fixture(scope="module", autouse=True)
def possible():
    keeper = PageKeeper()
    try:
        keeper.start([RAMBlock("probe", PAGE)])
    except MemoryMapError as error:
        pytest.skip(f"needs userfaultfd: {error}")
    keeper.stop()


@pytest.fixture
def snapshot(controller):
    def make(host, kind, **parameters):
        made = controller(host, kind, **parameters)
        made.set_capabilities({"background-snapshot": True})
        return made

    return make


def load(controller, path, kind, blocks=BLOCKS):
    host = FakeHost(blocks, run_state="inmigrate")
    controller(host, kind).incoming(f"file:{path}", blocking=True)
    return host


def unprotected(host):
    """No page is protected any more, and nobody holds the blocks."""
    keeper = PageKeeper()
    keeper.start(host.blocks)
    keeper.stop()
    for block in host.blocks:
        block.array[::PAGE] += 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_holds_the_moment_of_the_command(controller, snapshot, filled, tmp_path, kind):
    host = filled(blocks=BLOCKS, run_state="running")
    counters = host.blocks[0].array.view(np.uint64)
    pages = [5 * PAGE // 8, 400 * PAGE // 8]
    counters[pages] = 0
    rest = np.random.default_rng(5)

    def step(n):
        # Two counters far apart are always equal when the machine stands still.
        for at in pages:
            counters[at] = n
        for page in rest.integers(6, 400, 20):
            host.blocks[0].array[page * PAGE + 8 : page * PAGE + 16] += 1
        host.blocks[1].array[n % 16 * PAGE] ^= 1

    made = snapshot(host, kind)
    with Guest(host, step) as guest:
        made.migrate_file(tmp_path / "x")
        assert host.run_state == "running"
    (picture,) = guest.pictures
    back = load(controller, tmp_path / "x", kind)
    assert [block.array.tobytes() for block in back.blocks] == picture
    first, second = back.blocks[0].array.view(np.uint64)[pages]
    assert first == second > 0
    assert made.query()["ram"]["remaining"] == 0
    unprotected(host)


def test_events_and_run_states(snapshot, tmp_path):
    host = FakeHost(run_state="running")
    snapshot(host, "mapped").migrate(f"file:{tmp_path}/x", blocking=True)
    assert [data.get("status", name) for name, data in host.events] == ["setup", "active", "STOP", "RESUME", "completed"]
    assert host.run_state == "running"
    for state in ("paused", "prelaunch"):
        host = FakeHost(run_state=state)
        snapshot(host, "stream").migrate(f"file:{tmp_path}/x", blocking=True)
        assert host.run_state == state and "STOP" not in dict(host.events)


def test_no_mark_of_a_switchover_and_no_end(snapshot, tmp_path):
    host = FakeHost((("ram", PAGE),))
    snapshot(host, "stream").migrate_file(tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    assert b"\x08\x00\x0b\x00\x00" not in data and b"\x03\x00\x00\x00\x01" not in data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cancels", [False, True])
def test_whatever_ends_it_early_leaves_the_guest_running(snapshot, tmp_path, kind, cancels):
    host = FakeHost((("ram", 4 << 20),), run_state="running")
    host.blocks[0].array[:] = 3
    made = snapshot(host, kind)

    def progress(report):
        host.blocks[0].array[::PAGE] = 4
        if cancels:
            made.cancel()
        else:
            raise ZeroDivisionError

    with pytest.raises(Cancelled if cancels else ZeroDivisionError):
        made.migrate_file(tmp_path / "x", progress=progress)
    assert made.status == ("cancelled" if cancels else "failed")
    assert host.run_state == "running" and os.listdir(tmp_path) == []
    unprotected(host)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(snapshot, tmp_path, kind):
    host = FakeHost((("ram", 2 << 20),), run_state="running")
    host.blocks[0].array[:] = 3
    made = snapshot(host, kind)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(MigrationError, match="Unable to write to file: File too large"):
            made.migrate_file(tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert host.run_state == "running" and os.listdir(tmp_path) == []
    unprotected(host)


def test_a_device_that_cannot_be_saved(snapshot, tmp_path):
    host = FakeHost(run_state="running")
    host.chips[0].regs = None
    with pytest.raises(MigrationError, match="chip: field regs=None does not fit"):
        snapshot(host, "mapped").migrate_file(tmp_path / "x")
    assert host.run_state == "running" and os.listdir(tmp_path) == []
    unprotected(host)


def test_a_kernel_without_write_protection_is_named(snapshot, tmp_path, monkeypatch):
    class Without:
        def start(self, blocks):
            raise MemoryMapError("a background snapshot needs the kernel's userfaultfd (Linux 6.4): no")

        def stop(self):
            pass

    monkeypatch.setattr("pyemu.migration.background.PageKeeper", Without)
    host = FakeHost(run_state="running")
    with pytest.raises(MigrationError, match=r"background-snapshot: .* userfaultfd \(Linux 6.4\)"):
        snapshot(host, "mapped").migrate_file(tmp_path / "x")
    assert host.run_state == "running" and os.listdir(tmp_path) == []


def test_a_limited_bandwidth_does_not_stop_the_guest(controller, snapshot, tmp_path):
    host = FakeHost((("ram", 1 << 20),), run_state="running")
    host.blocks[0].array[:] = 3
    made = snapshot(host, "mapped", **{"max-bandwidth": 4 << 20})
    made.migrate(f"file:{tmp_path}/x")
    while made.status != "active":
        threading.Event().wait(0.001)
    # All of it, at once, while the writer rests.
    while host.run_state != "running" or ("RESUME", {}) not in host.events:
        threading.Event().wait(0.001)
    host.blocks[0].array[:] = 4
    assert made.wait(20) == "completed"
    assert (load(controller, tmp_path / "x", "mapped", (("ram", 1 << 20),)).blocks[0].array == 3).all()


def test_a_machine_of_the_command_line(tmp_path):
    with pyemu.Machine("none", memory="4M", plugins=PluginManager()) as machine:
        memory = machine.ram["ram"].array
        memory[:] = 1
        machine.cont()

        def progress(report):
            memory[:] = 2

        report = machine.save(tmp_path / "x", mapped_ram=True, background=True, progress=progress)
        assert machine.running and report.data_pages >= 1024
        with pytest.raises(MigrationError, match="Background-snapshot is not compatible with multifd"):
            machine.save(tmp_path / "y", multifd=2, background=True)
    with pyemu.restore(tmp_path / "x") as back:
        assert (back.ram["ram"].array == 1).all()
        assert MigrationController.__name__ in repr(type(back.migration))

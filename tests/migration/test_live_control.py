# SPDX-License-Identifier: MIT
"""Bandwidth and downtime while a migration runs, and cancelling it at each of its moments."""

from __future__ import annotations

import logging
import os
import threading
import types
import uuid

import pytest
from migration.fakehost import FakeHost, FakeSource

from pyemu.errors import MigrationError
from pyemu.migration import outgoing
from pyemu.migration.control import OutgoingControl

MIB = 1 << 20


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while a migration sleeps, and a little with each look at it."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            self.now += 1e-7
            return self.now

    clock = Clock()
    monkeypatch.setattr(outgoing, "time", types.SimpleNamespace(monotonic=clock.monotonic))

    def pause(self, seconds):
        clock.now += seconds
        self.check()

    monkeypatch.setattr(OutgoingControl, "pause", pause)
    return clock


@pytest.mark.parametrize("kind", ["stream", "mapped"])
@pytest.mark.parametrize("rate", [64 << 10, 10 * MIB])
def test_no_more_is_sent_than_the_bandwidth(controller, clock, tmp_path, kind, rate):
    host = FakeHost((("ram", MIB),))
    host.blocks[0].array[:] = 1
    begin = clock.now
    made = controller(host, kind, **{"max-bandwidth": rate})
    made.migrate(f"file:{tmp_path}/x", blocking=True)
    assert clock.now - begin == pytest.approx(MIB / rate, rel=0.02, abs=0.11)


def test_a_new_bandwidth_holds_at_once(controller, clock, tmp_path):
    host = FakeHost((("ram", 4 * MIB),))
    host.blocks[0].array[:] = 1
    made = controller(host, **{"max-bandwidth": MIB})
    times = {}

    def progress(p):
        if "half" not in times and p.transferred_bytes >= 2 * MIB:
            times["half"] = clock.now
            made.set_parameters({"max-bandwidth": 10 * MIB})
        if "most" not in times and p.transferred_bytes >= 3 * MIB:
            times["most"] = clock.now
            made.set_parameters({"max-bandwidth": 0})

    begin = clock.now
    made.migrate(f"file:{tmp_path}/x", blocking=True, progress=progress)
    assert times["half"] - begin == pytest.approx(2.0, abs=0.15)
    assert times["most"] - times["half"] == pytest.approx(0.1, abs=0.15)
    assert clock.now - times["most"] < 0.15


class Writing(FakeSource):
    """Finds the same number of pages dirty at each look."""

    def __init__(self, host, pages):
        super().__init__()
        self.host, self.pages = host, pages

    def sync(self):
        self.syncs += 1
        self.host.blocks[0].dirty_client("migration").set_range(0, self.pages)
        return 0


@pytest.mark.parametrize(
    ("change", "looks"),
    [
        # With the present pass done, a look that is good enough, and the one after the stop.
        ({"downtime-limit": 2000}, 4),
        ({"avail-switchover-bandwidth": 100 * MIB}, 4),
        # The bandwidth is measured first, over 100 ms, in which ten times a MiB is sent.
        ({"max-bandwidth": 100 * MIB}, 14),
    ],
)
def test_a_new_downtime_or_bandwidth_ends_a_migration_that_did_not_converge(
    controller, clock, tmp_path, change, looks
):
    # A MiB is dirty at each look: ten times what 100 ms take at 1 MiB/s.
    host = FakeHost((("ram", 2 * MIB),), run_state="running")
    host.blocks[0].array[:] = 1
    made = controller(host, **{"max-bandwidth": MIB, "downtime-limit": 100})
    tracker = Writing(host, 256)
    made.use_dirty_source(tracker)
    syncs = []

    def progress(p):
        if p.dirty_syncs == 6 and not syncs:
            assert host.run_state == "running"
            syncs.append(tracker.syncs)
            made.set_parameters(change)

    made.migrate(f"file:{tmp_path}/x", blocking=True, progress=progress)
    assert host.run_state == "postmigrate"
    assert tracker.syncs - syncs[0] <= looks


EVENTS = ["setup", 1, "active", 2, "STOP", "pre-switchover", "device", 3]


@pytest.mark.parametrize("kind", ["stream", "mapped-multifd"])
@pytest.mark.parametrize("moment", range(len(EVENTS)), ids=map(str, EVENTS))
def test_cancelled_at_each_moment(controller, filled, tmp_path, kind, moment):
    host = filled(blocks=(("ram", 1 << 16),), run_state="running")
    host.events.clear()
    made = controller(host, kind)
    made.set_capabilities({"pause-before-switchover": True, "auto-converge": True})
    tracker = FakeSource()
    made.use_dirty_source(tracker)
    emit = host.emit
    seen = []

    def listen(name, data):
        emit(name, data)
        what = data.get("status", data.get("pass", name))
        seen.append(what)
        if len(seen) == moment + 1:
            made.cancel()
        elif what == "pre-switchover":
            made.continue_("pre-switchover")

    host.emit = listen
    try:
        made.migrate(f"file:{tmp_path}/x")
    except MigrationError:
        assert moment == 0
    assert made.wait(10) == "cancelled"
    assert seen[: moment + 1] == EVENTS[: moment + 1]
    assert seen[-1] == "cancelled" and seen.count("cancelled") == seen.count("cancelling") == 1
    assert made.query() == {"status": "cancelled"}
    assert host.run_state == "running" and host.clock.is_running
    assert tracker.started == tracker.stopped
    assert os.listdir(tmp_path) == []
    assert not host.throttles or host.throttles[-1] == 0
    assert not [t for t in threading.enumerate() if t.name.startswith(("migration-r", "multifd"))]
    assert not host.blocks[0].dirty_clients
    # And the next one is not touched by it.
    host.emit = emit
    made.set_capabilities({"pause-before-switchover": False})
    made.migrate(f"file:{tmp_path}/x", blocking=True)
    assert made.status == "completed" and host.run_state == "postmigrate"
    made.cancel()
    assert made.status == "completed" and host.run_state == "postmigrate"


def test_identities_are_compared(controller, tmp_path, caplog):
    one, other = (uuid.UUID(int=n).bytes for n in (1, 2))

    def saved(identity, validate):
        made = controller(FakeHost(uuid=identity))
        made.set_capabilities({"validate-uuid": validate})
        made.migrate_file(tmp_path / "x")

    def load(identity):
        host = FakeHost(uuid=identity, run_state="inmigrate")
        controller(host).incoming(f"file:{tmp_path}/x", blocking=True)
        return host.run_state

    saved(one, True)
    assert load(one) == "paused"
    with pytest.raises(MigrationError, match=f"UUID received is {uuid.UUID(int=1)} and local is {uuid.UUID(int=2)}"):
        load(other)
    with caplog.at_level(logging.WARNING, "pyemu.migration"):
        assert load(None) == "paused"
    assert str(uuid.UUID(int=1)) in caplog.text
    # Neither a machine without one nor a source that was not asked says anything.
    for identity, validate in ((None, True), (one, False)):
        saved(identity, validate)
        assert load(other) == "paused"

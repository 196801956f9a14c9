# SPDX-License-Identifier: MIT
"""The rule by which a guest that dirties memory too fast is slowed down, and that it gets its time back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from migration.fakehost import FakeHost, FakeSource

from pyemu.errors import MigrationError
from pyemu.migration import outgoing
from pyemu.migration.converge import AutoConverge

DEFAULTS = {
    "throttle-trigger-threshold": 50,
    "cpu-throttle-initial": 20,
    "cpu-throttle-increment": 10,
    "cpu-throttle-tailslow": False,
    "max-cpu-throttle": 99,
}


def steps(looks, **changed):
    """The throttle after each look; a look is (seconds since the last, bytes dirtied, bytes sent)."""
    applied = []
    rule = AutoConverge({**DEFAULTS, **changed}.__getitem__, applied.append, 0.0)
    now, sent, seen = 0.0, 0, []
    for seconds, dirtied, more in looks:
        now, sent = now + seconds, sent + more
        rule.synced(now, dirtied, sent)
        seen.append(rule.percent)
    assert applied == sorted(set(seen) - {0})
    return seen


def test_steps_are_those_of_a_measured_qemu():
    # 192 MiB dirtied again and again against 64 MiB a second; the first look is dirty-sync-count 2.
    seen = steps([(3.0, 192, 192)] * 20)
    at = {count + 2: percent for count, percent in enumerate(seen)}
    assert [at[n] for n in (2, 3, 4, 5, 7, 9, 11, 13, 15, 17, 19, 21)] == [
        0, 20, 20, 30, 40, 50, 60, 70, 80, 90, 99, 99,
    ]  # fmt: skip


def test_a_calm_guest_is_left_alone():
    assert steps([(2.0, 50, 100)] * 10) == [0] * 10
    assert steps([(2.0, 51, 100)] * 4) == [0, 20, 20, 30]
    assert steps([(2.0, 51, 100)] * 4, **{"throttle-trigger-threshold": 51}) == [0] * 4


def test_looks_within_a_second_are_added_up():
    # Neither look alone is over the threshold's share of what was sent in its own time.
    assert steps([(0.5, 30, 0), (0.6, 30, 100), (0.5, 30, 0), (0.6, 30, 100)]) == [0, 0, 0, 20]


def test_parameters_are_read_at_each_step():
    values = dict(DEFAULTS)
    rule = AutoConverge(values.__getitem__, lambda percent: None, 0.0)
    for now in range(2, 6, 2):
        rule.synced(now, 100, 0)
    assert rule.percent == 20
    values.update({"cpu-throttle-increment": 3, "max-cpu-throttle": 22})
    for now in range(6, 10, 2):
        rule.synced(now, 100, 0)
    assert rule.percent == 22


def test_tailslow_takes_no_more_than_is_needed():
    # 20 %: 80 are left; to dirty 57 instead of 60 the guest needs 76 of them.
    seen = steps([(2.0, 60, 114)] * 4, **{"cpu-throttle-tailslow": True})
    assert seen == [0, 20, 20, 24]
    assert steps([(2.0, 1000, 1)] * 4, **{"cpu-throttle-tailslow": True})[-1] == 30


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.integers(0, 1 << 30), st.integers(0, 1 << 30)), max_size=60),
    st.integers(1, 99),
    st.integers(1, 99),
    st.integers(1, 99),
    st.booleans(),
)
def test_the_throttle_only_grows_and_keeps_its_limit(looks, initial, increment, limit, tailslow):
    limit = max(limit, initial)
    changed = {
        "cpu-throttle-initial": initial,
        "cpu-throttle-increment": increment,
        "max-cpu-throttle": limit,
        "cpu-throttle-tailslow": tailslow,
    }
    applied = []
    rule = AutoConverge({**DEFAULTS, **changed}.__getitem__, applied.append, 0.0)
    now = sent = 0
    for seconds, dirtied, more in looks:
        before = rule.percent
        now, sent = now + seconds, sent + more
        rule.synced(now, dirtied, sent)
        assert before <= rule.percent <= limit
    rule.stop()
    assert rule.percent == 0 and (not applied or applied[-1] == 0)


class Restless(FakeSource):
    """Finds every page dirty at each look, until the guest has been slowed down enough."""

    def __init__(self, host, calm_at):
        super().__init__()
        self.host, self.calm_at = host, calm_at

    def sync(self):
        self.syncs += 1
        if not self.host.throttles or self.host.throttles[-1] < self.calm_at:
            for block in self.host.blocks:
                block.dirty_client("migration").set_all()
        return 0


@pytest.fixture
def hasty(monkeypatch):
    """Judges at every look at the dirty log instead of once a second."""
    monkeypatch.setattr("pyemu.migration.converge.PERIOD", 0.0)


def throttled(controller, calm_at):
    host = FakeHost(run_state="running")
    host.blocks[0].array[:] = 1
    made = controller(host, **{"downtime-limit": 0})
    made.use_dirty_source(Restless(host, calm_at))
    made.set_capabilities({"auto-converge": True})
    return host, made


def test_the_guest_is_slowed_down_until_it_converges(hasty, controller, tmp_path):
    host, made = throttled(controller, 60)
    seen = set()
    made.migrate(f"file:{tmp_path}/x", progress=lambda p: seen.add(made.query().get("cpu-throttle-percentage")))
    assert made.wait(10) == "completed"
    assert host.throttles == [20, 30, 40, 50, 60, 0]
    assert "cpu-throttle-percentage" not in made.query()


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_the_guest_gets_its_time_back_when_the_migration_does_not_succeed(hasty, controller, tmp_path, monkeypatch, end):
    monkeypatch.setattr(outgoing, "PROGRESS_INTERVAL", 0.0)
    host, made = throttled(controller, 100)
    shown = []

    def progress(p):
        shown.append(made.query().get("cpu-throttle-percentage"))
        if host.throttles and host.throttles[-1] >= 40:
            if end == "failed":
                raise MigrationError("enough")
            made.cancel()

    made.migrate(f"file:{tmp_path}/x", progress=progress)
    assert made.wait(10) == end
    assert host.throttles[-1] == 0
    assert shown[0] is None and shown[-1] == host.throttles[-2] >= 40
    assert host.run_state == "running"

# SPDX-License-Identifier: MIT
from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine.test_loop import Rig

from pyemu import Machine
from pyemu.errors import ConfigError
from pyemu.machine.throttle import SLICE, Throttle


@given(st.integers(1, 99), st.lists(st.floats(1e-4, 0.5), min_size=1, max_size=50))
def test_work_and_rest_are_in_proportion(percent, pieces):
    throttle = Throttle()
    throttle.percent = percent
    now = rested = worked = 0.0
    for piece in pieces:
        throttle.worked(now, now + piece)
        now += piece
        worked += piece
        rest = throttle.rest_left(now)
        if rest > 0:
            rested += rest
            now += rest
            assert rested / (rested + worked) == pytest.approx(percent / 100)
            assert throttle.work_left() == SLICE
        else:
            assert 0 < throttle.work_left() <= SLICE
    # No rest is owed but for the slice that is not finished.
    assert worked * percent / (100 - percent) - rested <= SLICE * percent / (100 - percent) + 1e-9


def test_without_a_throttle_there_is_no_rest():
    throttle = Throttle()
    throttle.worked(0.0, 5.0)
    assert throttle.rest_left(5.0) <= 0
    throttle.percent = 50
    throttle.worked(5.0, 6.0)
    assert throttle.rest_left(6.0) > 0
    throttle.percent = 0
    assert throttle.rest_left(6.0) <= 0


@pytest.fixture
def rig():
    rig = Rig()
    rig.loop.start()
    yield rig
    rig.loop.stop()


def test_a_throttled_processor_is_taken_out_of_guest_code_and_rests(rig, monkeypatch):
    resting = threading.Event()
    sleep = rig.loop._sleep

    def watched(longest=None):
        if longest is not None:
            resting.set()
        sleep(longest)

    monkeypatch.setattr(rig.loop, "_sleep", watched)
    rig.loop.set_throttle(99)
    # The guest never leaves guest code by itself, and nobody but the throttle kicks it.
    rig.go()
    assert resting.wait(10)
    runs = rig.engine.runs
    # The machine thread serves others meanwhile, and timers come on time.
    assert rig.loop.call(lambda: 7) == 7
    fired = threading.Event()
    rig.loop.call(lambda: rig.clock.timer(fired.set).arm(rig.clock.now_ns))
    assert fired.wait(10)
    rig.engine.entered.clear()
    rig.loop.set_throttle(0)
    assert rig.engine.entered.wait(10)
    assert rig.engine.runs > runs


def test_a_machine_refuses_other_shares():
    with Machine("none", memory=1 << 20) as machine:
        machine.set_cpu_throttle(99)
        assert machine.cpu_throttle == 99
        for percent in (-1, 100):
            with pytest.raises(ConfigError, match=f"cpu throttle of {percent} %: must be from 0 to 99"):
                machine.set_cpu_throttle(percent)
        machine.set_cpu_throttle(0)

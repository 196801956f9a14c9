# SPDX-License-Identifier: MIT
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.device import IRQLine, IRQOut


class Recorder:
    def __init__(self):
        self.changes = []
        self.line = IRQLine("line", 5, lambda n, level: self.changes.append((n, level)))


def test_a_shared_line_drops_with_its_last_source():
    r = Recorder()
    a, b = IRQOut("a", r.line), IRQOut("b", r.line)
    a.set_level(1)
    b.set_level(1)
    a.set_level(0)
    assert r.changes == [(5, 1)]
    b.set_level(0)
    assert r.changes == [(5, 1), (5, 0)]


def test_a_pin_moved_while_high_takes_its_level_along():
    one, two = Recorder(), Recorder()
    pin = IRQOut("pin", one.line)
    pin.set_level(1)
    pin.connect(two.line)
    assert (one.line.level, two.line.level) == (0, 1)
    pin.connect(None)
    assert two.line.level == 0 and pin.level == 1
    pin.connect(one.line)
    assert one.line.level == 1


def test_a_line_takes_64_sources_and_says_so():
    line = IRQLine("busy")
    pins = [IRQOut(f"p{n}", line) for n in range(64)]
    with pytest.raises(ValueError, match="p64.*busy"):
        IRQOut("p64", line)
    pins[7].connect(None)
    IRQOut("late", line)


def test_an_observer_sees_changes_and_can_leave():
    r, seen = Recorder(), []
    r.line.observe(lambda n, level: seen.append(level))
    pin = IRQOut("pin", r.line)
    pin.pulse()
    r.line.observe(None)
    pin.pulse()
    assert seen == [1, 0]


def test_a_handler_that_raises_is_reported_and_the_device_goes_on(monkeypatch):
    reported = []
    monkeypatch.setattr("sys.unraisablehook", reported.append)
    line = IRQLine("bad", 0, lambda n, level: 1 // 0)
    IRQOut("pin", line).set_level(1)
    assert line.level == 1
    assert reported[0].exc_type is ZeroDivisionError


def test_a_listener_gets_the_failure_of_handler_and_observer_with_their_line():
    faults = []
    line = IRQLine("bad", 0, lambda n, level: 1 // 0)
    line.observe(lambda n, level: [][0])
    line.set_fault_listener(faults.append)
    IRQOut("pin", line).set_level(1)
    assert [type(f.__cause__) for f in faults] == [ZeroDivisionError, IndexError]
    assert str(faults[0]).startswith("bad: handler of level 1 failed: ZeroDivisionError:") and faults[0].device == "bad"


def test_lines_live_as_long_as_a_pin_needs_them():
    changes = []
    pin = IRQOut("pin", IRQLine("gone?", 3, lambda n, level: changes.append((n, level))))
    gc.collect()
    pin.set_level(1)
    assert changes == [(3, 1)]


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["high", "low", "cut", "0", "1"])), max_size=40))
def test_levels_follow_a_plain_model(steps):
    lines = [IRQLine("0"), IRQLine("1")]
    pins = [IRQOut(str(n), lines[0]) for n in range(5)]
    level, where = [0] * 5, [0] * 5
    for n, step in steps:
        if step in ("high", "low"):
            level[n] = int(step == "high")
            pins[n].set_level(level[n])
        else:
            where[n] = None if step == "cut" else int(step)
            pins[n].connect(None if step == "cut" else lines[int(step)])
        for i, line in enumerate(lines):
            assert line.level == max((level[k] for k in range(5) if where[k] == i), default=0)

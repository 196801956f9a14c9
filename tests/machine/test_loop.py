# SPDX-License-Identifier: MIT
import threading
import time

import pytest

from pyemu.cpu.engine import Exit, ExitReason
from pyemu.device import Clock
from pyemu.errors import PyemuError
from pyemu.machine.loop import Loop


class FakeEngine:
    """Spins until kicked, as guest code does; can be told what to answer next."""

    def __init__(self):
        self.kicked = threading.Event()
        self.entered = threading.Event()
        self.reasons = []
        self.runs = 0

    def kick(self):
        self.kicked.set()

    def run(self):
        self.runs += 1
        self.entered.set()
        if self.reasons:
            return ExitReason(self.reasons.pop(0))
        assert self.kicked.wait(10), "nobody kicked"
        self.kicked.clear()
        return ExitReason(Exit.KICK)


class Rig:
    def __init__(self, clock="host"):
        self.clock = Clock(clock)
        self.exits, self.errors, self.checks = [], [], 0
        self.engine = FakeEngine()
        self.loop = Loop(self.clock, on_exit=self._exit, on_error=self.errors.append, check=self._check)
        self.loop.engine = self.engine

    def _exit(self, reason):
        self.exits.append(reason)
        self.loop.running = False

    def _check(self):
        self.checks += 1

    def go(self):
        def start():
            self.clock.start()
            self.loop.running = True

        self.loop.call(start)


@pytest.fixture
def rig():
    rig = Rig()
    rig.loop.start()
    yield rig
    rig.loop.stop()


def test_calls_run_on_the_machine_thread_and_return_results(rig):
    name = rig.loop.call(lambda: threading.current_thread().name)
    assert name == "pyemu-machine"


def test_a_call_raises_what_the_function_raised_and_the_thread_lives(rig):
    with pytest.raises(ZeroDivisionError):
        rig.loop.call(lambda: 1 // 0)
    assert rig.loop.call(lambda: 7) == 7
    assert rig.errors == []


def test_calls_interrupt_guest_code(rig):
    rig.go()
    assert rig.engine.entered.wait(5)
    for i in range(100):
        assert rig.loop.call(lambda i=i: i) == i


def test_calls_from_the_machine_thread_run_at_once(rig):
    assert rig.loop.call(lambda: rig.loop.call(lambda: "inner")) == "inner"


def test_a_timer_fires_while_the_guest_spins(rig):
    fired = threading.Event()
    timer = rig.clock.timer(fired.set)
    rig.go()
    rig.loop.call(lambda: timer.arm(rig.clock.now_ns + 5_000_000))
    assert fired.wait(5)


def test_a_timer_armed_from_inside_guest_code_reaches_the_alarm():
    rig = Rig()
    fired = threading.Event()
    timer = rig.clock.timer(fired.set)
    spin = rig.engine.run

    def run_and_arm():
        if rig.engine.runs == 0:
            timer.arm(rig.clock.now_ns + 5_000_000)
        return spin()

    rig.engine.run = run_and_arm
    rig.loop.start()
    rig.go()
    assert fired.wait(5)
    rig.loop.stop()


def test_halt_sleeps_until_the_next_timer_and_then_enters_again(rig):
    rig.engine.reasons = [Exit.HALT]
    fired = threading.Event()
    timer = rig.clock.timer(fired.set)
    rig.loop.call(lambda: timer.arm(rig.clock.now_ns + 20_000_000))
    rig.go()
    assert fired.wait(5)
    assert rig.loop.call(lambda: rig.engine.runs) >= 1


def test_a_timer_that_raises_is_reported_and_the_thread_lives(rig):
    timer = rig.clock.timer(lambda: 1 // 0)
    rig.go()
    rig.loop.call(lambda: timer.arm(rig.clock.now_ns))
    deadline = time.monotonic() + 5
    while not rig.errors and time.monotonic() < deadline:
        rig.loop.call(lambda: None)
    assert isinstance(rig.errors[0], ZeroDivisionError)
    assert rig.loop.call(lambda: 1) == 1


def test_other_exits_are_handed_on(rig):
    rig.engine.reasons = [Exit.SHUTDOWN]
    rig.go()
    rig.loop.call(lambda: None)
    assert [r.exit for r in rig.exits] == [Exit.SHUTDOWN]


def test_queued_work_is_not_lost_when_many_threads_post(rig):
    rig.go()
    seen = []
    threads = [
        threading.Thread(target=lambda n=n: [rig.loop.call(lambda i=i: seen.append((n, i))) for i in range(200)])
        for n in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert len(seen) == 800
    for n in range(4):
        assert [i for m, i in seen if m == n] == list(range(200))


def test_after_stop_work_is_refused_by_name():
    rig = Rig()
    rig.loop.start()
    rig.loop.stop()
    with pytest.raises(PyemuError, match="closed"):
        rig.loop.post(lambda: None)

# SPDX-License-Identifier: MIT
import pytest

from pyemu.device import Clock


def test_a_step_clock_fires_each_timer_at_its_own_time_in_order():
    clock, fired = Clock("step"), []
    for at in (300, 100, 200, 1000):
        clock.timer(lambda: fired.append(clock.now_ns)).arm(at)
    clock.advance(500)
    assert fired == [100, 200, 300] and clock.now_ns == 500
    assert clock.next_deadline() == 1000


def test_a_timer_may_arm_itself_again():
    clock, fired = Clock("step"), []

    def tick():
        fired.append(clock.now_ns)
        timer.arm(clock.now_ns + 10)

    timer = clock.timer(tick)
    timer.arm(10)
    clock.advance(35)
    assert fired == [10, 20, 30] and timer.armed


def test_cancelled_and_rearmed_timers_fire_once_at_the_last_deadline():
    clock, fired = Clock("step"), []
    timer, other = clock.timer(lambda: fired.append(clock.now_ns)), clock.timer(lambda: fired.append("never"))
    timer.arm(10)
    timer.arm(30)
    other.arm(5)
    other.cancel()
    clock.advance(100)
    assert fired == [30]


def test_rearming_many_times_does_not_keep_the_old_deadlines():
    import tracemalloc

    clock = Clock("step")
    timer = clock.timer(lambda: None)
    tracemalloc.start()
    try:
        for n in range(20_000):
            timer.arm(10**12 + n)
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert clock.next_deadline() == 10**12 + 19_999


def test_a_host_clock_runs_only_between_start_and_stop():
    clock = Clock("host")
    assert clock.now_ns == 0
    clock.start()
    first = clock.now_ns
    while clock.now_ns == first:
        pass
    clock.stop()
    stopped = clock.now_ns
    assert stopped > first and clock.now_ns == stopped
    clock.set_ns(5)
    assert clock.now_ns == 5


def test_listeners_hear_of_earlier_deadlines_only():
    clock, heard = Clock("step"), []
    clock.change_listener = lambda: heard.append(clock.next_deadline())
    timer, later = clock.timer(lambda: None), clock.timer(lambda: None)
    timer.arm(100)
    later.arm(200)
    timer.arm(50)
    assert heard == [100, 50]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Clock("sundial"),
        lambda: Clock("host").advance(1),
        lambda: Clock("step").advance(-1),
        lambda: Clock("step").timer(print).arm(-5),
    ],
)
def test_misuse_is_named(misuse):
    with pytest.raises(ValueError, match=r"sundial|host|-1|-5"):
        misuse()

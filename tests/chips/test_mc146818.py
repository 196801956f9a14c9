# SPDX-License-Identifier: MIT
"""The real-time clock: calendar against the standard library, interrupts, update cycle, battery."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyemu.chips.mc146818 import RTC
from pyemu.device import Clock, IRQOut
from pyemu.errors import ConfigError, MigrationError
from pyemu.testing.fakes import ISAFixture

SECOND = 10**9
SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D = range(14)
CENTURY = 0x32
SET, PIE, AIE, UIE, BINARY, H24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
IRQ, PF, AF, UF = 0x80, 0x40, 0x20, 0x10
UPDATE = 244_000 + 1_984_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def bcd(value):
    return int(str(value), 16)


def unbcd(value):
    return int(f"{value:x}")


def chip(moment=START, *, b=H24):
    """A clock chip on its own at *moment*; its pin and the clock that moves it."""
    rtc, clock, pin = RTC(), Clock("step"), IRQOut("pin")
    rtc.attach(clock, pin)
    rtc.write(B, b)
    rtc.set_epoch_ns((moment - EPOCH) // timedelta(microseconds=1) * 1000)
    return rtc, clock, pin


def shown(rtc):
    """The time that the registers show, in whatever format register B says."""
    control = rtc.read(B)
    number = int if control & BINARY else unbcd
    hour = rtc.read(HOURS)
    if control & H24:
        hour = number(hour)
    else:
        hour = number(hour & 0x7F) % 12 + (12 if hour & 0x80 else 0)
    year = unbcd(rtc.read(CENTURY)) * 100 + number(rtc.read(YEAR))
    parts = [number(rtc.read(n)) for n in (MONTH, DAY)]
    return datetime(year, *parts, hour, number(rtc.read(MINUTES)), number(rtc.read(SECONDS)), tzinfo=UTC)


moments = st.datetimes(datetime(1, 1, 1), datetime(9998, 1, 1)).map(lambda d: d.replace(microsecond=0, tzinfo=UTC))
formats = st.sampled_from((0, BINARY, H24, BINARY | H24))


@settings(max_examples=2 * settings.default.max_examples)
@given(moments, formats, st.integers(0, 4 * 10**6))
def test_the_calendar_is_that_of_the_standard_library(moment, form, later):
    rtc, clock, _ = chip(b=form)
    set_time(rtc, moment)
    clock.advance(later * SECOND)
    expected = moment + timedelta(seconds=later)
    assert shown(rtc) == expected
    weekday = rtc.read(WEEKDAY)
    assert weekday == expected.isoweekday() % 7 + 1


def set_time(rtc, moment):
    """Sets the time as guests do, under the SET bit."""
    form = rtc.read(B)
    number = int if form & BINARY else bcd
    hour = number(moment.hour) if form & H24 else number((moment.hour + 11) % 12 + 1) | (moment.hour >= 12) << 7
    rtc.write(B, form | SET)
    for register, value in (
        (SECONDS, number(moment.second)),
        (MINUTES, number(moment.minute)),
        (HOURS, hour),
        (WEEKDAY, moment.isoweekday() % 7 + 1),
        (DAY, number(moment.day)),
        (MONTH, number(moment.month)),
        (YEAR, number(moment.year % 100)),
        (CENTURY, bcd(moment.year // 100)),
    ):
        rtc.write(register, value)
    rtc.write(B, form)


def test_the_last_second_of_9999_is_followed_by_year_0():
    rtc, clock, _ = chip()
    set_time(rtc, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert shown(rtc).year == 9999
    clock.advance(SECOND)
    assert [rtc.read(n) for n in (CENTURY, YEAR, MONTH, DAY, HOURS)] == [0, 0, 1, 1, 0]


def test_the_time_stands_while_set_and_keeps_its_phase():
    rtc, clock, _ = chip()
    clock.advance(300_000_000)
    rtc.write(B, H24 | SET)
    clock.advance(5 * SECOND)
    assert shown(rtc) == START
    rtc.write(B, H24)
    clock.advance(699_999_999)
    assert shown(rtc) == START
    clock.advance(1)
    assert shown(rtc) == START + timedelta(seconds=1)


def test_releasing_the_divider_makes_the_first_update_half_a_second_later():
    rtc, clock, _ = chip()
    rtc.write(A, 0x76)
    clock.advance(10 * SECOND)
    assert shown(rtc) == START
    rtc.write(A, 0x26)
    clock.advance(SECOND // 2 - 1)
    assert shown(rtc) == START
    clock.advance(1)
    assert shown(rtc) == START + timedelta(seconds=1)


def test_a_day_of_the_week_of_ones_own_is_kept():
    rtc, clock, _ = chip()
    assert rtc.read(WEEKDAY) == 7
    rtc.write(WEEKDAY, 3)
    clock.advance(86400 * SECOND)
    assert rtc.read(WEEKDAY) == 4


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=30))
def test_nonsense_in_the_registers_is_taken_as_something(writes):
    rtc, clock, _ = chip()
    for register, value in writes:
        rtc.write(register, value)
        clock.advance(SECOND // 3)
        for n in range(128):
            assert 0 <= rtc.read(n) <= 255


# -- flags and interrupts -------------------------------------------------------------------------


def test_update_in_progress_ends_when_the_second_does():
    rtc, clock, _ = chip()
    for at, up in ((0, 0), (SECOND - UPDATE - 1, 0), (SECOND - UPDATE, 0x80), (SECOND - 1, 0x80), (SECOND, 0)):
        clock.advance(at - clock.now_ns)
        assert rtc.read(A) & 0x80 == up, at
    rtc.write(B, H24 | SET)
    clock.advance(SECOND - 1)
    assert not rtc.read(A) & 0x80


def test_flags_are_there_for_polling_and_go_with_the_read():
    rtc, clock, pin = chip()
    rtc.read(C)
    clock.advance(SECOND)
    assert rtc.read(C) == UF | PF
    assert rtc.read(C) == 0
    assert pin.level == 0
    assert not rtc.event_timer.armed


@pytest.mark.parametrize("rate", range(1, 16))
def test_periodic_interrupts_come_at_their_rate_without_drift(rate):
    rtc, clock, pin = chip(b=H24 | PIE)
    rtc.write(A, 0x20 | rate)
    frequency = {1: 256, 2: 128}.get(rate, 65536 >> rate)
    count = min(frequency, 300)
    rtc.read(C)
    for n in range(1, count + 1):
        due = -(-n * SECOND // frequency)
        clock.advance(due - 1 - clock.now_ns)
        assert pin.level == 0, n
        clock.advance(1)
        assert pin.level == 1, n
        assert rtc.read(C) & (IRQ | PF) == IRQ | PF


def test_an_interrupt_that_is_not_served_stays_and_costs_nothing():
    rtc, clock, pin = chip(b=H24 | PIE)
    rtc.write(A, 0x23)
    clock.advance(SECOND)
    assert pin.level == 1
    assert not rtc.event_timer.armed


@pytest.mark.parametrize(
    ("alarm", "after"),
    [
        ((0x05, 0x00, 0x12), 5),
        ((0x00, 0x30, 0x12), 1800),
        ((0x30, 0x15, 0x03), 15 * 3600 + 15 * 60 + 30),
        ((0xFF, 0xFF, 0xFF), 1),
        ((0x00, 0xC0, 0xC0), 60),
        ((0x00, 0x00, 0xC0), 3600),
        ((0x00, 0x00, 0x12), 86400),
    ],
)
def test_alarms(alarm, after):
    rtc, clock, pin = chip(b=H24 | AIE)
    for register, value in zip((SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM), alarm, strict=True):
        rtc.write(register, value)
    rtc.read(C)
    clock.advance(after * SECOND - 1)
    assert pin.level == 0
    clock.advance(1)
    assert pin.level == 1
    assert rtc.read(C) & AF


def test_an_alarm_that_cannot_come_does_not():
    rtc, clock, pin = chip(b=H24 | AIE)
    rtc.write(HOURS_ALARM, 0x77)
    rtc.read(C)
    clock.advance(3 * 86400 * SECOND)
    assert pin.level == 0
    assert not rtc.read(C) & AF


def test_setting_the_time_turns_update_interrupts_off():
    rtc, clock, pin = chip(b=H24 | UIE)
    rtc.read(C)
    rtc.write(B, H24 | UIE | SET)
    assert rtc.read(B) == H24 | SET
    clock.advance(2 * SECOND)
    assert pin.level == 0


# -- ports, battery, properties -------------------------------------------------------------------


def test_ports():
    fixture = ISAFixture()
    fixture.plug(RTC(base="2026-01-31T12:00:00"))
    assert fixture.read(0x70) == 0xFF
    fixture.write(0x70, 0x80 | HOURS)  # bit 7 is the NMI mask
    assert fixture.read(0x71) == 0x12
    fixture.write(0x70, 0x7F)
    fixture.write(0x71, 0x5A)
    assert fixture.read(0x71) == 0x5A


def test_memory_and_time_survive_a_reset_and_interrupts_do_not():
    fixture = ISAFixture()
    rtc = fixture.plug(RTC(base="2026-01-31T12:00:00"))
    rtc.write(0x40, 0x99)
    rtc.write(B, UIE)
    fixture.clock.advance(2 * SECOND)
    assert fixture.lines[8].level == 1
    fixture.bus.reset()
    assert fixture.lines[8].level == 0
    assert (rtc.read(0x40), rtc.read(B), rtc.read(C)) == (0x99, 0, 0)
    rtc.write(B, H24)
    assert shown(rtc) == START + timedelta(seconds=2)


def test_a_board_can_fill_the_memory_but_not_resize_it():
    rtc, _, _ = chip()
    rtc.cmos[0x15:0x17] = (640).to_bytes(2, "little")
    assert rtc.read(0x15) | rtc.read(0x16) << 8 == 640
    with pytest.raises(BufferError):
        rtc.cmos.append(0)


def test_time_goes_on_where_it_was_after_a_load():
    rtc, clock, _ = chip(b=H24 | AIE)
    rtc.write(SECONDS_ALARM, 0x10)
    clock.advance(1_500_000_000)
    other, twin_clock, pin = chip(datetime(1999, 1, 1, tzinfo=UTC))
    twin_clock.set_ns(clock.now_ns)
    load(other, RTC.vmstate.encode(rtc))
    assert shown(other) == START + timedelta(seconds=1)
    twin_clock.advance(8_499_999_999)
    assert pin.level == 0


def load(rtc, saved):
    RTC.vmstate.decode(rtc, io.BytesIO(saved).read, 1)
    rtc.post_load(1)


@pytest.mark.parametrize("field", ["base_second", "base_ns", "seen_ns"])
def test_times_that_leave_64_bits_are_refused(field):
    rtc, _, _ = chip()
    setattr(rtc, field, -(1 << 62) - 1)
    with pytest.raises(MigrationError, match=field):
        load(RTC(), RTC.vmstate.encode(rtc))


def test_an_unknown_base_is_refused():
    with pytest.raises(ConfigError, match="base='yesterday'"):
        ISAFixture().plug(RTC(base="yesterday"))


def test_the_zone_of_a_base_counts():
    fixture = ISAFixture()
    rtc = fixture.plug(RTC(base="2026-01-31T14:00:00+02:00"))
    assert shown(rtc) == START


@pytest.mark.parametrize("b", [BINARY | H24, 0, BINARY])
def test_a_clock_that_was_just_read_shows_what_changed_since(b):
    rtc, clock, _ = chip(START + timedelta(hours=9, seconds=58))
    saved = RTC.vmstate.encode(rtc)
    assert shown(rtc) == START + timedelta(hours=9, seconds=58)
    rtc.write(B, b)
    rtc.write(B, SET | b)
    rtc.write(MINUTES, 7)
    rtc.write(B, b)
    assert shown(rtc) == START + timedelta(hours=9, minutes=7, seconds=58)
    clock.advance(2 * SECOND)
    assert shown(rtc) == START + timedelta(hours=9, minutes=8)
    rtc.set_epoch_ns(0)
    assert shown(rtc) == EPOCH
    load(rtc, saved)
    assert shown(rtc) == START + timedelta(hours=9, seconds=60)

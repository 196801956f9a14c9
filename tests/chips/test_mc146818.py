# SPDX-License-Identifier: MIT
"""The clock chip: how it shows the time, when it may be read and set, and its three interrupts."""

from __future__ import annotations

import io

import pytest

from pyemu.chips.mc146818 import RTC
from pyemu.errors import ConfigError
from pyemu.testing import ISAFixture

INDEX, DATA, IRQ = 0x70, 0x71, 8
SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR = range(10)
A, B, C, D, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x32
SET, PIE, AIE, UIE, BINARY, H24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
UIP = 0x80
MS, S = 1_000_000, 1_000_000_000


class Clock:
    """A clock chip, and what a driver does with it."""

    def __init__(self, base="2026-01-31T23:59:57"):
        self.fixture = ISAFixture()
        self.chip = self.fixture.plug(RTC(base=base))
        self.advance = self.fixture.clock.advance

    def __getitem__(self, index):
        self.fixture.write(INDEX, index)
        return self.fixture.read(DATA)

    def __setitem__(self, index, value):
        self.fixture.write(INDEX, index)
        self.fixture.write(DATA, value)

    def get(self, *indexes):
        return [self[n] for n in indexes]

    def time(self):
        return self.get(HOURS, MINUTES, SECONDS)

    def date(self):
        return self.get(CENTURY, YEAR, MONTH, DAY, WEEKDAY)

    @property
    def irq(self):
        return self.fixture.lines[IRQ].level


@pytest.fixture
def rtc():
    return Clock()


# -- showing the time ----------------------------------------------------------------------------


def test_bcd_and_24_hours_at_first(rtc):
    assert rtc.time() == [0x23, 0x59, 0x57]
    assert rtc.date() == [0x20, 0x26, 0x01, 0x31, 7], "a Saturday"


def test_midnight_at_the_end_of_a_month(rtc):
    rtc.advance(3 * S)
    assert (rtc.time(), rtc.date()) == ([0, 0, 0], [0x20, 0x26, 0x02, 0x01, 1])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2027-12-31", [0x20, 0x28, 0x01, 0x01]),
        ("2028-02-28", [0x20, 0x28, 0x02, 0x29]),
        ("2100-02-28", [0x21, 0x00, 0x03, 0x01]),
        ("1999-12-31", [0x20, 0x00, 0x01, 0x01]),
        ("2000-02-28", [0x20, 0x00, 0x02, 0x29]),
    ],
)
def test_the_calendar(before, after):
    rtc = Clock(f"{before}T23:59:59")
    rtc.advance(S)
    assert rtc.date()[:4] == after


def test_binary(rtc):
    rtc[B] = BINARY | H24
    assert rtc.time() == [23, 59, 57]
    assert rtc.date() == [0x20, 26, 1, 31, 7], "the century stays BCD"


@pytest.mark.parametrize(("hour", "bcd", "binary"), [(0, 0x12, 12), (1, 0x01, 1), (12, 0x92, 0x8C), (23, 0x91, 0x8B)])
def test_twelve_hours(hour, bcd, binary):
    rtc = Clock(f"2026-01-01T{hour:02}:00:00")
    rtc[B] = 0
    assert rtc[HOURS] == bcd
    rtc[B] = BINARY
    assert rtc[HOURS] == binary


def test_the_index_is_write_only_and_its_top_bit_masks_nmi(rtc):
    rtc.fixture.write(INDEX, 0x80 | MINUTES)
    assert (rtc.fixture.read(INDEX), rtc.fixture.read(DATA)) == (0xFF, 0x59)


def test_memory_is_memory(rtc):
    for n in (*range(0x0E, CENTURY), *range(CENTURY + 1, 0x80)):
        rtc[n] = n ^ 0xA5
    assert rtc.get(0x0E, 0x31, 0x33, 0x7F) == [0xAB, 0x94, 0x96, 0xDA]
    rtc.fixture.bus.reset()
    assert rtc[0x7F] == 0xDA


def test_an_odd_base_is_refused():
    with pytest.raises(ConfigError, match="base='yesterday'"):
        Clock("yesterday")


# -- reading and setting -------------------------------------------------------------------------


def test_update_in_progress_before_each_second(rtc):
    # From 244 us before an update until its end, 1984 us later.
    rtc.advance(S - 2_228_001)
    assert not rtc[A] & UIP
    rtc.advance(1)
    assert rtc[A] & UIP
    rtc.advance(2_227_999)
    assert (rtc[A] & UIP, rtc[SECONDS]) == (UIP, 0x57)
    rtc.advance(1)
    assert (rtc[A] & UIP, rtc[SECONDS]) == (0, 0x58)


def test_no_update_while_set(rtc):
    rtc[B] = SET | H24
    rtc.advance(S - MS)
    assert not rtc[A] & UIP
    rtc.advance(10 * S)
    assert (rtc.time(), rtc[C] & 0x30) == ([0x23, 0x59, 0x57], 0)


def test_setting_the_time(rtc):
    rtc[B] = SET | H24
    for index, value in ((HOURS, 0x11), (MINUTES, 0x58), (SECONDS, 0x59), (DAY, 0x28), (MONTH, 0x02), (YEAR, 0x00)):
        rtc[index] = value
    rtc[CENTURY] = 0x21
    rtc[WEEKDAY] = 5
    rtc[B] = H24
    assert rtc.time() == [0x11, 0x58, 0x59]
    rtc.advance(S)
    assert rtc.time() == [0x11, 0x59, 0x00]
    rtc.advance(12 * 3600 * S)
    assert rtc.date() == [0x21, 0x00, 0x02, 0x28, 5]
    rtc.advance(3600 * S)
    assert rtc.date() == [0x21, 0x00, 0x03, 0x01, 6], "the guest's day of the week goes on from what it set"


def test_setting_twelve_hour_time(rtc):
    rtc[B] = SET
    rtc[HOURS] = 0x92
    rtc[B] = 0
    rtc[B] = H24
    assert rtc[HOURS] == 0x12
    rtc[B] = SET
    rtc[HOURS] = 0x12
    rtc[B] = 0
    rtc[B] = H24
    assert rtc[HOURS] == 0x00


def test_the_divider_held_in_reset_stops_the_clock(rtc):
    rtc[A] = 0x70
    rtc.advance(5 * S)
    assert rtc[SECONDS] == 0x57
    rtc[A] = 0x26
    rtc.advance(S // 2 - 1)
    assert rtc[SECONDS] == 0x57
    rtc.advance(1)
    assert rtc[SECONDS] == 0x58, "the first update comes half a second after the release"


@pytest.mark.parametrize("index", [C, D])
def test_read_only_registers(rtc, index):
    before = rtc[index]
    rtc[index] = 0xFF
    assert rtc[index] == before == (0x80 if index == D else 0)


# -- interrupts ----------------------------------------------------------------------------------


def test_update_interrupt(rtc):
    rtc[B] = UIE | H24
    rtc.advance(S - 1)
    assert rtc.irq == 0
    rtc.advance(1)
    assert rtc.irq == 1
    assert rtc[C] & 0xB0 == 0x90
    assert (rtc.irq, rtc[C]) == (0, 0), "reading register C clears it"
    rtc.advance(S)
    assert rtc.irq == 1


def test_set_clears_the_update_interrupt(rtc):
    rtc[B] = SET | UIE | H24
    assert rtc[B] == SET | H24


def test_flags_are_set_without_interrupts(rtc):
    rtc.advance(S)
    assert (rtc.irq, rtc[C]) == (0, 0x50)


def test_a_flag_that_is_set_interrupts_when_it_is_enabled(rtc):
    rtc.advance(S)
    rtc[B] = UIE | H24
    assert (rtc.irq, rtc[C] & 0x90) == (1, 0x90)


def test_alarm(rtc):
    rtc[HOURS_ALARM], rtc[MINUTES_ALARM], rtc[SECONDS_ALARM] = 0x00, 0x01, 0x30
    rtc[B] = AIE | H24
    rtc.advance(92 * S)
    assert rtc.irq == 0
    rtc.advance(S)
    assert (rtc.irq, rtc.time()) == (1, [0x00, 0x01, 0x30])
    assert rtc[C] & 0xA0 == 0xA0
    rtc.advance(24 * 3600 * S - 1)
    assert rtc.irq == 0
    rtc.advance(1)
    assert rtc.irq == 1, "the same time of the next day"


@pytest.mark.parametrize(("alarm", "seconds"), [((0xFF, 0xFF, 0xFF), 1), ((0xC0, 0xFF, 0x10), 13), ((0xFF, 0x01, 0x00), 63)])
def test_alarm_bytes_that_match_everything(rtc, alarm, seconds):
    rtc[HOURS_ALARM], rtc[MINUTES_ALARM], rtc[SECONDS_ALARM] = alarm
    rtc[B] = AIE | H24
    rtc.advance(seconds * S - 1)
    assert rtc.irq == 0
    rtc.advance(1)
    assert rtc.irq == 1


def test_alarm_in_twelve_hour_binary(rtc):
    rtc[B] = BINARY
    rtc[HOURS_ALARM], rtc[MINUTES_ALARM], rtc[SECONDS_ALARM] = 0x8B, 59, 59
    rtc[B] = BINARY | AIE
    rtc.advance(2 * S)
    assert rtc.irq == 1


@pytest.mark.parametrize(("rate", "clocks"), [(1, 128), (2, 256), (3, 4), (6, 32), (15, 16384)], ids=lambda value: str(value))
def test_periodic_interrupt(rtc, rate, clocks):
    rtc[A] = 0x20 | rate
    rtc[B] = PIE | H24
    rtc[C]
    for n in range(1, 4):
        due = -(-n * clocks * S // 32768)
        rtc.advance(due - rtc.fixture.clock.now_ns - 1)
        assert rtc.irq == 0
        rtc.advance(1)
        assert rtc.irq == 1
        assert rtc[C] & 0xC0 == 0xC0


def test_rate_0_is_no_periodic_interrupt(rtc):
    rtc[A] = 0x20
    rtc[B] = PIE | H24
    rtc.advance(10 * S)
    assert (rtc.irq, rtc[C] & 0x40) == (0, 0)


def test_interrupts_missed_are_one(rtc):
    rtc[B] = PIE | H24
    rtc.advance(10 * S)
    assert rtc[C] & 0x40
    assert (rtc.irq, rtc[C]) == (0, 0)


def test_reset_ends_interrupts_and_keeps_the_time(rtc):
    rtc[B] = UIE | H24
    rtc.advance(S)
    rtc.fixture.bus.reset()
    assert (rtc.irq, rtc[B], rtc[C]) == (0, H24, 0)
    assert rtc.time() == [0x23, 0x59, 0x58]


def test_a_pending_alarm_survives_saving(rtc):
    rtc[HOURS_ALARM], rtc[MINUTES_ALARM], rtc[SECONDS_ALARM] = 0x23, 0x59, 0x59
    rtc[B] = AIE | H24
    rtc.advance(S // 2)
    other = Clock("2000-01-01T00:00:00")
    other.advance(S // 2)
    stream = io.BytesIO(rtc.chip.vmstate.encode(rtc.chip))
    other.chip.vmstate.decode(other.chip, stream.read, other.chip.vmstate.version, lambda n: stream.getvalue()[:n])
    other.chip.post_load(other.chip.vmstate.version)
    other.advance(3 * S // 2 - 1)
    assert other.irq == 0
    other.advance(1)
    assert (other.irq, other.time()) == (1, [0x23, 0x59, 0x59])

# SPDX-License-Identifier: MIT
"""The real-time clock's registers. Guests poll it to find the end of an update, and read the bytes one by one.

The time is not counted: a second of the calendar is tied to a nanosecond of the machine's clock, and the
present time is broken down into the registers when somebody looks. Likewise the flags: they are set
for everything that happened since the last look. A timer runs only for an interrupt that is enabled.

None of the ``noexcept nogil`` functions can fail: they do arithmetic on bytes of a buffer whose size is
fixed, drive a pin, or arm a timer with a deadline in the future. A loaded state is checked for times that
would leave 64 bits.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from pyemu.device._clock cimport Clock, Timer
from pyemu.device._irq cimport IRQOut
from pyemu.memory._dispatch cimport IoHandler

cdef enum:
    SIZE = 128
    SECONDS = 0x00
    SECONDS_ALARM = 0x01
    MINUTES = 0x02
    MINUTES_ALARM = 0x03
    HOURS = 0x04
    HOURS_ALARM = 0x05
    WEEKDAY = 0x06
    DAY = 0x07
    MONTH = 0x08
    YEAR = 0x09
    A = 0x0A
    B = 0x0B
    C = 0x0C
    D = 0x0D
    CENTURY = 0x32              # where PCs keep it, in BCD

    A_UIP = 0x80
    A_DIVIDER = 0x70
    A_DIVIDER_RUN = 0x20
    A_RATE = 0x0F
    B_SET = 0x80
    B_PIE = 0x40
    B_AIE = 0x20
    B_UIE = 0x10
    B_SQUARE = 0x08
    B_BINARY = 0x04
    B_24H = 0x02
    C_IRQ = 0x80
    C_PF = 0x40
    C_AF = 0x20
    C_UF = 0x10
    D_VALID = 0x80
    PM = 0x80
    ANY = 0xC0                  # alarm bytes from here on match everything

cdef int64_t SECOND = 1000000000
cdef int64_t DAY_SECONDS = 86400
cdef int64_t CRYSTAL_HZ = 32768
# UIP rises 244 us before the update, which takes 1984 us; the new time is there when UIP falls.
cdef int64_t UIP_NS = 244000 + 1984000


cdef inline int64_t _floor(int64_t value, int64_t by) noexcept nogil:
    cdef int64_t quotient = value // by
    return quotient - 1 if value - quotient * by < 0 else quotient


cdef inline int64_t _clamp(int64_t value, int64_t low, int64_t high) noexcept nogil:
    return low if value < low else (high if value > high else value)


# Days since 1970-01-01 of a date of the proleptic Gregorian calendar; March is the first month of a year.
cdef int64_t _days(int64_t year, int64_t month, int64_t day) noexcept nogil:
    cdef int64_t y = year - 1 if month <= 2 else year
    cdef int64_t era = _floor(y, 400)
    cdef int64_t of_era = y - era * 400
    cdef int64_t of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


# The bytes that count, as opposed to alarms, control and memory.
cdef inline bint _shows_time(unsigned index) noexcept nogil:
    if index <= HOURS_ALARM:
        return not index & 1
    return index <= YEAR or index == CENTURY


cdef class RTCCore:
    """An MC146818 with 128 bytes.

    Attributes:
        cmos: the bytes. Those of the time are up to date only while the clock is halted.
        index: the selected byte.
        base_second: seconds since 1970, of the time shown, at guest time :attr:`base_ns`.
        base_ns: a guest time at which a second begins.
        weekday_shift: by how much the guest's day of the week differs from the calendar's.
        seen_ns: guest time up to which the flags account for what happened.
    """

    cdef readonly bytearray cmos
    cdef public uint8_t index
    cdef public int64_t base_second
    cdef public int64_t base_ns
    cdef public uint8_t weekday_shift
    cdef public int64_t seen_ns
    cdef readonly Timer event_timer
    cdef readonly Clock clock
    cdef readonly IRQOut pin
    cdef uint8_t[::1] _pinned           # keeps anyone from resizing the bytes
    cdef uint8_t *mem
    cdef int64_t shown                  # the second that the bytes of the time show
    cdef bint fresh                     # whether they do, in the present format

    def __cinit__(self, *args, **kwargs):
        self.cmos = bytearray(SIZE)
        self._pinned = self.cmos
        self.mem = &self._pinned[0]
        self.mem[A] = A_DIVIDER_RUN | 0x06
        self.mem[B] = B_24H
        self.attach(Clock("step"), IRQOut("irq"))

    def attach(self, Clock clock not None, IRQOut pin not None):
        """Gives the chip its clock and interrupt pin."""
        if self.event_timer is not None:
            self.event_timer.cancel()
        self.clock = clock
        self.pin = pin
        self.event_timer = clock.timer(self._due, "rtc")

    # -- time -------------------------------------------------------------------------------------

    cdef bint divider_runs(self) noexcept nogil:
        return self.mem[A] & A_DIVIDER == A_DIVIDER_RUN

    cdef bint running(self) noexcept nogil:
        return not self.mem[B] & B_SET and self.divider_runs()

    cdef int64_t second(self, int64_t now) noexcept nogil:
        return self.base_second + _floor(now - self.base_ns, SECOND)

    cdef uint8_t encode(self, int64_t value) noexcept nogil:
        return value if self.mem[B] & B_BINARY else value // 10 << 4 | value % 10

    cdef int64_t decode(self, uint8_t value) noexcept nogil:
        return value if self.mem[B] & B_BINARY else (value >> 4) * 10 + (value & 0x0F)

    cdef uint8_t encode_hour(self, int64_t hour) noexcept nogil:
        if self.mem[B] & B_24H:
            return self.encode(hour)
        return self.encode((hour + 11) % 12 + 1) | (PM if hour >= 12 else 0)

    cdef int64_t decode_hour(self, uint8_t value) noexcept nogil:
        if self.mem[B] & B_24H:
            return self.decode(value)
        return self.decode(value & 0x7F) % 12 + (12 if value & PM else 0)

    cdef void to_registers(self, int64_t now) noexcept nogil:
        # Breaks the present time down into the registers, if the clock runs.
        if not self.running():
            return
        cdef int64_t seconds = self.second(now)
        if self.fresh and seconds == self.shown:
            return                      # a guest that polls the clock pays for the calendar once a second
        self.fresh = True
        self.shown = seconds
        cdef int64_t days = _floor(seconds, DAY_SECONDS)
        cdef int64_t rest = seconds - days * DAY_SECONDS
        cdef int64_t z = days + 719468
        cdef int64_t era = _floor(z, 146097)
        cdef int64_t doe = z - era * 146097
        cdef int64_t yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
        cdef int64_t doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
        cdef int64_t mp = (5 * doy + 2) // 153
        cdef int64_t month = mp + 3 if mp < 10 else mp - 9
        cdef int64_t year = yoe + era * 400 + (1 if month <= 2 else 0)
        year -= _floor(year, 10000) * 10000     # after 9999 the two year bytes start over
        self.mem[SECONDS] = self.encode(rest % 60)
        self.mem[MINUTES] = self.encode(rest // 60 % 60)
        self.mem[HOURS] = self.encode_hour(rest // 3600)
        self.mem[WEEKDAY] = self.encode((self.weekday(days) + self.weekday_shift) % 7 + 1)
        self.mem[DAY] = self.encode(doy - (153 * mp + 2) // 5 + 1)
        self.mem[MONTH] = self.encode(month)
        self.mem[YEAR] = self.encode(year % 100)
        self.mem[CENTURY] = year // 1000 << 4 | year // 100 % 10

    cdef int64_t weekday(self, int64_t days) noexcept nogil:
        return days + 4 - 7 * _floor(days + 4, 7)       # 1970 began on a Thursday; Sunday is 0

    cdef void from_registers(self, int64_t now) noexcept nogil:
        # Makes what the registers say the present time; seconds go on beginning when they did.
        # Impossible values are taken as the nearest possible.
        cdef int64_t century = (self.mem[CENTURY] >> 4) * 10 + (self.mem[CENTURY] & 0x0F)
        cdef int64_t year = _clamp(century, 0, 99) * 100 + _clamp(self.decode(self.mem[YEAR]), 0, 99)
        cdef int64_t month = _clamp(self.decode(self.mem[MONTH]), 1, 12)
        cdef int64_t days = _days(year, month, _clamp(self.decode(self.mem[DAY]), 1, 31))
        self.weekday_shift = (_clamp(self.decode(self.mem[WEEKDAY]), 1, 7) + 6 - self.weekday(days)) % 7
        self.base_second = days * DAY_SECONDS + _clamp(self.decode_hour(self.mem[HOURS]), 0, 23) * 3600
        self.base_second += _clamp(self.decode(self.mem[MINUTES]), 0, 59) * 60
        self.base_second += _clamp(self.decode(self.mem[SECONDS]), 0, 59)
        self.base_ns += _floor(now - self.base_ns, SECOND) * SECOND

    def set_epoch_ns(self, int64_t wall_ns):
        """Sets the time, in ns since 1970 of the zone that the clock is to show."""
        cdef int64_t now = self.clock.now()
        self.account(now)
        self.base_second = _floor(wall_ns, SECOND)
        self.base_ns = now - (wall_ns - self.base_second * SECOND)
        self.weekday_shift = 0
        self.seen_ns = now
        self.fresh = False
        self.to_registers(now)
        self.plan(now)

    # -- interrupts -------------------------------------------------------------------------------

    cdef int64_t period(self) noexcept nogil:
        # Crystal clocks of the periodic interrupt's period, 0 for none (data sheet, rate selection).
        cdef int rate = self.mem[A] & A_RATE
        if rate == 0 or not self.divider_runs():
            return 0
        return <int64_t>1 << ((rate + 7 if rate <= 2 else rate) - 1)

    cdef int64_t crystal(self, int64_t now) noexcept nogil:
        # Crystal clocks since base_ns. Every period divides a second, so its phase is that of the seconds.
        cdef int64_t seconds = _floor(now - self.base_ns, SECOND)
        return seconds * CRYSTAL_HZ + (now - self.base_ns - seconds * SECOND) * CRYSTAL_HZ // SECOND

    cdef bint alarm_byte(self, uint8_t value, int64_t wanted, bint hour) noexcept nogil:
        return value >= ANY or (self.decode_hour(value) if hour else self.decode(value)) == wanted

    cdef int64_t next_alarm(self, int64_t after) noexcept nogil:
        # The first second after *after* that the alarm bytes match; a day beyond it at the latest, else *after*.
        cdef int64_t at = after + 1
        cdef int64_t rest
        while at <= after + DAY_SECONDS:
            rest = at - _floor(at, DAY_SECONDS) * DAY_SECONDS
            if not self.alarm_byte(self.mem[HOURS_ALARM], rest // 3600, True):
                at += 3600 - rest % 3600
            elif not self.alarm_byte(self.mem[MINUTES_ALARM], rest // 60 % 60, False):
                at += 60 - rest % 60
            elif not self.alarm_byte(self.mem[SECONDS_ALARM], rest % 60, False):
                at += 1
            else:
                return at
        return after

    cdef void account(self, int64_t now) noexcept nogil:
        # Sets the flags of everything that has happened since the last look.
        cdef int64_t before, alarm
        cdef int64_t period = self.period()
        if self.running():
            before = self.second(self.seen_ns)
            if self.second(now) > before:
                self.mem[C] |= C_UF
                alarm = self.next_alarm(before)
                if before < alarm <= self.second(now):
                    self.mem[C] |= C_AF
        if period and self.crystal(now) // period != self.crystal(self.seen_ns) // period:
            self.mem[C] |= C_PF
        self.seen_ns = now
        self.drive()

    cdef void drive(self) noexcept nogil:
        # The enable bits of B and the flags of C are in the same places.
        if self.mem[C] & self.mem[B] & (C_PF | C_AF | C_UF):
            self.mem[C] |= C_IRQ
        else:
            self.mem[C] &= ~<uint8_t>C_IRQ
        self.pin.set(1 if self.mem[C] & C_IRQ else 0)

    cdef void plan(self, int64_t now) noexcept nogil:
        # Arms the timer for the next interrupt. While one is pending a further one changes nothing.
        cdef int64_t due = -1
        cdef int64_t at, alarm
        cdef int64_t period = self.period()
        if not self.mem[C] & C_IRQ:
            if self.mem[B] & B_PIE and period:
                at = (_floor(self.crystal(now), period) + 1) * period
                due = self.base_ns + _floor(at, CRYSTAL_HZ) * SECOND
                due += ((at - _floor(at, CRYSTAL_HZ) * CRYSTAL_HZ) * SECOND + CRYSTAL_HZ - 1) // CRYSTAL_HZ
            if self.running() and self.mem[B] & (B_UIE | B_AIE):
                at = self.second(now) + 1
                if not self.mem[B] & B_UIE:
                    alarm = self.next_alarm(at - 1)
                    at = alarm if alarm >= at else -1
                if self.mem[B] & B_UIE or at != -1:
                    at = self.base_ns + (at - self.base_second) * SECOND
                    due = at if due < 0 or at < due else due
        if due >= 0:
            self.event_timer.c_arm(due)
        else:
            self.event_timer.c_cancel()

    def _due(self):
        cdef int64_t now = self.clock.now()
        self.account(now)
        self.plan(now)

    # -- registers --------------------------------------------------------------------------------

    cdef uint8_t c_read(self, unsigned index) noexcept nogil:
        cdef int64_t now
        cdef uint8_t value
        if index > D and index != CENTURY:
            return self.mem[index]
        now = self.clock.now()
        if index == A:
            if self.running() and now - self.base_ns - _floor(now - self.base_ns, SECOND) * SECOND >= SECOND - UIP_NS:
                return self.mem[A] | A_UIP
        elif index == C:
            self.account(now)
            value = self.mem[C]
            self.mem[C] = 0
            self.drive()
            self.plan(now)
            return value
        elif index == D:
            return D_VALID
        elif _shows_time(index):
            self.to_registers(now)
        return self.mem[index]

    cdef void c_write(self, unsigned index, uint8_t value) noexcept nogil:
        if index > D and index != CENTURY:
            self.mem[index] = value
            return
        if index == C or index == D:
            return
        cdef int64_t now = self.clock.now()
        cdef bint was_running = self.running()
        cdef bint divider_ran = self.divider_runs()
        self.account(now)
        self.to_registers(now)
        if index == A:
            value &= 0x7F
        elif index == B and value & B_SET:
            value &= ~<uint8_t>B_UIE        # data sheet: SET clears UIE
        self.mem[index] = value
        self.fresh = False
        if self.divider_runs() and not divider_ran:
            self.base_ns = now - SECOND // 2        # released from reset, the first update is half a second off
        if self.running() and (not was_running or _shows_time(index)):
            self.from_registers(now)
        self.drive()
        self.plan(now)

    cdef uint8_t port_read(self, unsigned offset) noexcept nogil:
        return self.c_read(self.index) if offset & 1 else 0xFF

    cdef void port_write(self, unsigned offset, uint8_t value) noexcept nogil:
        if offset & 1:
            self.c_write(self.index, value)
        else:
            self.index = value & 0x7F               # bit 7 masks NMI, which nothing here raises

    def handler(self):
        """The C handlers of the port pair."""
        return IoHandler.make(self, <void *>self, _read, _write)

    def read(self, unsigned index):
        """A register read, for tests and Python callers."""
        return self.c_read(index & 0x7F)

    def write(self, unsigned index, uint8_t value):
        """A register write, for tests and Python callers."""
        self.c_write(index & 0x7F, value)

    def refresh(self):
        """Drives the pin as the loaded flags say. The timer's deadline is part of the state."""
        self.fresh = False
        self.drive()

    def reset_core(self):
        """The reset pin: interrupts off, flags clear. Time and memory are the battery's."""
        cdef int64_t now = self.clock.now()
        self.mem[B] &= ~<uint8_t>(B_PIE | B_AIE | B_UIE | B_SQUARE)
        self.mem[C] = 0
        self.seen_ns = now
        self.index = 0
        self.drive()
        self.plan(now)


cdef uint64_t _read(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<RTCCore>opaque).port_read(offset)


cdef void _write(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<RTCCore>opaque).port_write(offset, value & 0xFF)

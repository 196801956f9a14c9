# SPDX-License-Identifier: MIT
"""The real-time clock's registers. Guests poll it to find the end of an update, and read the bytes one by one.

The time is not counted: it is the machine's clock plus an offset, broken down into the registers
when somebody looks. Setting the clock changes the offset.

None of the ``noexcept nogil`` functions can fail: they do arithmetic on bytes of a buffer whose size is
fixed, drive a pin, or arm a timer with a deadline that is not negative.
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
cdef int64_t UIP_NS = 244000    # data sheet: the update begins 244 us after UIP rose
cdef int64_t DAY_SECONDS = 86400
cdef int64_t LIMIT = 9000000000000000000
# 0000-03-01 to 9999-12-31, what the two year registers can say, as seconds since 1970.
cdef int64_t FIRST = -62162035200
cdef int64_t LAST = 253402300799


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


cdef class RTCCore:
    """An MC146818 with 128 bytes."""

    cdef public bytearray cmos
    cdef uint8_t *mem
    cdef public uint8_t index
    cdef public int64_t offset_ns       # wall clock minus machine clock
    cdef public int64_t seen_second     # last second whose update was accounted for
    cdef public int64_t seen_period     # last period of the square wave that was accounted for
    cdef readonly Timer update_timer
    cdef readonly Timer periodic_timer
    cdef readonly Clock clock
    cdef readonly IRQOut pin

    def __cinit__(self, *args, **kwargs):
        self.cmos = bytearray(SIZE)
        self.mem = self.cmos
        self.attach(Clock("step"), IRQOut("irq"))

    def attach(self, Clock clock not None, IRQOut pin not None):
        """Gives the chip its clock and interrupt pin."""
        if self.update_timer is not None:
            self.update_timer.cancel()
            self.periodic_timer.cancel()
        self.clock = clock
        self.pin = pin
        self.update_timer = Timer(clock, self.tick, "rtc.update")
        self.periodic_timer = Timer(clock, self.beat, "rtc.periodic")

    # -- time -------------------------------------------------------------------------------------

    cdef int64_t wall(self) noexcept nogil:
        return self.clock.now() + self.offset_ns

    cdef bint running(self) noexcept nogil:
        return not self.mem[B] & B_SET and self.mem[A] & A_DIVIDER == A_DIVIDER_RUN

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

    cdef void to_registers(self) noexcept nogil:
        # Breaks the present time down into the registers, if the clock runs.
        if not self.running():
            return
        cdef int64_t seconds = _clamp(_floor(self.wall(), SECOND), FIRST, LAST)
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
        self.mem[SECONDS] = self.encode(rest % 60)
        self.mem[MINUTES] = self.encode(rest // 60 % 60)
        self.mem[HOURS] = self.encode_hour(rest // 3600)
        self.mem[WEEKDAY] = self.encode((days + 4 - 7 * _floor(days + 4, 7)) + 1)
        self.mem[DAY] = self.encode(doy - (153 * mp + 2) // 5 + 1)
        self.mem[MONTH] = self.encode(month)
        self.mem[YEAR] = self.encode(year % 100)
        self.mem[CENTURY] = year // 100 // 10 << 4 | year // 100 % 10

    cdef void from_registers(self) noexcept nogil:
        # Makes what the registers say the present time. Impossible dates are taken as the nearest possible.
        cdef int64_t century = (self.mem[CENTURY] >> 4) * 10 + (self.mem[CENTURY] & 0x0F)
        cdef int64_t year = _clamp(century, 0, 99) * 100 + _clamp(self.decode(self.mem[YEAR]), 0, 99)
        cdef int64_t month = _clamp(self.decode(self.mem[MONTH]), 1, 12)
        cdef int64_t day = _clamp(self.decode(self.mem[DAY]), 1, 31)
        cdef int64_t seconds = _days(year, month, day) * DAY_SECONDS
        seconds += _clamp(self.decode_hour(self.mem[HOURS]), 0, 23) * 3600
        seconds += _clamp(self.decode(self.mem[MINUTES]), 0, 59) * 60
        seconds += _clamp(self.decode(self.mem[SECONDS]), 0, 59)
        self.set_wall(_clamp(seconds, FIRST, LAST) * SECOND)

    cdef void set_wall(self, int64_t wall_ns) noexcept nogil:
        # 64-bit nanoseconds reach from 1678 to 2262; beyond that the clock shows the limit.
        self.offset_ns = _clamp(wall_ns, -LIMIT, LIMIT) - self.clock.now()
        self.seen_second = _floor(self.wall(), SECOND)

    def set_epoch_ns(self, int64_t wall_ns):
        """Sets the time, in ns since 1970, as if the guest had done so."""
        self.set_wall(wall_ns)
        self.to_registers()
        self.plan()

    # -- interrupts -------------------------------------------------------------------------------

    cdef int64_t period_ns(self) noexcept nogil:
        # Length of the periodic interrupt's period, 0 for none (data sheet, rate selection).
        cdef int rate = self.mem[A] & A_RATE
        if rate == 0 or self.mem[A] & A_DIVIDER != A_DIVIDER_RUN:
            return 0
        if rate <= 2:
            rate += 7
        return (<int64_t>1 << (rate - 1)) * SECOND // 32768

    cdef bint alarm_matches(self, int64_t second) noexcept nogil:
        cdef int64_t rest = second - _floor(second, DAY_SECONDS) * DAY_SECONDS
        return (
            (self.mem[SECONDS_ALARM] >= ANY or self.decode(self.mem[SECONDS_ALARM]) == rest % 60)
            and (self.mem[MINUTES_ALARM] >= ANY or self.decode(self.mem[MINUTES_ALARM]) == rest // 60 % 60)
            and (self.mem[HOURS_ALARM] >= ANY or self.decode_hour(self.mem[HOURS_ALARM]) == rest // 3600)
        )

    cdef void account(self) noexcept nogil:
        # Sets the flags of everything that has happened since the last look.
        cdef int64_t now, period
        if self.running():
            now = _floor(self.wall(), SECOND)
            if now > self.seen_second:
                self.mem[C] |= C_UF
                # An alarm repeats at least once a day, so looking further back finds nothing new.
                if now - self.seen_second > DAY_SECONDS:
                    self.seen_second = now - DAY_SECONDS
                while self.seen_second < now:
                    self.seen_second += 1
                    if self.alarm_matches(self.seen_second):
                        self.mem[C] |= C_AF
            self.seen_second = now
        period = self.period_ns()
        if period:
            now = self.clock.now() // period
            if now != self.seen_period:
                self.mem[C] |= C_PF
            self.seen_period = now
        self.drive()

    cdef void drive(self) noexcept nogil:
        # The enable bits of B and the flags of C are in the same places.
        if self.mem[C] & self.mem[B] & (C_PF | C_AF | C_UF):
            self.mem[C] |= C_IRQ
        else:
            self.mem[C] &= ~<uint8_t>C_IRQ
        self.pin.set(1 if self.mem[C] & C_IRQ else 0)

    cdef void plan(self) noexcept nogil:
        # Arms the timers that the enabled interrupts need; flags that are only polled need none.
        cdef int64_t now = self.clock.now(), period = self.period_ns()
        if self.mem[B] & (B_AIE | B_UIE) and self.running():
            self.update_timer.c_arm(now + SECOND - (self.wall() - _floor(self.wall(), SECOND) * SECOND))
        else:
            self.update_timer.c_cancel()
        if self.mem[B] & B_PIE and period:
            self.periodic_timer.c_arm((now // period + 1) * period)
        else:
            self.periodic_timer.c_cancel()

    def tick(self):
        """A second has begun."""
        self.account()
        self.plan()

    def beat(self):
        """A period of the square wave has begun."""
        self.account()
        self.plan()

    # -- registers --------------------------------------------------------------------------------

    cdef uint8_t c_read(self, unsigned index) noexcept nogil:
        cdef int64_t fraction
        cdef uint8_t value
        if index <= YEAR or index == CENTURY:
            if not index & 1 or index > HOURS_ALARM:
                self.to_registers()
            return self.mem[index]
        if index == A:
            fraction = self.wall() - _floor(self.wall(), SECOND) * SECOND
            if self.running() and fraction >= SECOND - UIP_NS:
                return self.mem[A] | A_UIP
            return self.mem[A]
        if index == C:
            self.account()
            value = self.mem[C]
            self.mem[C] = 0
            self.pin.set(0)
            return value
        if index == D:
            return D_VALID
        return self.mem[index]

    cdef void c_write(self, unsigned index, uint8_t value) noexcept nogil:
        cdef bint was_running = self.running()
        if index in (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY):
            self.to_registers()
            self.mem[index] = value
            if was_running:
                self.from_registers()
        elif index == A or index == B:
            self.account()
            self.to_registers()
            self.mem[index] = value & 0x7F if index == A else value
            if index == B and value & B_SET:
                self.mem[B] &= ~<uint8_t>B_UIE      # data sheet: SET clears UIE
            if not was_running and self.running():
                self.from_registers()
            if self.period_ns():
                self.seen_period = self.clock.now() // self.period_ns()
            self.drive()
        elif index != C and index != D:
            self.mem[index] = value
        self.plan()

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
        """Drives the pin as the loaded flags say. The timers' deadlines are part of the state."""
        self.drive()

    def reset_core(self):
        """The reset pin: interrupts off, flags clear. Time and memory are the battery's."""
        self.mem[A] = A_DIVIDER_RUN | 0x06 if not self.mem[A] else self.mem[A]
        self.mem[B] = (self.mem[B] & ~<uint8_t>(B_PIE | B_AIE | B_UIE)) | (B_24H if not self.mem[B] else 0)
        self.mem[C] = 0
        self.index = 0
        self.drive()
        self.plan()


cdef uint64_t _read(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<RTCCore>opaque).port_read(offset)


cdef void _write(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<RTCCore>opaque).port_write(offset, value & 0xFF)

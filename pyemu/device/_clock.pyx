# SPDX-License-Identifier: MIT
"""Virtual time and timers.

A :class:`Clock` counts guest nanoseconds. Kind ``host`` follows the host's monotonic clock while
the machine runs and stands still while it is stopped; kind ``step`` moves only when told to, and
is what qtest drives. Every device, the time-stamp counter included, reads the same clock.

A :class:`Timer` calls back on the machine thread once its deadline has passed. Timers belong to
that thread; nothing here is locked.
"""

import heapq

from posix.time cimport clock_gettime, timespec, CLOCK_MONOTONIC

NEVER = -1
# Entries of timers that were armed again or cancelled since may be this many more than the live ones.
cdef enum:
    STALE = 64


# Cannot fail: the clock id is valid on every supported system.
cdef inline int64_t _monotonic() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef class Clock:
    """Guest time.

    Args:
        kind: ``"host"`` or ``"step"``.

    Attributes:
        on_change: called without arguments when the earliest deadline moved; the machine loop
            uses it to wake its clock thread.
    """

    def __init__(self, str kind="host"):
        if kind not in ("host", "step"):
            raise ValueError(f"clock kind {kind!r} is not one of host, step")
        self.kind = kind
        self.heap = []

    # Cannot fail: arithmetic only.
    cdef int64_t now(self) noexcept nogil:
        if self.running:
            return self.base_ns + _monotonic() - self.start_ns
        return self.base_ns

    @property
    def now_ns(self):
        """Guest time in nanoseconds since power-on."""
        return self.now()

    @property
    def is_running(self):
        return bool(self.running)

    @property
    def change_listener(self):
        return self.on_change

    @change_listener.setter
    def change_listener(self, listener):
        self.on_change = listener

    def start(self):
        """Lets a host clock run; a step clock stays where it is."""
        if not self.running and self.kind == "host":
            self.start_ns = _monotonic()
            self.running = True

    def stop(self):
        """Freezes the clock at its present value."""
        if self.running:
            self.base_ns = self.now()
            self.running = False

    @property
    def pending(self):
        """Entries held for timers, those out of date included: at most twice the armed ones plus 64."""
        return len(self.heap)

    def set_ns(self, int64_t value):
        """Sets guest time, e.g. after loading a saved machine. Timers keep their deadlines."""
        self.base_ns = value
        if self.running:
            self.start_ns = _monotonic()
        if self.on_change is not None:
            self.on_change()

    def advance(self, int64_t delta_ns):
        """Moves a step clock forward, firing each due timer at its own deadline.

        Raises:
            ValueError: *delta_ns* is negative, or the clock is not of kind ``step``.
        """
        if self.kind != "step":
            raise ValueError(f"clock_step needs a clock of kind step, this one is {self.kind}")
        if delta_ns < 0:
            raise ValueError(f"cannot step the clock by {delta_ns} ns")
        cdef int64_t end = self.base_ns + delta_ns
        cdef int64_t due
        while True:
            due = self.next_deadline()
            if due < 0 or due > end:
                break
            if due > self.base_ns:
                self.base_ns = due
            self.run_due()
        self.base_ns = end

    def next_deadline(self):
        """Deadline of the earliest armed timer in ns, or -1 when none is armed."""
        cdef Timer timer
        while self.heap:
            deadline, serial, timer = self.heap[0]
            if timer.serial == serial:
                return deadline
            heapq.heappop(self.heap)
        return NEVER

    def run_due(self):
        """Calls back every timer whose deadline has passed; returns how many there were.

        A timer that its callback arms again is not called again before the next round, however early
        the new deadline: a guest cannot keep the machine thread in here. What a callback raises comes
        out; the timers after it stay armed.
        """
        cdef Timer timer
        cdef long newest = self.serials
        cdef list later = []
        fired = 0
        now = self.now()
        try:
            while True:
                due = self.next_deadline()
                if due < 0 or due > now:
                    return fired
                entry = heapq.heappop(self.heap)
                if entry[1] > newest:
                    later.append(entry)
                    continue
                timer = entry[2]
                timer.c_cancel()
                timer.callback()
                fired += 1
        finally:
            for entry in later:
                heapq.heappush(self.heap, entry)

    # Keeps the heap in proportion to the armed timers: a guest may arm one a million times.
    cdef void push(self, Timer timer, int64_t deadline_ns):
        self.serials += 1
        if timer.serial < 0:
            self.armed += 1
        timer.serial = self.serials
        timer.deadline_ns = deadline_ns
        if len(self.heap) >= 2 * self.armed + STALE:
            self.heap = [entry for entry in self.heap if (<Timer>entry[2]).serial == entry[1]]
            heapq.heapify(self.heap)
        heapq.heappush(self.heap, (deadline_ns, self.serials, timer))

    def timer(self, callback, str name="timer"):
        """A new, unarmed timer on this clock."""
        return Timer(self, callback, name)

    def __repr__(self):
        return f"<Clock {self.kind} {self.now()} ns {'running' if self.running else 'stopped'}>"


cdef class Timer:
    """Calls ``callback()`` on the machine thread when guest time reaches the deadline."""

    def __init__(self, Clock clock, callback, str name="timer"):
        self.clock = clock
        self.callback = callback
        self.name = name
        self.deadline_ns = NEVER
        self.serial = -1

    @property
    def armed(self):
        return self.deadline_ns >= 0

    def arm(self, int64_t deadline_ns):
        """Sets the deadline in absolute guest ns, replacing an earlier one; a past deadline is due at once."""
        if deadline_ns < 0:
            raise ValueError(f"{self.name}: deadline {deadline_ns} ns is before power-on")
        first = self.clock.next_deadline()
        self.clock.push(self, deadline_ns)
        if self.clock.on_change is not None and (first < 0 or deadline_ns < first):
            self.clock.on_change()

    def cancel(self):
        """Forgets the deadline, if there is one."""
        self.c_cancel()

    # The heap entry stays behind; push() clears such entries away. Cannot fail: the clock is never None.
    cdef void c_cancel(self) noexcept nogil:
        if self.serial >= 0:
            self.clock.armed -= 1
        self.serial = -1
        self.deadline_ns = -1

    # The GIL is taken because arming is rare beside counter reads. What could raise is a negative
    # deadline, which callers exclude, and memory exhaustion.
    cdef void c_arm(self, int64_t deadline_ns) noexcept nogil:
        with gil:
            self.arm(deadline_ns)

    def __repr__(self):
        return f"<Timer {self.name} {'at %d ns' % self.deadline_ns if self.deadline_ns >= 0 else 'unarmed'}>"

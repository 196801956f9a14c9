# SPDX-License-Identifier: MIT
"""Interrupt wires.

An :class:`IRQLine` is one input of an interrupt controller. Any number of :class:`IRQOut` pins
(at most 64) drive it; its level is the OR of theirs, so a line that several functions share drops
only when the last of them lets go. A pin can be moved to another line, or cut off, at any time:
its own level survives, the old line loses it and the new line gains it.
"""

import sys

from ..errors import DeviceError


# Cannot fail: what the handler raises is reported. A Python handler must not unwind through a C device.
cdef void _call_python(void *opaque, int n, int level) noexcept nogil:
    with gil:
        line = <IRQLine>opaque
        try:
            line.callback(n, level)
        except BaseException as error:
            line.report(error, level)


class _Unraisable:
    def __init__(self, exc_type, exc_value, exc_traceback, err_msg, object):
        self.exc_type = exc_type
        self.exc_value = exc_value
        self.exc_traceback = exc_traceback
        self.err_msg = err_msg
        self.object = object


cdef class IRQLine:
    """One wired-OR input line.

    Args:
        name: shown in errors and traces, e.g. ``"i8259[4]"``.
        n: number handed to the handler.
        callback: ``callback(n, level)``, called on every change of the line's level.
    """

    def __init__(self, str name, int n=0, callback=None):
        self.name = name
        self.n = n
        self.callback = callback
        if callback is not None:
            self.handler = _call_python
            self.opaque = <void *>self

    @staticmethod
    cdef IRQLine make(str name, int n, object owner, void *opaque, irq_handler_fn handler):
        """A line that ends in C; *owner* is kept alive as long as the line is."""
        cdef IRQLine line = IRQLine(name, n)
        line.owner = owner
        line.opaque = opaque
        line.handler = handler
        return line

    @property
    def level(self):
        """1 while any connected pin is high."""
        return 1 if self.sources else 0

    def observe(self, observer):
        """Calls ``observer(n, level)`` after each change, or stops doing so when given None."""
        self.observer = observer

    def set_fault_listener(self, listener):
        """Calls ``listener(error)`` with a DeviceError when a handler or observer raises.

        Without a listener such an exception goes to ``sys.unraisablehook``.
        """
        self.fault_listener = listener

    # Cannot fail: what the listener raises goes to sys.unraisablehook.
    cdef void report(self, error, int level) noexcept:
        try:
            if self.fault_listener is None:
                raise error
            fault = DeviceError(
                f"{self.name}: handler of level {level} failed: {type(error).__name__}: {error}", device=self.name
            )
            fault.__cause__ = error
            self.fault_listener(fault)
        except BaseException as last:
            sys.unraisablehook(_Unraisable(type(last), last, last.__traceback__, None, self))

    def __repr__(self):
        return f"<IRQLine {self.name} level={self.level}>"

    # Cannot fail: bit arithmetic and a C call; the observer's exceptions are reported, not raised.
    cdef void drive(self, uint64_t bit, int level) noexcept nogil:
        cdef uint64_t before = self.sources
        if level:
            self.sources = before | bit
        else:
            self.sources = before & ~bit
        if (before != 0) == (self.sources != 0):
            return
        if self.handler != NULL:
            self.handler(self.opaque, self.n, 1 if self.sources else 0)
        if <void *>self.observer != <void *>None:
            with gil:
                try:
                    self.observer(self.n, 1 if self.sources else 0)
                except BaseException as error:
                    self.report(error, 1 if self.sources else 0)


cdef class IRQOut:
    """The interrupt output of a device function.

    ``set_level`` may be called whether or not the pin is connected.
    """

    def __init__(self, str name, IRQLine line=None):
        self.name = name
        self.connect(line)

    @property
    def level(self):
        """What the device drives, connected or not."""
        return self._level

    @property
    def line(self):
        """The line the pin is connected to, or None."""
        return self.target

    def set_level(self, int level):
        """Drives the pin high (non-zero) or low."""
        self.set(level)

    def pulse(self):
        """High and low again: one edge."""
        self.set(1)
        self.set(0)

    def connect(self, IRQLine line):
        """Moves the pin to *line*, or cuts it off with None.

        The old line drops first (unless others hold it), then the new one rises if the pin is high.

        Raises:
            ValueError: *line* has 64 pins already.
        """
        if line is self.target:
            return
        cdef uint64_t bit = 0
        if line is not None:
            if line.taken == <uint64_t>-1:
                raise ValueError(f"{self.name}: line {line.name} has 64 sources already")
            bit = (line.taken + 1) & ~line.taken
            line.taken |= bit
        if self.target is not None:
            self.target.drive(self.bit, 0)
            self.target.taken &= ~self.bit
        self.target = line
        self.bit = bit
        if line is not None and self._level:
            line.drive(bit, 1)

    # Cannot fail: see IRQLine.drive.
    cdef void set(self, int level) noexcept nogil:
        level = 1 if level else 0
        if level == self._level:
            return
        self._level = level
        if <void *>self.target != <void *>None:
            self.target.drive(self.bit, level)

    def __repr__(self):
        where = self.target.name if self.target is not None else "unconnected"
        return f"<IRQOut {self.name} -> {where} level={self._level}>"

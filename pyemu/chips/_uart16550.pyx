# SPDX-License-Identifier: MIT
"""Registers, FIFOs and interrupt logic of the 16550A.

Everything a guest polls runs here without the GIL. The GIL is taken to hand a byte to the host, to
tell the host that there is room again, and to arm a timer.

None of the ``noexcept nogil`` functions can fail: they do integer arithmetic on C fields, index the
FIFOs modulo their size, and drive an interrupt pin. What a host callback raises goes to
:meth:`UARTCore.failed`.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from pyemu.device._clock cimport Clock, Timer
from pyemu.device._irq cimport IRQOut
from pyemu.memory._dispatch cimport IoHandler

cdef enum:
    FIFO_SIZE = 16
    BASE_HZ = 115200        # 1.8432 MHz / 16: bits a second at divisor 1

    IER_RX = 0x01
    IER_THRE = 0x02
    IER_LINE = 0x04
    IER_MODEM = 0x08

    IIR_NONE = 0x01
    IIR_MODEM = 0x00
    IIR_THRE = 0x02
    IIR_RX = 0x04
    IIR_LINE = 0x06
    IIR_TIMEOUT = 0x0C
    IIR_FIFOS = 0xC0

    FCR_ENABLE = 0x01
    FCR_CLEAR_RX = 0x02
    FCR_CLEAR_TX = 0x04

    LCR_BREAK = 0x40
    LCR_DLAB = 0x80

    MCR_OUT2 = 0x08
    MCR_LOOP = 0x10

    LSR_DR = 0x01
    LSR_OVERRUN = 0x02
    LSR_FRAMING = 0x08
    LSR_BREAK = 0x10
    LSR_ERRORS = 0x1E
    LSR_THRE = 0x20
    LSR_TEMT = 0x40
    LSR_FIFO_ERROR = 0x80


cdef class UARTCore:
    """The chip without its place on a bus.

    Attributes that are not underscored and can be assigned are state; they are declared in
    :class:`pyemu.chips.uart16550.UART16550`.
    """

    cdef public uint16_t divisor
    cdef public uint8_t ier
    cdef public uint8_t fcr
    cdef public uint8_t lcr
    cdef public uint8_t mcr
    cdef public uint8_t lsr
    cdef public uint8_t msr
    cdef public uint8_t scr
    cdef public uint8_t rbr             # the byte read last: an empty receiver repeats it
    cdef public uint8_t modem_lines     # what the far end drives, as in MSR 7-4
    cdef public uint8_t tsr             # the byte on the wire, with pacing
    cdef public bint tx_busy
    cdef public uint8_t rsr             # the byte coming in, with pacing
    cdef public bint rx_busy
    cdef public bint thre_pending
    cdef public bint timeout_pending
    cdef public int64_t timeout_at      # guest ns of the character time-out, -1: none
    cdef public uint8_t rx_head
    cdef public uint8_t rx_count
    cdef public uint8_t tx_head
    cdef public uint8_t tx_count
    cdef readonly bytearray rx_data     # the FIFOs are rings
    cdef readonly bytearray rx_errors   # line status bits of each byte in rx_data
    cdef readonly bytearray tx_data
    cdef uint8_t *_rx_data
    cdef uint8_t *_rx_errors
    cdef uint8_t *_tx_data
    cdef list _pinned                   # views that keep anyone from resizing the FIFOs

    cdef readonly Timer timeout_timer
    cdef readonly Timer tx_timer
    cdef readonly Timer rx_timer

    cdef readonly Clock clock
    cdef readonly IRQOut pin
    cdef uint8_t _iir                   # follows from the rest
    cdef bint _paced
    cdef bint _gated
    cdef bint _starved                  # the host has input that did not fit
    cdef object _sink
    cdef object _on_room

    def __cinit__(self, *args, **kwargs):
        self.rx_data = bytearray(FIFO_SIZE)
        self.rx_errors = bytearray(FIFO_SIZE)
        self.tx_data = bytearray(FIFO_SIZE)
        self._pinned = [memoryview(fifo) for fifo in (self.rx_data, self.rx_errors, self.tx_data)]
        self._rx_data = self.rx_data
        self._rx_errors = self.rx_errors
        self._tx_data = self.tx_data
        self.attach(Clock("step"), IRQOut("irq"))
        self.modem_lines = 0xB0
        self._gated = True
        self.reset_core()

    def attach(self, Clock clock not None, IRQOut pin not None):
        """Gives the chip its clock and its interrupt pin."""
        self.clock = clock
        self.pin = pin
        self.timeout_timer = clock.timer(self._timeout_due, "uart time-out")
        self.tx_timer = clock.timer(self._tx_due, "uart transmitter")
        self.rx_timer = clock.timer(self._rx_due, "uart receiver")

    def configure(self, *, bint pacing, bint out2_gates_irq, sink=None, on_room=None):
        """Sets what does not change while the machine runs.

        Args:
            pacing: bytes take the time that divisor and line format say.
            out2_gates_irq: the interrupt pin needs MCR bit 3, as on every PC board.
            sink: ``sink(bytes)`` takes what is transmitted.
            on_room: called once there is room for input after there was none.
        """
        self._paced = pacing
        self._gated = out2_gates_irq
        self._sink = sink
        self._on_room = on_room

    def failed(self, str verb, int offset, error):
        """A function of the host raised *error*, given a byte (*verb* ``write``) or asked for one (``read``)."""
        raise error

    def reset_core(self):
        """The state after the reset pin; the far end's modem lines stay as they are."""
        self.divisor = 12
        self.ier = self.fcr = self.lcr = self.mcr = self.scr = self.rbr = 0
        self.tsr = self.rsr = 0
        self.tx_busy = self.rx_busy = False
        self.rx_head = self.rx_count = self.tx_head = self.tx_count = 0
        memset(self._rx_data, 0, FIFO_SIZE)
        memset(self._rx_errors, 0, FIFO_SIZE)
        memset(self._tx_data, 0, FIFO_SIZE)
        self.lsr = LSR_THRE | LSR_TEMT
        self.msr = self.modem_lines
        self.thre_pending = self.timeout_pending = False
        self.timeout_at = -1
        for timer in (self.timeout_timer, self.tx_timer, self.rx_timer):
            timer.cancel()
        self.update()
        self.tell_room()

    def handler(self):
        """The C handlers of the chip's eight ports."""
        return IoHandler.make(self, <void *>self, _read, _write)

    def read(self, uint64_t offset, unsigned size=1):
        """A byte read of register *offset*, for tests and Python callers."""
        return self.c_read(offset)

    def write(self, uint64_t offset, unsigned size, uint64_t value):
        """A byte write to register *offset*, for tests and Python callers."""
        self.c_write(offset, value & 0xFF)

    def refresh(self):
        """Recomputes what follows from the state: the interrupt pin and the wish for input."""
        self._starved = True
        self.update()

    # -- the host's side ----------------------------------------------------------------------------

    def can_receive(self):
        """How many bytes :meth:`receive` takes now. In loopback the line is cut off: none."""
        cdef int room
        if self.mcr & MCR_LOOP:
            room = 0
        else:
            room = self.rx_size() - self.rx_count
            if self._paced and room > 0:
                room = 0 if self.rx_busy else 1
        if room == 0:
            self._starved = True
        return room

    def receive(self, data):
        """Bytes from the line. More than :meth:`can_receive` said overrun the receiver."""
        for byte in bytes(data):
            if not self._paced:
                self.push(byte, 0)
            elif self.rx_busy:
                self.lsr |= LSR_OVERRUN
                self.update()
            else:
                self.rsr = byte
                self.rx_busy = True
                self.rx_timer.arm(self.clock.now() + self.char_ns())
        if self.rx_busy or self.rx_count >= self.rx_size():
            self._starved = True

    def receive_break(self):
        """A break condition on the line: a zero byte with the break and framing error bits."""
        self.push(0, LSR_BREAK | LSR_FRAMING)

    def set_modem_lines(self, *, dcd=None, ri=None, dsr=None, cts=None):
        """Drives the modem inputs; None leaves a line as it is."""
        for level, bit in ((cts, 0x10), (dsr, 0x20), (ri, 0x40), (dcd, 0x80)):
            if level is not None:
                self.modem_lines = (self.modem_lines & ~bit) | (bit if level else 0)
        self.modem_update()

    def _timeout_due(self):
        # Reads of the receiver only move timeout_at; the timer is re-armed here, once it fires.
        if self.timeout_at < 0 or self.rx_count == 0:
            return
        if self.clock.now() < self.timeout_at:
            self.timeout_timer.arm(self.timeout_at)
            return
        self.timeout_at = -1
        self.timeout_pending = True
        self.update()

    def _tx_due(self):
        self.deliver(self.tsr)
        if self.tx_count:
            self.start_tx()
        else:
            self.tx_busy = False
            self.lsr |= LSR_TEMT

    def _rx_due(self):
        self.rx_busy = False
        self.push(self.rsr, 0)
        if self.rx_count < self.rx_size():
            self.tell_room()

    # -- receiver -----------------------------------------------------------------------------------

    cdef inline int rx_size(self) noexcept nogil:
        return FIFO_SIZE if self.fcr & FCR_ENABLE else 1

    cdef int64_t char_ns(self) noexcept nogil:
        # Counted in half bits because five data bits take one and a half stop bits.
        cdef int half_bits = 2 * (1 + 5 + (self.lcr & 3))
        if self.lcr & 0x08:
            half_bits += 2
        if not self.lcr & 0x04:
            half_bits += 2
        else:
            half_bits += 3 if self.lcr & 3 == 0 else 4
        return <int64_t>half_bits * (self.divisor if self.divisor else 1) * 500000000 // BASE_HZ

    cdef void push(self, uint8_t byte, uint8_t errors) noexcept nogil:
        cdef int slot
        if self.rx_count >= self.rx_size():
            self.lsr |= LSR_OVERRUN
            if self.fcr & FCR_ENABLE:
                self.update()       # a full FIFO keeps what it has
                return
            self.rx_count = 0       # without FIFO the newer byte replaces the older
        slot = (self.rx_head + self.rx_count) & (FIFO_SIZE - 1)
        self._rx_data[slot] = byte
        self._rx_errors[slot] = errors
        self.rx_count += 1
        self.lsr |= LSR_DR
        if self.rx_count == 1:
            self.lsr |= errors
        self.fifo_error_bit()
        if self.fcr & FCR_ENABLE:
            self.restart_timeout()
        self.update()

    cdef uint8_t pop(self) noexcept nogil:
        if self.rx_count == 0:
            return self.rbr
        self.rbr = self._rx_data[self.rx_head]
        self._rx_errors[self.rx_head] = 0
        self.rx_head = (self.rx_head + 1) & (FIFO_SIZE - 1)
        self.rx_count -= 1
        self.timeout_pending = False
        if self.rx_count:
            self.lsr |= self._rx_errors[self.rx_head]
            self.restart_timeout()
        else:
            self.lsr &= ~LSR_DR & 0xFF
            self.timeout_at = -1
        self.fifo_error_bit()
        self.update()
        if self.rx_count == 0:
            self.tell_room()
        return self.rbr

    cdef void clear_rx(self) noexcept nogil:
        self.rx_head = self.rx_count = 0
        memset(self._rx_errors, 0, FIFO_SIZE)
        self.lsr &= ~(LSR_DR | LSR_FIFO_ERROR) & 0xFF
        self.timeout_pending = False
        self.timeout_at = -1
        self.tell_room()

    cdef void fifo_error_bit(self) noexcept nogil:
        cdef int i
        cdef uint8_t any_error = 0
        if self.fcr & FCR_ENABLE:
            for i in range(FIFO_SIZE):
                any_error |= self._rx_errors[i]
        if any_error:
            self.lsr |= LSR_FIFO_ERROR
        else:
            self.lsr &= ~LSR_FIFO_ERROR & 0xFF

    cdef void restart_timeout(self) noexcept nogil:
        self.timeout_at = self.clock.now() + 4 * self.char_ns()
        if self.timeout_timer.deadline_ns < 0 or self.timeout_timer.deadline_ns > self.timeout_at:
            self.timeout_timer.c_arm(self.timeout_at)

    cdef void tell_room(self) noexcept nogil:
        if self._starved and not self.mcr & MCR_LOOP:
            self._starved = False
            self.call_host(-1)

    # Hands out a byte; a negative one asks for input. What is raised goes to failed(), from there to the unraisable hook.
    cdef void call_host(self, int byte) noexcept with gil:
        try:
            if byte < 0 and self._on_room is not None:
                self._on_room()
            elif byte >= 0 and self._sink is not None:
                self._sink(bytes((byte,)))
        except BaseException as error:
            self.failed("read" if byte < 0 else "write", 0, error)

    # -- transmitter --------------------------------------------------------------------------------

    cdef void transmit(self, uint8_t byte) noexcept nogil:
        self.thre_pending = False
        self.update()               # the pin drops even if the byte is gone at once: that is the edge
        if not self._paced:
            self.deliver(byte)
            self.thre_pending = True
            self.update()
            return
        if self.fcr & FCR_ENABLE:
            if self.tx_count < FIFO_SIZE:
                self._tx_data[(self.tx_head + self.tx_count) & (FIFO_SIZE - 1)] = byte
                self.tx_count += 1
        else:
            self._tx_data[self.tx_head] = byte
            self.tx_count = 1
        self.lsr &= ~(LSR_THRE | LSR_TEMT) & 0xFF
        if not self.tx_busy:
            self.start_tx()

    cdef void start_tx(self) noexcept nogil:
        self.tsr = self._tx_data[self.tx_head]
        self.tx_head = (self.tx_head + 1) & (FIFO_SIZE - 1)
        self.tx_count -= 1
        self.tx_busy = True
        self.tx_timer.c_arm(self.clock.now() + self.char_ns())
        self.tx_emptied()

    cdef void tx_emptied(self) noexcept nogil:
        if self.tx_count == 0 and not self.lsr & LSR_THRE:
            self.lsr |= LSR_THRE
            self.thre_pending = True
            self.update()

    cdef void deliver(self, uint8_t byte) noexcept nogil:
        if self.mcr & MCR_LOOP:
            self.push(byte, 0)
            return
        self.call_host(byte)

    # -- interrupts and modem lines -----------------------------------------------------------------

    cdef int trigger(self) noexcept nogil:
        if not self.fcr & FCR_ENABLE:
            return 1
        return 1 if self.fcr < 0x40 else 4 if self.fcr < 0x80 else 8 if self.fcr < 0xC0 else 14

    cdef void update(self) noexcept nogil:
        cdef uint8_t cause = IIR_NONE
        if self.ier & IER_LINE and self.lsr & LSR_ERRORS:
            cause = IIR_LINE
        elif self.ier & IER_RX and self.rx_count >= self.trigger():
            cause = IIR_RX
        elif self.ier & IER_RX and self.timeout_pending:
            cause = IIR_TIMEOUT
        elif self.ier & IER_THRE and self.thre_pending:
            cause = IIR_THRE
        elif self.ier & IER_MODEM and self.msr & 0x0F:
            cause = IIR_MODEM
        self._iir = cause | (IIR_FIFOS if self.fcr & FCR_ENABLE else 0)
        self.pin.set(cause != IIR_NONE and (not self._gated or self.mcr & MCR_OUT2 != 0))

    cdef void modem_update(self) noexcept nogil:
        cdef uint8_t old = self.msr & 0xF0
        cdef uint8_t new = self.modem_lines
        cdef uint8_t changed
        if self.mcr & MCR_LOOP:
            # DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD.
            new = ((self.mcr & 0x01) << 5) | ((self.mcr & 0x02) << 3) | ((self.mcr & 0x0C) << 4)
        changed = new ^ old
        # The ring indicator's delta bit notes only the end of a ring.
        self.msr = new | (self.msr & 0x0F) | ((changed & 0xB0) >> 4) | ((old & ~new & 0x40) >> 4)
        self.update()

    # -- ports --------------------------------------------------------------------------------------

    cdef uint8_t c_read(self, uint64_t offset) noexcept nogil:
        cdef uint8_t value
        offset &= 7
        if offset == 5:
            value = self.lsr
            if value & LSR_ERRORS:
                self.lsr &= ~LSR_ERRORS & 0xFF
                if self.rx_count:
                    self._rx_errors[self.rx_head] = 0
                self.fifo_error_bit()
                self.update()
            return value
        if offset == 7:
            return self.scr
        if offset == 0:
            return self.divisor & 0xFF if self.lcr & LCR_DLAB else self.pop()
        if offset == 1:
            return self.divisor >> 8 if self.lcr & LCR_DLAB else self.ier
        if offset == 2:
            value = self._iir
            if value & 0x0F == IIR_THRE:
                self.thre_pending = False
                self.update()
            return value
        if offset == 3:
            return self.lcr
        if offset == 4:
            return self.mcr
        value = self.msr
        if value & 0x0F:
            self.msr = value & 0xF0
            self.update()
        return value

    cdef void c_write(self, uint64_t offset, uint8_t value) noexcept nogil:
        offset &= 7
        if offset == 0:
            if self.lcr & LCR_DLAB:
                self.divisor = (self.divisor & 0xFF00) | value
            else:
                self.transmit(value)
        elif offset == 1:
            if self.lcr & LCR_DLAB:
                self.divisor = (self.divisor & 0x00FF) | (<uint16_t>value << 8)
            else:
                # Switching the source on with an empty transmitter interrupts at once.
                if value & ~self.ier & IER_THRE and self.lsr & LSR_THRE:
                    self.thre_pending = True
                self.ier = value & 0x0F
                self.update()
        elif offset == 2:
            self.write_fcr(value)
        elif offset == 3:
            if value & ~self.lcr & LCR_BREAK and self.mcr & MCR_LOOP:
                self.push(0, LSR_BREAK | LSR_FRAMING)
            self.lcr = value
        elif offset == 4:
            self.mcr = value & 0x1F
            self.modem_update()
            self.tell_room()
        elif offset == 7:
            self.scr = value
        # 5 and 6 are read-only.

    cdef void write_fcr(self, uint8_t value) noexcept nogil:
        # Turning the FIFOs on or off empties both; the other bits count only while they are on.
        if (value ^ self.fcr) & FCR_ENABLE:
            value |= FCR_CLEAR_RX | FCR_CLEAR_TX
        if value & FCR_CLEAR_RX:
            self.clear_rx()
        if value & FCR_CLEAR_TX:
            self.tx_head = self.tx_count = 0
            self.tx_emptied()
        self.fcr = value & 0xC9 if value & FCR_ENABLE else 0
        self.update()


cdef uint64_t _read(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<UARTCore>opaque).c_read(offset)


cdef void _write(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<UARTCore>opaque).c_write(offset, value & 0xFF)

# SPDX-License-Identifier: MIT
"""The 8259A pair of a PC, in C: interrupts are raised and acknowledged inside guest instructions.

None of the ``noexcept nogil`` functions can fail: they do bit arithmetic on C fields and drive the
CPU's interrupt pin.
"""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pyemu.device._irq cimport IRQLine, IRQOut
from pyemu.memory._dispatch cimport IoHandler

cdef extern from "pyemu.h":
    enum: PYEMU_ABI_VERSION
    ctypedef struct pyemu_irq_ack:
        uint32_t abi_version
        uint32_t size
        void *opaque
        int (*ack)(void *opaque) noexcept nogil

cdef enum:
    CASCADE = 2             # the master's input that the slave's output drives

    ICW1_MARK = 0x10
    ICW1_NEEDS_ICW4 = 0x01
    ICW1_SINGLE = 0x02
    ICW1_LEVEL = 0x08
    ICW4_AUTO_EOI = 0x02
    ICW4_FULLY_NESTED = 0x10

    OCW3_MARK = 0x08
    OCW3_READ = 0x02
    OCW3_READ_ISR = 0x01
    OCW3_POLL = 0x04
    OCW3_MASK = 0x40
    OCW3_MASK_ON = 0x20

    # Lines that stay edge-triggered: timer, keyboard, cascade; clock, coprocessor.
    ELCR_MASTER = 0xF8
    ELCR_SLAVE = 0xDE


cdef class PICChip:
    """One 8259A.

    A request on an edge-triggered line is a rising edge that has not been acknowledged *and whose line
    is still high*: like the real part, the chip forgets it when the line drops. Acknowledging then
    gives the spurious vector 7. A level-triggered line requests as long as it is high.

    Attributes:
        levels: the input lines.
        edges: rising edges that wait for an acknowledge.
        base: vector of input 0.
        first: the input of highest priority.
        icw_step: number of the initialization word expected next, 0 when there is none.
    """

    cdef public uint8_t levels
    cdef public uint8_t edges
    cdef public uint8_t isr
    cdef public uint8_t imr
    cdef public uint8_t base
    cdef public uint8_t first
    cdef public uint8_t elcr
    cdef public uint8_t icw_step
    cdef public bint needs_icw4
    cdef public bint single
    cdef public bint level_triggered
    cdef public bint auto_eoi
    cdef public bint auto_rotate
    cdef public bint fully_nested
    cdef public bint special_mask
    cdef public bint read_isr
    cdef public bint poll
    cdef int _cascade           # the input that a slave drives, -1 for none

    def __cinit__(self, int cascade=-1):
        self._cascade = cascade

    def reset(self):
        """The power-on state, but for the input lines, which others drive."""
        self.initialize(0)
        self.base = 0
        self.elcr = 0
        self.icw_step = 0

    @property
    def requests(self):
        """The interrupt request register."""
        return self.irr()

    cdef void initialize(self, uint8_t icw1) noexcept nogil:
        self.edges = self.isr = self.imr = self.first = 0
        self.needs_icw4 = icw1 & ICW1_NEEDS_ICW4 != 0
        self.single = icw1 & ICW1_SINGLE != 0
        self.level_triggered = icw1 & ICW1_LEVEL != 0
        self.auto_eoi = self.auto_rotate = self.fully_nested = False
        self.special_mask = self.read_isr = self.poll = False
        self.icw_step = 2

    cdef inline uint8_t level_mask(self) noexcept nogil:
        return 0xFF if self.level_triggered else self.elcr

    cdef uint8_t irr(self) noexcept nogil:
        cdef uint8_t level = self.level_mask()
        return (self.levels & level) | (self.edges & ~level)

    cdef void set_line(self, int n, int level) noexcept nogil:
        cdef uint8_t bit = 1 << n
        if not level:
            self.levels &= ~bit
            self.edges &= ~bit
        elif not self.levels & bit:
            self.levels |= bit
            self.edges |= bit

    cdef inline int highest(self, uint8_t bits) noexcept nogil:
        # Position in the present order of priority, 8 when no bit is set.
        cdef int rank
        for rank in range(8):
            if bits & (1 << ((self.first + rank) & 7)):
                return rank
        return 8

    cdef int pending(self) noexcept nogil:
        # The input to be served next, or -1.
        cdef int rank = self.highest(self.irr() & ~self.imr)
        cdef int busy = self.highest(self.isr & ~self.imr if self.special_mask else self.isr)
        cdef int n = (self.first + rank) & 7
        if rank < busy:
            return n
        # In fully nested mode another request of the slave may interrupt the one in service.
        return n if rank == busy and rank < 8 and self.fully_nested and n == self._cascade else -1

    cdef void take(self, int n) noexcept nogil:
        self.edges &= ~(1 << n)
        if not self.auto_eoi:
            self.isr |= 1 << n
        elif self.auto_rotate:
            self.first = (n + 1) & 7

    cdef void end_of_interrupt(self, uint8_t ocw2) noexcept nogil:
        cdef int command = ocw2 >> 5
        cdef int n = ocw2 & 7
        cdef int rank
        if command == 0 or command == 4:
            self.auto_rotate = command == 4
            return
        if command == 2:
            return
        if command == 1 or command == 5:
            rank = self.highest(self.isr & ~self.imr if self.special_mask else self.isr)
            if rank == 8:
                return
            n = (self.first + rank) & 7
        if command != 6:
            self.isr &= ~(1 << n)
        if command >= 5:
            self.first = (n + 1) & 7

    cdef int c_read(self, unsigned offset) noexcept nogil:
        cdef int n
        if self.poll:
            # The read is the acknowledge cycle, whichever of the two ports it is from.
            self.poll = False
            n = self.pending()
            if n < 0:
                return 0
            self.take(n)
            return 0x80 | n
        if offset & 1:
            return self.imr
        return self.isr if self.read_isr else self.irr()

    cdef void c_write(self, unsigned offset, uint8_t value) noexcept nogil:
        if offset & 1 == 0:
            if value & ICW1_MARK:
                self.initialize(value)
            elif value & OCW3_MARK:
                if value & OCW3_READ:
                    self.read_isr = value & OCW3_READ_ISR != 0
                if value & OCW3_MASK:
                    self.special_mask = value & OCW3_MASK_ON != 0
                self.poll = value & OCW3_POLL != 0
            else:
                self.end_of_interrupt(value)
        elif self.icw_step == 2:
            self.base = value & 0xF8
            self.icw_step = 3 if not self.single else 4 if self.needs_icw4 else 0
        elif self.icw_step == 3:
            # Which input cascades is wired; the word that says so changes nothing.
            self.icw_step = 4 if self.needs_icw4 else 0
        elif self.icw_step == 4:
            self.auto_eoi = value & ICW4_AUTO_EOI != 0
            self.fully_nested = value & ICW4_FULLY_NESTED != 0
            self.icw_step = 0
        else:
            self.imr = value


cdef class PICPairCore:
    """Master and slave.

    Attributes:
        lines: the sixteen inputs. Number 2 belongs to the cascade; what drives it has no effect.
        intr: the output to the processor.
    """

    cdef readonly PICChip master
    cdef readonly PICChip slave
    cdef readonly list lines
    cdef readonly IRQOut intr
    cdef pyemu_irq_ack _table

    def __cinit__(self, *args, **kwargs):
        cdef int n
        self.master = PICChip(CASCADE)
        self.slave = PICChip()
        self.intr = IRQOut("i8259.intr")
        self.lines = [IRQLine.make(f"i8259[{n}]", n, self, <void *>self, _line) for n in range(16)]
        self._table.abi_version = PYEMU_ABI_VERSION
        self._table.size = sizeof(pyemu_irq_ack)
        self._table.opaque = <void *>self
        self._table.ack = _ack

    def reset_core(self):
        """The power-on state of both chips."""
        self.master.reset()
        self.slave.reset()
        self.update()

    def refresh(self):
        """Brings the output in line with loaded state."""
        self.update()

    def ack(self):
        """The processor's acknowledge cycle: the vector of the interrupt to be served."""
        return self.c_ack()

    def ack_capsule(self):
        """The acknowledge cycle for engines: a capsule ``pyemu.irq_ack`` that keeps the pair alive."""
        capsule = PyCapsule_New(&self._table, b"pyemu.irq_ack", _release)
        PyCapsule_SetContext(capsule, <void *>self)
        Py_INCREF(self)
        return capsule

    def handlers(self):
        """The C handlers of the three port ranges: master, slave, edge/level control."""
        return (
            IoHandler.make(self, <void *>self, _read_master, _write_master),
            IoHandler.make(self, <void *>self, _read_slave, _write_slave),
            IoHandler.make(self, <void *>self, _read_elcr, _write_elcr),
        )

    def read(self, int chip, uint64_t offset):
        """A read of port *offset* of the master (0), the slave (1) or the control pair (2)."""
        if chip == 0:
            return _read_master(<void *>self, offset, 1)
        return _read_slave(<void *>self, offset, 1) if chip == 1 else _read_elcr(<void *>self, offset, 1)

    def write(self, int chip, uint64_t offset, uint64_t value):
        """A write to port *offset* of the master (0), the slave (1) or the control pair (2)."""
        if chip == 0:
            _write_master(<void *>self, offset, 1, value)
        elif chip == 1:
            _write_slave(<void *>self, offset, 1, value)
        else:
            _write_elcr(<void *>self, offset, 1, value)

    cdef void update(self) noexcept nogil:
        self.master.set_line(CASCADE, self.slave.pending() >= 0)
        self.intr.set(self.master.pending() >= 0)

    cdef int c_ack(self) noexcept nogil:
        cdef int n = self.master.pending()
        cdef int vector
        if n < 0:
            # The request went away. The spurious vector is not marked as being in service.
            vector = self.master.base + 7
        else:
            self.master.take(n)
            vector = self.master.base + n
            if n == CASCADE and not self.master.single:
                n = self.slave.pending()
                if n >= 0:
                    # The slave's output drops with each acknowledge: more requests make a new edge.
                    self.slave.take(n)
                    self.master.set_line(CASCADE, 0)
                vector = self.slave.base + (n if n >= 0 else 7)
        self.update()
        return vector


cdef void _line(void *opaque, int n, int level) noexcept nogil:
    if n == CASCADE:
        return
    if n < 8:
        (<PICPairCore>opaque).master.set_line(n, level)
    else:
        (<PICPairCore>opaque).slave.set_line(n - 8, level)
    (<PICPairCore>opaque).update()


cdef int _ack(void *opaque) noexcept nogil:
    return (<PICPairCore>opaque).c_ack()


# Cannot fail: the context was set when the capsule was made.
cdef void _release(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef uint64_t _read_master(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    cdef bint polled = (<PICPairCore>opaque).master.poll
    cdef int value = (<PICPairCore>opaque).master.c_read(offset)
    if polled:
        (<PICPairCore>opaque).update()
    return value


cdef void _write_master(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<PICPairCore>opaque).master.c_write(offset, value & 0xFF)
    (<PICPairCore>opaque).update()


cdef uint64_t _read_slave(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    cdef bint polled = (<PICPairCore>opaque).slave.poll
    cdef int value = (<PICPairCore>opaque).slave.c_read(offset)
    if polled:
        if value & 0x80:
            (<PICPairCore>opaque).master.set_line(CASCADE, 0)
        (<PICPairCore>opaque).update()
    return value


cdef void _write_slave(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    (<PICPairCore>opaque).slave.c_write(offset, value & 0xFF)
    (<PICPairCore>opaque).update()


cdef uint64_t _read_elcr(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    return (<PICPairCore>opaque).slave.elcr if offset & 1 else (<PICPairCore>opaque).master.elcr


cdef void _write_elcr(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    if offset & 1:
        (<PICPairCore>opaque).slave.elcr = value & ELCR_SLAVE
    else:
        (<PICPairCore>opaque).master.elcr = value & ELCR_MASTER
    (<PICPairCore>opaque).update()

# SPDX-License-Identifier: MIT
"""The floppy disk controller: registers and command phases of an 82077AA in AT mode.

A command goes through up to three phases: its bytes are collected, data moves (by DMA, or byte by byte through the
FIFO register), and result bytes wait to be read. Nothing takes time but the host: seeks end at once, and the next
sector is under the head when the last byte of the one before has moved. Where the real part would wait for ever (no
disk, motor off), ours reports a missing address mark.

What the commands do with the disk is in :mod:`pyemu.chips._fdc_transfer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..device import ISAFunction, Property, VMState, vmstate
from ..errors import MigrationError
from . import _registers
from ._fdc_commands import (
    INWARD,
    LOCK_BIT,
    OP_MASK,
    RELATIVE,
    ST0_ABNORMAL,
    ST0_EQUIPMENT_CHECK,
    ST0_INVALID,
    ST0_POLLED,
    ST0_SEEK_END,
    ST3_READY,
    ST3_TRACK_0,
    ST3_TWO_SIDED,
    ST3_WRITE_PROTECTED,
    VERSION_82077AA,
    Op,
    command_length,
)
from ._fdc_transfer import PHASE_COMMAND, PHASE_FROM_HOST, PHASE_RESULT, PHASE_TO_HOST, Transfer
from ._floppy import RATE_250K, SECTOR, FloppyDrive

if TYPE_CHECKING:
    from ..device import BlockBackend
    from ..memory import PortioEntry

REG_SRB, REG_DOR, REG_TDR, REG_MSR_DSR, REG_FIFO, REG_DIR_CCR = 1, 2, 3, 4, 5, 7

SRB_IDLE = 0xC0
DOR_DRIVE, DOR_NOT_RESET, DOR_GATE = 0x03, 0x04, 0x08  # the gate is for the interrupt and DMA request pins
DSR_RESET, RATE = 0x80, 0x03
MSR_READY, MSR_TO_HOST, MSR_NON_DMA, MSR_BUSY = 0x80, 0x40, 0x20, 0x10
DIR_DISK_CHANGE = 0x80
DIR_FLOATING = 0x7F  # the other lines of this port belong to the hard disk, or to nobody

RESULT_SIZE = 10
UNITS = 4  # that the controller can address; two of them have a drive
SPECIFY_NON_DMA = 0x01
CONFIGURE_KEPT_BY_LOCK = 0x2F  # FIFO disable and threshold; implied seek and poll disable are always reset
CONFIGURE_POWER_ON = 0x20  # FIFO off


class FloppyController(Transfer, ISAFunction):
    """An 82077AA with up to two drives, at 3F0 or wherever its SuperIO puts it.

    Base+0 and base+6 are not decoded; base+6 is a hard disk's.
    """

    type_name = "isa-fdc"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("drive0", "drive", None, "disk in drive A"),
        Property("drive1", "drive", None, "disk in drive B"),
        Property("drives", "int", 0, "drives that are there even without a disk", 0, 2),
        Property("iobase", "int", 0x3F0, "base of its ports", 0, 0xFFF8),
        Property("irq", "int", 6, "interrupt line, 0 for none", 0, 15),
        Property("dma", "int", 2, "DMA channel", 0, 7),
    )
    register_tables = (_registers.FDC,)
    vmstate = VMState(
        "fdc",
        fields=(
            vmstate.uint8("dor"),
            vmstate.uint8("tdr", limit=3),
            vmstate.uint8("rate", limit=3),
            vmstate.uint8("phase", limit=PHASE_RESULT),
            vmstate.buffer("command", 9),
            vmstate.uint8("command_length", limit=9),
            vmstate.buffer("result", RESULT_SIZE),
            vmstate.uint8("result_length", limit=RESULT_SIZE),
            vmstate.uint8("result_position", limit=RESULT_SIZE),
            vmstate.buffer("sector", SECTOR),
            vmstate.uint16("position", limit=SECTOR),
            vmstate.uint16("length", limit=SECTOR),
            vmstate.uint8("cylinder"),
            vmstate.uint8("side", limit=1),
            vmstate.uint8("head_id"),
            vmstate.uint8("record"),
            vmstate.uint8("to_format"),
            vmstate.uint8("st1"),
            vmstate.uint8("st2"),
            vmstate.boolean("interrupt"),
            vmstate.uint8("seeking", limit=0xF),
            vmstate.uint8("ended", limit=0xF),
            vmstate.buffer("ended_st0", UNITS),
            vmstate.buffer("present_cylinder", UNITS),
            vmstate.buffer("specify", 2),
            vmstate.uint8("configure", limit=0x7F),
            vmstate.uint8("precompensation_track"),
            vmstate.uint8("perpendicular", limit=0x3F),
            vmstate.boolean("lock"),
            vmstate.nested("drives_state", FloppyDrive.vmstate, count=2),
        ),
    )
    volatile: ClassVar[frozenset[str]] = frozenset({"drive0", "drive1", "drives"})

    drive0: BlockBackend | None
    drive1: BlockBackend | None
    drives: int

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        backends = (self.drive0, self.drive1)
        self.drives_state = [FloppyDrive(self.id, n, b, n < self.drives) for n, b in enumerate(backends)]
        self.command, self.result, self.sector = bytearray(9), bytearray(RESULT_SIZE), bytearray(SECTOR)
        self.ended_st0, self.present_cylinder = bytearray(UNITS), bytearray(UNITS)
        self.specify = bytearray(2)
        self.reset()

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (
            PortioEntry(1, 5, 1, read=self.io_read, write=self.io_write),
            PortioEntry(7, 1, 1, read=self.io_read, write=self.io_write),
        )

    def insert(self, number: int, backend: BlockBackend) -> None:
        """Puts a disk into drive 0 or 1; the guest sees the change line.

        Raises:
            ConfigError: the image is larger than any floppy.
        """
        self.drives_state[number].insert(backend)

    def eject(self, number: int) -> None:
        """Takes the disk out of drive 0 or 1."""
        self.drives_state[number].eject()

    # -- reset and state --------------------------------------------------------------------------

    def reset(self) -> None:
        self.dor = self.tdr = 0
        self.rate = RATE_250K
        self.lock = False
        self.perpendicular = 0
        for buffer in (self.command, self.result, self.sector, self.specify, self.present_cylinder, self.ended_st0):
            buffer[:] = bytes(len(buffer))
        for drive in self.drives_state:
            drive.reset()
        self.configure, self.precompensation_track = CONFIGURE_POWER_ON, 0
        self._stop()
        self._drive_pins()

    def _stop(self) -> None:
        """What every kind of reset does to the command logic."""
        self.phase = PHASE_COMMAND
        self.command_length = self.result_length = self.result_position = 0
        self.position = self.length = 0
        self.cylinder = self.side = self.head_id = self.record = 0
        self.to_format = self.st1 = self.st2 = 0
        self.interrupt = False
        self.seeking = self.ended = 0

    def _leave_reset(self) -> None:
        """The end of a software reset: the drives are polled once, which interrupts."""
        self._stop()
        self.configure = self.configure & CONFIGURE_KEPT_BY_LOCK if self.lock else CONFIGURE_POWER_ON
        if not self.lock:
            self.precompensation_track = 0
        self.perpendicular &= 0x3C  # the drive bits stay, WGATE and GAP do not
        for unit in range(UNITS):
            self.ended_st0[unit] = ST0_POLLED | unit
        self.ended = 0xF
        self._raise_interrupt()

    def post_load(self, version: int) -> None:
        """Checks what cannot be checked field by field, and drives the pins.

        Raises:
            MigrationError: positions contradict each other, or data is moving that cannot move.
        """
        if self.position > self.length or self.result_position > self.result_length:
            raise MigrationError(
                f"{self.id}: data byte {self.position} of {self.length}, "
                f"result byte {self.result_position} of {self.result_length}"
            )
        moving = self.phase in (PHASE_TO_HOST, PHASE_FROM_HOST)
        if moving and not self.can_move():
            raise MigrationError(f"{self.id}: command {self.command[0]:#04x} cannot be moving {self.length} bytes")
        if self.phase == PHASE_RESULT and self.result_position == self.result_length:
            raise MigrationError(f"{self.id}: a result phase without a result")
        if self.phase == PHASE_COMMAND and self.command_length and self.command_length >= self._wanted():
            raise MigrationError(f"{self.id}: {self.command_length} bytes of command {self.command[0]:#04x} wait")
        self._drive_pins()

    def _wanted(self) -> int:
        return command_length(self.command[0])

    # -- pins -------------------------------------------------------------------------------------

    @property
    def non_dma(self) -> bool:
        """Whether SPECIFY chose to move data through the FIFO register."""
        return bool(self.specify[1] & SPECIFY_NON_DMA)

    def _raise_interrupt(self) -> None:
        """A new event: an edge, even where an earlier one was not looked at."""
        self.interrupt = False
        self._drive_pins()
        self.interrupt = True
        self._drive_pins()

    def _drive_pins(self) -> None:
        """Both pins follow from the state; DOR gates them."""
        gate = bool(self.dor & DOR_GATE)
        moving = self.phase in (PHASE_TO_HOST, PHASE_FROM_HOST)
        self.irq_out.set_level(gate and (self.interrupt or (moving and self.non_dma)))
        if self.dma_request is not None:
            # Raising the request may move all the data before it returns.
            self.dma_request.set_level(gate and moving and not self.non_dma)

    # -- registers --------------------------------------------------------------------------------

    def io_read(self, offset: int, size: int) -> int:
        if offset == REG_SRB:
            return SRB_IDLE | (self.dor & 1) << 5 | self.dor >> 4 & 3
        if offset == REG_DOR:
            return self.dor
        if offset == REG_TDR:
            return self.tdr
        if offset == REG_MSR_DSR:
            return self._main_status()
        if offset == REG_FIFO:
            return self._read_fifo()
        unit = self.dor & DOR_DRIVE
        changed = unit < len(self.drives_state) and self.drives_state[unit].changed
        return DIR_FLOATING | (DIR_DISK_CHANGE if changed else 0)

    def io_write(self, offset: int, size: int, value: int) -> None:
        if offset == REG_DOR:
            self._write_dor(value)
        elif offset == REG_TDR:
            self.tdr = value & 3
        elif offset == REG_MSR_DSR:
            self.rate = value & RATE
            if value & DSR_RESET and self.dor & DOR_NOT_RESET:
                self._leave_reset()
        elif offset == REG_FIFO:
            self._write_fifo(value)
        elif offset == REG_DIR_CCR:
            self.rate = value & RATE
        else:
            self.warn_once("status B", "write of %#04x to read-only status register B", value)

    def _write_dor(self, value: int) -> None:
        before, self.dor = self.dor, value
        if not value & DOR_NOT_RESET:
            self._stop()
        elif not before & DOR_NOT_RESET:
            self._leave_reset()
        self._drive_pins()

    def _main_status(self) -> int:
        if not self.dor & DOR_NOT_RESET:
            return 0
        status = self.seeking
        if self.phase == PHASE_COMMAND:
            return status | MSR_READY | (MSR_BUSY if self.command_length else 0)
        status |= MSR_BUSY | (0 if self.phase == PHASE_FROM_HOST else MSR_TO_HOST)
        if self.phase == PHASE_RESULT:
            return status | MSR_READY
        return status | (MSR_READY | MSR_NON_DMA if self.non_dma else 0)

    def _read_fifo(self) -> int:
        if not self.dor & DOR_NOT_RESET:
            return 0
        if self.phase == PHASE_TO_HOST and self.non_dma:
            return self._byte_to_host()
        if self.phase != PHASE_RESULT:
            return 0
        value = self.result[self.result_position]
        self.result_position += 1
        self.interrupt = False
        if self.result_position == self.result_length:
            self._idle()
        self._drive_pins()
        return value

    def _write_fifo(self, value: int) -> None:
        if not self.dor & DOR_NOT_RESET:
            return
        if self.phase == PHASE_FROM_HOST and self.non_dma:
            self._byte_from_host(value)
            return
        if self.phase != PHASE_COMMAND:
            return
        self.command[self.command_length] = value
        self.command_length += 1
        wanted = self._wanted()
        if not wanted:
            self._answer(ST0_INVALID)
        elif self.command_length == wanted:
            self._execute()

    def _next_request(self) -> None:
        """In non-DMA mode each byte interrupts anew."""
        self.irq_out.set_level(0)
        self._drive_pins()

    # -- commands ---------------------------------------------------------------------------------

    def _idle(self) -> None:
        self.phase = PHASE_COMMAND
        self.command_length = 0

    def _answer(self, *values: int) -> None:
        """Result bytes of a command that does not interrupt."""
        self.result[: len(values)] = bytes(values)
        self.result_length, self.result_position = len(values), 0
        self.phase = PHASE_RESULT

    def _execute(self) -> None:
        op = Op(self.command[0] & OP_MASK)
        if op is Op.SENSE_INTERRUPT:
            self._sense_interrupt()
            return
        if self.ended and not self.seeking:
            # Whoever begins anything else has had enough of the poll after the reset.
            self.ended = 0
        if op is Op.SPECIFY:
            self.specify[:] = self.command[1:3]
            self._idle()
        elif op is Op.CONFIGURE:
            self.configure, self.precompensation_track = self.command[2] & 0x7F, self.command[3]
            self._idle()
        elif op is Op.PERPENDICULAR:
            self._perpendicular_mode(self.command[1])
            self._idle()
        elif op is Op.SEEK:
            self._seek()
        elif op is Op.RECALIBRATE:
            self._recalibrate()
        elif op is Op.SENSE_DRIVE:
            self._answer(self._drive_status())
        elif op is Op.VERSION:
            self._answer(VERSION_82077AA)
        elif op is Op.LOCK:
            self.lock = bool(self.command[0] & LOCK_BIT)
            self._answer(self.lock << 4)
        elif op is Op.DUMPREG:
            # The last sector number of the latest transfer is still in its place: shorter commands do not reach it.
            tail = (self.lock << 7 | self.perpendicular, self.configure, self.precompensation_track)
            self._answer(*self.present_cylinder, *self.specify, self.command[6], *tail)
        else:
            self.begin(op)

    def _perpendicular_mode(self, value: int) -> None:
        if value & 0x80:  # OW: the drive bits are meant, too
            self.perpendicular = value & 0x3F
        else:
            self.perpendicular = self.perpendicular & 0x3C | value & 3

    def drive(self, unit: int) -> FloppyDrive | None:
        """The drive of a unit number, if there is one."""
        if unit < len(self.drives_state) and self.drives_state[unit].fitted:
            return self.drives_state[unit]
        return None

    def _seek(self) -> None:
        unit, target = self.command[1] & 3, self.command[2]
        here = self.present_cylinder[unit]
        if self.command[0] & RELATIVE:
            steps = target if self.command[0] & INWARD else -target
        else:
            steps = target - here
        self._step(unit, steps)
        self.present_cylinder[unit] = (here + steps) & 0xFF
        self._seek_ended(unit, ST0_SEEK_END | self.command[1] & 7)

    def _step(self, unit: int, steps: int) -> None:
        drive = self.drive(unit)
        if drive is not None:
            drive.step(steps)

    def _recalibrate(self) -> None:
        unit = self.command[1] & 3
        drive = self.drive(unit)
        self.present_cylinder[unit] = 0
        found = drive is not None and drive.recalibrate()
        self._seek_ended(unit, ST0_SEEK_END | unit | (0 if found else ST0_ABNORMAL | ST0_EQUIPMENT_CHECK))

    def _seek_ended(self, unit: int, st0: int) -> None:
        """The drive counts as seeking until SENSE INTERRUPT has been told about it."""
        self.seeking |= 1 << unit
        self.ended |= 1 << unit
        self.ended_st0[unit] = st0
        self._idle()
        self._raise_interrupt()

    def _sense_interrupt(self) -> None:
        self.interrupt = False
        if not self.ended:
            self._answer(ST0_INVALID)
        else:
            unit = (self.ended & -self.ended).bit_length() - 1
            self.ended &= ~(1 << unit)
            polled = self.ended_st0[unit] & ST0_POLLED == ST0_POLLED
            self.seeking &= ~(1 << unit)
            self._answer(self.ended_st0[unit], 0 if polled else self.present_cylinder[unit])
            if self.seeking:
                self._raise_interrupt()  # another seek has ended meanwhile
        self._drive_pins()

    def _drive_status(self) -> int:
        unit = self.command[1] & 3
        drive = self.drive(unit)
        status = self.command[1] & 7 | ST3_READY | ST3_TWO_SIDED
        if drive is not None:
            status |= (0 if drive.track else ST3_TRACK_0) | (ST3_WRITE_PROTECTED if drive.read_only else 0)
        return status

# SPDX-License-Identifier: MIT
"""The floppy controller's execution phase: finding sectors and moving their data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._fdc_commands import (
    FROM_HOST,
    MFM,
    MT,
    OP_MASK,
    SCANS,
    SK,
    ST0_ABNORMAL,
    ST1_DATA_ERROR,
    ST1_END_OF_CYLINDER,
    ST1_MISSING_MARK,
    ST1_NO_DATA,
    ST1_NOT_WRITABLE,
    ST2_BAD_CYLINDER,
    ST2_CONTROL_MARK,
    ST2_DATA_ERROR,
    ST2_SCAN_EQUAL,
    ST2_SCAN_NOT_SATISFIED,
    ST2_WRONG_CYLINDER,
    TO_HOST,
    WRITES,
    Op,
    command_length,
)
from ._floppy import SECTOR, SIZE_CODE, FloppyDrive

PHASE_COMMAND, PHASE_TO_HOST, PHASE_FROM_HOST, PHASE_RESULT = range(4)

CONFIGURE_IMPLIED_SEEK = 0x40
VERIFY_COUNT = 0x80  # in the second byte of VERIFY: the last one is a number of sectors
ID_LENGTH = 4  # what FORMAT takes from the host for each sector: C, H, R, N
#: A byte that compares equal to anything in a SCAN.
WILD = 0xFF
FLOATING = 0xFF


class Transfer:
    """The half of :class:`~pyemu.chips.fdc.FloppyController` that runs READ, WRITE, FORMAT, SCAN, VERIFY and READ ID.

    ``cylinder``, ``head_id``, ``record`` and the size code in ``command[5]`` are the sector that is looked for, as
    its address mark would give it; ``side`` is the head that looks.
    """

    if TYPE_CHECKING:
        phase: int
        command: bytearray
        command_length: int
        result: bytearray
        result_length: int
        result_position: int
        sector: bytearray
        position: int
        length: int
        cylinder: int
        side: int
        head_id: int
        record: int
        to_format: int
        st1: int
        st2: int
        rate: int
        dor: int
        configure: int
        present_cylinder: bytearray

        @property
        def non_dma(self) -> bool: ...
        def drive(self, unit: int) -> FloppyDrive | None: ...
        def warn_once(self, key: str, message: str, *args: object) -> None: ...
        def _step(self, unit: int, steps: int) -> None: ...
        def _answer(self, *values: int) -> None: ...
        def _drive_pins(self) -> None: ...
        def _raise_interrupt(self) -> None: ...
        def _next_request(self) -> None: ...

    # -- beginning and end ------------------------------------------------------------------------

    def begin(self, op: Op) -> None:
        """The execution phase of a command that looks at the disk."""
        self.st1 = self.st2 = 0
        self.side = self.head_id = self.command[1] >> 2 & 1
        self.position = self.length = 0
        if op is Op.READ_ID:
            self._read_id()
        elif op is Op.FORMAT:
            self._begin_format()
        else:
            self.cylinder, self.head_id, self.record = self.command[2:5]
            if self.configure & CONFIGURE_IMPLIED_SEEK:
                self._step(self.unit, self.cylinder - self.present_cylinder[self.unit])
                self.present_cylinder[self.unit] = self.cylinder
            if op is Op.READ_TRACK:
                self.record = 1
            if op is Op.VERIFY:
                self._verify()
            elif op in TO_HOST:
                self._begin_read(op)
            elif self._locate(writing=op in WRITES) is not None:
                self.length = SECTOR
                self._move(PHASE_FROM_HOST)

    @property
    def unit(self) -> int:
        return self.command[1] & 3

    @property
    def op(self) -> int:
        return self.command[0] & OP_MASK

    def _move(self, phase: int) -> None:
        self.phase = phase
        self._drive_pins()

    def _end(self) -> None:
        """Into the result phase. Any bit of ST1, and the errors of ST2, make it an abnormal end."""
        abnormal = self.st1 or self.st2 & (ST2_DATA_ERROR | ST2_WRONG_CYLINDER | ST2_BAD_CYLINDER)
        st0 = (ST0_ABNORMAL if abnormal else 0) | self.side << 2 | self.unit
        code = SIZE_CODE if self.op in (Op.READ_ID, Op.FORMAT) else self.command[5]
        self._answer(st0, self.st1, self.st2, self.cylinder, self.head_id, self.record, code)
        self.position = self.length = 0
        self._raise_interrupt()

    def _fail(self, st1: int, st2: int = 0) -> None:
        self.st1 |= st1
        self.st2 |= st2
        self._end()

    # -- finding a sector -------------------------------------------------------------------------

    def _spinning(self) -> FloppyDrive | None:
        """The addressed drive, if address marks pass under its head: disk in, motor on, rate and recording right."""
        drive = self.drive(self.unit)
        if drive is None or drive.media is None or not self.dor >> 4 + self.unit & 1:
            return None
        if self.rate not in drive.media.rates or (not self.command[0] & MFM):
            return None
        if self.side >= drive.media.heads or drive.track >= drive.media.tracks:
            return None
        return drive

    def _locate(self, writing: bool = False) -> int | None:
        """Byte offset in the image of the sector looked for; None when the command has ended with an error."""
        drive = self._spinning()
        if drive is None or drive.media is None or drive.backend is None:
            self._fail(ST1_MISSING_MARK)
            return None
        if writing and drive.read_only:
            self._fail(ST1_NOT_WRITABLE)
            return None
        if self.cylinder != drive.track:
            self._fail(ST1_NO_DATA, ST2_BAD_CYLINDER | ST2_WRONG_CYLINDER if self.cylinder == 0xFF else ST2_WRONG_CYLINDER)
            return None
        there = self.head_id == self.side and 1 <= self.record <= drive.media.sectors and self.command[5] == SIZE_CODE
        at = drive.media.block(drive.track, self.side, self.record) if there else -1
        if not 0 <= at <= drive.backend.size - SECTOR:
            self._fail(ST1_NO_DATA)
            return None
        drive.passing = self.record
        return at

    def _step_sector(self) -> bool:
        """On to the next sector; false after the last one that the command covers.

        What C, H and R then say is also what the result phase has to report after the last sector.
        """
        if self.record != self.command[6]:
            self.record = self.record + 1 & 0xFF
            return True
        self.record = 1
        multi = bool(self.command[0] & MT) and self.op != Op.READ_TRACK
        if multi:
            self.head_id ^= 1
            if self.side == 0:
                self.side = 1
                return True
        self.cylinder = self.cylinder + 1 & 0xFF
        return False

    def _next_sector(self) -> bool:
        """As :meth:`_step_sector`, but running off the end without a terminal count is an error (EN)."""
        if self._step_sector():
            return True
        self._fail(ST1_END_OF_CYLINDER)
        return False

    def _read_image(self, at: int) -> bytes | None:
        drive = self.drive(self.unit)
        assert drive is not None and drive.backend is not None  # _locate() saw to it
        try:
            return drive.backend.read(at, SECTOR)
        except OSError as error:
            self.warn_once(f"read {error}", "reading the image at %#x: %s", at, error)
            self._fail(ST1_DATA_ERROR, ST2_DATA_ERROR)
            return None

    def _write_image(self, at: int, data: bytes) -> bool:
        drive = self.drive(self.unit)
        assert drive is not None and drive.backend is not None
        try:
            drive.backend.write(at, data)
        except OSError as error:
            self.warn_once(f"write {error}", "writing the image at %#x: %s", at, error)
            self._fail(ST1_DATA_ERROR, ST2_DATA_ERROR)
            return False
        return True

    # -- commands without data --------------------------------------------------------------------

    def _read_id(self) -> None:
        drive = self._spinning()
        if drive is None or drive.media is None:
            self.cylinder = self.record = 0
            self._fail(ST1_MISSING_MARK)
            return
        self.cylinder = drive.track
        self.record = drive.next_passing(drive.media.sectors)
        self._end()

    def _verify(self) -> None:
        counted = bool(self.command[1] & VERIFY_COUNT)
        left = self.command[8] or 256
        while True:
            at = self._locate()
            if at is None or self._read_image(at) is None:
                return
            left -= 1
            more = self._step_sector()
            if (counted and not left) or (not more and not counted):
                self._end()
                return
            if not more:
                self._fail(ST1_END_OF_CYLINDER)
                return

    # -- disk to host -----------------------------------------------------------------------------

    def _begin_read(self, op: Op) -> None:
        if op is Op.READ_DELETED and self.command[0] & SK:
            # All our sectors have normal data marks: every one is skipped.
            while self._locate() is not None:
                if not self._next_sector():
                    return
        elif self._load_sector():
            self._move(PHASE_TO_HOST)

    def _load_sector(self) -> bool:
        at = self._locate()
        data = self._read_image(at) if at is not None else None
        if data is None:
            return False
        self.sector[:] = data
        self.position, self.length = 0, SECTOR
        return True

    def _following(self) -> bool:
        """Loads the sector after the one that has been taken; false when the command ended instead."""
        if self.op == Op.READ_DELETED:
            # A normal data mark where a deleted one was wanted: the command ends with this sector.
            self._step_sector()
            self.st2 |= ST2_CONTROL_MARK
            self._end()
            return False
        return self._next_sector() and self._load_sector()

    def _byte_to_host(self) -> int:
        value = self.sector[self.position]
        self.position += 1
        if self.position < self.length or self._following():
            self._next_request()
        return value

    # -- host to disk -----------------------------------------------------------------------------

    def _begin_format(self) -> None:
        drive = self._spinning()
        self.to_format = self.command[3]
        self.record = 0
        self.cylinder = drive.track if drive is not None else 0
        if drive is None:
            self._fail(ST1_MISSING_MARK)
        elif drive.read_only:
            self._fail(ST1_NOT_WRITABLE)
        elif not self.to_format:
            self._end()
        else:
            self.length = ID_LENGTH
            self._move(PHASE_FROM_HOST)

    def _byte_from_host(self, value: int) -> None:
        self.sector[self.position] = value
        self.position += 1
        if self.position < self.length or (self._block_full() and self._room()):
            self._next_request()

    def _block_full(self) -> bool:
        """Uses the block that the host has filled; false when the command ended with it."""
        if self.op == Op.FORMAT:
            return self._format_sector()
        at = self._locate(writing=self.op in WRITES)
        if at is None:
            return False
        if self.op in SCANS:
            return self._scan_sector(at)
        return self._write_image(at, bytes(self.sector))

    def _room(self) -> bool:
        """Makes room for the next block; false when the command ended instead."""
        if self.op != Op.FORMAT and (not self._next_sector() or self._locate(writing=self.op in WRITES) is None):
            return False
        self.position = 0
        return True

    def _format_sector(self) -> bool:
        cylinder, head, record, code = self.sector[:ID_LENGTH]
        drive = self._spinning()
        if drive is None or drive.media is None or drive.backend is None:
            self._fail(ST1_MISSING_MARK)
            return False
        fits = (cylinder, head, code) == (drive.track, self.side, SIZE_CODE) and 1 <= record <= drive.media.sectors
        at = drive.media.block(drive.track, self.side, record) if fits else -1
        if not 0 <= at <= drive.backend.size - SECTOR:
            # A raw image has no place for such a sector. The rest of the track is formatted all the same.
            self.st1 |= ST1_NO_DATA
        elif not self._write_image(at, bytes([self.command[5]]) * SECTOR):
            return False
        self.record = record
        self.to_format -= 1
        if not self.to_format:
            self._end()
        return self.to_format > 0

    def _scan_sector(self, at: int) -> bool:
        disk = self._read_image(at)
        if disk is None:
            return False
        pairs = [(d, h) for d, h in zip(disk, self.sector, strict=True) if WILD not in (d, h)]
        equal = all(d == h for d, h in pairs)
        low = self.op == Op.SCAN_LOW_OR_EQUAL and all(d <= h for d, h in pairs)
        high = self.op == Op.SCAN_HIGH_OR_EQUAL and all(d >= h for d, h in pairs)
        if equal or low or high:
            self.st2 |= ST2_SCAN_EQUAL if equal else 0
            self._end()
            return False
        if self.record == self.command[6] and not (self.command[0] & MT and self.side == 0):
            self._step_sector()
            self.st2 |= ST2_SCAN_NOT_SATISFIED
            self._end()
            return False
        if self.command[8] == 2 and self.record + 1 != self.command[6]:
            self.record = self.record + 1 & 0xFF  # every other sector
        return True

    # -- DMA --------------------------------------------------------------------------------------

    def can_move(self) -> bool:
        """Whether the execution phase, as loaded, is one that the command could be in."""
        if self.command_length != command_length(self.command[0]) or (self.non_dma and self.position == self.length):
            return False
        if self.phase == PHASE_TO_HOST:
            return self.op in TO_HOST and self.length == SECTOR
        if self.op == Op.FORMAT:
            return self.length == ID_LENGTH > self.position and self.to_format > 0
        return self.op in FROM_HOST and self.length == SECTOR

    def dma_read(self, length: int) -> bytes:
        out = bytearray()
        while len(out) < length and self.phase == PHASE_TO_HOST:
            # With DMA the terminal count may come with the last byte, so the next sector waits until it is wanted.
            if self.position == self.length and not self._following():
                break
            part = self.sector[self.position : min(self.position + length - len(out), self.length)]
            self.position += len(part)
            out += part
        return bytes(out)

    def dma_write(self, data: bytes) -> int:
        taken = 0
        while taken < len(data) and self.phase == PHASE_FROM_HOST:
            if self.position == self.length and not self._room():
                break
            part = data[taken : taken + self.length - self.position]
            self.sector[self.position : self.position + len(part)] = part
            self.position += len(part)
            taken += len(part)
            if self.position == self.length:
                self._block_full()
        return taken

    def dma_verify(self, length: int) -> int:
        if self.phase == PHASE_TO_HOST:
            return len(self.dma_read(length))
        return self.dma_write(bytes([FLOATING]) * min(length, SECTOR))

    def dma_terminal_count(self) -> None:
        if self.phase not in (PHASE_TO_HOST, PHASE_FROM_HOST):
            return
        if self.op in (Op.WRITE, Op.WRITE_DELETED) and 0 < self.position < self.length:
            # The rest of a sector that is cut short is written as zeros.
            self.sector[self.position :] = bytes(self.length - self.position)
            self.position = self.length
            if not self._block_full():
                return
        if self.op == Op.READ_DELETED:
            self.st2 |= ST2_CONTROL_MARK
        if self.position and self.op != Op.FORMAT:
            self._step_sector()
        self._end()

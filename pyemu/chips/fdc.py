# SPDX-License-Identifier: MIT
"""The floppy disk controller: an 82077AA in AT mode with up to two drives.

Register and command names are the data sheet's. A command goes through three phases: its bytes are
collected, sectors move (by DMA or through the FIFO), and result bytes wait to be read. Seeks take no
time; everything else happens when the bytes move. Only 512-byte sectors exist on our media; for other
sizes the controller finds no sector, as on a disk that was formatted so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..device import ISAFunction, Property, VMState, vmstate
from ..errors import MigrationError
from ._floppy import SECTOR, Drive

if TYPE_CHECKING:
    from ..device import BlockBackend
    from ..memory import PortioEntry

SECTOR_CODE = 2  # N of a 512-byte sector

REG_SRB, REG_DOR, REG_TDR, REG_MSR, REG_FIFO, REG_DIR = 1, 2, 3, 4, 5, 7
REG_DSR, REG_CCR = REG_MSR, REG_DIR

DOR_DRIVE, DOR_NOT_RESET, DOR_DMA = 0x03, 0x04, 0x08
DSR_RESET, DSR_RATE = 0x80, 0x03
MSR_RQM, MSR_DIO, MSR_NON_DMA, MSR_BUSY = 0x80, 0x40, 0x20, 0x10
DIR_DISK_CHANGE = 0x80
SRB_IDLE = 0xC0

ST0_ABNORMAL, ST0_INVALID, ST0_READY_CHANGED, ST0_SEEK_END, ST0_EQUIPMENT, ST0_NOT_READY = (
    0x40, 0x80, 0xC0, 0x20, 0x10, 0x08,
)  # fmt: skip
ST1_END, ST1_DATA_ERROR, ST1_NO_DATA, ST1_WRITE_PROTECTED, ST1_NO_ADDRESS_MARK = 0x80, 0x20, 0x04, 0x02, 0x01
ST2_DATA_ERROR = 0x20  # in the data, not in an address mark
ST3_WRITE_PROTECTED, ST3_READY, ST3_TRACK0, ST3_TWO_SIDES = 0x40, 0x20, 0x10, 0x08

CMD_MULTI_TRACK = 0x80
CMD_MASK = 0x1F
CMD_READ_TRACK, CMD_SPECIFY, CMD_SENSE_DRIVE, CMD_WRITE, CMD_READ, CMD_RECALIBRATE = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
CMD_SENSE_INTERRUPT, CMD_READ_ID, CMD_FORMAT, CMD_DUMPREG, CMD_SEEK, CMD_VERSION = 0x08, 0x0A, 0x0D, 0x0E, 0x0F, 0x10
CMD_PERPENDICULAR, CMD_CONFIGURE, CMD_LOCK = 0x12, 0x13, 0x14
VERSION_82077 = 0x90

#: Parameter bytes after the command byte.
_PARAMETERS = {
    CMD_READ_TRACK: 8, CMD_SPECIFY: 2, CMD_SENSE_DRIVE: 1, CMD_WRITE: 8, CMD_READ: 8, CMD_RECALIBRATE: 1,
    CMD_SENSE_INTERRUPT: 0, CMD_READ_ID: 1, CMD_FORMAT: 5, CMD_DUMPREG: 0, CMD_SEEK: 2, CMD_VERSION: 0,
    CMD_PERPENDICULAR: 1, CMD_CONFIGURE: 3, CMD_LOCK: 0,
}  # fmt: skip
_LONGEST_RESULT = 10
#: Bytes the host gives for each sector to format: C, H, R and N.
ADDRESS_FIELD = 4

PHASE_COMMAND, PHASE_TO_HOST, PHASE_FROM_HOST, PHASE_RESULT = range(4)


class FloppyController(ISAFunction):
    """An 82077AA at 3F0 (or 370, or wherever its SuperIO puts it), interrupt 6, DMA channel 2.

    Base+0 and base+6 are holes; base+6 belongs to IDE.
    """

    type_name = "isa-fdc"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("drive0", "drive", None, "image in drive A"),
        Property("drive1", "drive", None, "image in drive B"),
        Property("iobase", "int", 0x3F0, "base of its ports", minimum=0, maximum=0xFFF8),
        Property("irq", "int", 6, "interrupt line, 0 for none", minimum=0, maximum=15),
        Property("dma", "int", 2, "DMA channel", minimum=0, maximum=7),
    )
    vmstate = VMState(
        "fdc",
        fields=(
            vmstate.uint8("dor"),
            vmstate.uint8("rate", limit=3),
            vmstate.uint8("tdr", limit=3),
            vmstate.uint8("phase", limit=PHASE_RESULT),
            vmstate.buffer("command", 9),
            vmstate.uint8("command_length", limit=9),
            vmstate.buffer("result", _LONGEST_RESULT),
            vmstate.uint8("result_length", limit=_LONGEST_RESULT),
            vmstate.uint8("result_position", limit=_LONGEST_RESULT),
            vmstate.buffer("sector", SECTOR),
            vmstate.uint16("position", limit=SECTOR),
            vmstate.uint16("length", limit=SECTOR),
            vmstate.uint8("cylinder"),
            vmstate.uint8("head", limit=1),
            vmstate.uint8("record"),
            vmstate.uint8("to_format"),
            vmstate.boolean("interrupt"),
            vmstate.uint8("pending_st0"),
            vmstate.boolean("st0_valid"),
            vmstate.uint8("reset_senses", limit=4),
            vmstate.buffer("specify", 2),
            vmstate.buffer("configure", 3),
            vmstate.uint8("perpendicular"),
            vmstate.boolean("lock"),
            vmstate.nested("drives", Drive.STATE, count=2),
        ),
    )
    volatile: ClassVar[frozenset[str]] = frozenset({"drive0", "drive1"})

    drive0: BlockBackend | None
    drive1: BlockBackend | None

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.drives = [Drive(self.drive0), Drive(self.drive1)]
        self.command, self.result, self.sector = bytearray(9), bytearray(_LONGEST_RESULT), bytearray(SECTOR)
        self.specify, self.configure = bytearray(2), bytearray(3)
        self.lock = False
        self.perpendicular = 0
        self.dor = self.rate = self.tdr = 0
        self._idle()

    def _idle(self) -> None:
        """What both the reset pin and a software reset do to the command logic."""
        self.phase = PHASE_COMMAND
        self.command_length = self.result_length = self.result_position = 0
        self.position = self.length = 0
        self.cylinder = self.head = self.record = self.to_format = 0
        self.interrupt = self.st0_valid = False
        self.pending_st0 = self.reset_senses = 0

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (
            PortioEntry(1, 5, 1, read=self.io_read, write=self.io_write),
            PortioEntry(7, 1, 1, read=self.io_read, write=self.io_write),
        )

    def reset(self) -> None:
        self.dor = self.tdr = 0
        self.rate = 2
        self.lock = False
        self.perpendicular = 0
        for buffer in (self.command, self.result, self.sector, self.specify, self.configure):
            buffer[:] = bytes(len(buffer))
        for drive in self.drives:
            drive.cylinder, drive.changed = 0, True
        self._idle()
        self._drive_pins()

    def post_load(self, version: int) -> None:
        if not self._possible():
            raise MigrationError(
                f"{self.id}: phase {self.phase} of command {self.command[0]:#04x} with {self.command_length} bytes, "
                f"position {self.position} of {self.length}, result byte {self.result_position} of {self.result_length}"
            )
        self._drive_pins()

    def _possible(self) -> bool:
        """Whether a command could have led to the phase and the counters."""
        command = self.command[0] & CMD_MASK
        parameters = _PARAMETERS.get(command, 0)
        if self.phase == PHASE_COMMAND:
            return self.command_length <= parameters
        if self.phase == PHASE_RESULT:
            return self.result_position < self.result_length
        if self.command_length != parameters + 1 or self.position > self.length:
            return False
        if command == CMD_FORMAT:
            return self.phase == PHASE_FROM_HOST and self.length == ADDRESS_FIELD > self.position and self.to_format > 0
        reads = command in (CMD_READ, CMD_READ_TRACK)
        return (reads or command == CMD_WRITE) and reads == (self.phase == PHASE_TO_HOST) and self.length == SECTOR

    # -- registers --------------------------------------------------------------------------------

    @property
    def selected(self) -> Drive | None:
        """The drive that DOR selects, if it exists."""
        number = self.dor & DOR_DRIVE
        return self.drives[number] if number < 2 else None

    def io_read(self, offset: int, size: int) -> int:
        if offset == REG_SRB:
            return SRB_IDLE
        if offset == REG_DOR:
            return self.dor
        if offset == REG_TDR:
            return self.tdr
        if offset == REG_MSR:
            return self._main_status()
        if offset == REG_FIFO:
            return self._fifo_read()
        drive = self.selected
        return 0 if drive is not None and drive.image is not None and not drive.changed else DIR_DISK_CHANGE

    def io_write(self, offset: int, size: int, value: int) -> None:
        if offset == REG_DOR:
            self._write_dor(value)
        elif offset == REG_TDR:
            self.tdr = value & 3
        elif offset == REG_DSR:
            self.rate = value & DSR_RATE
            if value & DSR_RESET and self.dor & DOR_NOT_RESET:
                self._leave_reset()
        elif offset == REG_FIFO:
            self._fifo_write(value)
        elif offset == REG_CCR:
            self.rate = value & DSR_RATE
        else:
            self.warn_once(f"write-{offset}", "write of %#04x to read-only register %d", value, offset)

    def _write_dor(self, value: int) -> None:
        before, self.dor = self.dor, value
        if not value & DOR_NOT_RESET:
            self._idle()
        elif not before & DOR_NOT_RESET:
            self._leave_reset()
        self._drive_pins()

    def _leave_reset(self) -> None:
        self._idle()
        if not self.lock:
            self.configure[:] = bytes(3)
        self.reset_senses = 4
        self.interrupt = True
        self._drive_pins()

    def _main_status(self) -> int:
        if not self.dor & DOR_NOT_RESET:
            return 0
        non_dma = MSR_NON_DMA if self.specify[1] & 1 else 0
        if self.phase == PHASE_COMMAND:
            return MSR_RQM | (MSR_BUSY if self.command_length else 0)
        if self.phase == PHASE_RESULT:
            return MSR_RQM | MSR_DIO | MSR_BUSY
        ready = MSR_RQM if non_dma else 0
        return ready | non_dma | MSR_BUSY | (MSR_DIO if self.phase == PHASE_TO_HOST else 0)

    def _fifo_read(self) -> int:
        if not self.dor & DOR_NOT_RESET:
            return 0
        if self.phase == PHASE_TO_HOST and self.specify[1] & 1:
            return self.dma_read(1)[0]
        if self.phase != PHASE_RESULT:
            return 0
        value = self.result[self.result_position]
        self.result_position += 1
        self.interrupt = False
        if self.result_position == self.result_length:
            self.phase = PHASE_COMMAND
            self.command_length = 0
        self._drive_pins()
        return value

    def _fifo_write(self, value: int) -> None:
        if not self.dor & DOR_NOT_RESET:
            return
        if self.phase == PHASE_FROM_HOST and self.specify[1] & 1:
            self.dma_write(bytes((value,)))
        if self.phase != PHASE_COMMAND:
            return
        self.command[self.command_length] = value
        self.command_length += 1
        code = self.command[0]
        wanted = _PARAMETERS.get(code & CMD_MASK)
        if wanted is None or not self._well_formed(code):
            self._finish(bytes((ST0_INVALID,)), interrupt=False)
        elif self.command_length == wanted + 1:
            self._execute(code & CMD_MASK)

    @staticmethod
    def _well_formed(code: int) -> bool:
        """The upper three bits (MT, MFM, SK) mean something in transfers only; LOCK has bit 7."""
        command = code & CMD_MASK
        if command in (CMD_READ, CMD_WRITE, CMD_READ_TRACK, CMD_READ_ID, CMD_FORMAT):
            return True
        return not code & ~CMD_MASK or (command == CMD_LOCK and code & ~CMD_MASK == 0x80) or command == CMD_SEEK

    # -- commands ---------------------------------------------------------------------------------

    def _target(self) -> Drive | None:
        """The drive that the command names, if it exists."""
        number = self.command[1] & 3
        return self.drives[number] if number < 2 else None

    def _execute(self, command: int) -> None:
        number, drive = self.command[1] & 3, self._target()
        if command in (CMD_READ, CMD_WRITE, CMD_READ_TRACK):
            self._begin_transfer(command)
        elif command == CMD_FORMAT:
            self._begin_format()
        elif command == CMD_SPECIFY:
            self.specify[:] = self.command[1:3]
            self._finish(b"", interrupt=False)
        elif command in (CMD_RECALIBRATE, CMD_SEEK):
            target = self.command[2] if command == CMD_SEEK else 0
            st0 = ST0_SEEK_END | (self.command[1] & (7 if command == CMD_SEEK else 3))
            if drive is not None:
                drive.step_to(target)
            else:
                st0 |= ST0_ABNORMAL | ST0_EQUIPMENT
            self.pending_st0, self.st0_valid, self.reset_senses = st0, True, 0
            self._finish(b"", interrupt=True)
        elif command == CMD_SENSE_INTERRUPT:
            self._sense_interrupt()
        elif command == CMD_SENSE_DRIVE:
            self._finish(bytes((self._st3(number, drive),)), interrupt=False)
        elif command == CMD_READ_ID:
            self._read_id(drive)
        elif command == CMD_VERSION:
            self._finish(bytes((VERSION_82077,)), interrupt=False)
        elif command == CMD_PERPENDICULAR:
            self.perpendicular = self.command[1]
            self._finish(b"", interrupt=False)
        elif command == CMD_CONFIGURE:
            self.configure[:] = self.command[1:4]
            self._finish(b"", interrupt=False)
        elif command == CMD_LOCK:
            self.lock = bool(self.command[0] & 0x80)
            self._finish(bytes((0x10 if self.lock else 0,)), interrupt=False)
        else:  # DUMPREG
            cylinders = bytes((self.drives[0].cylinder, self.drives[1].cylinder, 0, 0))
            tail = bytes((self.record, (0x80 if self.lock else 0) | self.perpendicular & 0x3F))
            self._finish(cylinders + bytes(self.specify) + tail + bytes(self.configure[1:3]), interrupt=False)

    def _sense_interrupt(self) -> None:
        if self.reset_senses:
            number = 4 - self.reset_senses
            self.reset_senses -= 1
            answer = bytes((ST0_READY_CHANGED | number, self.drives[number].cylinder if number < 2 else 0))
        elif self.st0_valid:
            number = self.pending_st0 & 3
            answer = bytes((self.pending_st0, self.drives[number].cylinder if number < 2 else 0))
            self.st0_valid = False
        else:
            answer = bytes((ST0_INVALID,))
        self.interrupt = False
        self._finish(answer, interrupt=False)

    def _st3(self, number: int, drive: Drive | None) -> int:
        st3 = number | self.command[1] & 4 | ST3_TWO_SIDES
        if drive is not None:
            st3 |= ST3_READY | (ST3_TRACK0 if drive.cylinder == 0 else 0)
            if drive.image is not None and drive.image.read_only:
                st3 |= ST3_WRITE_PROTECTED
        return st3

    def _read_id(self, drive: Drive | None) -> None:
        self.head = self.command[1] >> 2 & 1
        if drive is None or drive.image is None or self.head >= drive.geometry.heads:
            self._fail(ST1_NO_ADDRESS_MARK)
            return
        self.cylinder, self.record = drive.cylinder, 1
        self._end(self._unit())

    def _unit(self) -> int:
        return self.command[1] & 3 | self.head << 2

    # -- transfers --------------------------------------------------------------------------------

    def _begin_transfer(self, command: int) -> None:
        self.cylinder, self.head, self.record = self.command[2], self.command[3] & 1, self.command[4]
        if command == CMD_READ_TRACK:
            self.record = 1
        if command == CMD_WRITE:
            self.position, self.length = 0, SECTOR
            if self._sector_address(writing=True) is None:
                return
            self.phase = PHASE_FROM_HOST
        else:
            if not self._load_sector():
                return
            self.phase = PHASE_TO_HOST
        self._drive_pins()

    def _begin_format(self) -> None:
        drive = self._target()
        self.head = self.command[1] >> 2 & 1
        self.to_format = self.command[3]
        self.record = 0
        if drive is None or drive.image is None:
            self._fail(ST1_NO_ADDRESS_MARK)
        elif drive.image.read_only:
            self._fail(ST1_WRITE_PROTECTED)
        elif self.to_format == 0:
            self._end(self._unit())
        else:
            self.cylinder = drive.cylinder
            self.position, self.length = 0, ADDRESS_FIELD
            self.phase = PHASE_FROM_HOST
            self._drive_pins()

    def _sector_address(self, writing: bool) -> int | None:
        """Byte offset of the current sector in the image; None after the command was failed."""
        drive = self._target()
        if drive is None or drive.image is None:
            self._fail(ST1_NO_ADDRESS_MARK)
            return None
        g = drive.geometry
        found = (
            self.cylinder == drive.cylinder < g.cylinders
            and self.head < g.heads
            and 1 <= self.record <= g.sectors
            and self.command[5] == SECTOR_CODE
        )
        address = ((self.cylinder * g.heads + self.head) * g.sectors + self.record - 1) * SECTOR
        if not found or address + SECTOR > drive.image.size:
            self._fail(ST1_NO_DATA)
            return None
        if writing and drive.image.read_only:
            self._fail(ST1_WRITE_PROTECTED)
            return None
        return address

    def _store(self, address: int, data: bytes) -> bool:
        """Writes to the image of the command's drive; false after the command was failed."""
        image = self._image()
        try:
            image.write(address, data)
        except OSError as error:
            self._fail_data("writing", address, error)
            return False
        return True

    def _image(self) -> BlockBackend:
        drive = self._target()
        assert drive is not None and drive.image is not None  # the caller has asked
        return drive.image

    def _load_sector(self) -> bool:
        address = self._sector_address(writing=False)
        if address is None:
            return False
        try:
            self.sector[:] = self._image().read(address, SECTOR)
        except OSError as error:
            self._fail_data("reading", address, error)
            return False
        self.position, self.length = 0, SECTOR
        return True

    def _advance(self) -> bool:
        """On to the next sector; false when the command has reached its last one and ended."""
        if self.record != self.command[6]:
            self.record = self.record + 1 & 0xFF
            return True
        multi = self.command[0] & CMD_MULTI_TRACK and self.command[0] & CMD_MASK != CMD_READ_TRACK
        self.record = 1
        if multi and self.head == 0:
            self.head = 1
            return True
        self.cylinder = self.cylinder + 1 & 0xFF
        if multi:
            self.head = 0
        # Without terminal count the end of the track is an error (data sheet: EN).
        self._end(ST0_ABNORMAL | self._unit(), st1=ST1_END)
        return False

    def dma_read(self, length: int) -> bytes:
        out = bytearray()
        while length > 0 and self.phase == PHASE_TO_HOST:
            part = self.sector[self.position : min(self.position + length, self.length)]
            out += part
            length -= len(part)
            self.position += len(part)
            if self.position == self.length and (length > 0 or self.specify[1] & 1) and self._advance():
                self._load_sector()
        return bytes(out)

    def dma_write(self, data: bytes) -> int:
        taken = 0
        while taken < len(data) and self.phase == PHASE_FROM_HOST:
            if self.position == self.length and not self._next_written():
                break
            room = self.length - self.position
            part = data[taken : taken + room]
            self.sector[self.position : self.position + len(part)] = part
            self.position += len(part)
            taken += len(part)
            if self.position == self.length:
                self._take_sector()
        return taken

    def dma_verify(self, length: int) -> int:
        return len(self.dma_read(length)) if self.phase == PHASE_TO_HOST else 0

    def _take_sector(self) -> None:
        if self.command[0] & CMD_MASK == CMD_FORMAT:
            self._format_sector()
            return
        address = self._sector_address(writing=True)
        if address is None or not self._store(address, bytes(self.sector)):
            return
        # With DMA the terminal count may follow this byte, so the next sector begins with the next byte.
        if self.specify[1] & 1:
            self._next_written()

    def _next_written(self) -> bool:
        """Makes room for the next sector; false when the command ended instead."""
        if not self._advance() or self._sector_address(writing=True) is None:
            return False
        self.position = 0
        return True

    def _format_sector(self) -> None:
        cylinder, head, record, code = self.sector[:ADDRESS_FIELD]
        drive = self._target()
        if drive is None or drive.image is None:
            self._fail(ST1_NO_ADDRESS_MARK)
            return
        g = drive.geometry
        if cylinder == drive.cylinder < g.cylinders and head == self.head < g.heads and 1 <= record <= g.sectors:
            address = ((cylinder * g.heads + head) * g.sectors + record - 1) * SECTOR
            fits = code == SECTOR_CODE and address + SECTOR <= drive.image.size
            if fits and not self._store(address, bytes((self.command[5],)) * SECTOR):
                return
        self.position = 0
        self.record = record
        self.to_format -= 1
        if self.to_format == 0:
            self._end(self._unit())

    def dma_terminal_count(self) -> None:
        if self.phase not in (PHASE_TO_HOST, PHASE_FROM_HOST):
            return
        if self.command[0] & CMD_MASK != CMD_FORMAT:
            if self.phase == PHASE_FROM_HOST and 0 < self.position < self.length:
                # A sector cut short is filled up with zeros (data sheet, terminal count).
                self.sector[self.position :] = bytes(self.length - self.position)
                self.position = self.length
                self._take_sector()
            if self.position:
                # Also when the rest of a sector was not wanted: it is read to its end all the same.
                self._next_address()
        if self.phase != PHASE_RESULT:
            self._end(self._unit())

    def _next_address(self) -> None:
        """C, H and R of the sector after the last one, as the result phase reports them."""
        if self.record != self.command[6]:
            self.record = self.record + 1 & 0xFF
        else:
            self.record = 1
            if self.command[0] & CMD_MULTI_TRACK and self.head == 0:
                self.head = 1
            else:
                self.cylinder = self.cylinder + 1 & 0xFF
                self.head = 0 if self.command[0] & CMD_MULTI_TRACK else self.head

    # -- results ----------------------------------------------------------------------------------

    def _fail(self, st1: int) -> None:
        self._end(ST0_ABNORMAL | self._unit(), st1=st1)

    def _fail_data(self, doing: str, address: int, error: OSError) -> None:
        """The host could not access the image: for the guest, a sector whose data are damaged."""
        self.warn_once(f"{doing} {error}", "%s the sector at %#x: %s", doing, address, error)
        self._end(ST0_ABNORMAL | self._unit(), st1=ST1_DATA_ERROR, st2=ST2_DATA_ERROR)

    def _end(self, st0: int, st1: int = 0, st2: int = 0) -> None:
        """The result phase of commands that move or look for sectors."""
        code = self.command[5] if self.command_length > 5 else SECTOR_CODE
        self._finish(bytes((st0, st1, st2, self.cylinder, self.head, self.record, code)), interrupt=True)

    def _finish(self, result: bytes, interrupt: bool) -> None:
        self.result[: len(result)] = result
        self.result_length, self.result_position = len(result), 0
        self.phase = PHASE_RESULT if result else PHASE_COMMAND
        if not result:
            self.command_length = 0
        self.position = self.length = 0
        if interrupt:
            self.interrupt = True
        self._drive_pins()

    def _drive_pins(self) -> None:
        """Interrupt and DMA request follow from the state; both are gated by DOR bit 3."""
        gate = self.dor & DOR_DMA
        moving = self.phase in (PHASE_TO_HOST, PHASE_FROM_HOST)
        byte_wanted = moving and self.specify[1] & 1
        self.irq_out.set_level(1 if gate and (self.interrupt or byte_wanted) else 0)
        if self.dma_request is not None:
            self.dma_request.set_level(1 if gate and moving and not self.specify[1] & 1 else 0)

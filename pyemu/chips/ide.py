# SPDX-License-Identifier: MIT
"""An ATA channel with up to two disks: registers, commands, PIO transfers.

The data port and the status registers are compiled (:mod:`pyemu.chips._ide`); this is everything else.

**What an empty channel answers.** On real boards the host pulls DD7 down and lets the other data lines float, so all
registers of a channel without disks read 7F: the busy bit is 0, and writing a register and reading it back fails at
once. A BIOS that saw FF would think the drive busy, and one that saw 00 would wait many seconds for a ready bit.
With only device 0 there, it answers for device 1: status 00, the other registers are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..device import ISAFunction, Property, VMState, vmstate
from ..errors import MigrationError
from ..memory import PortioEntry
from ._ata import (
    ABORTED,
    ACTIVE,
    DEVICE_HEAD,
    DEVICE_LBA,
    DEVICE_SELECT,
    ID_NOT_FOUND,
    SECTOR,
    STANDBY,
    STATUS_DRDY,
    STATUS_DRQ,
    STATUS_DSC,
    STATUS_ERR,
    UNCORRECTABLE,
    ATADisk,
)
from ._ide import BUFFER_SIZE, PHASE_IDLE, PHASE_IN, PHASE_OUT, IDECore

if TYPE_CHECKING:
    from ..device import BlockBackend
    from ..memory import PortioList

REG_ERROR_FEATURES, REG_COUNT, REG_LOW, REG_MID, REG_HIGH, REG_DEVICE, REG_COMMAND = range(1, 8)
REG_CONTROL = 8  # the device control port, as the compiled half hands it over

CONTROL_SRST = 0x04

#: The control port lies this far above the command ports: 3F6 for 1F0, 376 for 170.
CONTROL_DISTANCE = 0x206
EMPTY_BUS = 0x7F
READY = STATUS_DRDY | STATUS_DSC
DIAGNOSTIC_PASSED = 0x01


class IDEChannel(IDECore, ISAFunction):
    """A channel at *iobase* (eight ports, wide data port) and its control port.

    Moving the base moves the control port with it, unless ``control-base`` fixes that.
    """

    type_name = "isa-ide"
    properties = (
        Property("iobase", "int", 0x1F0, "first of the eight command ports", 0, 0xFDF0),
        Property("control-base", "int", None, "control port; by default 206 (hex) above iobase", 0, 0xFFFF),
        Property("irq", "int", 14, "interrupt line", 0, 15),
        Property("drive0", "drive", None, "disk that is device 0 (master)"),
        Property("drive1", "drive", None, "disk that is device 1 (slave)"),
    )
    vmstate = VMState(
        "isa-ide",
        fields=(
            vmstate.uint8("phase", limit=PHASE_OUT),
            vmstate.uint32("position", limit=BUFFER_SIZE),
            vmstate.uint32("limit", limit=BUFFER_SIZE),
            vmstate.uint8("device"),
            vmstate.uint8("control"),
            vmstate.uint8("interrupt", limit=1),
            vmstate.uint8("command"),
            vmstate.uint8("features"),
            vmstate.uint8("error"),
            vmstate.uint8("count"),
            vmstate.uint8("low"),
            vmstate.uint8("mid"),
            vmstate.uint8("high"),
            vmstate.uint64("sector"),
            vmstate.uint32("remaining", limit=256),
            vmstate.buffer("statuses", 2),
            vmstate.buffer("buffer", BUFFER_SIZE),
            vmstate.nested("disks", ATADisk.vmstate, count=2),
        ),
    )
    volatile = frozenset({"control_base", "pio_control", "drive0", "drive1"})

    control_base: int | None
    drive0: BlockBackend | None
    drive1: BlockBackend | None

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.pio_control: PortioList | None = None
        drives = (self.drive0, self.drive1)
        self.disks = [ATADisk(drive, n) for n, drive in enumerate(drives)]
        present = sum(1 << n for n, drive in enumerate(drives) if drive is not None)
        self.bind(self.irq_out, present)
        self.command = self.features = self.error = 0
        self.count = self.low = self.mid = self.high = 0
        self.sector = 0
        self.remaining = 0
        self.reset()

    # -- placement --------------------------------------------------------------------------------

    def table(self) -> Sequence[PortioEntry]:
        handler = self.command_handler()
        return [
            PortioEntry(0, 8, 1, handler=handler),
            PortioEntry(0, 1, 2, handler=handler),
            PortioEntry(0, 1, 4, handler=handler),
        ]

    def realize(self) -> None:
        super().realize()
        entry = PortioEntry(0, 1, 1, handler=self.control_handler())
        self.pio_control = self.add_ports([entry], self._control_address(), f"{self.id}-control", enabled=self.enabled)

    def unrealize(self) -> None:
        self.pio_control = None
        super().unrealize()

    def _control_address(self) -> int:
        return self.control_base if self.control_base is not None else self.iobase + CONTROL_DISTANCE

    def set_base(self, base: int) -> None:
        if self.pio_control is None:
            super().set_base(base)
            return
        with self.bus.ports.transaction():
            super().set_base(base)
            self.pio_control.set_address(self._control_address())

    def set_enabled(self, enabled: bool) -> None:
        super().set_enabled(enabled)
        if self.pio_control is not None:
            self.pio_control.set_enabled(self.enabled)

    # -- life -------------------------------------------------------------------------------------

    def reset(self) -> None:
        self.control = 0
        self.buffer[:] = bytes(BUFFER_SIZE)
        for disk in self.disks:
            disk.reset()
        self._reset_devices()

    def _reset_devices(self) -> None:
        """What both devices do on a hardware or software reset: stop, and show their signature."""
        self._stop()
        self.command = self.features = 0
        self.interrupt = 0
        self.update_pin()
        self._signature()

    def _stop(self) -> None:
        self.phase = PHASE_IDLE
        self.position = self.limit = self.remaining = self.sector = 0

    def _signature(self) -> None:
        """The registers of a disk after a reset or EXECUTE DEVICE DIAGNOSTIC."""
        self.error = DIAGNOSTIC_PASSED
        self.count = self.low = 1
        self.mid = self.high = self.device = 0
        for n, disk in enumerate(self.disks):
            self.statuses[n] = READY if disk.drive is not None else 0

    def post_load(self, version: int) -> None:
        """Checks what cannot be checked field by field, and drives the pin.

        Raises:
            MigrationError: the transfer under way is impossible with the disks attached.
        """
        if self.phase != PHASE_IDLE:
            self._check_transfer()
        elif self.position > self.limit:
            raise MigrationError(f"{self.id}: position {self.position} does not fit a block of {self.limit} bytes")
        self.update_pin()

    def _check_transfer(self) -> None:
        if self.disk.drive is None:
            raise MigrationError(f"{self.id}: a transfer is under way on device {self.selected}, which is not there")
        sectors, rest = divmod(self.limit, SECTOR)
        if not sectors or rest or self.position >= self.limit or self.position % 2:
            raise MigrationError(f"{self.id}: position {self.position} does not fit a block of {self.limit} bytes")
        if self.phase == PHASE_OUT and self.command != WRITE_BUFFER and sectors > self.remaining:
            raise MigrationError(f"{self.id}: a block of {sectors} sectors when {self.remaining} are to be written")
        if self.command in (READ_MULTIPLE, WRITE_MULTIPLE) and not self.disk.multiple:
            raise MigrationError(f"{self.id}: command {self.command:#04x} is under way with no sectors to a block")

    def failed(self, verb: str, offset: int, error: BaseException) -> None:
        """The compiled half met an exception in this one: it is the fault of the access, and stops the machine."""
        self.bus.ports.blame(self, verb, offset, 1 if offset else 2, error)

    # -- registers --------------------------------------------------------------------------------

    @property
    def selected(self) -> int:
        """0 or 1: the device that the device register selects."""
        return 1 if self.device & DEVICE_SELECT else 0

    @property
    def disk(self) -> ATADisk:
        return self.disks[self.selected]

    def read_register(self, offset: int) -> int:
        """Registers 1 to 6; the compiled half has the others."""
        if not self.present or (not self.selected and not self.present & 1):
            return EMPTY_BUS
        return (self.error, self.count, self.low, self.mid, self.high, self.device)[offset - REG_ERROR_FEATURES]

    def write_register(self, offset: int, value: int) -> None:
        """Registers 1 to 8. Both devices latch all of them, whichever is selected."""
        if not self.present:
            return
        if offset == REG_CONTROL:
            self._write_control(value)
        elif self.control & CONTROL_SRST:
            return
        elif offset == REG_ERROR_FEATURES:
            self.features = value
        elif offset == REG_COUNT:
            self.count = value
        elif offset == REG_LOW:
            self.low = value
        elif offset == REG_MID:
            self.mid = value
        elif offset == REG_HIGH:
            self.high = value
        elif offset == REG_DEVICE:
            if (value ^ self.device) & DEVICE_SELECT and self.phase != PHASE_IDLE:
                # Not allowed to hosts (ATA-4); the device that loses the bus gives its transfer up.
                self.statuses[self.selected] = READY
                self._stop()
            self.device = value
        elif offset == REG_COMMAND:
            self._execute(value)

    def _write_control(self, value: int) -> None:
        rising = value & ~self.control & CONTROL_SRST
        falling = self.control & ~value & CONTROL_SRST
        self.control = value
        if rising:
            self._stop()
            self.interrupt = 0
        if falling:
            for disk in self.disks:
                disk.revert()
            self._reset_devices()
        self.update_pin()

    # -- commands ---------------------------------------------------------------------------------

    def _execute(self, command: int) -> None:
        if command == EXECUTE_DIAGNOSTIC:
            # The one command that both devices carry out, also when the selected one is not there.
            self._stop()
            self._signature()
            self._interrupt()
            return
        if self.disk.drive is None:
            return
        self._stop()
        self.interrupt = 0
        self.update_pin()
        self.command = command
        self.error = 0
        self.statuses[self.selected] = READY
        method = COMMANDS.get(command)
        if method is None:
            self._fail(ABORTED)
        else:
            if command not in POWER_COMMANDS:
                self.disk.power = ACTIVE
            method(self)

    def _interrupt(self) -> None:
        self.interrupt = 1
        self.update_pin()

    def _succeed(self) -> None:
        self.phase = PHASE_IDLE
        self.statuses[self.selected] = READY
        self._interrupt()

    def _fail(self, error: int) -> None:
        self.phase = PHASE_IDLE
        self.remaining = 0
        self.error = error
        self.statuses[self.selected] = READY | STATUS_ERR
        self._interrupt()

    def _check(self, good: bool) -> None:
        if good:
            self._succeed()
        else:
            self._fail(ABORTED)

    def _open_block(self, phase: int, length: int) -> None:
        """Offers the first *length* bytes of the buffer at the data port."""
        self.phase, self.position, self.limit = phase, 0, length
        self.statuses[self.selected] = READY | STATUS_DRQ

    def block_done(self) -> None:
        """The host has moved the last byte of a block; called by the compiled half."""
        self.statuses[self.selected] = READY
        phase, self.phase = self.phase, PHASE_IDLE
        if self.command == WRITE_BUFFER:
            self._succeed()
        elif phase == PHASE_OUT:
            self._store_block()
        elif self.remaining:
            self._load_block()

    def _identify(self) -> None:
        self.buffer[:SECTOR] = self.disk.identify()
        self._open_block(PHASE_IN, SECTOR)
        self._interrupt()

    def _read_buffer(self) -> None:
        self._open_block(PHASE_IN, SECTOR)
        self._interrupt()

    def _write_buffer(self) -> None:
        self._open_block(PHASE_OUT, SECTOR)

    def _start(self) -> bool:
        """Takes address and count from the registers; reports what is wrong with them."""
        if self.command in (READ_MULTIPLE, WRITE_MULTIPLE) and not self.disk.multiple:
            self._fail(ABORTED)
            return False
        sector = self.disk.locate(self.device, self.low, self.mid, self.high)
        if sector is None or sector >= self.disk.total:
            self._fail(ID_NOT_FOUND)
            return False
        self.sector, self.remaining = sector, self.count or 256
        return True

    def _block_sectors(self) -> int:
        most = self.disk.multiple if self.command in (READ_MULTIPLE, WRITE_MULTIPLE) else 1
        return min(self.remaining, most)

    def _read_sectors(self) -> None:
        if self._start():
            self._load_block()

    def _load_block(self) -> None:
        count = self._block_sectors()
        if self.sector + count > self.disk.total:
            self._fail_at(ID_NOT_FOUND)
            return
        drive = self.disk.drive
        assert drive is not None  # _execute() saw to it
        try:
            self.buffer[: count * SECTOR] = drive.read(self.sector * SECTOR, count * SECTOR)
        except OSError as error:
            self.warn_once(f"read {error}", "reading sector %d: %s", self.sector, error)
            self._fail_at(UNCORRECTABLE)
            return
        self._open_block(PHASE_IN, count * SECTOR)
        self._move_on(count)
        self._interrupt()

    def _write_sectors(self) -> None:
        drive = self.disk.drive
        assert drive is not None
        if drive.read_only:
            self._fail(ABORTED)
        elif self._start():
            # The first block is asked for without an interrupt.
            self._open_block(PHASE_OUT, self._block_sectors() * SECTOR)

    def _store_block(self) -> None:
        count = self.limit // SECTOR
        if self.sector + count > self.disk.total:
            self._fail_at(ID_NOT_FOUND)
            return
        drive = self.disk.drive
        assert drive is not None
        try:
            drive.write(self.sector * SECTOR, bytes(self.buffer[: self.limit]))
            if not self.disk.write_cache:
                drive.flush()
        except OSError as error:
            self.warn_once(f"write {error}", "writing sector %d: %s", self.sector, error)
            self._fail_at(ABORTED)
            return
        self._move_on(count)
        if self.remaining:
            self._open_block(PHASE_OUT, self._block_sectors() * SECTOR)
        self._interrupt()

    def _move_on(self, count: int) -> None:
        """Counts *count* sectors as done; the registers show the last one."""
        self.sector += count
        self.remaining -= count
        self.count = self.remaining & 0xFF
        self._show(self.sector - 1)

    def _fail_at(self, error: int) -> None:
        """An error at the present sector, which the registers then show."""
        self._show(self.sector)
        self._fail(error)

    def _show(self, sector: int) -> None:
        self.device, self.low, self.mid, self.high = self.disk.address(self.device, sector)

    def _verify(self) -> None:
        if not self._start():
            return
        last = self.sector + self.remaining
        self.remaining = self.count = 0
        if last > self.disk.total:
            self.sector = self.disk.total
            self._fail_at(ID_NOT_FOUND)
        else:
            self._show(last - 1)
            self._succeed()

    def _seek(self) -> None:
        sector = self.disk.locate(self.device, self.low, self.mid, self.high)
        if sector is None or sector >= self.disk.total:
            self._fail(ID_NOT_FOUND)
        else:
            self._succeed()

    def _recalibrate(self) -> None:
        if not self.device & DEVICE_LBA:
            self.mid = self.high = 0
        self._succeed()

    def _initialize_parameters(self) -> None:
        self._check(self.disk.set_translation((self.device & DEVICE_HEAD) + 1, self.count))

    def _set_multiple(self) -> None:
        self._check(self.disk.set_multiple(self.count))

    def _set_features(self) -> None:
        self._check(self.disk.set_feature(self.features, self.count))

    def _flush(self) -> None:
        drive = self.disk.drive
        assert drive is not None
        try:
            drive.flush()
        except OSError as error:
            self.warn_once(f"flush {error}", "flushing: %s", error)
            self._fail(ABORTED)
            return
        self._succeed()

    def _read_native_max(self) -> None:
        self._show(max(self.disk.total - 1, 0))
        self._succeed()

    def _set_power(self) -> None:
        """STANDBY and IDLE, with or without a timer that we do not have: the odd ones are IDLE."""
        self.disk.power = ACTIVE if self.command & 1 else STANDBY
        self._succeed()

    def _check_power(self) -> None:
        self.count = self.disk.power
        self._succeed()


EXECUTE_DIAGNOSTIC = 0x90
READ_MULTIPLE, WRITE_MULTIPLE = 0xC4, 0xC5
READ_BUFFER, WRITE_BUFFER = 0xE4, 0xE8
#: Commands that say themselves what becomes of the power mode; any other wakes the disk.
POWER_COMMANDS = frozenset({0x94, 0x95, 0x96, 0x97, 0x98, 0xE0, 0xE1, 0xE2, 0xE3, 0xE5})


#: What each command byte does; a disk aborts the others.
COMMANDS: dict[int, Callable[[IDEChannel], None]] = {
    code: method
    for codes, method in (
        (range(0x10, 0x20), IDEChannel._recalibrate),
        ((0x20, 0x21, READ_MULTIPLE), IDEChannel._read_sectors),
        ((0x30, 0x31, WRITE_MULTIPLE), IDEChannel._write_sectors),
        ((0x40, 0x41), IDEChannel._verify),
        (range(0x70, 0x80), IDEChannel._seek),
        ((0x91,), IDEChannel._initialize_parameters),
        ((0x94, 0x95, 0x96, 0x97, 0xE0, 0xE1, 0xE2, 0xE3), IDEChannel._set_power),
        ((0x98, 0xE5), IDEChannel._check_power),
        ((0xC6,), IDEChannel._set_multiple),
        ((READ_BUFFER,), IDEChannel._read_buffer),
        ((0xE7,), IDEChannel._flush),
        ((WRITE_BUFFER,), IDEChannel._write_buffer),
        ((0xEC,), IDEChannel._identify),
        ((0xEF,), IDEChannel._set_features),
        ((0xF8,), IDEChannel._read_native_max),
    )
    for code in codes
}

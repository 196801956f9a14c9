# SPDX-License-Identifier: MIT
"""An IDE channel with up to two disks or CD-ROM drives: place, life, registers.

The data port and the status registers are compiled (:mod:`pyemu.chips._ide`); commands are in :mod:`pyemu.chips._ide_commands`
and :mod:`pyemu.chips._packet`.

**What an empty channel answers.** On real boards the host pulls DD7 down and lets the other data lines float, so all
registers of a channel without disks read 7F: the busy bit is 0, and writing a register and reading it back fails at
once. A BIOS that saw FF would think the drive busy, and one that saw 00 would wait many seconds for a ready bit.
With only device 0 there, it answers for device 1: status 00, the other registers are what was written last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..device import Clock, ISAFunction, Property, VMState, vmstate
from ..errors import ConfigError, MigrationError
from ..memory import PortioEntry
from . import _registers
from ._ata import DEVICE_SELECT, READY, SECTOR, ATADisk, TaskFile
from ._atapi import CDROM, EVENT_EJECT_REQUEST, SIGNATURE
from ._atapi import PACKET as PACKET_LENGTH
from ._ide import BUFFER_SIZE, PHASE_IDLE, PHASE_IN, PHASE_OUT
from ._ide_commands import IDENTIFY_PACKET, MULTIPLE, PACKET, WRITE_BUFFER, Commands
from ._ide_transfer import DMA_STEP, PHASE_DMA_IN, PHASE_DMA_OUT, DMAMaster

if TYPE_CHECKING:
    from ..device import BlockBackend
    from ..memory import PortioList

REG_ERROR_FEATURES, REG_COUNT, REG_LOW, REG_MID, REG_HIGH, REG_DEVICE, REG_COMMAND = range(1, 8)
REG_CONTROL = 8  # the device control port, as the compiled half hands it over

CONTROL_SRST, CONTROL_HOB = 0x04, 0x80

#: The control port lies this far above the command ports: 3F6 for 1F0, 376 for 170.
CONTROL_DISTANCE = 0x206
EMPTY_BUS = 0x7F
DIAGNOSTIC_PASSED = 0x01
#: The most sectors that one command moves.
MAX_TRANSFER = 0x10000


class IDEChannel(Commands, ISAFunction):
    """A channel at *iobase* (eight ports, wide data port) and its control port.

    Moving the base moves the control port with it, unless ``control-base`` fixes that. A controller with a bus master hands
    it over with :meth:`connect_master`; without one the devices offer no DMA.
    """

    type_name = "isa-ide"
    properties = (
        Property("iobase", "int", 0x1F0, "first of the eight command ports", 0, 0xFDF0),
        Property("control-base", "int", None, "control port; by default 206 (hex) above iobase", 0, 0xFFFF),
        Property("irq", "int", 14, "interrupt line", 0, 15),
        Property("drive0", "drive", None, "disk or CD-ROM that is device 0 (master)"),
        Property("drive1", "drive", None, "disk or CD-ROM that is device 1 (slave)"),
    )
    vmstate = VMState(
        "isa-ide",
        fields=(
            vmstate.uint8("phase", limit=PHASE_DMA_OUT),
            vmstate.uint32("position", limit=BUFFER_SIZE),
            vmstate.uint32("limit", limit=BUFFER_SIZE),
            vmstate.uint8("device"),
            vmstate.uint8("control"),
            vmstate.uint8("interrupt", limit=1),
            vmstate.uint8("command"),
            vmstate.uint8("features"),
            vmstate.uint64("sector"),
            vmstate.uint32("remaining"),
            vmstate.uint32("reply_end", limit=BUFFER_SIZE),
            vmstate.uint16("byte_limit"),
            vmstate.buffer("statuses", 2),
            vmstate.buffer("buffer", BUFFER_SIZE),
            vmstate.nested("files", TaskFile.vmstate, count=2),
            vmstate.nested("disks", ATADisk.vmstate, count=2),
            vmstate.nested("cdroms", CDROM.vmstate, count=2),
            vmstate.timer("dma_timer"),
        ),
    )
    register_tables = (_registers.IDE,)
    volatile = frozenset({"control_base", "pio_control", "drive0", "drive1", "bus_master", "stage"})

    control_base: int | None
    drive0: BlockBackend | None
    drive1: BlockBackend | None

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.pio_control: PortioList | None = None
        self.bus_master: DMAMaster | None = None
        self.stage = bytearray(DMA_STEP)
        drives = (self.drive0, self.drive1)
        self.disks = []
        self.cdroms = []
        for n, drive in enumerate(drives):
            packet = drive is not None and drive.media == "cdrom"
            self.disks.append(ATADisk(None if packet else drive, n))
            self.cdroms.append(CDROM(drive if packet else None, n, packet))
        self.files = [TaskFile(), TaskFile()]
        self.bind(self.irq_out, sum(1 << n for n, drive in enumerate(drives) if drive is not None), *self.files)
        self.dma_timer = Clock("step").timer(self.dma_run, "ide-dma")
        self.command = self.features = 0
        self.sector = 0
        self.remaining = self.reply_end = self.byte_limit = 0
        self.reset()

    def connect_master(self, master: DMAMaster) -> None:
        """Makes *master* carry DMA; before the channel is plugged in."""
        self.bus_master = master
        for disk, cdrom in zip(self.disks, self.cdroms, strict=True):
            disk.dma = cdrom.dma = True

    def media(self) -> list[BlockBackend]:
        drives = (self.drive0, self.drive1)
        return [drive for drive, cdrom in zip(drives, self.cdroms, strict=True) if drive is not None and cdrom.present]

    def replace_medium(self, present: BlockBackend, medium: BlockBackend | None, force: bool = False) -> None:
        """Puts another medium into the CD-ROM drive with *present*, or opens its tray for None; the guest hears of it.

        Raises:
            ConfigError: there is no such drive, or the guest has locked it and *force* is off.
        """
        n = next((n for n in range(2) if self.cdroms[n].present and (self.drive0, self.drive1)[n] is present), None)
        if n is None:
            raise ConfigError(f"{self.id}: {present.path} is in no CD-ROM drive")
        drive = self.cdroms[n]
        if drive.locked and not force:
            drive.event = EVENT_EJECT_REQUEST
            raise ConfigError(f"{self.id}: the guest has locked CD-ROM drive {n}; it has been asked to let go")
        drive.change(medium)
        if medium is not None:
            setattr(self, f"drive{n}", medium)

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
        self.dma_timer.cancel()
        self.dma_timer = self.bus.clock.timer(self.dma_run, "ide-dma")
        entry = PortioEntry(0, 1, 1, handler=self.control_handler())
        self.pio_control = self.add_ports([entry], self._control_address(), f"{self.id}-control", enabled=self.enabled)

    def unrealize(self) -> None:
        self.dma_timer.cancel()
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
        for disk, cdrom in zip(self.disks, self.cdroms, strict=True):
            disk.reset()
            cdrom.reset()
        self._reset_devices()

    def _reset_devices(self) -> None:
        """What both devices do on a hardware or software reset: stop, and show their signature."""
        self._stop()
        self.command = self.features = 0
        self.reply_end = self.byte_limit = 0
        self.interrupt = 0
        self.update_pin()
        self.diagnose()

    def diagnose(self) -> None:
        self.device = 0
        for n in range(2):
            self.device_reset(n)

    def device_reset(self, n: int) -> None:
        """The registers of a device after a reset: what it is."""
        packet = self.cdroms[n].present
        mid, high = SIGNATURE if packet else (0, 0)
        self.files[n].error = DIAGNOSTIC_PASSED
        self.files[n].show(1, 1, mid, high)
        # A packet device is not ready until it has been told something.
        self.statuses[n] = READY if self.disks[n].drive is not None else 0

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
        if not self.present >> self.selected & 1:
            raise MigrationError(f"{self.id}: a transfer is under way on device {self.selected}, which is not there")
        identifies = self.command == IDENTIFY_PACKET and self.phase == PHASE_IN and not self.remaining
        if self.cdrom.present != (self.command == PACKET or identifies):
            raise MigrationError(f"{self.id}: command {self.command:#04x} does not fit device {self.selected}")
        if self.phase in (PHASE_DMA_IN, PHASE_DMA_OUT):
            self._check_dma()
            return
        at = f"position {self.position} does not fit a block of {self.limit} bytes"
        if self.position >= self.limit or self.position % 2:
            raise MigrationError(f"{self.id}: {at}")
        if self.command == PACKET:
            end = PACKET_LENGTH if self.phase == PHASE_OUT else self.reply_end + (self.reply_end & 1)
            if self.limit > end or self.sector + self.remaining > max(self.cdrom.blocks, self.sector):
                raise MigrationError(f"{self.id}: {at}, the answer has {end}")
            return
        sectors, rest = divmod(self.limit, SECTOR)
        if not sectors or rest:
            raise MigrationError(f"{self.id}: {at}")
        if self.phase == PHASE_OUT and self.command != WRITE_BUFFER and sectors > self.remaining:
            raise MigrationError(f"{self.id}: a block of {sectors} sectors when {self.remaining} are to be written")
        if self.command in MULTIPLE and not self.disk.multiple:
            raise MigrationError(f"{self.id}: command {self.command:#04x} is under way with no sectors to a block")

    def _check_dma(self) -> None:
        if self.bus_master is None or (self.phase == PHASE_DMA_OUT and (self.cdrom.present or self.disk.drive is None)):
            raise MigrationError(f"{self.id}: DMA is under way on device {self.selected}, which has none in this direction")
        if self.phase == PHASE_DMA_OUT and self.disk.drive is not None and self.disk.drive.read_only:
            raise MigrationError(f"{self.id}: device {self.selected} is being written, and cannot be")
        total = self.cdrom.blocks if self.cdrom.present else self.disk.total
        if self.reply_end and self.cdrom.present:
            good = self.position < self.reply_end
        else:
            most = total - self.sector if self.cdrom.present else MAX_TRANSFER
            good = 0 < self.remaining <= most and self.sector <= total
        if not good:
            raise MigrationError(f"{self.id}: DMA of {self.remaining} sectors from {self.sector} of {total} is under way")

    def failed(self, verb: str, offset: int, error: BaseException) -> None:
        """The compiled half met an exception in this one: it is the fault of the access, and stops the machine."""
        self.bus.ports.blame(self, verb, offset, 1 if offset else 2, error)

    # -- registers --------------------------------------------------------------------------------

    @property
    def selected(self) -> int:
        """0 or 1: the device that the device register selects."""
        return 1 if self.device & DEVICE_SELECT else 0

    def pin_level(self) -> int:
        return self.irq_out.level

    def read_register(self, offset: int) -> int:
        """Registers 1 to 6; the compiled half has the others."""
        if not self.present or (not self.selected and not self.present & 1):
            return EMPTY_BUS
        file = self.files[self.selected]
        if offset == REG_ERROR_FEATURES:
            return file.error
        if offset == REG_DEVICE:
            return self.device
        name = TaskFile.NAMES[offset - REG_COUNT]
        value: int = getattr(file, f"previous_{name}" if self.control & CONTROL_HOB else name)
        return value

    def write_register(self, offset: int, value: int) -> None:
        """Registers 1 and 6 to 8; the compiled half has the others. Both devices latch them, whichever is selected."""
        if not self.present:
            return
        if offset == REG_CONTROL:
            self._write_control(value)
            return
        if self.control & CONTROL_SRST:
            return
        self.control &= ~CONTROL_HOB  # any write to the other registers ends the look at the previous values
        if offset == REG_ERROR_FEATURES:
            self.features = value
        elif offset == REG_DEVICE:
            if (value ^ self.device) & DEVICE_SELECT and self.phase != PHASE_IDLE:
                # Not allowed to hosts (ATA-4); the device that loses the bus gives its transfer up.
                self.statuses[self.selected] = READY
                self._stop()
            self.device = value
        else:
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
        self._drive_pin()

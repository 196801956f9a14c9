# SPDX-License-Identifier: MIT
"""What an ATA disk does when it is told to: the commands of :class:`~pyemu.chips.ide.IDEChannel`."""

from __future__ import annotations

from collections.abc import Callable

from ..device import BlockBackend
from ._ata import (
    ABORTED,
    ACTIVE,
    ASLEEP,
    DEVICE_HEAD,
    DEVICE_LBA,
    FEATURE_TRANSFER_MODE,
    ID_NOT_FOUND,
    MULTIWORD,
    READY,
    SECTOR,
    STANDBY,
    ULTRA,
    UNCORRECTABLE,
    is_transfer_mode,
)
from ._ide import PHASE_IDLE, PHASE_IN, PHASE_OUT
from ._ide_transfer import DMA_STEP, PHASE_DMA_IN, DMAMaster, gather, scatter, sectors_of
from ._packet import Packets

EXECUTE_DIAGNOSTIC, DEVICE_RESET, PACKET, IDENTIFY_PACKET = 0x90, 0x08, 0xA0, 0xA1
READ_BUFFER, WRITE_BUFFER, SET_FEATURES = 0xE4, 0xE8, 0xEF
SLEEP = frozenset({0x99, 0xE6})
MULTIPLE = frozenset({0xC4, 0xC5, 0x29, 0x39})
#: Commands with 48-bit addresses and 16-bit counts.
EXTENDED = frozenset({0x24, 0x25, 0x27, 0x29, 0x34, 0x35, 0x39, 0x42})
#: What a packet device carries out; it aborts the rest.
PACKET_DEVICE = frozenset({DEVICE_RESET, PACKET, IDENTIFY_PACKET, SET_FEATURES, 0xE0, 0xE1, 0xE5, *SLEEP})
#: Commands that say themselves what becomes of the power mode; any other wakes the disk.
POWER_COMMANDS = frozenset({0x94, 0x95, 0x96, 0x97, 0x98, 0xE0, 0xE1, 0xE2, 0xE3, 0xE5, *SLEEP})


class Commands(Packets):
    """Commands by their code, see :data:`COMMANDS`."""

    def device_reset(self, n: int) -> None:
        """A DEVICE RESET command: the signature of device *n* shows again."""
        raise NotImplementedError

    def diagnose(self) -> None:
        """EXECUTE DEVICE DIAGNOSTIC: both devices show their signatures."""
        raise NotImplementedError

    @property
    def drive(self) -> BlockBackend:
        """The selected disk's image; commands run only where there is one."""
        drive = self.disk.drive
        assert drive is not None
        return drive

    def _execute(self, command: int) -> None:
        if command == EXECUTE_DIAGNOSTIC:
            # The one command that both devices carry out, also when the selected one is not there.
            self._stop()
            self.diagnose()
            self._interrupt()
            return
        packet_device = self.cdrom.present
        if self.disk.drive is None and not packet_device:
            return
        if self.disk.power == ASLEEP and not (packet_device and command == DEVICE_RESET):
            # ATA-6, 6.12: a sleeping device hears nothing but resets.
            self.warn_once("asleep", "command %#04x to a device that sleeps ignored", command)
            return
        self._stop()
        self.interrupt = 0
        self.update_pin()
        self.command = command
        self.error = 0
        self.statuses[self.selected] = READY
        method = COMMANDS.get(command)
        if packet_device and command not in PACKET_DEVICE:
            if command in (0xEC, 0x20):
                self.device_reset(self.selected)  # these leave the signature, by which a packet device is found
                self.statuses[self.selected] = READY
            method = None
        if method is None or (command == DEVICE_RESET and not packet_device):
            self._fail(ABORTED)
            return
        if command not in POWER_COMMANDS:
            self.disk.power = ACTIVE
        method(self)

    def _check(self, good: bool) -> None:
        if good:
            self._succeed()
        else:
            self._fail(ABORTED)

    def block_done(self) -> None:
        """The host has moved the last byte of a block; called by the compiled half."""
        self.statuses[self.selected] = READY
        phase, self.phase = self.phase, PHASE_IDLE
        if self.command == PACKET:
            self.packet_block_done(phase)
        elif self.command == WRITE_BUFFER:
            self._succeed()
        elif phase == PHASE_OUT:
            self._store_block()
        elif self.remaining:
            self._load_block()

    def _identify(self) -> None:
        self._offer(self.disk.identify())

    def _read_buffer(self) -> None:
        self._open_block(PHASE_IN, SECTOR)
        self._interrupt()

    def _write_buffer(self) -> None:
        self._open_block(PHASE_OUT, SECTOR)

    # -- addresses --------------------------------------------------------------------------------

    def _locate(self) -> int | None:
        if self.command in EXTENDED:
            return self.files[self.selected].lba48() if self.device & DEVICE_LBA else None
        return self.disk.locate(self.device, self.low, self.mid, self.high)

    def _start(self) -> bool:
        """Takes address and count from the registers; reports what is wrong with them."""
        if self.command in MULTIPLE and not self.disk.multiple:
            self._fail(ABORTED)
            return False
        sector = self._locate()
        if sector is None or sector >= self.disk.total:
            self._fail(ID_NOT_FOUND)
            return False
        count = self.files[self.selected].count48() if self.command in EXTENDED else self.count or 256
        self.sector, self.remaining = sector, count
        return True

    def _block_sectors(self) -> int:
        return min(self.remaining, self.disk.multiple if self.command in MULTIPLE else 1)

    def _move_on(self, count: int) -> None:
        """Counts *count* sectors as done; the registers show the last one."""
        self.sector += count
        self.remaining -= count
        self._show(self.sector - 1)
        if self.command not in EXTENDED:
            self.count = self.remaining & 0xFF

    def _fail_at(self, error: int) -> None:
        """An error at the present sector, which the registers then show."""
        self._show(self.sector)
        self._fail(error)

    def _show(self, sector: int) -> None:
        if self.command in EXTENDED:
            self.files[self.selected].show48(sector, self.remaining)
        else:
            self.device, self.low, self.mid, self.high = self.disk.address(self.device, sector)

    # -- reading and writing ----------------------------------------------------------------------

    def _read(self, view: memoryview) -> bool:
        """Fills *view* with whole sectors from the present one; false after an error, which is reported."""
        if self.sector + len(view) // SECTOR > self.disk.total:
            self._fail_at(ID_NOT_FOUND)
            return False
        try:
            self.drive.read_into(self.sector * SECTOR, view)
        except OSError as error:
            self.warn_once(f"read {error}", "reading sector %d: %s", self.sector, error)
            self._fail_at(UNCORRECTABLE)
            return False
        return True

    def _write(self, data: bytes) -> bool:
        """Whether whole sectors could be written at the present one; an error is reported."""
        if self.sector + len(data) // SECTOR > self.disk.total:
            self._fail_at(ID_NOT_FOUND)
            return False
        try:
            self.drive.write(self.sector * SECTOR, data)
            if not self.disk.write_cache:
                self.drive.flush()
        except OSError as error:
            self.warn_once(f"write {error}", "writing sector %d: %s", self.sector, error)
            self._fail_at(ABORTED)
            return False
        return True

    def _read_sectors(self) -> None:
        if self._start():
            self._load_block()

    def _load_block(self) -> None:
        count = self._block_sectors()
        if self._read(memoryview(self.buffer)[: count * SECTOR]):
            self._open_block(PHASE_IN, count * SECTOR)
            self._move_on(count)
            self._interrupt()

    def _write_sectors(self) -> None:
        if self.drive.read_only:
            self._fail(ABORTED)
        elif self._start():
            # The first block is asked for without an interrupt.
            self._open_block(PHASE_OUT, self._block_sectors() * SECTOR)

    def _store_block(self) -> None:
        if self._write(bytes(self.buffer[: self.limit])):
            self._move_on(self.limit // SECTOR)
            if self.remaining:
                self._open_block(PHASE_OUT, self._block_sectors() * SECTOR)
            self._interrupt()

    def _read_dma(self) -> None:
        if self.bus_master is None:
            self._fail(ABORTED)
        elif self._start():
            self._begin_dma(to_memory=True)

    def _write_dma(self) -> None:
        if self.bus_master is None or self.drive.read_only:
            self._fail(ABORTED)
        elif self._start():
            self._begin_dma(to_memory=False)

    def _dma_step(self, master: DMAMaster) -> None:
        if self.command == PACKET:
            self.packet_dma_step(master)
            return
        room = self.disk.total - self.sector
        if not room:
            self._fail_at(ID_NOT_FOUND)
            return
        segments = master.segments(min(self.remaining, room, DMA_STEP // SECTOR) * SECTOR, SECTOR)
        count = sectors_of(segments)
        if not count:
            master.short()
            return
        if self.phase == PHASE_DMA_IN:
            data = memoryview(self.stage)[: count * SECTOR]
            if not self._read(data):
                return
            scatter(master.memory, segments, data)
        elif not self._write(gather(master.memory, segments)):
            return
        self._move_on(count)
        if not self.remaining:
            master.finished()
            self._succeed()

    # -- the others -------------------------------------------------------------------------------

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
        sector = self._locate()
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
        if not self.cdrom.present:
            self._check(self.disk.set_feature(self.features, self.count))
            return
        good = self.features == FEATURE_TRANSFER_MODE and is_transfer_mode(self.count, self.cdrom.dma)
        if good and self.count & (MULTIWORD | ULTRA):
            self.cdrom.mode = self.count
        self._check(good)

    def _flush(self) -> None:
        try:
            self.drive.flush()
        except OSError as error:
            self.warn_once(f"flush {error}", "flushing: %s", error)
            self._fail(ABORTED)
            return
        self._succeed()

    def _read_native_max(self) -> None:
        last = max(self.disk.total - 1, 0)
        self._show(last if self.command in EXTENDED else min(last, 0x0FFFFFFF))
        self._succeed()

    def _set_power(self) -> None:
        """STANDBY and IDLE, with or without a timer that we do not have: the odd ones are IDLE."""
        self.disk.power = ACTIVE if self.command & 1 else STANDBY
        self._succeed()

    def _sleep(self) -> None:
        self.disk.power = ASLEEP
        self._succeed()

    def _check_power(self) -> None:
        self.count = self.disk.power
        self._succeed()

    def _reset_device(self) -> None:
        # Ends without an interrupt.
        self.disk.power = ACTIVE
        self.device_reset(self.selected)


#: What each command byte does; a disk aborts the others.
COMMANDS: dict[int, Callable[[Commands], None]] = {
    code: method
    for codes, method in (
        ((DEVICE_RESET,), Commands._reset_device),
        (range(0x10, 0x20), Commands._recalibrate),
        ((0x20, 0x21, 0x24, 0x29, 0xC4), Commands._read_sectors),
        ((0x25, 0xC8, 0xC9), Commands._read_dma),
        ((0x30, 0x31, 0x34, 0x39, 0xC5), Commands._write_sectors),
        ((0x35, 0xCA, 0xCB), Commands._write_dma),
        ((0x40, 0x41, 0x42), Commands._verify),
        (range(0x70, 0x80), Commands._seek),
        ((0x91,), Commands._initialize_parameters),
        ((0x94, 0x95, 0x96, 0x97, 0xE0, 0xE1, 0xE2, 0xE3), Commands._set_power),
        ((0x98, 0xE5), Commands._check_power),
        (SLEEP, Commands._sleep),
        ((PACKET,), Commands._packet),
        ((IDENTIFY_PACKET,), Commands._identify_packet),
        ((0xC6,), Commands._set_multiple),
        ((READ_BUFFER,), Commands._read_buffer),
        ((0xE7, 0xEA), Commands._flush),
        ((WRITE_BUFFER,), Commands._write_buffer),
        ((0xEC,), Commands._identify),
        ((SET_FEATURES,), Commands._set_features),
        ((0x27, 0xF8), Commands._read_native_max),
    )
    for code in codes
}

# SPDX-License-Identifier: MIT
"""One ATA disk: geometry, addressing, IDENTIFY data and the settings that commands change."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ..device import VMState, vmstate
from ._ide import Latches

if TYPE_CHECKING:
    from ..device import BlockBackend

SECTOR = 512
MAX_MULTIPLE = 16

STATUS_BSY, STATUS_DRDY, STATUS_DF, STATUS_DSC, STATUS_DRQ, STATUS_ERR = 0x80, 0x40, 0x20, 0x10, 0x08, 0x01
ABORTED, ID_NOT_FOUND, UNCORRECTABLE = 0x04, 0x10, 0x40  # the error register
READY = STATUS_DRDY | STATUS_DSC

DEVICE_LBA = 0x40
DEVICE_SELECT = 0x10
DEVICE_HEAD = 0x0F

LBA28_SECTORS = 0x0FFFFFFF
DEFAULT_HEADS = 16
DEFAULT_SECTORS = 63
MAX_CYLINDERS = 16383

FEATURE_WRITE_CACHE, FEATURE_NO_WRITE_CACHE = 0x02, 0x82
FEATURE_TRANSFER_MODE = 0x03
FEATURE_LOOK_AHEAD, FEATURE_NO_LOOK_AHEAD = 0xAA, 0x55
FEATURE_KEEP_SETTINGS, FEATURE_REVERT_SETTINGS = 0x66, 0xCC
PIO_MODE = 0x08  # in bits 7-3 of the mode byte; bits 2-0 are the mode
HIGHEST_PIO = 4
MULTIWORD, ULTRA = 0x20, 0x40
HIGHEST_MULTIWORD, HIGHEST_ULTRA = 2, 5

LBA48_SECTORS = 1 << 48

ACTIVE, STANDBY = 0xFF, 0x00  # what CHECK POWER MODE answers
ASLEEP = 0x01  # never answered: only a reset wakes the device


def ata_string(text: str, length: int) -> bytes:
    """ASCII padded with blanks, the two characters of each word swapped."""
    raw = text.encode("ascii", "replace")[:length].ljust(length)
    return b"".join(raw[i + 1 : i + 2] + raw[i : i + 1] for i in range(0, length, 2))


class TaskFile(Latches):
    """The registers that each device of a channel has; writes reach both, results are the selected one's.

    Those named ``previous_`` hold what was written before the present value: the upper bytes of a 48-bit command.
    """

    NAMES = ("count", "low", "mid", "high")
    vmstate = VMState(
        "isa-ide/registers",
        fields=tuple(vmstate.uint8(name) for name in ("error", *NAMES, *(f"previous_{name}" for name in NAMES))),
    )

    def __init__(self) -> None:
        self.error = 0

    def show(self, count: int, low: int, mid: int, high: int) -> None:
        """A result."""
        self.count, self.low, self.mid, self.high = count, low, mid, high
        self.previous_count = self.previous_low = self.previous_mid = self.previous_high = 0

    def lba48(self) -> int:
        upper = self.previous_high << 16 | self.previous_mid << 8 | self.previous_low
        return upper << 24 | self.high << 16 | self.mid << 8 | self.low

    def count48(self) -> int:
        return self.previous_count << 8 | self.count or 0x10000

    def show48(self, sector: int, count: int) -> None:
        self.low, self.mid, self.high = sector & 0xFF, sector >> 8 & 0xFF, sector >> 16 & 0xFF
        self.previous_low, self.previous_mid, self.previous_high = sector >> 24 & 0xFF, sector >> 32 & 0xFF, sector >> 40 & 0xFF
        self.count, self.previous_count = count & 0xFF, count >> 8 & 0xFF


def timing_words(mode: int) -> tuple[int, int]:
    """Words 63 and 88 of IDENTIFY data: the DMA modes there are, and the selected one in the upper byte."""
    multiword, ultra = (1 << HIGHEST_MULTIWORD + 1) - 1, (1 << HIGHEST_ULTRA + 1) - 1
    if mode & 0xF8 == MULTIWORD:
        multiword |= 0x100 << (mode & 7)
    elif mode & 0xF8 == ULTRA:
        ultra |= 0x100 << (mode & 7)
    return multiword, ultra


def is_transfer_mode(count: int, dma: bool) -> bool:
    """Whether SET FEATURES can select the transfer mode that the count register names."""
    if count in (0, 1):
        return True  # the default PIO mode
    kind, mode = count & 0xF8, count & 7
    limits = {PIO_MODE: HIGHEST_PIO} | ({MULTIWORD: HIGHEST_MULTIWORD, ULTRA: HIGHEST_ULTRA} if dma else {})
    return mode <= limits.get(kind, -1)


class ATADisk:
    """What one of the two devices of a channel is, beside the registers that both share.

    Args:
        drive: the disk, or None when nothing is attached.
        number: 0 or 1.

    Attributes:
        multiple: sectors per interrupt of READ and WRITE MULTIPLE, 0 when those are disabled.
        heads, sectors: the translation that CHS addresses go through.
        write_cache: whether a write may be reported before it is flushed.
        keep: whether a software reset leaves these settings alone.
        power: what CHECK POWER MODE answers, or :data:`ASLEEP`.
        mode: the DMA mode that SET FEATURES selected, 0 for none.
        dma: whether the channel has a bus master; without one the disk offers no DMA.
    """

    vmstate = VMState(
        "isa-ide/disk",
        fields=(
            vmstate.uint8("multiple", limit=MAX_MULTIPLE),
            vmstate.uint8("heads", limit=16),
            vmstate.uint8("sectors"),
            vmstate.boolean("write_cache"),
            vmstate.boolean("look_ahead"),
            vmstate.boolean("keep"),
            vmstate.uint8("power"),
            vmstate.uint8("mode"),
        ),
    )

    def __init__(self, drive: BlockBackend | None, number: int) -> None:
        self.drive = drive
        self.number = number
        self.total = min(drive.size // SECTOR, LBA48_SECTORS) if drive is not None else 0
        self.dma = False
        self.reset()

    def reset(self) -> None:
        self.keep = False
        self.mode = 0
        self.revert()

    def revert(self) -> None:
        """What a software reset does."""
        self.power = ACTIVE
        if self.keep:
            return
        self.multiple = 0
        self.heads, self.sectors = DEFAULT_HEADS, DEFAULT_SECTORS
        self.write_cache = self.look_ahead = True

    @property
    def default_cylinders(self) -> int:
        return min(self.total // (DEFAULT_HEADS * DEFAULT_SECTORS), MAX_CYLINDERS)

    @property
    def cylinders(self) -> int:
        """Cylinders under the present translation."""
        return min(self.total // (self.heads * self.sectors), 0xFFFF) if self.heads and self.sectors else 0

    def locate(self, device: int, low: int, mid: int, high: int) -> int | None:
        """The sector that the registers address; None for a CHS address that the translation does not have."""
        if device & DEVICE_LBA:
            return (device & DEVICE_HEAD) << 24 | high << 16 | mid << 8 | low
        head = device & DEVICE_HEAD
        if not 1 <= low <= self.sectors or head >= self.heads:
            return None
        return ((high << 8 | mid) * self.heads + head) * self.sectors + low - 1

    def address(self, device: int, sector: int) -> tuple[int, int, int, int]:
        """Registers (device, low, mid, high) that address *sector* in the way *device* says."""
        if device & DEVICE_LBA:
            return (device & ~DEVICE_HEAD | sector >> 24 & 0xF, sector & 0xFF, sector >> 8 & 0xFF, sector >> 16 & 0xFF)
        track, low = divmod(sector, self.sectors or 1)
        cylinder, head = divmod(track, self.heads or 1)
        return device & ~DEVICE_HEAD | head & 0xF, low + 1 & 0xFF, cylinder & 0xFF, cylinder >> 8 & 0xFF

    def set_translation(self, heads: int, sectors: int) -> bool:
        """INITIALIZE DEVICE PARAMETERS; false when the disk refuses."""
        if not sectors:
            return False
        self.heads, self.sectors = heads, sectors
        return True

    def set_multiple(self, count: int) -> bool:
        """SET MULTIPLE MODE; 0 disables, other counts are powers of two up to 16."""
        if count > MAX_MULTIPLE or count & (count - 1):
            return False
        self.multiple = count
        return True

    def set_feature(self, feature: int, count: int) -> bool:
        """SET FEATURES; false when the disk does not have it."""
        if feature == FEATURE_TRANSFER_MODE:
            if not is_transfer_mode(count, self.dma):
                return False
            if count & (MULTIWORD | ULTRA):
                self.mode = count
            return True
        if feature in (FEATURE_WRITE_CACHE, FEATURE_NO_WRITE_CACHE):
            self.write_cache = feature == FEATURE_WRITE_CACHE
        elif feature in (FEATURE_LOOK_AHEAD, FEATURE_NO_LOOK_AHEAD):
            self.look_ahead = feature == FEATURE_LOOK_AHEAD
        elif feature in (FEATURE_KEEP_SETTINGS, FEATURE_REVERT_SETTINGS):
            self.keep = feature == FEATURE_KEEP_SETTINGS
        else:
            return False
        return True

    def identify(self) -> bytes:
        """The 512 bytes of IDENTIFY DEVICE: an ATA-6 disk, PIO up to mode 4 and, with a bus master, UDMA/100."""
        words = [0] * 256
        cylinders, current = self.default_cylinders, self.cylinders
        current_capacity = current * self.heads * self.sectors
        words[0] = 0x0040  # fixed disk
        words[1], words[3], words[6] = cylinders, DEFAULT_HEADS, DEFAULT_SECTORS
        words[20:23] = [3, 16, 4]  # dual-ported cache; its sectors; ECC bytes
        words[47] = 0x8000 | MAX_MULTIPLE
        words[48] = 0x0001  # 32-bit data port
        words[49] = 0x0A00  # LBA, IORDY
        words[51] = 0x0200  # PIO timing mode 2 without IORDY
        words[53] = 0x0003  # words 54-58 and 64-70 are valid
        words[54:59] = [current, self.heads, self.sectors, current_capacity & 0xFFFF, current_capacity >> 16]
        words[59] = 0x0100 | self.multiple if self.multiple else 0
        short = min(self.total, LBA28_SECTORS)
        words[60], words[61] = short & 0xFFFF, short >> 16
        if self.dma:
            words[49] |= 0x0100
            words[53] |= 0x0004  # word 88 is valid
            words[63], words[88] = timing_words(self.mode)
            words[93] = 0x6001  # an 80-wire cable
        words[64] = 0x0003  # PIO modes 3 and 4
        words[65:69] = [120, 120, 120, 120]  # cycle times in ns
        words[80] = 0x007E  # ATA-1 to ATA-6
        words[82] = 0x7068  # NOP, buffers, look-ahead, write cache, power management
        words[83] = 0x7400  # FLUSH CACHE, also EXT; 48-bit addresses
        words[84] = 0x4000
        words[85] = 0x7008 | self.write_cache << 5 | self.look_ahead << 6
        words[86] = 0x3400
        words[87] = 0x4000
        words[100:104] = [self.total >> 16 * n & 0xFFFF for n in range(4)]
        raw = bytearray(struct.pack("<256H", *words))
        raw[20:40] = ata_string(f"PYEMU{self.number:05d}", 20)
        raw[46:54] = ata_string("1.0", 8)
        raw[54:94] = ata_string("PYEMU HARDDISK", 40)
        raw[510] = 0xA5
        raw[511] = -sum(raw) & 0xFF
        return bytes(raw)

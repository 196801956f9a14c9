# SPDX-License-Identifier: MIT
"""A CD-ROM drive: medium, tray, sense data, and the packets that need no more than that (MMC-3, SPC-2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ..device import VMState, vmstate
from ._ata import ata_string, timing_words

if TYPE_CHECKING:
    from ..device import BlockBackend

BLOCK = 2048
PACKET = 12
#: The signature in the registers mid and high by which a packet device is known.
SIGNATURE = (0x14, 0xEB)

NO_SENSE, NOT_READY, MEDIUM_ERROR, ILLEGAL_REQUEST, UNIT_ATTENTION = 0, 2, 3, 5, 6
READ_ERROR, OUT_OF_RANGE, BAD_COMMAND, BAD_FIELD = 0x11, 0x21, 0x20, 0x24
MEDIUM_CHANGED, WAS_RESET, NO_MEDIUM, LOCKED = 0x28, 0x29, 0x3A, 0x53

EVENT_NONE, EVENT_EJECT_REQUEST, EVENT_NEW, EVENT_REMOVED = range(4)
MEDIA_CLASS = 4

LEAD_OUT = 0xAA
#: Two seconds of lead-in lie before block 0 in addresses by time.
PREGAP, FRAMES, SECONDS = 150, 75, 60

PROFILE_CDROM = 0x0008
PAGE_ERROR, PAGE_CAPABILITIES, PAGE_ALL = 0x01, 0x2A, 0x3F
ROM_SPEED = 706  # kB/s: four times that of a music CD


class PacketError(Exception):
    """A packet ends with sense data."""

    def __init__(self, key: int, code: int, qualifier: int = 0) -> None:
        super().__init__(f"sense {key:x}/{code:02x}/{qualifier:02x}")
        self.sense = (key, code, qualifier)


class CDROM:
    """One drive.

    Args:
        medium: the image in it.
        number: 0 or 1.
        present: whether there is a drive at all.

    Attributes:
        key, code, qualifier: what REQUEST SENSE will report.
        attention: code of the unit attention that waits for the next packet, 0 for none.
        event: what GET EVENT STATUS will report.
        open: whether the tray is out.
        locked: whether the tray stays in.
        mode: the DMA mode that SET FEATURES selected, 0 for none.
    """

    vmstate = VMState(
        "isa-ide/cdrom",
        fields=(
            vmstate.uint8("key", limit=15),
            vmstate.uint8("code"),
            vmstate.uint8("qualifier"),
            vmstate.uint8("attention"),
            vmstate.uint8("event", limit=EVENT_REMOVED),
            vmstate.boolean("open"),
            vmstate.boolean("locked"),
            vmstate.uint8("mode"),
        ),
    )

    def __init__(self, medium: BlockBackend | None, number: int, present: bool) -> None:
        self.medium = medium
        self.number = number
        self.present = present
        self.dma = False
        self.open = False
        self.reset()

    def reset(self) -> None:
        """Power-on and the reset pin; a tray stays where it is."""
        self.key = self.code = self.qualifier = 0
        self.attention = WAS_RESET if self.present else 0
        self.event = EVENT_NONE
        self.locked = False
        self.mode = 0

    # -- medium -----------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return self.medium is not None and not self.open

    @property
    def blocks(self) -> int:
        """Of the medium; the last one may be padded."""
        return -(-self.medium.size // BLOCK) if self.medium is not None else 0

    def change(self, medium: BlockBackend | None) -> None:
        """Another medium is in the drive now and its tray is in; for None the tray is out."""
        self.open = medium is None
        self.locked = False
        self.event = EVENT_NEW if medium is not None else EVENT_REMOVED
        if medium is not None:
            self.medium = medium
            self.attention = MEDIUM_CHANGED

    def move_tray(self, out: bool) -> None:
        """The guest opens or closes the tray; a medium that comes in is told of like a new one (MMC-3, 6.42)."""
        if out == self.open:
            return
        self.open = out
        if self.medium is not None:
            self.event = EVENT_REMOVED if out else EVENT_NEW
            self.attention = 0 if out else MEDIUM_CHANGED

    def read(self, block: int, count: int) -> bytes:
        """Whole blocks.

        Raises:
            PacketError: there is no medium, it is shorter, or the host could not read.
        """
        medium = self.need_medium()
        if block + count > self.blocks:
            raise PacketError(ILLEGAL_REQUEST, OUT_OF_RANGE)
        length = min(count * BLOCK, medium.size - block * BLOCK)
        try:
            return medium.read(block * BLOCK, length).ljust(count * BLOCK, b"\0")
        except OSError as error:
            raise PacketError(MEDIUM_ERROR, READ_ERROR) from error

    def need_medium(self) -> BlockBackend:
        if self.medium is None or self.open:
            raise PacketError(NOT_READY, NO_MEDIUM, 2 if self.open else 1)
        return self.medium

    # -- sense ------------------------------------------------------------------------------------

    def sense(self, key: int = 0, code: int = 0, qualifier: int = 0) -> None:
        self.key, self.code, self.qualifier = key, code, qualifier

    def take_sense(self) -> bytes:
        """The 18 bytes of REQUEST SENSE; what was reported is forgotten."""
        if self.key == NO_SENSE and self.attention:
            self.sense(UNIT_ATTENTION, self.take_attention())
        data = struct.pack(">BxBIB4xBB4x", 0x70, self.key, 0, 10, self.code, self.qualifier)
        self.sense()
        return data

    def take_attention(self) -> int:
        code, self.attention = self.attention, 0
        return code

    # -- data that packets ask for ----------------------------------------------------------------

    def inquiry(self) -> bytes:
        text = f"{'PYEMU':8}{'CD-ROM':16}{'1.0':4}".encode()
        return struct.pack(">BBBBBxxx", 0x05, 0x80, 0x00, 0x21, 31) + text

    def capacity(self) -> bytes:
        self.need_medium()
        return struct.pack(">II", self.blocks - 1, BLOCK)

    def toc(self, kind: int, by_time: bool, track: int) -> bytes:
        """READ TOC of a disk with one data track.

        Raises:
            PacketError: no such track or format, or no medium.
        """
        self.need_medium()

        def address(block: int) -> bytes:
            return struct.pack(">xBBB", *_time(block)) if by_time else struct.pack(">I", block)

        if kind == 0:
            if track > 1 and track != LEAD_OUT:
                raise PacketError(ILLEGAL_REQUEST, BAD_FIELD)
            body = bytes((1, 1))
            if track <= 1:
                body += struct.pack(">xBBx", 0x14, 1) + address(0)
            body += struct.pack(">xBBx", 0x14, LEAD_OUT) + address(self.blocks)
        elif kind == 1:
            body = bytes((1, 1)) + struct.pack(">xBBx", 0x14, 1) + address(0)
        elif kind == 2:
            points = ((0xA0, (1, 0, 0)), (0xA1, (1, 0, 0)), (0xA2, _time(self.blocks)), (1, _time(0)))
            body = bytes((1, 1)) + b"".join(bytes((1, 0x14, 0, point, 0, 0, 0, 0, *at)) for point, at in points)
        else:
            raise PacketError(ILLEGAL_REQUEST, BAD_FIELD)
        return struct.pack(">H", len(body)) + body

    def mode_sense(self, page: int) -> bytes:
        """MODE SENSE(10): present values of the error recovery and the capabilities page.

        Raises:
            PacketError: no such page.
        """
        pages = {
            PAGE_ERROR: bytes((PAGE_ERROR, 6, 0, 5, 0, 0, 0, 0)),
            # Tray, may be locked and ejected; mode 2 forms 1 and 2; no audio.
            PAGE_CAPABILITIES: struct.pack(
                ">BBBBBBBBHHHH4x", PAGE_CAPABILITIES, 18, 0x03, 0x00, 0x30, 0x00, 0x29 | self.locked << 1, 0x00,
                ROM_SPEED, 0, 512, ROM_SPEED,
            ),
        }  # fmt: skip
        if page != PAGE_ALL and page not in pages:
            raise PacketError(ILLEGAL_REQUEST, BAD_FIELD)
        body = b"".join(pages.values()) if page == PAGE_ALL else pages[page]
        kind = 0x71 if self.open else 0x01 if self.medium is not None else 0x70
        return struct.pack(">HB5x", 6 + len(body), kind) + body

    def event_status(self, wanted: int) -> bytes:
        """GET EVENT STATUS: the media class is the only one."""
        if not wanted & 1 << MEDIA_CLASS:
            return struct.pack(">HBB", 2, 0x80, 1 << MEDIA_CLASS)
        event, self.event = self.event, EVENT_NONE
        return struct.pack(">HBBBBxx", 6, MEDIA_CLASS, 1 << MEDIA_CLASS, event, self.open | (self.medium is not None) << 1)

    def configuration(self) -> bytes:
        """GET CONFIGURATION: a drive that reads CDs."""
        current = PROFILE_CDROM if self.ready else 0
        features = (
            struct.pack(">HBBHBx", 0x0000, 0x03, 4, PROFILE_CDROM, self.ready),
            struct.pack(">HBBI4x", 0x0001, 0x0B, 8, 2),  # ATAPI
            struct.pack(">HBBB3x", 0x0003, 0x03, 4, 0x29),  # a tray
            struct.pack(">HBBIHH", 0x0010, 0x00, 8, BLOCK, 1, 0),
            struct.pack(">HBB4x", 0x001E, 0x00, 4),
        )
        body = b"".join(features)
        return struct.pack(">IHH", 4 + len(body), 0, current) + body

    def disc_information(self) -> bytes:
        self.need_medium()
        # A finished disk with one session and one track.
        return struct.pack(">H11B21x", 32, 0x0E, 1, 1, 1, 1, 0x20, 0, 0, 0, 0, 0)

    def identify(self) -> bytes:
        """The 512 bytes of IDENTIFY PACKET DEVICE."""
        words = [0] * 256
        words[0] = 0x85C0  # CD-ROM, removable, asks for the packet within 50 us, 12 bytes
        words[49] = 0x0A00
        words[53] = 0x0002
        words[64] = 0x0003
        words[65:69] = [120, 120, 120, 120]
        if self.dma:
            words[49] |= 0x0100
            words[53] |= 0x0004
            words[63], words[88] = timing_words(self.mode)
            words[93] = 0x6001
        words[80] = 0x007E
        words[82], words[83], words[84] = 0x4214, 0x4000, 0x4000
        words[85] = 0x0214
        words[87] = 0x4000
        raw = bytearray(struct.pack("<256H", *words))
        raw[20:40] = ata_string(f"PYEMU{self.number:05d}", 20)
        raw[46:54] = ata_string("1.0", 8)
        raw[54:94] = ata_string("PYEMU CD-ROM", 40)
        raw[510] = 0xA5
        raw[511] = -sum(raw) & 0xFF
        return bytes(raw)


def block_at(minute: int, second: int, frame: int) -> int:
    """The block at a time; negative in the two seconds before the first."""
    return (minute * SECONDS + second) * FRAMES + frame - PREGAP


def _time(block: int) -> tuple[int, int, int]:
    """Minute, second and frame of a block; cut to what three bytes can say."""
    seconds, frame = divmod(block + PREGAP, FRAMES)
    minute, second = divmod(seconds, SECONDS)
    return min(minute, 0xFF), second, frame

# SPDX-License-Identifier: MIT
"""Packet commands of an IDE channel: what reaches a CD-ROM drive through PACKET, and how its answers travel."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ._ata import ABORTED, READY, STATUS_ERR
from ._atapi import (
    BAD_COMMAND,
    BAD_FIELD,
    BLOCK,
    CDROM,
    ILLEGAL_REQUEST,
    LOCKED,
    OUT_OF_RANGE,
    PACKET,
    UNIT_ATTENTION,
    PacketError,
    block_at,
)
from ._ide import BUFFER_SIZE, PHASE_IDLE, PHASE_IN, PHASE_OUT
from ._ide_transfer import DMA_STEP, DMAMaster, Transfers, scatter, sectors_of

#: Reasons in the count register: bit 0 set for packet and status, clear for data; bit 1 towards the host.
REASON_PACKET, REASON_DATA_IN, REASON_STATUS = 1, 2, 3
FEATURE_DMA = 0x01

TEST_UNIT_READY, REQUEST_SENSE, INQUIRY, START_STOP, PREVENT_ALLOW = 0x00, 0x03, 0x12, 0x1B, 0x1E
READ_CAPACITY, READ_10, SEEK_10, READ_TOC, GET_CONFIGURATION = 0x25, 0x28, 0x2B, 0x43, 0x46
GET_EVENT_STATUS, READ_DISC_INFORMATION, MODE_SENSE_10, READ_12 = 0x4A, 0x51, 0x5A, 0xA8
READ_CD_MSF, SET_CD_SPEED, MECHANISM_STATUS, READ_CD = 0xB9, 0xBB, 0xBD, 0xBE
#: These are carried out with a unit attention waiting, and do not report it.
UNDISTURBED = frozenset({REQUEST_SENSE, INQUIRY, GET_EVENT_STATUS, GET_CONFIGURATION})


class Packets(Transfers):
    """The PACKET command.

    Attributes:
        reply_end: bytes of the answer that are in the buffer.
        byte_limit: how much of it the host takes at a time.
    """

    reply_end: int
    byte_limit: int

    @property
    def cdrom(self) -> CDROM:
        return self.cdroms[self.selected]

    def _packet(self) -> None:
        if not self.cdrom.present or (self.features & FEATURE_DMA and self.bus_master is None):
            self._fail(ABORTED)
            return
        limit = self.mid | self.high << 8
        self.byte_limit = min(limit or 0xFFFE, 0xFFFE)
        self.reply_end = 0
        self.count = REASON_PACKET
        self._open_block(PHASE_OUT, PACKET)

    def _identify_packet(self) -> None:
        if not self.cdrom.present:
            self._fail(ABORTED)
            return
        self._offer(self.cdrom.identify())

    def _offer(self, data: bytes) -> None:
        self.buffer[: len(data)] = data
        self._open_block(PHASE_IN, len(data))
        self._interrupt()

    # -- a packet has arrived ---------------------------------------------------------------------

    def packet_block_done(self, phase: int) -> None:
        """The host has moved a block of a PACKET command."""
        if phase == PHASE_OUT:
            self._run_packet(bytes(self.buffer[:PACKET]))
        elif self.position < self.reply_end:
            self._offer_part(self.position)
        elif self.remaining:
            self._next_blocks()
        else:
            self._end_packet()

    def _run_packet(self, packet: bytes) -> None:
        drive = self.cdrom
        method = PACKETS.get(packet[0])
        try:
            if drive.attention and packet[0] not in UNDISTURBED:
                raise PacketError(UNIT_ATTENTION, drive.take_attention())
            if method is None:
                raise PacketError(ILLEGAL_REQUEST, BAD_COMMAND)
            if packet[0] != REQUEST_SENSE:
                drive.sense()
            method(self, packet)
        except PacketError as error:
            self._fail_packet(error)

    def _fail_packet(self, error: PacketError) -> None:
        if error.__cause__ is not None:
            self.warn_once(f"read {error.__cause__}", "reading: %s", error.__cause__)
        self.cdrom.sense(*error.sense)
        self._finish_packet(error.sense[0] << 4 | ABORTED, STATUS_ERR)

    def _end_packet(self) -> None:
        self._finish_packet(0, 0)

    def _finish_packet(self, error: int, status: int) -> None:
        self.phase = PHASE_IDLE
        self.remaining = self.reply_end = 0
        self.error = error
        self.count = REASON_STATUS
        self.statuses[self.selected] = READY | status
        self._interrupt()

    # -- answers ----------------------------------------------------------------------------------

    def _reply(self, data: bytes, allowed: int) -> None:
        """Sends an answer, as much of it as the packet allows."""
        data = data[:allowed]
        if not data:
            self._end_packet()
            return
        self.buffer[: len(data)] = data
        self.reply_end = len(data)
        self._send()

    def _send(self) -> None:
        if self.features & FEATURE_DMA:
            self.position = 0
            self.count = REASON_DATA_IN
            self._begin_dma(to_memory=True)
        else:
            self._offer_part(0)

    def _offer_part(self, start: int) -> None:
        length = self.reply_end - start
        if length > self.byte_limit:
            length = self.byte_limit & ~1 or 2
        self.count = REASON_DATA_IN
        self.mid, self.high = length & 0xFF, length >> 8
        # The port has 16 bits: an odd answer ends with a byte that means nothing.
        self._open_block(PHASE_IN, start + length + (length & 1), start)
        self._interrupt()

    def _read_blocks(self, block: int, count: int) -> None:
        self.cdrom.need_medium()
        if block + count > self.cdrom.blocks:
            raise PacketError(ILLEGAL_REQUEST, OUT_OF_RANGE)
        if not count:
            self._end_packet()
            return
        self.sector, self.remaining = block, count
        if self.features & FEATURE_DMA:
            self.count = REASON_DATA_IN
            self._begin_dma(to_memory=True)
        else:
            self._next_blocks()

    def _next_blocks(self) -> None:
        count = min(self.remaining, BUFFER_SIZE // BLOCK)
        try:
            self.buffer[: count * BLOCK] = self.cdrom.read(self.sector, count)
        except PacketError as error:
            self._fail_packet(error)
            return
        self.sector += count
        self.remaining -= count
        self.reply_end = count * BLOCK
        self._offer_part(0)

    def packet_dma_step(self, master: DMAMaster) -> None:
        """Moves a part of the answer; blocks straight from the medium, everything else from the buffer."""
        if self.reply_end:
            segments = master.segments(self.reply_end - self.position, 1)
            length = sectors_of(segments, 1)
            scatter(master.memory, segments, bytes(self.buffer[self.position : self.position + length]))
            self.position += length
            left = self.reply_end - self.position
        else:
            segments = master.segments(min(self.remaining * BLOCK, DMA_STEP), BLOCK)
            length = sectors_of(segments, BLOCK)
            try:
                scatter(master.memory, segments, self.cdrom.read(self.sector, length))
            except PacketError as error:
                self._fail_packet(error)
                return
            self.sector += length
            self.remaining -= length
            left = self.remaining
        if not left:
            master.finished()
            self._end_packet()
        elif not length:
            master.short()

    # -- the packets ------------------------------------------------------------------------------

    def _test_unit_ready(self, packet: bytes) -> None:
        self.cdrom.need_medium()
        self._end_packet()

    def _request_sense(self, packet: bytes) -> None:
        self._reply(self.cdrom.take_sense(), packet[4])

    def _inquiry(self, packet: bytes) -> None:
        if packet[1] & 1:
            raise PacketError(ILLEGAL_REQUEST, BAD_FIELD)  # there are no pages of vital product data
        self._reply(self.cdrom.inquiry(), packet[4])

    def _start_stop(self, packet: bytes) -> None:
        drive = self.cdrom
        if packet[4] & 2:  # load or eject
            if drive.locked and not packet[4] & 1:
                raise PacketError(ILLEGAL_REQUEST, LOCKED, 2)
            drive.move_tray(out=not packet[4] & 1)
        self._end_packet()

    def _prevent_allow(self, packet: bytes) -> None:
        self.cdrom.locked = bool(packet[4] & 1)
        self._end_packet()

    def _read_capacity(self, packet: bytes) -> None:
        self._reply(self.cdrom.capacity(), 8)

    def _read_packet(self, packet: bytes) -> None:
        if packet[0] == READ_10:
            block, count = struct.unpack_from(">IxH", packet, 2)
        else:
            block, count = struct.unpack_from(">II", packet, 2)
        self._read_blocks(block, count)

    def _read_cd(self, packet: bytes) -> None:
        if packet[0] == READ_CD_MSF:
            block = block_at(*packet[3:6])
            count = block_at(*packet[6:9]) - block
            if block < 0 or count < 0:
                raise PacketError(ILLEGAL_REQUEST, BAD_FIELD)
        else:
            (block,) = struct.unpack_from(">I", packet, 2)
            count = int.from_bytes(packet[6:9], "big")
        if packet[1] & 0x1C not in (0x00, 0x08, 0x14) or packet[9] not in (0x00, 0x10) or packet[10] & 7:
            raise PacketError(ILLEGAL_REQUEST, BAD_FIELD)  # user data is all that an image of blocks has
        self._read_blocks(block, count if packet[9] else 0)

    def _set_speed(self, packet: bytes) -> None:
        # Nothing takes time here, so every speed is as good.
        self._end_packet()

    def _seek_packet(self, packet: bytes) -> None:
        self.cdrom.need_medium()
        if struct.unpack_from(">I", packet, 2)[0] >= self.cdrom.blocks:
            raise PacketError(ILLEGAL_REQUEST, OUT_OF_RANGE)
        self._end_packet()

    def _read_toc(self, packet: bytes) -> None:
        # SFF-8020 has the format in the upper bits of the last byte, MMC in byte 2.
        kind = packet[2] & 15 or packet[9] >> 6
        self._reply(self.cdrom.toc(kind, bool(packet[1] & 2), packet[6]), packet[7] << 8 | packet[8])

    def _mode_sense(self, packet: bytes) -> None:
        if packet[2] >> 6 == 3:
            raise PacketError(ILLEGAL_REQUEST, 0x39)  # saved values: there are none
        self._reply(self.cdrom.mode_sense(packet[2] & 0x3F), packet[7] << 8 | packet[8])

    def _get_event_status(self, packet: bytes) -> None:
        if not packet[1] & 1:
            raise PacketError(ILLEGAL_REQUEST, BAD_FIELD)  # there is no waiting for an event
        self._reply(self.cdrom.event_status(packet[4]), packet[7] << 8 | packet[8])

    def _get_configuration(self, packet: bytes) -> None:
        self._reply(self.cdrom.configuration(), packet[7] << 8 | packet[8])

    def _read_disc_information(self, packet: bytes) -> None:
        self._reply(self.cdrom.disc_information(), packet[7] << 8 | packet[8])

    def _mechanism_status(self, packet: bytes) -> None:
        self._reply(bytes((0, 0x10 if self.cdrom.open else 0, 0, 0, 0, 1, 0, 0)), packet[8] << 8 | packet[9])


PACKETS: dict[int, Callable[[Packets, bytes], None]] = {
    TEST_UNIT_READY: Packets._test_unit_ready,
    REQUEST_SENSE: Packets._request_sense,
    INQUIRY: Packets._inquiry,
    START_STOP: Packets._start_stop,
    PREVENT_ALLOW: Packets._prevent_allow,
    READ_CAPACITY: Packets._read_capacity,
    READ_10: Packets._read_packet,
    READ_12: Packets._read_packet,
    READ_CD: Packets._read_cd,
    READ_CD_MSF: Packets._read_cd,
    SET_CD_SPEED: Packets._set_speed,
    SEEK_10: Packets._seek_packet,
    READ_TOC: Packets._read_toc,
    MODE_SENSE_10: Packets._mode_sense,
    GET_EVENT_STATUS: Packets._get_event_status,
    GET_CONFIGURATION: Packets._get_configuration,
    READ_DISC_INFORMATION: Packets._read_disc_information,
    MECHANISM_STATUS: Packets._mechanism_status,
}

# SPDX-License-Identifier: MIT
"""A USB disk: mass storage with the bulk-only transport, over a raw image."""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from ..device import BlockBackend, Property, VMState, vmstate
from ..errors import ConfigError, MigrationError
from .usb import (
    CLASS_REQUEST,
    TO_HOST,
    TO_INTERFACE,
    USB_FIELDS,
    Handshake,
    Request,
    USBDevice,
    configuration_descriptor,
    device_descriptor,
    endpoint_descriptor,
)

PACKET, BLOCK = 64, 512
BULK_IN, BULK_OUT = 1, 2
BULK_RESET, GET_MAX_LUN = 0xFF, 0xFE

COMMAND_SIGNATURE, STATUS_SIGNATURE = 0x43425355, 0x53425355
COMMAND_BLOCK = struct.Struct("<IIIBBB16s")
STATUS_BLOCK = struct.Struct("<IIIB")

AWAIT_COMMAND, DATA_IN, DATA_OUT, SEND_STATUS, BROKEN = range(5)
PASSED, FAILED, PHASE_ERROR = range(3)

NO_SENSE = (0, 0)
MEDIUM_READ, MEDIUM_WRITE = (3, 0x11), (3, 0x0C)
BAD_COMMAND, BAD_BLOCK, BAD_FIELD, PROTECTED = (5, 0x20), (5, 0x21), (5, 0x24), (7, 0x27)

TEST_UNIT_READY, REQUEST_SENSE, INQUIRY, MODE_SENSE_6, START_STOP = 0x00, 0x03, 0x12, 0x1A, 0x1B
PREVENT_REMOVAL, FORMAT_CAPACITIES, READ_CAPACITY, READ_10, WRITE_10 = 0x1E, 0x23, 0x25, 0x28, 0x2A
VERIFY_10, SYNCHRONIZE, MODE_SENSE_10 = 0x2F, 0x35, 0x5A


class USBStorage(USBDevice):
    """A full-speed disk of 512-byte blocks; what the guest writes reaches the image block by block.

    Attributes:
        phase: of the transport: a command is due, data flows, a status is due, or only a reset helps.
        expected: bytes that the host still means to move.
        block, blocks: the next block of a transfer, and how many are left.
        buffer: the block on its way, or an answer; ``buffer[at:count]`` is left.
    """

    type_name = "usb-storage"
    properties = (*USBDevice.properties, Property("drive", "drive", None, "the image"))
    strings = ("pyemu", "disk", "1")
    device_descriptor = device_descriptor(0x46F4, 0x0001, strings=3)
    configuration_descriptor = configuration_descriptor(
        (8, 6, 0x50), endpoint_descriptor(BULK_IN, True, 2, PACKET) + endpoint_descriptor(BULK_OUT, False, 2, PACKET), 2
    )
    vmstate = VMState(
        "usb-storage",
        fields=(
            *USB_FIELDS,
            vmstate.uint8("phase", limit=BROKEN),
            vmstate.uint32("tag"),
            vmstate.uint32("expected"),
            vmstate.uint8("result", limit=PHASE_ERROR),
            vmstate.uint8("sense", 2),
            vmstate.uint32("block"),
            vmstate.uint32("blocks"),
            vmstate.buffer("buffer", BLOCK),
            vmstate.uint16("count", limit=BLOCK),
            vmstate.uint16("at", limit=BLOCK),
        ),
    )
    volatile: ClassVar[frozenset[str]] = frozenset({"drive"})
    drive: BlockBackend | None

    def __init__(self, **properties: Any) -> None:
        self.buffer = bytearray(BLOCK)
        self.sense = bytearray(2)
        super().__init__(**properties)

    def realize(self) -> None:
        if self.drive is None:
            raise ConfigError(f"{self.id}: needs a property drive=")

    def post_load(self, version: int) -> None:
        if self.block + self.blocks > self.image.sectors:
            raise MigrationError(f"{self.id}: blocks {self.block}+{self.blocks} are beyond the image's {self.image.sectors}")

    @property
    def image(self) -> BlockBackend:
        assert self.drive is not None  # realize() saw to it
        return self.drive

    def configured(self) -> None:
        self.phase = AWAIT_COMMAND
        self.tag = self.expected = self.result = 0
        self.sense[:] = bytes(2)
        self.block = self.blocks = 0
        self._empty()

    def _empty(self) -> None:
        self.buffer[:] = bytes(BLOCK)
        self.count = self.at = 0

    # -- transport --------------------------------------------------------------------------------

    def control(self, request: Request, data: bytes) -> bytes | None:
        if request.kind == TO_HOST | CLASS_REQUEST | TO_INTERFACE and request.number == GET_MAX_LUN:
            return b"\0"
        if request.kind == CLASS_REQUEST | TO_INTERFACE and request.number == BULK_RESET:
            self.configured()
            return b""
        return None

    def endpoint_out(self, endpoint: int, data: bytes) -> Handshake:
        if endpoint != BULK_OUT or self.phase == BROKEN:
            return Handshake.STALL
        if self.phase == AWAIT_COMMAND:
            return self._command(data)
        if self.phase != DATA_OUT:
            return Handshake.STALL
        used = data[: self.expected]
        self.expected -= len(used)
        self._receive(used)
        if not self.expected:
            self._finish()
        return Handshake.ACK

    def endpoint_in(self, endpoint: int, limit: int) -> bytes | Handshake:
        if endpoint != BULK_IN or self.phase == BROKEN:
            return Handshake.STALL
        if self.phase == SEND_STATUS:
            self.phase = AWAIT_COMMAND
            return STATUS_BLOCK.pack(STATUS_SIGNATURE, self.tag, self.expected, self.result)
        if self.phase != DATA_IN:
            return Handshake.NAK
        size = min(limit, PACKET, self.expected)
        data = b""
        while len(data) < size and (self.at < self.count or self.blocks):
            if self.at == self.count:
                self._read_block()
            piece = bytes(self.buffer[self.at : min(self.count, self.at + size - len(data))])
            self.at += len(piece)
            data += piece
        self.expected -= len(data)
        # A short packet ends the transfer before what the host expected.
        if not self.expected or len(data) < min(limit, PACKET):
            self._finish()
        return data

    def _command(self, data: bytes) -> Handshake:
        if len(data) != COMMAND_BLOCK.size:
            return self._break()
        signature, self.tag, self.expected, flags, lun, length, block = COMMAND_BLOCK.unpack(data)
        if signature != COMMAND_SIGNATURE or lun or not 1 <= length <= 16:
            return self._break()
        self.result = PASSED
        self.blocks = 0
        self._empty()
        self._execute(block)
        to_host = bool(flags & TO_HOST)
        if not self.expected:
            self._finish()
        else:
            self.phase = DATA_IN if to_host else DATA_OUT
            if self.blocks and to_host == (block[0] == WRITE_10):
                self.result, self.blocks = PHASE_ERROR, 0
        return Handshake.ACK

    def _break(self) -> Handshake:
        """Something that is no command: both endpoints halt until the host resets the transport."""
        self.phase = BROKEN
        return Handshake.STALL

    def _finish(self) -> None:
        """The data stage is over; what the host left of what it asked for means that the two disagree."""
        if self.result == PASSED and (self.blocks or self.at < self.count):
            self.result = PHASE_ERROR
        self.blocks = 0
        self._empty()
        self.phase = SEND_STATUS

    # -- data -------------------------------------------------------------------------------------

    def _read_block(self) -> None:
        try:
            self.buffer[:] = self.image.read_sectors(self.block, 1)
        except OSError as error:
            self.warn_once(f"read {error.errno}", "block %d: %s", self.block, error)
            self._fail(MEDIUM_READ)
            return
        self.count, self.at = BLOCK, 0
        self.block += 1
        self.blocks -= 1

    def _receive(self, data: bytes) -> None:
        while data and self.blocks:
            piece = data[: BLOCK - self.count]
            self.buffer[self.count : self.count + len(piece)] = piece
            self.count += len(piece)
            data = data[len(piece) :]
            if self.count == BLOCK:
                self.count = 0
                try:
                    self.image.write_sectors(self.block, bytes(self.buffer))
                except OSError as error:
                    self.warn_once(f"write {error.errno}", "block %d: %s", self.block, error)
                    self._fail(MEDIUM_WRITE)
                    return
                self.block += 1
                self.blocks -= 1

    def _fail(self, sense: tuple[int, int]) -> None:
        self.sense[:] = bytes(sense)
        self.result = FAILED
        self.blocks = 0
        self._empty()

    # -- commands ---------------------------------------------------------------------------------

    def _execute(self, command: bytes) -> None:
        operation = command[0]
        if operation != REQUEST_SENSE:
            self.sense[:] = bytes(NO_SENSE)
        sectors = self.image.sectors
        if operation in (READ_10, WRITE_10, VERIFY_10):
            first, count = struct.unpack_from(">I", command, 2)[0], struct.unpack_from(">H", command, 7)[0]
            if first + count > sectors:
                self._fail(BAD_BLOCK)
            elif operation == WRITE_10 and self.image.read_only:
                self._fail(PROTECTED)
            elif operation != VERIFY_10:
                self.block, self.blocks = first, count
        elif operation == READ_CAPACITY:
            self._answer(struct.pack(">II", min(sectors - 1, 0xFFFFFFFF), BLOCK))
        elif operation == FORMAT_CAPACITIES:
            self._answer(struct.pack(">II", 8, min(sectors, 0xFFFFFFFF)) + bytes((2, 0, 2, 0)), command[7] << 8 | command[8])
        elif operation == INQUIRY:
            if command[1] & 1:
                self._fail(BAD_FIELD)
            else:
                self._answer(b"\x00\x80\x02\x02\x1f\x00\x00\x00" + b"pyemu   " + b"disk            " + b"1   ", command[4])
        elif operation == REQUEST_SENSE:
            key, code = self.sense
            self._answer(bytes((0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, 0, 0, 0, 0, 0)), command[4])
            self.sense[:] = bytes(NO_SENSE)
        elif operation in (MODE_SENSE_6, MODE_SENSE_10):
            protected = 0x80 if self.image.read_only else 0
            long = operation == MODE_SENSE_10
            self._answer(bytes((0, 6, 0, protected, 0, 0, 0, 0)) if long else bytes((3, 0, protected, 0)))
        elif operation == SYNCHRONIZE:
            try:
                self.image.flush()
            except OSError as error:
                self.warn_once(f"flush {error.errno}", "%s", error)
                self._fail(MEDIUM_WRITE)
        elif operation not in (TEST_UNIT_READY, START_STOP, PREVENT_REMOVAL):
            self._fail(BAD_COMMAND)

    def _answer(self, data: bytes, limit: int = BLOCK) -> None:
        data = data[:limit]
        self.buffer[: len(data)] = data
        self.count, self.at = len(data), 0

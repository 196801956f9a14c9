# SPDX-License-Identifier: MIT
"""The command set of the 82077AA: opcodes, lengths, status bits."""

from __future__ import annotations

from enum import IntEnum

MT, MFM, SK = 0x80, 0x40, 0x20  # modifier bits of the transfer commands
RELATIVE, INWARD = 0x80, 0x40  # RELATIVE SEEK: bit 7, and bit 6 for "towards higher tracks"
LOCK_BIT = 0x80

ST0_ABNORMAL, ST0_INVALID, ST0_POLLED = 0x40, 0x80, 0xC0
ST0_SEEK_END, ST0_EQUIPMENT_CHECK = 0x20, 0x10

ST1_END_OF_CYLINDER, ST1_DATA_ERROR, ST1_OVERRUN = 0x80, 0x20, 0x10
ST1_NO_DATA, ST1_NOT_WRITABLE, ST1_MISSING_MARK = 0x04, 0x02, 0x01

ST2_CONTROL_MARK, ST2_DATA_ERROR, ST2_WRONG_CYLINDER = 0x40, 0x20, 0x10
ST2_SCAN_EQUAL, ST2_SCAN_NOT_SATISFIED, ST2_BAD_CYLINDER = 0x08, 0x04, 0x02

ST3_WRITE_PROTECTED, ST3_READY, ST3_TRACK_0, ST3_TWO_SIDED = 0x40, 0x20, 0x10, 0x08

VERSION_82077AA = 0x90


class Op(IntEnum):
    """The five low bits of a command byte, without its modifiers."""

    READ_TRACK = 0x02
    SPECIFY = 0x03
    SENSE_DRIVE = 0x04
    WRITE = 0x05
    READ = 0x06
    RECALIBRATE = 0x07
    SENSE_INTERRUPT = 0x08
    WRITE_DELETED = 0x09
    READ_ID = 0x0A
    READ_DELETED = 0x0C
    FORMAT = 0x0D
    DUMPREG = 0x0E
    SEEK = 0x0F
    VERSION = 0x10
    SCAN_EQUAL = 0x11
    PERPENDICULAR = 0x12
    CONFIGURE = 0x13
    LOCK = 0x14
    VERIFY = 0x16
    SCAN_LOW_OR_EQUAL = 0x19
    SCAN_HIGH_OR_EQUAL = 0x1D


OP_MASK = 0x1F

#: Opcode: bytes of the command, and the modifier bits it may carry.
_LENGTHS = {
    Op.READ_TRACK: (9, MFM | SK),
    Op.SPECIFY: (3, 0),
    Op.SENSE_DRIVE: (2, 0),
    Op.WRITE: (9, MT | MFM),
    Op.READ: (9, MT | MFM | SK),
    Op.RECALIBRATE: (2, 0),
    Op.SENSE_INTERRUPT: (1, 0),
    Op.WRITE_DELETED: (9, MT | MFM),
    Op.READ_ID: (2, MFM),
    Op.READ_DELETED: (9, MT | MFM | SK),
    Op.FORMAT: (6, MFM),
    Op.DUMPREG: (1, 0),
    Op.SEEK: (3, RELATIVE | INWARD),
    Op.VERSION: (1, 0),
    Op.SCAN_EQUAL: (9, MT | MFM | SK),
    Op.PERPENDICULAR: (2, 0),
    Op.CONFIGURE: (4, 0),
    Op.LOCK: (1, LOCK_BIT),
    Op.VERIFY: (9, MT | MFM | SK),
    Op.SCAN_LOW_OR_EQUAL: (9, MT | MFM | SK),
    Op.SCAN_HIGH_OR_EQUAL: (9, MT | MFM | SK),
}

#: Commands that bring data from the host, and that bring data to it.
FROM_HOST = frozenset({Op.WRITE, Op.WRITE_DELETED, Op.FORMAT, Op.SCAN_EQUAL, Op.SCAN_LOW_OR_EQUAL, Op.SCAN_HIGH_OR_EQUAL})
TO_HOST = frozenset({Op.READ, Op.READ_DELETED, Op.READ_TRACK})
SCANS = frozenset({Op.SCAN_EQUAL, Op.SCAN_LOW_OR_EQUAL, Op.SCAN_HIGH_OR_EQUAL})
WRITES = frozenset({Op.WRITE, Op.WRITE_DELETED, Op.FORMAT})


_KNOWN = frozenset(int(op) for op in Op)


def command_length(byte: int) -> int:
    """How many bytes the command that begins with *byte* has; 0 when there is no such command."""
    if byte & OP_MASK not in _KNOWN:
        return 0
    op, extra = Op(byte & OP_MASK), byte & ~OP_MASK
    length, modifiers = _LENGTHS[op]
    if extra & ~modifiers or (op is Op.SEEK and extra == INWARD):
        return 0
    return length

# SPDX-License-Identifier: MIT
"""What goes over the channels: an initial packet on each, then packets of pages of one block, then the end.

All numbers are big-endian. Nothing of a packet is used before it has been checked.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from pyemu.errors import MigrationError
from pyemu.migration import load_fault
from pyemu.migration.pages import BlockLike, Memory
from pyemu.migration.records import Numbers

MAGIC: Final = 0x11223344
VERSION: Final = 1
#: Bytes of page data in one packet.
PAYLOAD: Final = 512 << 10
#: Magic, version, the machine's UUID, the channel's number.
INITIAL: Final = struct.Struct(">II16sB39x")
#: Magic, version, flags, room, data pages, bytes behind the header, number, zero pages, name of the block.
HEADER: Final = struct.Struct(">IIIIIIQI28x256s")

SYNC: Final = 0x01
#: Of each compression, what its packets carry in the flags.
COMPRESSIONS: Final = {"none": 0x00, "zlib": 0x02, "zstd": 0x04}
_COMPRESSION: Final = 0x3E
_DEVICE_STATE: Final = 0x40
#: Channels of one migration at most.
MAX_CHANNELS: Final = 255


def capacity(page_size: int) -> int:
    """Pages that a packet has room for."""
    return PAYLOAD // page_size


def packet_size(page_size: int) -> int:
    """Bytes of a packet without page data; it has room for the offsets of all pages even when it has none."""
    return HEADER.size + 8 * capacity(page_size)


def encode_initial(identity: bytes, channel: int) -> bytes:
    """What each channel begins with."""
    return INITIAL.pack(MAGIC, VERSION, identity, channel)


def decode_initial(data: bytes, identity: bytes) -> int:
    """The channel's number.

    Raises:
        MigrationError: it is no channel of ours, or of another machine.
    """
    magic, version, found, channel = INITIAL.unpack(data)
    _check_head(magic, version)
    if found != identity:
        raise load_fault(
            f"multifd: received uuid '{uuid.UUID(bytes=found)}' and expected uuid '{uuid.UUID(bytes=identity)}'"
            f" for channel {channel}"
        )
    if channel >= MAX_CHANNELS:
        raise load_fault(f"multifd: received channel id {channel} is greater than number of channels {MAX_CHANNELS}")
    return int(channel)


def _check_head(magic: int, version: int) -> None:
    if magic != MAGIC:
        raise load_fault(f"multifd: received packet magic {magic:x} expected {MAGIC:x}")
    if version != VERSION:
        raise load_fault(f"multifd: received packet version {version} expected {VERSION}")


def encode_sync(number: int, page_size: int) -> bytes:
    """The packet that says: everything sent so far before everything sent later."""
    return HEADER.pack(MAGIC, VERSION, SYNC, 0, 0, 0, number, 0, b"") + bytes(8 * capacity(page_size))


def encode_pages(number: int, flags: int, block: BlockLike, data: Numbers, zero: Numbers, size: int) -> bytes:
    """The head of a packet of pages.

    Args:
        number: of the packet.
        flags: the compression's.
        block: the pages' block.
        data, zero: pages with data, which follow in this order, and pages of zeros.
        size: bytes that follow.
    """
    room = capacity(block.page_size)
    offsets = np.zeros(room, dtype=">u8")
    offsets[: len(data)] = data * block.page_size
    offsets[len(data) : len(data) + len(zero)] = zero * block.page_size
    name = block.idstr.encode()
    return HEADER.pack(MAGIC, VERSION, flags, room, len(data), size, number, len(zero), name) + offsets.tobytes()


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that was checked.

    Attributes:
        number: of the packet, over all channels.
        block: None in a sync packet.
        data, zero: page numbers.
        size: bytes that follow.
    """

    number: int
    block: Memory | None
    data: Numbers
    zero: Numbers
    size: int

    @property
    def sync(self) -> bool:
        return self.block is None


def decode(
    data: bytes | bytearray | memoryview, flags: int, channel: int, blocks: Mapping[str, Memory], page_size: int
) -> Packet:
    """Reads the head of a packet.

    Args:
        data: :func:`packet_size` bytes.
        flags: of the compression in use.
        channel: for messages.
        blocks: that the stream has listed.
        page_size: of all of them.

    Raises:
        MigrationError: a field is not acceptable.
    """
    magic, version, found, room, normal, size, number, zero, raw = HEADER.unpack_from(data)
    _check_head(magic, version)
    if found & ~(SYNC | _COMPRESSION):
        what = "device state, which nobody here has" if found & _DEVICE_STATE else "unknown"
        raise load_fault(f"multifd {channel}: flags received {found:x} are {what}")
    if found & SYNC:
        if normal or zero or size or found & _COMPRESSION:
            raise load_fault(f"multifd {channel}: sync packet with {normal} + {zero} pages and {size} bytes")
        nothing = np.empty(0, dtype=np.int64)
        return Packet(number, None, nothing, nothing, 0)
    if found != flags:
        raise load_fault(f"multifd {channel}: flags received {found:x} flags expected {flags:x}")
    if room > capacity(page_size):
        raise load_fault(f"multifd: received packet with {room} pages, expected {capacity(page_size)}")
    if normal > room or zero > room - normal:
        raise load_fault(f"multifd: received packet with {normal} normal and {zero} zero pages, expected maximum {room}")
    block = _block(raw, channel, blocks)
    _check_size(size, normal, flags, page_size, channel)
    offsets = np.frombuffer(data, dtype=">u8", count=normal + zero, offset=HEADER.size).astype(np.uint64)
    return Packet(number, block, *_pages(offsets, normal, block), size)


def _block(raw: bytes, channel: int, blocks: Mapping[str, Memory]) -> Memory:
    name, end, _ = raw.partition(b"\0")
    block = blocks.get(name.decode("utf-8", "replace")) if end else None
    if block is None:
        raise load_fault(f"multifd: unknown ram block {name[:255].decode('utf-8', 'replace')!r} on channel {channel}")
    return block


def _check_size(size: int, normal: int, flags: int, page_size: int, channel: int) -> None:
    plain = normal * page_size
    # What cannot be compressed grows a little; twice as much is more than any method needs.
    good = size == plain if flags == COMPRESSIONS["none"] or not normal else 0 < size <= 2 * plain
    if not good:
        raise load_fault(f"multifd {channel}: packet of {size} bytes for {normal} pages of {page_size}")


def _pages(offsets: np.ndarray, normal: int, block: Memory) -> tuple[Numbers, Numbers]:
    size = np.uint64(block.page_size)
    beyond = offsets >= np.uint64(block.used_length)
    if beyond.any():
        raise load_fault(
            f"multifd: offset too long {int(offsets[beyond][0])} (max {block.used_length}) in block {block.idstr}"
        )
    if (offsets % size).any():
        raise load_fault(f"multifd: offset {int(offsets[offsets % size != 0][0]):#x} in block {block.idstr} is inside a page")
    numbers = (offsets // size).astype(np.int64)
    return numbers[:normal], numbers[normal:]


def page_size_of(blocks: Mapping[str, BlockLike]) -> int:
    """The page size that all blocks share.

    Raises:
        MigrationError: they have several.
    """
    sizes = {block.page_size for block in blocks.values()}
    if len(sizes) > 1:
        raise MigrationError(f"multifd: blocks have pages of {sorted(sizes)} bytes")
    return sizes.pop() if sizes else 4096

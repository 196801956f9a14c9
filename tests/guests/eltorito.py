# SPDX-License-Identifier: MIT
"""A bootable ISO 9660 image, made by hand (ECMA-119, El Torito 1.0): no emulation, one boot file of 2 KiB."""

import struct

BLOCK = 2048


def both(number):
    """A 32-bit number in both byte orders."""
    return struct.pack("<I", number) + struct.pack(">I", number)


def both16(number):
    return struct.pack("<H", number) + struct.pack(">H", number)


def directory(name, block, length):
    record = both(block) + both(length) + bytes((126, 1, 1, 0, 0, 0, 0, 2, 0, 0)) + both16(1) + bytes((len(name),)) + name
    return bytes((len(record) + 2 + len(record) % 2, 0)) + record + bytes(len(record) % 2)


def boot_image(code, content):
    """An image with *code* as its boot file (at block 20) and *content* from block 21 on."""
    root = directory(b"\0", 19, BLOCK)
    primary = (
        b"\1CD001\1\0" + b" " * 32 + b"PYEMU TEST".ljust(32) + bytes(8) + both(21 + len(content) // BLOCK) + bytes(32)
        + both16(1) + both16(1) + both16(BLOCK) + both(10) + struct.pack("<II", 18, 0) + struct.pack(">II", 18, 0)
        + root.ljust(34, b"\0")
    )  # fmt: skip
    record = b"\0CD001\1EL TORITO SPECIFICATION".ljust(71, b"\0") + struct.pack("<I", 17)
    validation = bytearray(struct.pack("<BBH24sHBB", 1, 0, 0, b"pyemu", 0, 0x55, 0xAA))
    checksum = -sum(struct.unpack("<16H", validation)) & 0xFFFF
    struct.pack_into("<H", validation, 28, checksum)
    entry = struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, 4, 20)
    end = b"\xffCD001\1"
    table = struct.pack("<BBIHB", 1, 0, 19, 1, 0)
    # Blocks 0 to 15 belong to nobody; then descriptors in 16 to 18 and what they point to.
    blocks = [bytes(BLOCK)] * 16 + [primary, record, end, root + directory(b"\1", 19, BLOCK), code]
    # The catalogue lies where the record says: the terminator moves behind it.
    blocks[17:19] = [record, end]
    image = bytearray(b"".join(part.ljust(BLOCK, b"\0") for part in blocks) + content)
    catalogue = len(image) // BLOCK
    struct.pack_into("<I", image, 17 * BLOCK + 71, catalogue)
    struct.pack_into("<I", image, 16 * BLOCK + 140, catalogue + 1)
    return bytes(image) + (bytes(validation) + entry).ljust(BLOCK, b"\0") + table.ljust(BLOCK, b"\0")

# SPDX-License-Identifier: MIT
"""Starting a kernel image directly, by the 32-bit Linux boot protocol.

The image is a bzImage-style file (Linux, memtest86+): real-mode setup sectors with a header at
0x1f1, then the protected-mode code. The processor enters the latter in flat 32-bit mode with ESI
pointing at the zero page (Linux documentation, x86 boot protocol 2.02 and later).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

ZERO_PAGE = 0x10000
COMMAND_LINE = 0x20000
GDT = 0x9000
_HEADER = 0x1F1
_MAGIC = b"HdrS"
_LOADED_HIGH = 0x01
_E820_RAM = 1
_MAX_E820 = 128
_TYPE_OF_LOADER = 0xFF


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes for guest physical memory."""

    gpa: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LinuxImage:
    """A parsed kernel image, ready to be laid out for a machine."""

    path: Path
    setup: bytes
    code: bytes
    load_address: int
    entry: int
    max_cmdline: int
    initrd_limit: int

    @classmethod
    def read(cls, path: Path) -> LinuxImage:
        """Parses an image.

        Raises:
            ConfigError: the file cannot be read, or is no image of protocol 2.02 or later.
        """
        try:
            image = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"kernel {path}: {error.strerror}") from None
        if len(image) < 0x268 or image[0x202:0x206] != _MAGIC:
            raise ConfigError(f"kernel {path}: no Linux boot header (HdrS at 0x202); {len(image)} bytes")
        (version,) = struct.unpack_from("<H", image, 0x206)
        if version < 0x0202:
            raise ConfigError(f"kernel {path}: boot protocol {version >> 8}.{version & 0xFF:02}, needed: 2.02")
        if not image[0x211] & _LOADED_HIGH:
            raise ConfigError(f"kernel {path}: loads at 0x10000 (zImage), only images that load high can be started")
        sectors = image[_HEADER] or 4
        start = (sectors + 1) * 512
        if start >= len(image):
            raise ConfigError(f"kernel {path}: {sectors} setup sectors, but only {len(image)} bytes")
        (code32,) = struct.unpack_from("<I", image, 0x214)
        limit = struct.unpack_from("<I", image, 0x22C)[0] if version >= 0x0203 else 0x37FFFFFF
        cmdline = struct.unpack_from("<I", image, 0x238)[0] if version >= 0x0206 else 255
        return cls(path, image[:start], image[start:], code32, code32, cmdline, limit)

    def layout(self, append: str, ram: list[tuple[int, int]], initrd: bytes = b"") -> list[Segment]:
        """What has to be in memory before the processor enters :attr:`entry`.

        Args:
            append: the command line.
            ram: usable memory as (start, length) pairs, ascending.
            initrd: contents of the initial RAM disk.

        Raises:
            ConfigError: kernel, command line or RAM disk do not fit.
        """
        cmdline = append.encode() + b"\0"
        if len(cmdline) > self.max_cmdline + 1:
            raise ConfigError(f"kernel {self.path}: command line of {len(cmdline) - 1} bytes, limit {self.max_cmdline}")
        high = next((r for r in ram if r[0] <= self.load_address < r[0] + r[1]), None)
        if high is None or self.load_address + len(self.code) > high[0] + high[1]:
            end = self.load_address + len(self.code)
            raise ConfigError(f"kernel {self.path}: needs RAM {self.load_address:#x}-{end - 1:#x}, the machine has less")
        zero = bytearray(4096)
        end_of_header = 0x202 + self.setup[0x201]
        zero[_HEADER:end_of_header] = self.setup[_HEADER:end_of_header]
        zero[0x210] = _TYPE_OF_LOADER
        struct.pack_into("<I", zero, 0x228, COMMAND_LINE)
        segments = [Segment(self.load_address, self.code), Segment(COMMAND_LINE, cmdline)]
        if initrd:
            top = min(high[0] + high[1], self.initrd_limit + 1)
            at = (top - len(initrd)) & ~0xFFF
            if at < self.load_address + len(self.code):
                raise ConfigError(f"initrd of {len(initrd)} bytes does not fit above the kernel in {high[1]} bytes")
            struct.pack_into("<II", zero, 0x218, at, len(initrd))
            segments.append(Segment(at, initrd))
        entries = ram[:_MAX_E820]
        zero[0x1E8] = len(entries)
        for i, (start, length) in enumerate(entries):
            struct.pack_into("<QQI", zero, 0x2D0 + 20 * i, start, length, _E820_RAM)
        ext_kib = min((high[0] + high[1] - 0x100000) // 1024, 0xFFFFFFFF)
        struct.pack_into("<H", zero, 0x02, min(ext_kib, 0xFFFF))
        struct.pack_into("<I", zero, 0x1E0, ext_kib)
        segments.append(Segment(ZERO_PAGE, bytes(zero)))
        # Flat descriptors where the protocol wants them: __BOOT_CS is 0x10, __BOOT_DS is 0x18.
        gdt = struct.pack("<QQQQ", 0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
        segments.append(Segment(GDT, gdt))
        return segments

    def registers(self) -> dict[str, int]:
        """Processor state at the entry point, by the names of :mod:`pyemu.cpu.x86`."""
        state = {"rip": self.entry, "rsi": ZERO_PAGE, "rflags": 2, "cr0": 0x11, "gdtr_base": GDT, "gdtr_limit": 31}
        for segment in ("es", "cs", "ss", "ds", "fs", "gs"):
            code = segment == "cs"
            state[f"{segment}_selector"] = 0x10 if code else 0x18
            state[f"{segment}_base"] = 0
            state[f"{segment}_limit"] = 0xFFFFFFFF
            state[f"{segment}_flags"] = 0x00CF9B00 if code else 0x00CF9300
        return state

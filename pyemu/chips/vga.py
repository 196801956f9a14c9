# SPDX-License-Identifier: MIT
"""A VGA with 256 KiB: on an ISA card, or a PCI function with its BIOS behind the expansion ROM register.

Ports, memory window and retrace bits are compiled (:mod:`pyemu.chips._vga`). What firmware needs to set modes, fonts and
palette is here as on the real card; the fonts themselves come with a video BIOS, none is in this package.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import ClassVar

from ..device import ISADevice, PCIDevice, Picture, Property, Text, VMState, pci_state, vmstate
from ..device.pci_device import COMMAND_IO, COMMAND_MEMORY
from ..errors import ConfigError
from ..memory import MemoryRegion, PortioEntry, PortioList, RAMBlock
from ._vga import VRAM_SIZE, WINDOW, VGACore
from ._vga_picture import picture_of, text_of
from ._vga_registers import TABLES

WINDOW_BASE, PORT_BASE, DISPI_BASE = 0xA0000, 0x3B0, 0x1CE
#: Under the memory of anything that was mapped over the window on purpose, above nothing.
WINDOW_PRIORITY = 1
ROM_SIGNATURE = b"\x55\xaa"
MAX_ROM = 0x10000

_FIELDS = (
    vmstate.uint8("misc"),
    vmstate.uint8("feature"),
    vmstate.uint8("sequencer_index", limit=7),
    vmstate.uint8("graphics_index", limit=15),
    vmstate.uint8("crtc_index", limit=31),
    vmstate.uint8("attribute_index", limit=0x3F),
    vmstate.uint8("attribute_data", limit=1),
    vmstate.uint8("pel_mask"),
    vmstate.uint8("dac_index"),
    vmstate.uint8("dac_component", limit=2),
    vmstate.uint8("dac_reads", limit=1),
    vmstate.uint16("dispi_index"),
    vmstate.uint8("dispi_low"),
    vmstate.uint32("latch"),
    vmstate.buffer("sequencer", 8),
    vmstate.buffer("graphics", 16),
    vmstate.buffer("crtc", 32),
    vmstate.buffer("attribute", 32),
    vmstate.buffer("palette", 768),
    vmstate.buffer("dac_latch", 3),
    vmstate.buffer("dispi", 32),
    vmstate.buffer("vram", VRAM_SIZE),
)


class VGA(VGACore):
    """What both kinds of card have: the ports, the window, and the screen as data."""

    def port_table(self) -> list[PortioEntry]:
        """Offsets from 3B0. The printer ports of the monochrome card, 3BC-3BF, are not a VGA's."""
        handler = self.port_handler()
        parts = ((0x04, 2), (0x0A, 1), (0x10, 16), (0x24, 2), (0x2A, 1))
        return [PortioEntry(offset, length, 1, handler=handler) for offset, length in parts]

    def dispi_table(self) -> list[PortioEntry]:
        handler = self.dispi_handler()
        return [PortioEntry(0, 1, 2, handler=handler), PortioEntry(1, 2, 1, handler=handler)]

    def window(self, name: str) -> MemoryRegion:
        return MemoryRegion.io(name, WINDOW, handler=self.window_handler(), owner=self)

    def picture(self) -> Picture:
        return picture_of(self)

    def text(self) -> Text | None:
        return text_of(self)


class ISAVGA(VGA, ISADevice):
    """A VGA on the ISA bus."""

    type_name = "isa-vga"
    vmstate = VMState("isa-vga", fields=_FIELDS)
    register_tables = TABLES
    volatile: ClassVar[frozenset[str]] = frozenset({"changes"})

    def realize(self) -> None:
        self.connect_clock(self.bus.clock)
        self.add_ports(self.port_table(), PORT_BASE)
        self.add_ports(self.dispi_table(), DISPI_BASE, f"{self.id}-dispi")
        self.add_memory(self.window(f"{self.id}.window"), WINDOW_BASE, WINDOW_PRIORITY)

    def reset(self) -> None:
        self.reset_core()

    def post_load(self, version: int) -> None:
        self.touch()


class PCIVGA(VGA, PCIDevice):
    """A VGA on the PCI bus, with the identity that SeaBIOS's video BIOS for emulators expects.

    Its legacy ports and window answer while the command register lets them.
    """

    type_name = "pci-vga"
    vendor_id = 0x1234
    device_id = 0x1111
    class_code = 0x030000
    command_wmask = COMMAND_IO | COMMAND_MEMORY
    properties = (Property("romfile", "file", None, "video BIOS, shown through the expansion ROM register"),)
    vmstate = pci_state("pci-vga", *_FIELDS)
    register_tables = TABLES
    volatile: ClassVar[frozenset[str]] = frozenset({"changes", "romfile", "_lists", "_region", "_shown", "_rom"})
    romfile: str | None

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self._lists: list[tuple[PortioList, int]] = []
        self._region: MemoryRegion | None = None
        self._rom: RAMBlock | None = None
        self._shown = False
        if self.romfile is not None:
            image = rom_for(read_rom(self.romfile), self.vendor_id, self.device_id)
            size = 1 << max(len(image) - 1, 0x7FF).bit_length()
            self._rom = RAMBlock(f"{self.type_name}.rom", size)
            self._rom.write(0, image)
            self.register_rom(MemoryRegion.rom(f"{self.type_name}.rom", self._rom), size)

    def realize(self) -> None:
        super().realize()
        self.connect_clock(self.bus.clock)
        for table, base, name in ((self.port_table(), PORT_BASE, self.id), (self.dispi_table(), DISPI_BASE, f"{self.id}-dispi")):
            ports = PortioList(self, table, name)
            ports.add(self.bus.ports, base, enabled=False)
            self._lists.append((ports, base))
        if self.bus.memory is not None:
            self._region = self.window(f"{self.id}.window")
            self._region.set_enabled(False)
            self.bus.memory.root.add_subregion(WINDOW_BASE, self._region, WINDOW_PRIORITY)

    def unrealize(self) -> None:
        super().unrealize()
        for ports, _ in self._lists:
            ports.remove()
            ports.destroy()
        self._lists.clear()
        if self._region is not None and self.bus.memory is not None:
            self.bus.memory.root.remove_subregion(self._region)
        self._region = None

    def close(self) -> None:
        super().close()
        if self._rom is not None:
            self._rom.close()

    def reset(self) -> None:
        self.reset_core()
        super().reset()

    def post_load(self, version: int) -> None:
        super().post_load(version)
        self.touch()

    def update_mappings(self) -> None:
        super().update_mappings()
        for ports, _ in self._lists:
            ports.set_enabled(bool(self.command & COMMAND_IO))
        if self._region is not None:
            self._region.set_enabled(bool(self.command & COMMAND_MEMORY))


def read_rom(path: str | Path) -> bytes:
    """A video BIOS image.

    Raises:
        ConfigError: it cannot be read or is no option ROM.
    """
    try:
        image = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"vgabios {path}: {error.strerror}") from None
    if image[:2] != ROM_SIGNATURE or not 512 <= len(image) <= MAX_ROM or not image[2] or image[2] * 512 > len(image):
        raise ConfigError(f"vgabios {path}: {len(image)} bytes do not begin as an option ROM of up to {MAX_ROM}")
    return image


def rom_for(image: bytes, vendor: int, device: int) -> bytes:
    """*image*, with a PCI data structure for this card when it has none; a PCI BIOS runs no ROM without."""
    (at,) = struct.unpack_from("<H", image, 0x18)
    if image[at : at + 4] == b"PCIR":
        return image
    length = image[2] * 512
    at = length  # behind what is there, on its own unit of 512 bytes
    data = struct.pack("<4sHHHHBBBBHHBBH", b"PCIR", vendor, device, 0, 24, 0, 0, 0, 3, length // 512 + 1, 1, 0, 0x80, 0)
    whole = bytearray(image[:length] + data.ljust(512, b"\0"))
    whole[2] += 1
    struct.pack_into("<H", whole, 0x18, at)
    # All bytes sum to 0; the last one is free to see to it.
    whole[-1] = -sum(whole[:-1]) & 0xFF
    return bytes(whole)

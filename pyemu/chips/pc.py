# SPDX-License-Identifier: MIT
"""What every PC-like board is made of: the memory map, the core devices, a place for a BIOS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..device import Bus, Clock, Device, IRQLine, ISABus, PCIBus
from ..device.pci_device import COMMAND_IO, COMMAND_MEMORY, REG_COMMAND
from ..errors import ConfigError
from ..memory import AddressSpace, MemoryRegion, PortSpace, RAMBlock
from ._floppy import media_of
from .cf9 import ResetControl
from .fdc import FloppyController
from .fwcfg import FirmwareConfig
from .i8042 import KeyboardController
from .i8237 import DMAController
from .i8254 import PIT
from .i8259 import PICPair
from .ide import IDEChannel
from .mc146818 import RTC
from .parallel import ParallelPort
from .port61 import SystemControlB
from .port92 import SystemControlA
from .uart16550 import UART16550
from .vga import ISAVGA, PCIVGA, read_rom
from .vga_setup import ISA_NAMES, PCI_NAMES, find_rom, font_of, set_text_mode

if TYPE_CHECKING:
    from ..device import BlockBackend, Chardev

D = TypeVar("D", bound=Device)

MIB = 1 << 20
FOUR_GIB = 1 << 32
#: Conventional memory ends where the display's window begins.
CONVENTIONAL_END = 0xA0000
#: From here to 1 MiB lie option ROMs and BIOS: RAM that holds copies of them.
UPPER_START = 0xC0000
#: RAM beyond this address continues above 4 GiB, leaving room for PCI and the BIOS.
LOW_RAM_END = 0xE0000000
#: How much of the end of a BIOS image is copied below 1 MiB: as much as fits, since SeaBIOS starts from there.
BIOS_SHADOW = MIB - UPPER_START
MAX_BIOS = 16 * MIB

CMOS_FLOPPY, CMOS_EQUIPMENT = 0x10, 0x14
CMOS_BASE_KIB, CMOS_EXTENDED_KIB, CMOS_EXTENDED_KIB_2 = 0x15, 0x17, 0x30
CMOS_ABOVE_16M, CMOS_ABOVE_4G = 0x34, 0x5B
CMOS_CHECKSUMMED, CMOS_CHECKSUM = range(0x10, 0x2E), 0x2E
EQUIPMENT_MATH, EQUIPMENT_FLOPPY = 0x02, 0x01


class Host(Protocol):
    """What of a machine this module uses."""

    board: str
    memory_size: int
    bios: Path | None
    kernel: Path | None
    ports: PortSpace
    memory: AddressSpace
    system_memory: MemoryRegion
    clock: Clock

    def add_ram(self, idstr: str, size: int) -> RAMBlock: ...

    def add_bus(self, bus: Bus) -> None: ...

    def add_device(self, device: Device, bus: Bus, id: str | None = None) -> Device: ...

    def connect_cpu_interrupt(self, pic: Any) -> None: ...

    def serial_chardev(self, n: int) -> Chardev: ...

    def drives(self, interface: str) -> Sequence[BlockBackend]: ...

    def on_reset(self, hook: Callable[[], None]) -> None: ...

    def set_a20(self, enabled: bool) -> None: ...

    def watch_line(self, line: IRQLine) -> None: ...

    def request_reset(self, reason: str = ...) -> None: ...


@dataclass(frozen=True, slots=True)
class Core:
    """The devices every board has, plugged in and connected."""

    isa: ISABus
    pic: PICPair
    pit: PIT
    dma: DMAController
    rtc: RTC
    keyboard: KeyboardController


def map_memory(machine: Host) -> RAMBlock:
    """RAM block ``pc.ram``: 640 KiB at 0, the area of the ROM copies, and what is above 1 MiB.

    The part of the block behind the display's window is not seen by the processor, as on real boards.

    Raises:
        ConfigError: there is less than 1 MiB.
    """
    size = machine.memory_size
    if size < MIB:
        raise ConfigError(f"board {machine.board}: memory of {size} bytes is less than {MIB}")
    block = machine.add_ram("pc.ram", size)
    pieces = [(0, 0, CONVENTIONAL_END), (UPPER_START, UPPER_START, MIB - UPPER_START)]
    if size > MIB:
        pieces.append((MIB, MIB, min(size, LOW_RAM_END) - MIB))
    if size > LOW_RAM_END:
        pieces.append((FOUR_GIB, LOW_RAM_END, size - LOW_RAM_END))
    for address, offset, length in pieces:
        region = MemoryRegion.ram(f"pc.ram-{address:x}", block, offset, length)
        machine.system_memory.add_subregion(address, region)
    return block


def map_bios(machine: Host, ram: RAMBlock) -> None:
    """Puts the machine's BIOS image below 4 GiB, and at each reset a copy of its end below 1 MiB.

    The copy is in RAM, as after a BIOS has shadowed itself, and can be written.

    Raises:
        ConfigError: the image cannot be read or its size is not a multiple of 64 KiB up to 16 MiB.
    """
    if machine.bios is None:
        return
    try:
        image = machine.bios.read_bytes()
    except OSError as error:
        raise ConfigError(f"bios {machine.bios}: {error.strerror}") from None
    if not 0 < len(image) <= MAX_BIOS or len(image) % 0x10000:
        raise ConfigError(f"bios {machine.bios}: {len(image)} bytes are not a multiple of 65536 up to {MAX_BIOS}")
    rom = machine.add_ram("pc.bios", len(image))
    rom.write(0, image)
    machine.system_memory.add_subregion(FOUR_GIB - len(image), MemoryRegion.rom("pc.bios", rom))
    end = image[-BIOS_SHADOW:]
    machine.on_reset(lambda: ram.write(MIB - len(end), end))


def add_core(machine: Host, nvram: str | None = None) -> Core:
    """The ISA bus with its core devices: interrupt controllers, timer, DMA, clock, keyboard, system ports.

    Args:
        machine: to plug them into.
        nvram: file that keeps the CMOS memory; what describes the machine is set anew all the same.
    """
    pic = PICPair()
    isa = ISABus(machine.ports, machine.memory, machine.clock, pic.lines)
    machine.add_bus(isa)

    def add(device: D) -> D:
        machine.add_device(device, isa)
        return device

    add(pic)
    machine.connect_cpu_interrupt(pic)
    pit, dma = add(PIT()), add(DMAController())
    rtc, keyboard = add(RTC(nvram=nvram)), add(KeyboardController())
    add(SystemControlB())
    port92 = add(SystemControlA())
    # Either gate opens the address line.
    a20 = IRQLine("a20", 0, lambda n, level: machine.set_a20(bool(level)))
    machine.watch_line(a20)
    keyboard.a20_out.connect(a20)
    port92.a20_out.connect(a20)
    keyboard.on_reset = machine.request_reset
    port92.on_reset = machine.request_reset
    set_cmos(rtc, machine)
    return Core(isa, pic, pit, dma, rtc, keyboard)


def add_reset_control(machine: Host, isa: ISABus) -> None:
    """The reset control register CF9 of boards with PCI."""
    control = ResetControl()
    machine.add_device(control, isa)
    control.on_reset = lambda hard: machine.request_reset()


def set_cmos(rtc: RTC, machine: Host) -> None:
    """Memory size and floppy drives in the CMOS bytes where a BIOS looks for them, checksum included."""
    size = machine.memory_size
    extended = max(0, min(size, LOW_RAM_END) - MIB)
    values = {
        CMOS_BASE_KIB: (CONVENTIONAL_END >> 10, 2),
        CMOS_EXTENDED_KIB: (min(extended >> 10, 0xFFFF), 2),
        CMOS_EXTENDED_KIB_2: (min(extended >> 10, 0xFFFF), 2),
        CMOS_ABOVE_16M: (max(0, extended - 15 * MIB) >> 16, 2),
        CMOS_ABOVE_4G: (max(0, size - LOW_RAM_END) >> 16, 3),
    }
    floppies = {d.index: media_of(f"floppy drive {d.index}", d.size).drive_type for d in machine.drives("floppy")}
    values[CMOS_FLOPPY] = (floppies.get(0, 0) << 4 | floppies.get(1, 0), 1)
    equipment = EQUIPMENT_MATH | (EQUIPMENT_FLOPPY | max(0, len(floppies) - 1) << 6 if floppies else 0)
    values[CMOS_EQUIPMENT] = (equipment, 1)
    for at, (value, length) in values.items():
        rtc.cmos[at : at + length] = value.to_bytes(length, "little")
    rtc.cmos[CMOS_CHECKSUM : CMOS_CHECKSUM + 2] = sum(rtc.cmos[at] for at in CMOS_CHECKSUMMED).to_bytes(2, "big")


def add_vga(machine: Host, isa: ISABus, pci: PCIBus | None = None, vgabios: str | None = None) -> ISAVGA | PCIVGA:
    """A VGA: on the PCI bus where there is one, else on the ISA bus.

    A kernel that is started without a BIOS finds it in text mode, with the video BIOS's font; a BIOS finds the video BIOS.

    Args:
        machine: the machine.
        isa, pci: its buses.
        vgabios: the video BIOS; None for the one of an installed SeaBIOS, if there is any.

    Raises:
        ConfigError: *vgabios* is no option ROM.
    """
    found = Path(vgabios) if vgabios is not None else find_rom(ISA_NAMES if pci is None else PCI_NAMES)
    rom = read_rom(found) if found is not None else None
    vga: ISAVGA | PCIVGA
    if pci is not None:
        vga = PCIVGA(addr="2.0", romfile=str(found) if found is not None else None)
        machine.add_device(vga, pci)
    else:
        vga = ISAVGA()
        machine.add_device(vga, isa)
        if rom is not None and machine.bios is not None:
            files = FirmwareConfig()
            files.add_file("vgaroms/vgabios.bin", rom)
            machine.add_device(files, isa)
    if machine.kernel is not None and machine.bios is None:
        font = font_of(rom) if rom is not None else None

        def set_up() -> None:
            if isinstance(vga, PCIVGA):
                vga.config_write(REG_COMMAND, 2, COMMAND_IO | COMMAND_MEMORY)
            set_text_mode(machine.ports, machine.memory, font)

        machine.on_reset(set_up)
    return vga


def serial_port(machine: Host, n: int) -> UART16550:
    """A UART with the machine's *n*-th character backend."""
    return UART16550(chardev=machine.serial_chardev(n))


def parallel_port(machine: Host) -> ParallelPort:
    """A parallel port with nothing attached."""
    return ParallelPort()


def floppy_controller(machine: Host) -> FloppyController:
    """A floppy controller with the machine's floppy drives."""
    drives = {drive.index: drive for drive in machine.drives("floppy")}
    return FloppyController(drive0=drives.get(0), drive1=drives.get(1))


def ide_channel(machine: Host, n: int) -> IDEChannel:
    """The *n*-th IDE channel with the machine's drives 2n and 2n+1."""
    drives = {drive.index: drive for drive in machine.drives("ide")}
    return IDEChannel(drive0=drives.get(2 * n), drive1=drives.get(2 * n + 1))

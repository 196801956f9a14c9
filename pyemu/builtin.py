# SPDX-License-Identifier: MIT
"""What the core itself provides, through the hooks that plugins use."""

from __future__ import annotations

from collections.abc import Iterator

from .plugin import Board, Channel, Command, Compression, DeviceType, hookimpl


@hookimpl
def pyemu_boards() -> Iterator[Board]:
    yield Board(
        name="none",
        factory="pyemu.machine.boards:build_none",
        help="RAM and nothing else; reads and writes saved machines of QEMU's board of that name",
        default_cpu="none",
        arch="none",
    )


@hookimpl
def pyemu_devices() -> Iterator[DeviceType]:
    chips = "pyemu.chips"
    yield DeviceType(name="isa-serial", factory=f"{chips}.uart16550:UART16550", help="serial port, 16550A")
    yield DeviceType(name="isa-parallel", factory=f"{chips}.parallel:ParallelPort", help="parallel port")
    yield DeviceType(name="isa-fdc", factory=f"{chips}.fdc:FloppyController", help="floppy controller, 82077AA")
    yield DeviceType(name="isa-ide", factory=f"{chips}.ide:IDEChannel", help="ATA channel for two disks")
    yield DeviceType(name="isa-mpu401", factory=f"{chips}.mpu401:MPU401", help="MIDI port, MPU-401 in UART mode")
    yield DeviceType(name="isa-gameport", factory=f"{chips}.mpu401:GamePort", help="game port")
    yield DeviceType(name="smbus-eeprom", factory=f"{chips}.smbus:EEPROM", bus="smbus", help="EEPROM of 256 bytes")
    yield DeviceType(name="usb-kbd", factory=f"{chips}.usb_keyboard:USBKeyboard", bus="usb", help="USB keyboard")
    yield DeviceType(name="usb-storage", factory=f"{chips}.usb_storage:USBStorage", bus="usb", help="USB disk, drive=FILE")
    yield DeviceType(name="isa-vga", factory=f"{chips}.vga:ISAVGA", help="VGA card without a BIOS", bus="isa")
    yield DeviceType(name="pci-vga", factory=f"{chips}.vga:PCIVGA", help="VGA card; romfile=F is its BIOS", bus="pci")


@hookimpl
def pyemu_channels() -> Iterator[Channel]:
    migration = "pyemu.migration"
    yield Channel(
        name="file",
        factory=f"{migration}.channels:FileChannel",
        transport="file",
        help="file:PATH[,offset=N], also file:/dev/fdset/N",
    )
    yield Channel(
        name="tcp",
        factory=f"{migration}.tcp:TCPChannel",
        transport="socket:inet",
        help="tcp:HOST:PORT[,to=PORT][,ipv4=on|off][,ipv6=on|off]",
    )
    yield Channel(
        name="unix", factory=f"{migration}.sockets:UnixChannel", transport="socket:unix", help="unix:PATH, a socket"
    )
    yield Channel(
        name="fd",
        factory=f"{migration}.given:FDChannel",
        transport="socket:fd",
        help="fd:NAME from getfd, or fd:N, a descriptor the process inherited",
    )
    yield Channel(
        name="exec",
        factory=f"{migration}.command:ExecChannel",
        transport="exec",
        help="exec:COMMAND, to or from a command of the shell",
    )


@hookimpl
def pyemu_compressions() -> Iterator[Compression]:
    yield Compression(name="zlib", factory="pyemu.migration.compression:ZlibCompression", help="levels 0 to 9")


@hookimpl
def pyemu_commands() -> Iterator[Command]:
    yield Command(name="run", factory="pyemu.cli.run", help="run a machine")
    yield Command(name="demo", factory="pyemu.cli.demo", help="save a running machine, restore it, go on counting")
    yield Command(name="save", factory="pyemu.cli.save", help="save a running machine through its QMP socket")
    yield Command(name="restore", factory="pyemu.cli.restore", help="load a saved machine through a QMP socket")
    yield Command(name="migrate", factory="pyemu.cli.migrate", help="move a running machine to a waiting one")
    yield Command(name="screenshot", factory="pyemu.cli.screenshot", help="a picture of a running machine's screen")
    yield Command(name="snapshot", factory="pyemu.cli.snapshot", help="look into saved machines")
    yield Command(name="plugins", factory="pyemu.cli.plugins", help="list, write and check plugins")
    yield Command(name="doctor", factory="pyemu.cli.doctor", help="say what this system offers and what is missing")
    yield Command(name="bench", factory="pyemu.cli.bench", help="run the micro-benchmarks")

# SPDX-License-Identifier: MIT
"""Board ``isa-pc``: the PC's core devices and a SuperI/O on an ISA bus, no PCI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyemu import ConfigError
from pyemu.chips import pc

from .chip import PC87312

if TYPE_CHECKING:
    from pyemu import ISAFunction, Machine


def build(
    machine: Machine,
    *,
    superio: str,
    config: int,
    iobase: int,
    strict_double_write: bool,
    wide_access: str,
    vga: bool,
    vgabios: str | None,
    nvram: str | None,
) -> None:
    """Assembles the board."""
    if superio != "pc87312":
        raise ConfigError(f"board {machine.board}: no SuperI/O {superio!r}; there is: pc87312")
    machine.ports.wide = wide_access
    ram = pc.map_memory(machine)
    pc.map_bios(machine, ram)
    core = pc.add_core(machine, nvram)
    chip = PC87312(config=config, iobase=iobase, strict_double_write=strict_double_write)
    functions: dict[str, ISAFunction] = {
        "parallel": pc.parallel_port(machine),
        "uart1": pc.serial_port(machine, 0),
        "uart2": pc.serial_port(machine, 1),
        "floppy": pc.floppy_controller(machine),
        "ide": pc.ide_channel(machine, 0),
    }
    for name, function in functions.items():
        chip.attach(name, function)
        machine.add_device(function, core.isa)
    machine.add_device(chip, core.isa)
    if vga:
        pc.add_vga(machine, core.isa, vgabios=vgabios)

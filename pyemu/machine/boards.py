# SPDX-License-Identifier: MIT
"""Board ``none``: RAM and nothing else, the same as QEMU's machine of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..memory import MemoryRegion

if TYPE_CHECKING:
    from .machine import Machine


def build_none(machine: Machine) -> None:
    """One RAM block ``ram`` at address 0; no processor, no devices, no bus."""
    block = machine.add_ram("ram", machine.memory_size)
    machine.system_memory.add_subregion(0, MemoryRegion.ram("ram", block))

# SPDX-License-Identifier: MIT
"""What is put into a machine's memory at each reset: raw files, and an image to start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .assembly import ADDRESS_SPACE_SIZE, Assembly
from .linuxboot import LinuxImage


class BootImages:
    """The files that a user gave a machine to start from.

    Args:
        kernel, append, initrd, bios, loaders: as for :class:`~pyemu.Machine`.
    """

    def __init__(
        self,
        *,
        kernel: str | os.PathLike[str] | None,
        append: str,
        initrd: str | os.PathLike[str] | None,
        bios: str | os.PathLike[str] | None,
        loaders: Sequence[tuple[str | os.PathLike[str], int]],
    ) -> None:
        self.kernel = Path(kernel) if kernel is not None else None
        self.append = append
        self.initrd = Path(initrd) if initrd is not None else None
        self.bios = Path(bios) if bios is not None else None
        self.loaders = [(Path(path), address) for path, address in loaders]
        self._image: LinuxImage | None = None

    def check(self, cpu_name: str, *, incoming: bool) -> None:
        """Reads the kernel and looks at the loaders' files.

        Args:
            cpu_name: a kernel needs a processor.
            incoming: the kernel's work is in the state that will come; it is not read.

        Raises:
            ConfigError: one of them is missing or does not fit.
        """
        for path, address in self.loaders:
            if not path.is_file():
                raise ConfigError(f"loader file {path}: no such file")
            if address < 0 or address + path.stat().st_size > ADDRESS_SPACE_SIZE:
                raise ConfigError(f"loader file {path}: address {address:#x} is outside the address space")
        self._image = LinuxImage.read(self.kernel) if self.kernel is not None and not incoming else None
        if self._image is not None and cpu_name == "none":
            raise ConfigError(f"kernel {self.kernel}: a machine without a processor cannot start one")

    def load(self, machine: Assembly) -> None:
        """Machine thread only: copies the files into RAM and sets the processor to the kernel's entry."""
        for path, address in self.loaders:
            _load_bytes(machine, path.read_bytes(), address, f"loader file {path}")
        if self._image is not None:
            self._start(machine, self._image)

    def _start(self, machine: Assembly, image: LinuxImage) -> None:
        assert machine.engine is not None
        try:
            initrd = self.initrd.read_bytes() if self.initrd is not None else b""
        except OSError as error:
            raise ConfigError(f"initrd {self.initrd}: {error.strerror}") from None
        # The first MiB holds the BIOS area on a PC; the kernel is told the conventional split.
        usable = [r for start, length in machine.ram_ranges() for r in _without_pc_hole(start, length)]
        for segment in image.layout(self.append, usable, initrd):
            _load_bytes(machine, segment.data, segment.gpa, f"kernel {image.path}")
        state = machine.engine.get_state()
        state.update(image.registers())
        machine.engine.set_state(state)
        machine.set_a20(True)


def _load_bytes(machine: Assembly, data: bytes, gpa: int, what: str) -> None:
    """Copies *data* into RAM, refusing ranges that are not RAM."""
    end = gpa + len(data)
    if not any(start <= gpa and end <= start + length for start, length in machine.ram_ranges()):
        raise ConfigError(f"{what}: {gpa:#x}-{end - 1:#x} is not RAM of this machine")
    machine.memory.write(gpa, data)


def _without_pc_hole(start: int, length: int) -> list[tuple[int, int]]:
    low = (start, min(start + length, 0x9FC00) - start)
    high_start = max(start, 0x100000)
    high = (high_start, start + length - high_start)
    return [r for r in (low, high) if r[1] > 0]

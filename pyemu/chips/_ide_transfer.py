# SPDX-License-Identifier: MIT
"""How data leaves and reaches a device of an IDE channel: blocks at the data port, and DMA through a bus master."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..device import Timer
from ..memory import AddressSpace
from ._ata import READY, SECTOR, STATUS_DRQ, STATUS_ERR, ATADisk, TaskFile
from ._atapi import CDROM
from ._ide import PHASE_IDLE, IDECore

PHASE_DMA_IN = 3  # the bus master moves data to memory
PHASE_DMA_OUT = 4

#: Bytes that one step of a DMA transfer moves; between two steps the machine thread does other things.
DMA_STEP = 128 << 10

Segments = list[tuple[int, int]]


class DMAMaster(Protocol):
    """What moves a channel's data to and from memory."""

    memory: AddressSpace | None

    def interrupted(self) -> None:
        """The channel has raised its interrupt line."""

    def serves(self, to_memory: bool) -> bool:
        """Whether a transfer in this direction can go on now."""

    def segments(self, length: int, unit: int) -> Segments:
        """(address, bytes) of the next places in memory: up to *length* bytes in whole units of *unit*."""

    def short(self) -> None:
        """The device has more to move than the host gave places for."""

    def finished(self) -> None:
        """The device has moved all it had."""


class _Register:
    """A register of the selected device."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, channel: Transfers, owner: object = None) -> int:
        value: int = getattr(channel.files[channel.selected], self._name)
        return value

    def __set__(self, channel: Transfers, value: int) -> None:
        setattr(channel.files[channel.selected], self._name, value)


class Transfers(IDECore):
    """Blocks, DMA steps, and how a command ends; the base of the channel's command sets.

    Attributes:
        disks, cdroms: per device; what is not there has no drive.
        files: their registers.
        bus_master: who carries DMA, None on a channel without.
        stage: what one step of DMA reads from a disk, on its way to memory.
    """

    disks: list[ATADisk]
    cdroms: list[CDROM]
    files: list[TaskFile]
    bus_master: DMAMaster | None
    stage: bytearray
    dma_timer: Timer
    id: str
    command: int
    features: int
    sector: int
    remaining: int

    @property
    def selected(self) -> int:
        """0 or 1: the device that the device register selects."""
        raise NotImplementedError

    @property
    def disk(self) -> ATADisk:
        return self.disks[self.selected]

    if TYPE_CHECKING:  # every device has it

        def warn_once(self, key: str, message: str, *args: Any) -> None: ...

    error = _Register("error")
    count = _Register("count")
    low = _Register("low")
    mid = _Register("mid")
    high = _Register("high")

    # -- ends -------------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        self.interrupt = 1
        self._drive_pin()

    def _drive_pin(self) -> None:
        before = self.pin_level()
        self.update_pin()
        if self.bus_master is not None and self.pin_level() and not before:
            self.bus_master.interrupted()

    def pin_level(self) -> int:
        raise NotImplementedError

    def _stop(self) -> None:
        self.phase = PHASE_IDLE
        self.position = self.limit = self.remaining = self.sector = 0
        self.dma_timer.cancel()

    def _succeed(self) -> None:
        self.phase = PHASE_IDLE
        self.statuses[self.selected] = READY
        self._interrupt()

    def _fail(self, error: int) -> None:
        self.phase = PHASE_IDLE
        self.remaining = 0
        self.error = error
        self.statuses[self.selected] = READY | STATUS_ERR
        self._interrupt()

    # -- blocks -----------------------------------------------------------------------------------

    def _open_block(self, phase: int, length: int, position: int = 0) -> None:
        """Offers the buffer from *position* to *length* at the data port."""
        self.phase, self.position, self.limit = phase, position, length
        self.statuses[self.selected] = READY | STATUS_DRQ

    # -- DMA --------------------------------------------------------------------------------------

    def _begin_dma(self, to_memory: bool) -> None:
        """Raises the request for DMA; the bus master may have been started already."""
        self.phase = PHASE_DMA_IN if to_memory else PHASE_DMA_OUT
        self.statuses[self.selected] = READY | STATUS_DRQ
        self.dma_run()

    def dma_run(self) -> None:
        """One step, when device and bus master are both ready. The rest follows from a timer, so no step takes long."""
        master = self.bus_master
        if master is None or self.phase not in (PHASE_DMA_IN, PHASE_DMA_OUT) or not master.serves(self.phase == PHASE_DMA_IN):
            return
        self._dma_step(master)
        if self.phase in (PHASE_DMA_IN, PHASE_DMA_OUT) and master.serves(self.phase == PHASE_DMA_IN):
            self.dma_timer.arm(self.dma_timer.clock.now_ns + 1)

    def _dma_step(self, master: DMAMaster) -> None:
        raise NotImplementedError


def scatter(memory: AddressSpace | None, segments: Segments, data: bytes | memoryview) -> None:
    """Stores *data* at the places in memory."""
    view, at = memoryview(data), 0
    for address, length in segments:
        if memory is not None:
            memory.write(address, view[at : at + length])
        at += length


def gather(memory: AddressSpace | None, segments: Segments) -> bytes:
    """What stands at the places in memory; all ones where there is none."""
    return b"".join(memory.read(at, length) if memory is not None else b"\xff" * length for at, length in segments)


def sectors_of(segments: Segments, unit: int = SECTOR) -> int:
    return sum(length for _, length in segments) // unit


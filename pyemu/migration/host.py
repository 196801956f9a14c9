# SPDX-License-Identifier: MIT
"""What migration needs from the thing being migrated. A :class:`~pyemu.Machine` is one; tests use small fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..device import Clock
from ..device.vmstate import VMState
from ..errors import MigrationError
from ..memory import RAMBlock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeviceSection:
    """One FULL section: the declared state of one object.

    ``pre_save()`` runs before encoding and ``post_load(version)`` after decoding; either may be None.
    """

    name: str
    instance_id: int
    state: VMState
    obj: Any
    pre_save: Callable[[], None] | None = None
    post_load: Callable[[int], None] | None = None


class MigrationHost(Protocol):
    """A machine as migration sees it. Only :meth:`call` may be used from the migration thread."""

    @property
    def machine_name(self) -> str:
        """For the configuration section, e.g. ``none``."""

    @property
    def uuid(self) -> bytes | None:
        """16 raw bytes, or None when unset."""

    @property
    def run_state(self) -> str:
        """QEMU's name: running, paused, prelaunch, inmigrate, finish-migrate, postmigrate ..."""

    @property
    def clock(self) -> Clock:
        """Guest time. Migration itself writes it as section ``timer``, and the run state as ``globalstate``."""

    def ram_blocks(self) -> Sequence[RAMBlock]: ...

    def ram_addresses(self) -> Mapping[str, int]:
        """Machine thread only: where blocks are, by name, in the region that each is part of. Others are at 0."""

    def sections(self) -> Sequence[DeviceSection]:
        """The sections of the CPU and the devices, in wire order, which is the order of registration."""

    def description(self) -> dict[str, Any]:
        """The ``pyemu`` key of the stream's JSON: board, options, memory, devices, drives."""

    def call(self, function: Callable[[], T]) -> T:
        """Runs *function* on the machine thread and returns what it returns (or raises what it raises)."""

    def vm_stop(self, state: str) -> None:
        """Machine thread only: stops the guest and sets the run state; emits STOP if it ran."""

    def vm_start(self) -> None:
        """Machine thread only: lets the guest run; emits RESUME."""

    def set_run_state(self, state: str) -> None: ...

    def set_cpu_throttle(self, percent: int) -> None:
        """Takes this share of its time, 0 to 99 percent, away from the processor; any thread."""

    def emit(self, event: str, data: dict[str, Any]) -> None:
        """Sends an event to control clients; any thread."""

    def ram_changed(self) -> None:
        """Machine thread only: RAM was rewritten by a load; translated code must go."""

    def incoming_failed(self, error: MigrationError) -> None:
        """A load failed whose failure is to end the machine; any thread."""

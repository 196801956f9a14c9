# SPDX-License-Identifier: MIT
"""The contract between a machine and the CPU engine that carries its processor."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar


class Exit(enum.Enum):
    """Why :meth:`CPUEngine.run` came back."""

    KICK = "kick"  #: somebody called kick()
    HALT = "halt"  #: the processor executed HLT and waits for an interrupt
    SHUTDOWN = "shutdown"  #: triple fault: the board resets
    ERROR = "error"  #: the engine cannot go on; ``detail`` says why


@dataclass(frozen=True, slots=True)
class ExitReason:
    """The reason of an exit with one line of detail for :attr:`Exit.ERROR`."""

    exit: Exit
    detail: str = ""


class CPUEngine(ABC):
    """One virtual processor.

    All methods but :meth:`kick` are called on the machine thread. An engine runs guest code without
    the GIL and reaches ports, MMIO, the interrupt controller and the clock through the C table in
    the capsule ``pyemu.cpu_host`` it was created with (``pyemu/capi/pyemu.h``).

    Attributes:
        name: as in its record.
        capabilities: of ``"dirty-log"``, ``"smp"``, ``"step"``, ``"exact-interrupts"`` (protected mode
            interrupts and faults are delivered as the architecture says) ...
        mode: free text, shown by ``pyemu doctor`` and QMP, e.g. ``"deep"`` or ``"public"``.
    """

    name: ClassVar[str] = ""
    capabilities: frozenset[str] = frozenset()
    mode: str = ""

    @abstractmethod
    def map_ram(self, gpa: int, size: int, pointer: int, writable: bool = True) -> None:
        """Shows *size* bytes of host memory at *pointer* to the guest at *gpa* (page aligned)."""

    @abstractmethod
    def unmap(self, gpa: int, size: int) -> None:
        """Takes a RAM range out of the guest's view; accesses to it are MMIO from then on."""

    @abstractmethod
    def run(self) -> ExitReason:
        """Executes guest code until kicked, halted or unable to go on.

        Returns at an instruction boundary: calling it again goes on exactly where it stopped.
        """

    @abstractmethod
    def kick(self) -> None:
        """Makes :meth:`run` return soon. Any thread; never blocks; idempotent; a kick before run() is not lost."""

    @abstractmethod
    def set_irq(self, level: int) -> None:
        """Level of the INTR pin."""

    @abstractmethod
    def engine_capsule(self) -> Any:
        """PyCapsule ``pyemu.cpu_engine`` (so that compiled interrupt controllers need no Python), or None."""

    @abstractmethod
    def reset(self) -> None:
        """Power-on state."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Architectural registers by name, hidden segment parts, MSRs and FPU included (:mod:`pyemu.cpu.x86`).

        Between runs only: in the middle of an instruction it raises :class:`~pyemu.errors.EngineError`.
        """

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """The reverse. Unknown or missing names raise :class:`~pyemu.errors.EngineError`."""

    @abstractmethod
    def invalidate(self, gpa: int, length: int) -> None:
        """The host wrote guest memory: drops translated code of that range."""

    def inject_nmi(self) -> None:
        """Raises a non-maskable interrupt."""
        raise NotImplementedError(f"engine {self.name} cannot inject NMIs")

    def set_a20(self, enabled: bool) -> None:
        """Opens or closes the A20 gate."""

    def close(self) -> None:
        """Gives all resources back."""

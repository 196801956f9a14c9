# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU engine that the core sees."""

from __future__ import annotations

import logging
import os
from typing import Any, ClassVar

from pyemu.cpu import x86
from pyemu.cpu.engine import CPUEngine, Exit, ExitReason
from pyemu.errors import EngineError

from . import _engine
from .library import find_library
from .memorymap import END, PAGE, MemoryMap, Piece
from .state import PublicState, get_deep, set_deep

_log = logging.getLogger("pyemu.unicorn")

#: ``public`` keeps to documented functions; ``deep`` is an error where it cannot be had; ``auto`` takes what works.
MODE_VARIABLE = "PYEMU_UNICORN_MODE"
_MODES = ("auto", "deep", "public")
_ACCESSES = {16: "read of", 17: "write to", 18: "fetch from", 19: "read of", 20: "write to", 21: "fetch from",
             22: "write to", 23: "read of", 24: "fetch from"}  # fmt: skip
_KICKED = ExitReason(Exit.KICK)
_HALTED = ExitReason(Exit.HALT)
_SHUT_DOWN = ExitReason(Exit.SHUTDOWN)


def create(arch: str, host: Any) -> UnicornEngine:
    """The factory named in the engine's record.

    Args:
        arch: must be ``x86``.
        host: capsule ``pyemu.cpu_host``.
    """
    if arch != "x86":
        raise EngineError(f"unicorn: runs x86, not {arch}")
    return UnicornEngine(host)


class UnicornEngine(CPUEngine):
    """An x86 processor on the Unicorn library.

    Args:
        host: capsule ``pyemu.cpu_host``.
        mode: ``auto``, ``deep`` or ``public``; None takes the environment variable PYEMU_UNICORN_MODE.

    Raises:
        EngineError: the library is missing, or deep mode was demanded and is not possible.
    """

    name: ClassVar[str] = "unicorn"

    def __init__(self, host: Any, mode: str | None = None) -> None:
        wanted = mode if mode is not None else os.environ.get(MODE_VARIABLE, "auto")
        if wanted not in _MODES:
            raise EngineError(f"unicorn: mode {wanted!r} is none of {', '.join(_MODES)}")
        self._p = _engine.Processor(os.fsencode(find_library()), host, wanted != "public")
        if wanted == "deep" and not self._p.deep:
            raise EngineError(f"unicorn: deep mode is not possible: {self._p.refusal}")
        if wanted == "auto" and not self._p.deep:
            _log.warning("unicorn: public mode, without interrupts in protected mode: %s", self._p.refusal)
        self.mode = "deep" if self._p.deep else "public"
        self.capabilities = frozenset({"exact-interrupts", "a20", "long-mode"} if self._p.deep else ())
        self._map = MemoryMap()
        self._mapped: set[Piece] = set()
        self._stale = True
        self._warned = False
        self._apic_base = 0
        self.reset()

    # -- memory -----------------------------------------------------------------------------------

    def map_ram(self, gpa: int, size: int, pointer: int, writable: bool = True) -> None:
        self._check_range(gpa, size)
        if not pointer or pointer % PAGE:
            raise EngineError(f"unicorn: host address {pointer:#x} for {gpa:#x} is not page aligned")
        self._map.add(Piece(gpa, size, pointer, writable))
        self._map_changed()

    def unmap(self, gpa: int, size: int) -> None:
        self._check_range(gpa, size)
        self._map.remove(gpa, size)
        self._map_changed()

    def invalidate(self, gpa: int, length: int) -> None:
        if self._stale or length <= 0:  # nothing was translated from this map yet, or all of it goes
            return
        if self._map.shared():
            self._p.flush()
            return
        for pointer, size in self._map.host_ranges(gpa, length):
            self._p.invalidate(pointer, size)

    def _check_range(self, gpa: int, size: int) -> None:
        if gpa < 0 or size <= 0 or gpa % PAGE or size % PAGE or gpa + size > END:
            raise EngineError(f"unicorn: {size:#x} bytes at {gpa:#x} are no whole pages below {END:#x}")

    def _map_changed(self) -> None:
        # Between runs the new map waits for the next one, so that a board can build it step by step.
        # Inside a port handler it applies at once: the guest's next instruction may depend on it.
        # Inside an MMIO handler the library still uses the range that is being accessed.
        self._stale = True
        if self._p.in_mmio:
            self._p.sync_wanted = True
        elif self._p.running:
            self._sync()

    def _sync(self) -> None:
        wanted = self._map.pieces()
        for piece in sorted(self._mapped - wanted):
            self._p.unmap(piece.gpa, piece.size)
            self._mapped.discard(piece)
        for piece in sorted(wanted - self._mapped):
            if piece.pointer:
                self._p.map_ram(*piece)
            else:
                self._p.map_mmio(piece.gpa, piece.size)
            self._mapped.add(piece)
        self._p.flush()
        self._p.sync_wanted = False
        self._stale = False

    # -- running ----------------------------------------------------------------------------------

    def run(self) -> ExitReason:
        while True:
            if self._stale:
                self._sync()
            result = self._p.run()
            if self._p.withheld and not self._warned:
                self._warned = True
                _log.warning("unicorn: public mode delivers no interrupts in protected mode; the guest may hang")
            if result == _engine.KICK:
                return _KICKED
            if result == _engine.HALT:
                return _HALTED
            if result == _engine.SHUTDOWN:
                return _SHUT_DOWN
            if result == _engine.ERROR:
                return ExitReason(Exit.ERROR, self._describe_error())

    def _describe_error(self) -> str:
        cause, kind, gpa, vector = self._p.error()
        size = 8 if self._p.deep else 4
        rip = int.from_bytes(self._p.reg_read(41 if self._p.deep else 26, size), "little")
        selector = int.from_bytes(self._p.reg_read(11, 2), "little")
        at = f"at {selector:04x}:{rip:#x}"
        if not cause:
            self._p.clear_error()
            return f"{at}: public mode cannot deliver exception {vector} in protected mode"
        if kind:
            return f"{at}: {_ACCESSES.get(kind, 'access to')} {gpa:#x}, which is no memory ({cause})"
        return f"{at}: {cause}"

    def kick(self) -> None:
        self._p.kick()

    def set_irq(self, level: int) -> None:
        self._p.set_irq(level)

    def inject_nmi(self) -> None:
        self._p.inject_nmi()

    def set_a20(self, enabled: bool) -> None:
        self._p.set_a20(enabled)

    def engine_capsule(self) -> Any:
        return self._p.engine_capsule()

    # -- state ------------------------------------------------------------------------------------

    def reset(self) -> None:
        power_on = x86.reset_state()
        if not self._p.deep:
            # Without access to hidden segment parts the first instruction is taken from below 1 MiB,
            # where boards show the same bytes.
            power_on["cs_base"] = 0xF0000
        self.set_state(power_on)

    def get_state(self) -> dict[str, Any]:
        if self._p.running:
            raise EngineError("unicorn: state cannot be read from inside guest code")
        values = get_deep(self._p) if self._p.deep else PublicState(self._p).get()
        values.update(
            tsc=self._p.tsc,
            halted=int(self._p.halted),
            a20=int(self._p.a20),
            nmi_pending=int(self._p.nmi_pending),
            apic_base=self._apic_base,
        )
        return {name: values[name] for name in x86.FIELD_NAMES}

    def set_state(self, state: dict[str, Any]) -> None:
        x86.check_state(state)
        if self._p.running:
            raise EngineError("unicorn: state cannot be set from inside guest code")
        if self._p.deep:
            set_deep(self._p, state)
        else:
            if self._stale:  # descriptors are read from the guest's memory
                self._sync()
            PublicState(self._p).set(state)
        self._p.clear_error()
        self._p.tsc = state["tsc"]
        self._p.halted = bool(state["halted"])
        self._p.nmi_pending = bool(state["nmi_pending"])
        self._p.set_a20(bool(state["a20"]))
        self._apic_base = state["apic_base"]

    def close(self) -> None:
        self._p.close()

# SPDX-License-Identifier: MIT
"""What SuperI/O chips have in common.

A SuperI/O chip is an index/data port pair in front of a register file, and a set of functions that
the registers switch on, switch off and move. A chip says two things: a :class:`RegisterTable` and a
pure ``layout`` that maps register contents to one :class:`FunctionLayout` a function. The base class
does the rest: after each accepted write it computes the layout anew and applies what differs, in one
transaction, so that no access sees half a move and any order of writes that ends with the same
registers ends with the same address map.

Stored and effective value are kept apart: a register reads back what was written even where the
effect is refused (an illegal base or interrupt line); the refusal is logged once.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..device import ISADevice, Register, RegisterTable, RegisterValue, vmstate
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..device import ISAFunction

__all__ = ["FunctionLayout", "Register", "RegisterTable", "SuperIO", "legal_irq", "place"]

#: An open configuration pair wins its ports from every function that was moved onto them.
PRIORITY_CONFIG = 2
#: Core devices (DMA, interrupt controller, timer): the bridge claims their cycles before the functions.
PRIORITY_CORE = 1
#: Movable functions.
PRIORITY_FUNCTION = 0

#: Lowest base at which a function decodes; below it live the core devices.
LOWEST_BASE = 0x100
#: Interrupt lines that no ISA function can have: the timer-cascade pair and the lines inside the chip.
UNROUTABLE_IRQS = frozenset((2, 8, 13))


@dataclass(frozen=True, slots=True)
class FunctionLayout:
    """Where one function is, as the registers say.

    Args:
        enabled: it decodes its ports and drives its line.
        base: first port; meaningful also while disabled.
        irq: interrupt line, or None for no line.
        dma: DMA channel, or None for none.
        mode: the function's operating mode, for functions that have several; else empty.
        refused: why what the registers ask for is not done; takes no part in comparisons.
    """

    enabled: bool
    base: int
    irq: int | None = None
    dma: int | None = None
    mode: str = ""
    refused: str = field(default="", compare=False)


def legal_irq(value: int) -> int | None:
    """The line that a 4-bit routing value names: None for 0 and for lines that cannot be routed to."""
    return None if value == 0 or value in UNROUTABLE_IRQS else value


# Guests that move functions do so between few places: kept layouts make that several times faster.
@functools.lru_cache(maxsize=1024)
def place(selected: bool, base: int, irq: int, dma: int | None = None, mode: str = "") -> FunctionLayout:
    """A layout from register values, with what is illegal refused."""
    refused = ""
    if selected and base < LOWEST_BASE:
        selected, refused = False, f"base 0x{base:x} is below 0x{LOWEST_BASE:x}: not decoded"
    elif selected and irq in UNROUTABLE_IRQS:
        refused = f"interrupt line {irq} cannot be routed to: not connected"
    return FunctionLayout(selected, base, legal_irq(irq), dma, mode, refused)


_Move = tuple["ISAFunction", FunctionLayout | None, FunctionLayout]

#: A layout of nothing: before the first one is applied.
NOWHERE: Mapping[str, FunctionLayout] = {}
#: How many layouts a chip keeps.
KEPT_LAYOUTS = 256


class SuperIO(ISADevice):
    """Base of SuperI/O chips: register file, functions, and the way from one to the other.

    A chip sets :attr:`table` and implements :meth:`current_layout` on top of a pure function; its
    port handlers call :meth:`store`. The board creates the functions and hands them over with
    :meth:`attach`, so that what sits behind a function (a chardev, a drive) is the board's matter.

    Attributes:
        registers: the register file, 256 bytes.
        index: the selected register.
        functions: the attached functions by name.
    """

    table: ClassVar[RegisterTable]
    #: The names :meth:`current_layout` answers for.
    function_names: ClassVar[tuple[str, ...]] = ()
    volatile = frozenset({"functions", "applied", "_masks", "_layouts", "_moves"})
    vmstate = vmstate.VMState("superio", fields=(vmstate.buffer("registers", 256), vmstate.uint8("index")))

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.registers = self.table.reset_values(self.reset_overrides())
        self.index = 0
        self.functions: dict[str, ISAFunction] = {}
        #: The layout that the functions have now, or :data:`NOWHERE`.
        self.applied: Mapping[str, FunctionLayout] = NOWHERE
        self._masks = self.table.masks()
        # Guests that move functions go back and forth between few layouts: what is computed once is kept.
        self._layouts: dict[Hashable, Mapping[str, FunctionLayout]] = {}
        self._moves: dict[tuple[int, int], tuple[_Move, ...]] = {}

    # -- what a chip provides ---------------------------------------------------------------------

    @abstractmethod
    def current_layout(self) -> dict[str, FunctionLayout]:
        """The layout that the present register contents ask for. Reads, changes nothing."""

    def layout_key(self) -> Hashable:
        """Whatever the layout depends on, as a key under which it may be kept; None when it must not be."""
        return None

    def reset_overrides(self) -> Mapping[int, int]:
        """Register values that differ from the table's after a reset."""
        return {}

    # -- life -------------------------------------------------------------------------------------

    def attach(self, name: str, function: ISAFunction) -> None:
        """Makes *function* the chip's function *name*: from now on the chip places it, and it is off until applied.

        To be called before the function is plugged into the chip's bus.

        Raises:
            ConfigError: the chip has no such function, or has it already.
        """
        if name not in self.function_names:
            raise ConfigError(f"{self.id}: no function {name!r}; it has: {', '.join(self.function_names)}")
        if name in self.functions:
            raise ConfigError(f"{self.id}: function {name} is {self.functions[name]!r} already")
        function.placed_by = self
        function.set_enabled(False)
        self.functions[name] = function
        self._forget()

    def reset(self) -> None:
        self.registers[:] = self.table.reset_values(self.reset_overrides())
        self.index = 0
        self.apply()

    def post_load(self, version: int) -> None:
        # The functions were moved by whatever ran before the load: nothing that was applied counts.
        self._forget()
        self.apply()

    # -- registers --------------------------------------------------------------------------------

    def store(self, index: int, value: int) -> None:
        """A guest's write of *value* to register *index*."""
        masks = self._masks.get(index)
        if masks is None:
            self.ignored_write(self.table, index, value)
            return
        mask, fixed, clear = masks
        old = self.registers[index]
        new = old & ~mask & ~fixed & ~(value & clear) | value & mask | fixed
        if new != old:
            self.registers[index] = new
            self.apply()

    def register_values(self) -> list[RegisterValue]:
        return self.table.values(self) + super().register_values()

    def apply(self) -> None:
        """Brings every attached function to where the registers say, touching only those that differ."""
        key = self.layout_key()
        wanted = self._layouts.get(key) if key is not None else None
        if wanted is None:
            wanted = self._compute(key)
        if wanted is self.applied:
            return
        step = id(self.applied), id(wanted)
        moves = self._moves.get(step)
        if moves is None:
            moves = self._differences(self.applied, wanted)
            # Layouts that are not kept may share their identity with later ones.
            if key is not None and any(kept is self.applied for kept in (NOWHERE, *self._layouts.values())):
                self._moves[step] = moves
        if len(moves) == 1:
            _move(*moves[0])
        elif moves:
            with self.bus.ports.transaction():
                for move in moves:
                    _move(*move)
        self.applied = wanted

    def _compute(self, key: Hashable) -> Mapping[str, FunctionLayout]:
        wanted = self.current_layout()
        for name, layout in wanted.items():
            if layout.refused and name in self.functions:
                self.warn_once(f"{name}: {layout.refused}", "%s: %s", name, layout.refused)
        if key is not None:
            if len(self._layouts) >= KEPT_LAYOUTS:
                self._layouts.clear()
                self._moves.clear()
            self._layouts[key] = wanted
        return wanted

    def _differences(
        self, before: Mapping[str, FunctionLayout], wanted: Mapping[str, FunctionLayout]
    ) -> tuple[_Move, ...]:
        moves = [
            (function, before.get(name), wanted[name])
            for name in wanted
            if (function := self.functions.get(name)) is not None and wanted[name] != before.get(name)
        ]
        # Functions that leave go first: among equals the one shown last answers, and a function
        # that arrives where another leaves must not depend on the order of names.
        return tuple(sorted(moves, key=lambda move: move[2].enabled))

    def _forget(self) -> None:
        """From now on nothing is known of where the functions are."""
        self.applied = NOWHERE
        self._layouts.clear()
        self._moves.clear()


def _move(function: ISAFunction, before: FunctionLayout | None, wanted: FunctionLayout) -> None:
    """Applies the difference. A function is switched off before and on after it is changed."""
    if not wanted.enabled and (before is None or before.enabled):
        function.set_enabled(False)
    if (wanted.enabled or wanted.base) and (before is None or before.base != wanted.base):
        function.set_base(wanted.base)
    if before is None or before.irq != wanted.irq:
        function.set_irq(wanted.irq)
    if wanted.dma is not None and (before is None or before.dma != wanted.dma):
        function.set_dma(wanted.dma)
    if wanted.mode and (before is None or before.mode != wanted.mode):
        function.set_mode(wanted.mode)
    if wanted.enabled and (before is None or not before.enabled):
        function.set_enabled(True)

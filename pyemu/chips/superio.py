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
from collections.abc import Mapping
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
    volatile = frozenset({"functions", "applied"})
    vmstate = vmstate.VMState("superio", fields=(vmstate.buffer("registers", 256), vmstate.uint8("index")))

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.registers = self.table.reset_values(self.reset_overrides())
        self.index = 0
        self.functions: dict[str, ISAFunction] = {}
        self.applied: dict[str, FunctionLayout] = {}

    # -- what a chip provides ---------------------------------------------------------------------

    @abstractmethod
    def current_layout(self) -> dict[str, FunctionLayout]:
        """The layout that the present register contents ask for. Reads, changes nothing."""

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
        self.applied.pop(name, None)

    def reset(self) -> None:
        self.registers[:] = self.table.reset_values(self.reset_overrides())
        self.index = 0
        self.apply()

    def post_load(self, version: int) -> None:
        # The functions were moved by whatever ran before the load: nothing that was applied counts.
        self.applied.clear()
        self.apply()

    # -- registers --------------------------------------------------------------------------------

    def store(self, index: int, value: int) -> None:
        """A guest's write of *value* to register *index*."""
        if self.table.ignores(index):
            self.ignored_write(self.table, index, value)
            return
        self.registers[index] = self.table.written(self.registers[index], index, value)
        self.apply()

    def register_values(self) -> list[RegisterValue]:
        return self.table.values(self) + super().register_values()

    def apply(self) -> None:
        """Brings every attached function to where the registers say, touching only those that differ."""
        changes = []
        for name, wanted in self.current_layout().items():
            function = self.functions.get(name)
            if function is None:
                continue
            if wanted.refused:
                self.warn_once(f"{name}: {wanted.refused}", "%s: %s", name, wanted.refused)
            before = self.applied.get(name)
            if wanted is not before and wanted != before:
                changes.append((name, function, before, wanted))
        if not changes:
            return
        # Functions that leave go first: among equals the one shown last answers, and a function
        # that arrives where another leaves must not depend on the order of names.
        if len(changes) > 1:
            changes.sort(key=lambda change: change[3].enabled)
        with self.bus.ports.transaction():
            for name, function, before, wanted in changes:
                _move(function, before, wanted)
                self.applied[name] = wanted


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

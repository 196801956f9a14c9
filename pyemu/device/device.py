# SPDX-License-Identifier: MIT
"""The base class of every device."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from .properties import Property, parse_properties
from .vmstate import VMState, snapshot

if TYPE_CHECKING:
    from .bus import Bus
    from .registers import RegisterTable, RegisterValue

_log = logging.getLogger("pyemu.device")


class Device:
    """One device or device function.

    A device knows offsets, never its address: the bus it is plugged into hands it ports, memory and
    interrupt pins in :meth:`realize`, and can move them afterwards. All methods run on the machine
    thread, none may block.

    Class attributes:
        type_name: what the user writes after ``--device``.
        properties: the options it takes; each becomes an attribute (``-`` turns into ``_``).
        vmstate: its declared state, or None for a device that has none.
        register_tables: its registers, declared (see :mod:`pyemu.device.registers`).
        bus_kind: the kind of bus it fits, ``isa`` or ``pci``; empty for any.
        volatile: attributes that are not state although they change: wiring, caches, counters. Those
            that base classes name count as well.

    Life: ``__init__(**properties)``, then the bus sets :attr:`id`, :attr:`bus`, then
    :meth:`realize`, :meth:`reset`, accesses, :meth:`unrealize`.
    """

    type_name: ClassVar[str] = ""
    properties: ClassVar[tuple[Property, ...]] = ()
    vmstate: ClassVar[VMState | None] = None
    register_tables: ClassVar[tuple[RegisterTable, ...]] = ()
    bus_kind: ClassVar[str] = ""
    volatile: ClassVar[frozenset[str]] = frozenset({"id", "bus", "_warned", "_opened"})

    def __init__(self, **properties: Any) -> None:
        self.id: str = type(self).type_name
        self.bus: Bus | None = None
        self._warned: set[str] = set()
        # Backends that were given as specs, and so are this device's to close.
        self._opened: list[Any] = []
        declared = type(self).properties
        for name, value in parse_properties(type(self).type_name, declared, properties, self._opened).items():
            setattr(self, name.replace("-", "_"), value)

    # -- life -------------------------------------------------------------------------------------

    def realize(self) -> None:
        """Claims ports, memory and pins from the bus. A conflict raises and names both owners."""

    def unrealize(self) -> None:
        """Gives back what :meth:`realize` claimed. Called once, also after a failed realize."""

    def close(self) -> None:
        """Closes the backends that the device was given as specs. It is unplugged by then, and stays so."""
        while self._opened:
            self._opened.pop().close()

    def backends(self) -> list[Any]:
        """The chardevs and drives among the property values."""
        names = [p.attribute for p in type(self).properties if p.kind in ("chardev", "drive")]
        return [backend for name in names if (backend := getattr(self, name)) is not None]

    def reset(self) -> None:
        """Brings every declared field to its power-on value."""

    @classmethod
    def volatile_attributes(cls) -> frozenset[str]:
        """The :attr:`volatile` names of this class and all its bases."""
        return frozenset().union(*(base.__dict__.get("volatile", frozenset()) for base in cls.__mro__))

    # -- state ------------------------------------------------------------------------------------

    @property
    def section_name(self) -> str:
        """The name of the device's section in a migration stream; instances share it."""
        return self.vmstate.name if self.vmstate is not None else self.type_name

    def pre_save(self) -> None:
        """Brings declared fields up to date before they are saved."""

    def post_load(self, version: int) -> None:
        """Recomputes what follows from the loaded fields: maps, pins, timers.

        Raises:
            MigrationError: the loaded values contradict each other.
        """

    # -- helpers ----------------------------------------------------------------------------------

    def warn_once(self, key: str, message: str, *args: Any) -> None:
        """Logs a guest error the first time *key* comes up; a guest in a loop cannot fill the log."""
        if key not in self._warned and len(self._warned) < 1024:
            self._warned.add(key)
            _log.warning("%s: " + message, self.id, *args)

    def ignored_write(self, table: RegisterTable, offset: int, value: int) -> None:
        """Logs, once for each register, that a guest's write to it changes nothing."""
        self.warn_once(f"write {table.name} {offset:x}", "write of 0x%02x to %s is ignored", value, table.called(offset))

    def register_values(self) -> list[RegisterValue]:
        """The declared registers with their values, table by table. Has no side effects."""
        return [value for table in type(self).register_tables for value in table.values(self)]

    def info(self) -> dict[str, Any]:
        """The declared state as plain values."""
        return snapshot(self.vmstate, self) if self.vmstate is not None else {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

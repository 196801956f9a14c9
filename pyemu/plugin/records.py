# SPDX-License-Identifier: MIT
"""What hooks yield: typed records that declare a thing and say where its code is.

A record never builds anything. ``factory`` is a string ``"package.module:attribute"`` (or a whole
module, ``"package.module"``) that the host imports when a machine names the record, so listing
plugins imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # listing plugins must not need the compiled parts that the device package imports
    from ..device.properties import Property

#: Version of the plugin interface. A plugin of another major number, or of a higher minor one, is refused.
API_VERSION: tuple[int, int] = (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Common to all records.

    Args:
        name: unique among records of its kind; what the user writes.
        factory: ``"package.module:attribute"``.
        api: the interface version the plugin was written for. A record that states none was
            written for 1.0, whatever the host's version is by now.
        help: one line for listings.
    """

    kind: ClassVar[str] = ""
    name: str
    factory: str
    api: tuple[int, int] = (1, 0)
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board(Record):
    """A machine type. The factory is ``build(machine, **properties) -> None``.

    Args:
        properties: what may follow ``-M NAME,``.
        default_memory: bytes of RAM when the user gives no ``-m``.
        default_cpu: engine when the user gives no ``--cpu``.
        arch: CPU architecture that an engine must offer, or ``"none"``.
    """

    kind: ClassVar[str] = "board"
    properties: tuple[Property, ...] = ()
    default_memory: int = 64 << 20
    default_cpu: str = "unicorn"
    arch: str = "x86"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceType(Record):
    """A device for ``--device NAME,k=v``. The factory is a :class:`~pyemu.device.Device` class.

    Args:
        bus: name of the kind of bus it needs: ``isa``, ``pci`` or ``none``.
    """

    kind: ClassVar[str] = "device"
    bus: str = "isa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine(Record):
    """A CPU engine. The factory is ``create(arch, host) -> CPUEngine``.

    Args:
        arches: CPU architectures it runs.
    """

    kind: ClassVar[str] = "engine"
    arches: tuple[str, ...] = ("x86",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Record):
    """A migration backend. The factory is a :class:`~pyemu.migration.MigrationBackend` class.

    Args:
        capabilities: the migration capabilities it serves; empty for the one used when none is on.
    """

    kind: ClassVar[str] = "backend"
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel(Record):
    """A carrier of migration bytes. The factory is a :class:`~pyemu.migration.ChannelType` class.

    Args:
        scheme: the word before the colon of a migration URI; the record's name when empty.
        transport: its name in the address objects of channel lists: ``transport``, or ``socket:`` and the
            socket's ``type``. Empty for a channel that only a URI can name.
    """

    kind: ClassVar[str] = "channel"
    scheme: str = ""
    transport: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression(Record):
    """A way to compress pages on their way. The factory is a :class:`~pyemu.migration.CompressionMethod` class."""

    kind: ClassVar[str] = "compression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Record):
    """A subcommand of ``pyemu``. The factory names a module, ``"package.module"``, that has
    ``configure(parser)`` and ``run(args) -> int``.
    """

    kind: ClassVar[str] = "command"


def record_kinds() -> dict[str, type[Any]]:
    """Each kind of record by its name."""
    return {cls.kind: cls for cls in (Board, DeviceType, Engine, Backend, Channel, Compression, Command)}

# SPDX-License-Identifier: MIT
"""A PCI device function: configuration header, base registers, capabilities, interrupt pin."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..errors import ConfigError, MigrationError
from ._irq import IRQOut
from .device import Device
from .properties import Property
from .registers import Register, RegisterTable, RegisterValue
from .vmstate import Field, VMState, buffer

if TYPE_CHECKING:
    from ..memory import MemoryRegion, PortioEntry, PortioList
    from .pci import PCIBus

CONFIG_SIZE = 256

REG_VENDOR = 0x00
REG_DEVICE = 0x02
REG_COMMAND = 0x04
REG_STATUS = 0x06
REG_REVISION = 0x08
REG_CACHE_LINE = 0x0C
REG_LATENCY = 0x0D
REG_HEADER = 0x0E
REG_BAR0 = 0x10
REG_SUBSYSTEM_VENDOR = 0x2C
REG_SUBSYSTEM = 0x2E
REG_ROM = 0x30
REG_CAPABILITIES = 0x34
REG_INTERRUPT_LINE = 0x3C
REG_INTERRUPT_PIN = 0x3D

COMMAND_IO = 1 << 0
COMMAND_MEMORY = 1 << 1
COMMAND_MASTER = 1 << 2
COMMAND_PARITY = 1 << 6
COMMAND_SERR = 1 << 8
COMMAND_INTX_OFF = 1 << 10
FIRST_PRIVATE = 0x40
STATUS_INTX = 1 << 3
STATUS_CAPABILITIES = 1 << 4
STATUS_W1C = 0xF900
HEADER_MULTIFUNCTION = 0x80
#: The expansion ROM is a base register beside the six, with a switch of its own in bit 0.
ROM = 6
ROM_ENABLE = 0x01
MIN_ROM, MAX_ROM = 1 << 11, 1 << 24

# The header's registers by name; a device's values and writable bits are its own.
_HEADER = (
    (REG_VENDOR, 2, "vendor id"), (REG_DEVICE, 2, "device id"), (REG_COMMAND, 2, "command"), (REG_STATUS, 2, "status"),
    (REG_REVISION, 1, "revision"), (REG_REVISION + 1, 3, "class code"), (REG_CACHE_LINE, 1, "cache line size"),
    (REG_LATENCY, 1, "latency timer"), (REG_HEADER, 1, "header type"),
    *((REG_BAR0 + 4 * n, 4, f"base register {n}") for n in range(6)),
    (REG_SUBSYSTEM_VENDOR, 2, "subsystem vendor id"), (REG_SUBSYSTEM, 2, "subsystem id"),
    (REG_ROM, 4, "expansion ROM"), (REG_CAPABILITIES, 1, "capabilities pointer"), (REG_INTERRUPT_LINE, 1, "interrupt line"),
    (REG_INTERRUPT_PIN, 1, "interrupt pin"),
)  # fmt: skip

# Memory base registers lie under RAM, as on boards whose host bridge claims RAM cycles first.
MEMORY_PRIORITY = -1


def pci_state(
    name: str,
    *fields: Field,
    version: int = 1,
    minimum_version: int = 1,
    subsections: tuple[VMState, ...] = (),
) -> VMState:
    """The declared state of a PCI function: its configuration space, then *fields*."""
    return VMState(name, version, minimum_version, (buffer("config", CONFIG_SIZE), *fields), subsections)


@dataclass(slots=True)
class _Bar:
    """One base register; *target* is what appears where the guest puts it."""

    number: int
    kind: Literal["io", "mem32"]
    size: int
    target: Any
    priority: int
    mapped_at: int | None = None
    added: bool = False

    @property
    def register(self) -> int:
        return REG_ROM if self.number == ROM else REG_BAR0 + 4 * self.number


class PCIDevice(Device):
    """One function of a PCI device, with a type-0 header.

    Class attributes:
        vendor_id, device_id, revision, class_code (24 bits: class, subclass, interface),
        subsystem_vendor_id, subsystem_id: the identification registers.
        multifunction: bit 7 of the header type; needed on function 0 of a slot with several functions.
        interrupt_pin: 1 to 4 for INTA to INTD, 0 for none.
        command_wmask: the command bits that software can change.
        config_registers: registers of the configuration space, those of base classes first. A device whose
            properties change them calls :meth:`define` on top.

    Attributes:
        config: the 256 bytes as they are now; declared state.
        config_reset: what :meth:`reset` brings back.
        wmask: bits software can write.
        w1c: bits that writing 1 clears.
        intx: the interrupt pin.
    """

    bus_kind = "pci"
    properties: ClassVar[tuple[Property, ...]] = (Property("addr", "str", None, "slot, or slot.function"),)
    volatile: ClassVar[frozenset[str]] = frozenset(
        {"config_reset", "wmask", "w1c", "intx", "devfn", "addr", "_bars", "_last_capability"}
    )
    bus: PCIBus

    vendor_id: ClassVar[int] = 0xFFFF
    device_id: ClassVar[int] = 0xFFFF
    revision: ClassVar[int] = 0
    class_code: ClassVar[int] = 0
    subsystem_vendor_id: ClassVar[int] = 0
    subsystem_id: ClassVar[int] = 0
    multifunction: ClassVar[bool] = False
    interrupt_pin: ClassVar[int] = 0
    command_wmask: ClassVar[int] = (
        COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_OFF
    )

    config_registers: ClassVar[tuple[Register, ...]] = ()

    addr: str | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.vmstate is None:
            if cls.type_name:
                cls.vmstate = pci_state(cls.type_name)
        elif "config" not in cls.vmstate.attributes():
            raise TypeError(f"{cls.__name__}: its vmstate does not cover 'config'; declare it with pci_state()")
        if not any(p.name == "addr" for p in cls.properties):
            cls.properties = (*PCIDevice.properties, *cls.properties)

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        #: Slot times 8 plus function; set by the bus.
        self.devfn: int | None = None
        self.config = bytearray(CONFIG_SIZE)
        self.config_reset = bytearray(CONFIG_SIZE)
        self.wmask = bytearray(CONFIG_SIZE)
        self.w1c = bytearray(CONFIG_SIZE)
        self.intx = IRQOut(f"{self.type_name}.intx")
        self._bars: dict[int, _Bar] = {}
        self._last_capability = 0
        self.define(REG_VENDOR, 2, self.vendor_id)
        self.define(REG_DEVICE, 2, self.device_id)
        self.define(REG_COMMAND, 2, 0, wmask=self.command_wmask)
        self.define(REG_STATUS, 2, 0, w1c=STATUS_W1C)
        self.define(REG_REVISION, 4, self.class_code << 8 | self.revision)
        self.define(REG_CACHE_LINE, 1, 0, wmask=0xFF)
        self.define(REG_LATENCY, 1, 0, wmask=0xFF)
        self.define(REG_HEADER, 1, HEADER_MULTIFUNCTION if self.multifunction else 0)
        self.define(REG_SUBSYSTEM_VENDOR, 2, self.subsystem_vendor_id)
        self.define(REG_SUBSYSTEM, 2, self.subsystem_id)
        self.define(REG_INTERRUPT_LINE, 1, 0, wmask=0xFF if self.interrupt_pin else 0)
        self.define(REG_INTERRUPT_PIN, 1, self.interrupt_pin)
        for register in self.declared_registers():
            self.define(register.offset, register.size, register.reset, wmask=register.mask, w1c=register.clear)

    @property
    def slot(self) -> int | None:
        return None if self.devfn is None else self.devfn >> 3

    @property
    def function(self) -> int | None:
        return None if self.devfn is None else self.devfn & 7

    @property
    def section_name(self) -> str:
        """Functions carry their place in the name, so that two alike are told apart."""
        assert self.devfn is not None, "a section is only made of a plugged device"
        return f"{self.bus.path}:{self.devfn >> 3:02x}.{self.devfn & 7}/{super().section_name}"

    # -- declaring the header ---------------------------------------------------------------------

    @classmethod
    def declared_registers(cls) -> list[Register]:
        """What :attr:`config_registers` of the bases and the class declare, in the order in which it counts."""
        return [r for base in reversed(cls.__mro__) for r in base.__dict__.get("config_registers", ())]

    def config_table(self) -> RegisterTable:
        """The configuration space as this device has it: the header, and what the class declares by name."""
        owners: dict[int, tuple[str, str]] = {}
        for offset, size, name in _HEADER:
            owners |= dict.fromkeys(range(offset, offset + size), (name, ""))
        for r in self.declared_registers():
            header = owners.get(r.offset) if r.offset < FIRST_PRIVATE and not r.effect else None
            owners |= dict.fromkeys(range(r.offset, r.end), header or (r.name, r.effect))
        registers = []
        at = 0
        while at < CONFIG_SIZE:
            if at not in owners:
                at += 1
                continue
            # What a later declaration covers no longer belongs to the earlier one.
            end = at + 1
            while owners.get(end) is owners[at]:
                end += 1
            reset, mask, clear = (
                int.from_bytes(space[at:end], "little") for space in (self.config_reset, self.wmask, self.w1c)
            )
            registers.append(Register(at, owners[at][0], reset, mask & ~clear, 0, end - at, clear, owners[at][1]))
            at = end
        return RegisterTable(registers, name="configuration space", size=CONFIG_SIZE, attribute="config")

    def register_values(self) -> list[RegisterValue]:
        return self.config_table().values(self) + super().register_values()

    def define(self, register: int, size: int, value: int = 0, *, wmask: int = 0, w1c: int = 0) -> None:
        """Declares a register of *size* bytes: its reset value and how software changes it.

        Raises:
            ConfigError: the register does not fit into the configuration space.
        """
        if register < 0 or register + size > CONFIG_SIZE:
            raise ConfigError(f"{self.type_name}: no configuration register {register:#x} of {size} bytes")
        for array, number in ((self.config_reset, value), (self.wmask, wmask), (self.w1c, w1c)):
            array[register : register + size] = number.to_bytes(size, "little")
        self.config[register : register + size] = value.to_bytes(size, "little")

    def register_bar(
        self,
        number: int,
        target: Sequence[PortioEntry] | PortioList | MemoryRegion,
        size: int,
        kind: Literal["io", "mem32"] = "mem32",
        *,
        prefetchable: bool = False,
        priority: int | None = None,
    ) -> None:
        """Declares base register *number*. Call it before the device is plugged in or in ``realize``.

        Args:
            number: 0 to 5.
            target: a table of port handlers or a list made of one (``io``), or a region (``mem32``).
            size: a power of two, at least 4 (``io``) or 16 (``mem32``).
            kind: what it decodes.
            prefetchable: bit 3 of a memory base register.
            priority: among overlapping ports or regions.

        Raises:
            ConfigError: number, size or kind is not possible.
        """
        io = kind == "io"
        least = 4 if io else 16
        if not 0 <= number <= 5 or number in self._bars:
            raise ConfigError(f"{self.type_name}: base register {number} is {'taken' if number in self._bars else 'none of 0-5'}")
        if kind not in ("io", "mem32") or size < least or size & (size - 1) or size > (0x10000 if io else 1 << 31):
            raise ConfigError(f"{self.type_name}: base register {number}: {size} bytes of {kind} cannot be decoded")
        if io and isinstance(target, Sequence):
            from ..memory import PortioList

            target = PortioList(self, target, f"{self.type_name}.bar{number}")
        bar = _Bar(number, kind, size, target, priority if priority is not None else 0 if io else MEMORY_PRIORITY)
        flags = 1 if io else 8 if prefetchable else 0
        self._bars[number] = bar
        self.define(bar.register, 4, flags, wmask=-size & (0xFFFFFFFC if io else 0xFFFFFFF0))

    def register_rom(self, region: MemoryRegion, size: int) -> None:
        """Declares the expansion ROM register, behind which *region* appears while its bit 0 and memory decoding are on.

        Raises:
            ConfigError: there is one already, or *size* is not a power of two from 2 KiB to 16 MiB.
        """
        if ROM in self._bars or size & (size - 1) or not MIN_ROM <= size <= MAX_ROM:
            raise ConfigError(f"{self.type_name}: an expansion ROM of {size} bytes cannot be decoded")
        self._bars[ROM] = _Bar(ROM, "mem32", size, region, MEMORY_PRIORITY)
        self.define(REG_ROM, 4, 0, wmask=-size & 0xFFFFF800 | ROM_ENABLE)

    def add_capability(self, id: int, size: int, offset: int) -> int:
        """Appends an entry of *size* bytes at *offset* to the list that register 34 begins; returns *offset*.

        Raises:
            ConfigError: it does not fit or is not on a multiple of 4.
        """
        if offset < 0x40 or offset % 4 or size < 2 or offset + size > CONFIG_SIZE:
            raise ConfigError(f"{self.type_name}: capability {id:#x} of {size} bytes cannot be at {offset:#x}")
        previous = self._last_capability + 1 if self._last_capability else REG_CAPABILITIES
        for space in (self.config, self.config_reset):
            space[offset] = id
            space[offset + 1] = 0
            space[previous] = offset
            space[REG_STATUS] |= STATUS_CAPABILITIES
        self.wmask[offset] = self.wmask[offset + 1] = 0
        self._last_capability = offset
        return offset

    # -- configuration accesses -------------------------------------------------------------------

    def config_read(self, register: int, size: int) -> int:
        """A configuration read that lies inside the 256 bytes."""
        value = int.from_bytes(self.config[register : register + size], "little")
        if self.intx.level and register <= REG_STATUS < register + size and self.wmask[REG_COMMAND + 1] & 4:
            value |= STATUS_INTX << 8 * (REG_STATUS - register)
        return value

    def config_write(self, register: int, size: int, value: int) -> None:
        """A configuration write that lies inside the 256 bytes. Override it to act on registers of your own."""
        kept = 0
        for i in range(size):
            byte = value >> 8 * i & 0xFF
            at = register + i
            mask = self.wmask[at]
            kept |= mask | self.w1c[at]
            self.config[at] = ((self.config[at] & ~mask) | (byte & mask)) & ~(byte & self.w1c[at])
        end = register + size
        # Below lies the header, where sizing base registers that are not there is the way to find out.
        if not kept and register >= FIRST_PRIVATE and value != int.from_bytes(self.config[register:end], "little"):
            self.warn_once(f"config {register:x}", "write of 0x%02x to configuration register 0x%02x is ignored", value, register)
        places = ((REG_COMMAND, 2), (REG_BAR0, 24), (REG_ROM, 4))
        if any(register < first + length and end > first for first, length in places):
            self.update_mappings()

    @property
    def command(self) -> int:
        return self.config[REG_COMMAND] | self.config[REG_COMMAND + 1] << 8

    def bar_decodes(self, number: int) -> bool:
        """Whether base register *number* decodes when the command register lets it.

        Override it for a function that can be hidden or has modes without some of its base registers,
        and call :meth:`update_mappings` when the answer changes.
        """
        return True

    @property
    def bars(self) -> tuple[tuple[int, str, int, int | None], ...]:
        """Each base register: number, ``io`` or ``mem32``, size, and where it decodes at present or None."""
        return tuple((bar.number, bar.kind, bar.size, bar.mapped_at) for bar in self._bars.values())

    def bar_address(self, number: int) -> int | None:
        """Where base register *number* decodes at present, None where it does not."""
        return self._bars[number].mapped_at

    # -- life -------------------------------------------------------------------------------------

    def reset(self) -> None:
        self.config[:] = self.config_reset
        self.intx.set_level(0)
        self.update_mappings()

    def unrealize(self) -> None:
        self.intx.connect(None)
        for bar in self._bars.values():
            self._unmap(bar)
            if bar.kind == "io" and bar.added:
                bar.target.remove()
                bar.added = False

    def post_load(self, version: int) -> None:
        fixed = (*range(REG_COMMAND), *range(REG_REVISION, REG_CACHE_LINE), REG_HEADER, REG_CAPABILITIES, REG_INTERRUPT_PIN)
        for at in fixed:
            differing = (self.config[at] ^ self.config_reset[at]) & ~self.wmask[at]
            if differing:
                loaded, ours = self.config[at], self.config_reset[at]
                raise MigrationError(f"{self.id}: configuration register {at:#04x} is {loaded:#04x}, here {ours:#04x}")
        self.update_mappings()

    # -- what follows from the configuration ------------------------------------------------------

    def update_mappings(self) -> None:
        """Brings ports, memory and the interrupt pin in line with the configuration space."""
        if self.bus is None or self.devfn is None:
            return
        cut = not self.interrupt_pin or self.command & COMMAND_INTX_OFF
        self.intx.connect(None if cut else self.bus.irq_line(self, self.interrupt_pin - 1))
        moves = [(bar, at) for bar in self._bars.values() if (at := self._wanted(bar)) != bar.mapped_at]
        if not moves:
            return
        with ExitStack() as stack:
            stack.enter_context(self.bus.ports.transaction())
            if self.bus.memory is not None:
                stack.enter_context(self.bus.memory.transaction())
            for bar, _ in moves:
                self._unmap(bar)
            for bar, at in moves:
                if at is not None:
                    self._map(bar, at)

    def _wanted(self, bar: _Bar) -> int | None:
        needed = COMMAND_IO if bar.kind == "io" else COMMAND_MEMORY
        if not self.command & needed or (bar.kind == "mem32" and self.bus.memory is None):
            return None
        if not self.bar_decodes(bar.number) or (bar.number == ROM and not self.config[REG_ROM] & ROM_ENABLE):
            return None
        at = int.from_bytes(self.config[bar.register : bar.register + 4], "little") & -bar.size & 0xFFFFFFFF
        # The all-ones pattern of a sizing probe reaches the very end of the space: not an address.
        limit = 0x10000 if bar.kind == "io" else 0xFFFFFFFF
        return at if at and at + bar.size <= limit else None

    def _map(self, bar: _Bar, at: int) -> None:
        if bar.kind == "mem32":
            assert self.bus.memory is not None
            self.bus.memory.root.add_subregion(at, bar.target, bar.priority)
        elif bar.added:
            bar.target.set_address(at)
            bar.target.set_enabled(True)
        else:
            bar.target.add(self.bus.ports, at, priority=bar.priority)
            bar.added = True
        bar.mapped_at = at

    def _unmap(self, bar: _Bar) -> None:
        if bar.mapped_at is None:
            return
        if bar.kind == "mem32":
            assert self.bus.memory is not None
            self.bus.memory.root.remove_subregion(bar.target)
        else:
            bar.target.set_enabled(False)
        bar.mapped_at = None

# SPDX-License-Identifier: MIT
"""A CPU engine's surroundings in plain Python: RAM, ports, MMIO, interrupt controller and clock.

For the tests of engines; a machine has compiled ones.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from ..cpu.engine import CPUEngine, Exit, ExitReason
from . import guests

T = TypeVar("T")

_PORT_IN = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint)
_PORT_OUT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint, ctypes.c_uint32)
_MMIO_READ = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint)
_MMIO_WRITE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64)
_IRQ_ACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_CLOCK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
_ABI_VERSION = 1


class _HostTable(ctypes.Structure):
    """``pyemu_cpu_host`` of ``pyemu/capi/pyemu.h``."""

    _fields_: ClassVar = [
        ("abi_version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("opaque", ctypes.c_void_p),
        ("port_in", _PORT_IN),
        ("port_out", _PORT_OUT),
        ("mmio_read", _MMIO_READ),
        ("mmio_write", _MMIO_WRITE),
        ("irq_ack", _IRQ_ACK),
        ("clock_ns", _CLOCK),
    ]


class _EngineTable(ctypes.Structure):
    """``pyemu_cpu_engine`` of ``pyemu/capi/pyemu.h``."""

    _fields_: ClassVar = [
        ("abi_version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("opaque", ctypes.c_void_p),
        ("set_irq", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)),
        ("kick", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ]


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


RAM_SIZE = 2 << 20


class HostRAM:
    """Page-aligned memory with an address, as a RAM block has it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.map = mmap.mmap(-1, size)
        self.pointer = ctypes.addressof(ctypes.c_char.from_buffer(self.map))

    def __getitem__(self, key: slice) -> bytes:
        return self.map[key]

    def __setitem__(self, key: slice, data: bytes) -> None:
        self.map[key] = data

    def u32(self, offset: int) -> int:
        """Four bytes as a number."""
        return int.from_bytes(self.map[offset : offset + 4], "little")


class FakeHost:
    """What an engine is created with.

    Attributes:
        capsule: ``pyemu.cpu_host``.
        ports: number to ``(read(size) -> int, write(size, value))``; others read as ones.
        mmio: first address to the same kind of pair, with the offset first.
        mmio_log: (``"r"`` or ``"w"``, address, size, value) of each MMIO access.
        vectors: what the interrupt controller hands out; when it is empty, acknowledging is an error.
        now_ns: the clock.
        errors: what handlers raised.
    """

    def __init__(self) -> None:
        self.ports: dict[int, tuple[Callable[[int], int] | None, Callable[[int, int], None] | None]] = {}
        self.mmio_log: list[tuple[str, int, int, int]] = []
        self.mmio_read: Callable[[int, int], int] = lambda gpa, size: (1 << 8 * size) - 1
        self.mmio_write: Callable[[int, int, int], None] = lambda gpa, size, value: None
        self.irq_ack: Callable[[], int] = lambda: 0xFF
        self.now_ns = 0
        self.errors: list[BaseException] = []
        self.table = _HostTable(
            _ABI_VERSION,
            ctypes.sizeof(_HostTable),
            None,
            _PORT_IN(self._port_in),
            _PORT_OUT(self._port_out),
            _MMIO_READ(self._mmio_read),
            _MMIO_WRITE(self._mmio_write),
            _IRQ_ACK(self._irq_ack),
            _CLOCK(lambda opaque: self.now_ns),
        )
        self.capsule = _new_capsule(ctypes.addressof(self.table), b"pyemu.cpu_host", None)

    def _port_in(self, opaque: Any, port: int, size: int) -> int:
        read, _ = self.ports.get(port, (None, None))
        return self._guard(lambda: read(size), 0) if read is not None else (1 << 8 * size) - 1

    def _port_out(self, opaque: Any, port: int, size: int, value: int) -> None:
        _, write = self.ports.get(port, (None, None))
        if write is not None:
            self._guard(lambda: write(size, value), None)

    def _mmio_read(self, opaque: Any, gpa: int, size: int) -> int:
        value = self._guard(lambda: self.mmio_read(gpa, size), 0)
        self.mmio_log.append(("r", gpa, size, value))
        return value

    def _mmio_write(self, opaque: Any, gpa: int, size: int, value: int) -> None:
        self.mmio_log.append(("w", gpa, size, value))
        self._guard(lambda: self.mmio_write(gpa, size, value), None)

    def _irq_ack(self, opaque: Any) -> int:
        return self._guard(self.irq_ack, -1)

    def _guard(self, call: Callable[[], T], otherwise: T) -> T:
        # Nothing can be raised through guest code; tests look at errors.
        try:
            return call()
        except Exception as error:  # noqa: BLE001 (whatever it is, it belongs to the test)
            self.errors.append(error)
            return otherwise


def engine_table(capsule: Any) -> _EngineTable:
    """The C table in an engine's capsule, callable from Python."""
    return _EngineTable.from_address(_capsule_pointer(capsule, b"pyemu.cpu_engine"))


class Guest:
    """A small machine: an engine, its host and RAM from address 0."""

    def __init__(self, create: Callable[[Any], CPUEngine], ram: HostRAM | None = None) -> None:
        self.host = FakeHost()
        self.ram = ram if ram is not None else HostRAM(RAM_SIZE)
        self.engine = create(self.host.capsule)
        self.engine.map_ram(0, self.ram.size, self.ram.pointer)

    def load(self, code: bytes, registers: dict[str, int], at: int = guests.CODE) -> None:
        """Puts a program into RAM and the processor at its start."""
        self.write(at, code)
        self.write(guests.GDT, guests.GDT_BYTES)
        self.write(guests.PAGE_TABLES, guests.page_tables())
        self.engine.set_state(guests.complete(registers))

    def write(self, gpa: int, data: bytes) -> None:
        """Host writes, as a core makes them."""
        self.ram[gpa : gpa + len(data)] = data
        self.engine.invalidate(gpa, len(data))

    def vector(self, number: int, handler: int = guests.HANDLER) -> None:
        """An entry of the real-mode interrupt table."""
        self.write(4 * number, handler.to_bytes(4, "little"))

    def run(self, *, kicks: bool = False) -> ExitReason:
        """Runs to the next exit (with *kicks*: that is no kick) and checks that no handler failed."""
        while True:
            reason = self.engine.run()
            assert self.host.errors == []
            if reason.exit is not Exit.KICK or not kicks:
                return reason

    def halt(self) -> None:
        """Runs until the guest halts."""
        reason = self.run()
        assert reason.exit is Exit.HALT, reason


def acknowledge(guest: Guest, vector: int) -> list[int]:
    """An interrupt controller with one request: acknowledging lowers the line. Returns what was acknowledged."""
    acks: list[int] = []

    def ack() -> int:
        acks.append(vector)
        guest.engine.set_irq(0)
        return vector

    guest.host.irq_ack = ack
    return acks

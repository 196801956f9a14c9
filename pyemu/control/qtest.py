# SPDX-License-Identifier: MIT
"""The qtest line protocol: a test program plays the processor.

One command a line, one reply a line: ``OK``, ``OK VALUE`` or ``FAIL REASON``. Replies follow the
effect. After ``irq_intercept_in ID`` each change of an input line of that interrupt controller is
reported by a line of its own, ``IRQ raise N`` or ``IRQ lower N``. Unlike QEMU the controller goes
on receiving the lines it is intercepted on.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ControlError, PyemuError
from .server import Address, Client, Server

if TYPE_CHECKING:
    from ..machine import Machine

_MAX_LINE = 64 << 20
_MAX_BLOCK = 16 << 20
_MAX_TOGETHER = 1 << 16
_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}


class QTestServer(Server):
    """qtest for *machine* on *address*."""

    def __init__(self, machine: Machine, address: str) -> None:
        super().__init__(Address.parse(address, "qtest"), lambda client: QTestSession(client, machine), "qtest")


class QTestSession:
    """One test program."""

    def __init__(self, client: Client, machine: Machine) -> None:
        self._client = client
        self._machine = machine
        self._buffer = b""
        self._intercepted: list[object] = []
        self._together: bytearray | None = None  # answers on their way while commands are being executed
        self._table = self._commands()

    def received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if lines:
            # What came together is done together: each change of threads costs more than the command.
            try:
                self._machine.call(lambda: self._answer_all(lines))
            except PyemuError as error:
                self._client.send(f"FAIL {error}\n".encode())
        if len(self._buffer) > _MAX_LINE:
            self._client.send(b"FAIL line too long\n")
            self._client.abort()

    def closed(self) -> None:
        for line in self._intercepted:
            line.observe(None)  # type: ignore[attr-defined]

    # What follows runs on the machine thread; int(x, 0) raises ValueError on bad numbers.

    def _answer_all(self, lines: list[bytes]) -> None:
        self._together = answers = bytearray()
        try:
            for line in lines:
                answers += self._answer(line.decode("ascii", "replace").strip()).encode() + b"\n"
                if len(answers) >= _MAX_TOGETHER:
                    self._client.send(bytes(answers))
                    answers.clear()
        finally:
            self._together = None
            if answers:
                self._client.send(bytes(answers))

    def _answer(self, line: str) -> str:
        words = line.split()
        if not words:
            return "FAIL empty line"
        command = self._table.get(words[0])
        if command is None:
            return f"FAIL unknown command {words[0]!r}"
        try:
            value = self._checked(command, words[1:])
        except TypeError:
            return f"FAIL {words[0]}: {len(words) - 1} arguments do not fit"
        except OverflowError:
            return f"FAIL {words[0]}: a number does not fit 64 bits"
        except (ValueError, PyemuError) as error:
            return f"FAIL {words[0]}: {error}"
        return f"OK {value}" if value else "OK"

    def _checked(self, command: Callable[..., str | None], arguments: list[str]) -> str | None:
        value = command(*arguments)
        fault = self._machine.take_fault()
        if fault is not None:
            raise fault
        return value

    def _commands(self) -> dict[str, Callable[..., str | None]]:
        table: dict[str, Callable[..., str | None]] = {
            "read": self._read,
            "write": self._write,
            "b64read": lambda a, n: base64.b64encode(self._block(a, n)).decode(),
            "memset": self._memset,
            "clock_step": self._clock_step,
            "clock_set": self._clock_set,
            "irq_intercept_in": self._intercept,
            "endianness": lambda: "little",
        }
        for letter, size in _SIZES.items():
            if size <= 4:
                table["in" + letter] = _binder(self._in, size)
                table["out" + letter] = _binder(self._out, size)
            table["read" + letter] = _binder(self._load, size)
            table["write" + letter] = _binder(self._store, size)
        return table

    def _in(self, size: int, port: str) -> str:
        return f"{self._machine.ports.read(_port(port), size):#06x}"

    def _out(self, size: int, port: str, value: str) -> None:
        self._machine.ports.write(_port(port), size, int(value, 0) & ((1 << 8 * size) - 1))

    def _load(self, size: int, address: str) -> str:
        return f"{self._machine.memory.load(int(address, 0), size):#018x}"

    def _store(self, size: int, address: str, value: str) -> None:
        self._machine.memory.store(int(address, 0), size, int(value, 0) & ((1 << 8 * size) - 1))

    def _block(self, address: str, length: str) -> bytes:
        count = int(length, 0)
        if not 0 < count <= _MAX_BLOCK:
            raise ValueError(f"{count} bytes; 1 to {_MAX_BLOCK} can be moved at once")
        return self._machine.memory.read(int(address, 0), count)

    def _read(self, address: str, length: str) -> str:
        return "0x" + self._block(address, length).hex()

    def _write(self, address: str, length: str, data: str) -> None:
        raw = bytes.fromhex(data.removeprefix("0x"))
        if len(raw) != int(length, 0):
            raise ValueError(f"{len(raw)} bytes given, {length} announced")
        self._machine.memory.write(int(address, 0), raw)

    def _memset(self, address: str, length: str, value: str) -> None:
        start, count = int(address, 0), int(length, 0)
        if not 0 <= count <= 1 << 30:
            raise ValueError(f"{count} bytes; up to {1 << 30} can be set at once")
        chunk = bytes([int(value, 0) & 0xFF]) * min(count, 1 << 20)
        for offset in range(0, count, 1 << 20):
            self._machine.memory.write(start + offset, chunk[: min(1 << 20, count - offset)])

    def _clock_step(self, step: str | None = None) -> str:
        clock = self._machine.clock
        if step is None:
            due = clock.next_deadline()
            clock.advance(max(due - clock.now_ns, 0) if due >= 0 else 0)
        else:
            clock.advance(int(step, 0))
        return str(clock.now_ns)

    def _clock_set(self, value: str) -> str:
        clock = self._machine.clock
        clock.advance(int(value, 0) - clock.now_ns)
        return str(clock.now_ns)

    def _intercept(self, device_id: str) -> None:
        device = self._machine.devices.get(device_id)
        lines = getattr(device, "lines", None)
        if not lines:
            have = ", ".join(i for i, d in self._machine.devices.items() if getattr(d, "lines", None)) or "none"
            raise ControlError(f"{device_id!r} is no interrupt controller; there are: {have}")
        for line in lines:
            line.observe(self._irq)
            self._intercepted.append(line)

    def _irq(self, n: int, level: int) -> None:
        line = f"IRQ {'raise' if level else 'lower'} {n}\n".encode()
        if self._together is not None:
            # Behind the answers to earlier commands, before the one to the command that caused it.
            self._together += line
        else:
            self._client.send(line)


def _binder(method: Callable[..., str | None], size: int) -> Callable[..., str | None]:
    return lambda *words: method(size, *words)


def _port(text: str) -> int:
    port = int(text, 0)
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port {port:#x} is not between 0 and 0xffff")
    return port

# SPDX-License-Identifier: MIT
"""Port accesses from guest code, against an empty loop and against a Python hook of the Unicorn binding.

The guest runs on board ``via-pc`` with everything mapped and with interrupts on, a thousand a second. Ports
lead to a 16550A (compiled), to a Python device and to nothing.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterator

import unicorn
from pyemu_via.firmware import SETUP_686, perform
from unicorn import x86_const

from pyemu import Machine
from pyemu.cpu import x86
from pyemu.cpu.engine import Exit
from pyemu.device import IRQOut
from pyemu.memory import PortioEntry, PortioList
from pyemu.testing.bench import Benchmark

COM1, LINE_STATUS, SCRATCH = 0x3F8, 5, 7
PYTHON_PORT, NOTHING = 0x300, 0x200
SOUTH_BRIDGE_SLOT = 7
CODE, HANDLER, COUNTER, IRQ, TICK = 0x7C00, 0x6000, 0x6800, 5, 0.001

IN_BYTE, OUT_BYTE = b"\xec", b"\xee"


def loop(n: int, body: bytes, port: int = 0) -> bytes:
    """mov dx, port / mov ecx, n / l: body / dec ecx / jnz l / cli / hlt"""
    tail = body + bytes.fromhex("6649")
    back = bytes((0x75, 256 - len(tail) - 2))
    return b"\xba" + struct.pack("<H", port) + b"\x66\xb9" + struct.pack("<I", n) + tail + back + b"\xfa\xf4"


class Bench:
    """Board ``via-pc`` as firmware leaves it, and a Python device; IRQ 5 a thousand times a second."""

    def __init__(self) -> None:
        self.machine = Machine("via-pc", memory="16M", cpu="unicorn")
        self.ticks = 0
        self.machine.call(self._set_up)

    def _set_up(self) -> None:
        machine = self.machine
        perform(SETUP_686, machine.ports, SOUTH_BRIDGE_SLOT)
        entry = PortioEntry(0, 1, 1, lambda offset, size: 0x60, lambda offset, size, value: None)
        PortioList(self, (entry,), "python").add(machine.ports, PYTHON_PORT)
        for port, value in ((0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0xDF)):
            machine.ports.write(port, 1, value)
        self.pin = IRQOut("bench", machine.buses["isa"].irq_line(IRQ))
        self.write(4 * (8 + IRQ), struct.pack("<HH", HANDLER, 0))
        # push ax / mov al, 0x20 / out 0x20, al / inc dword [0x6800] / pop ax / iret
        self.write(HANDLER, bytes.fromhex("50b020e62066ff06006858cf"))

    def write(self, gpa: int, data: bytes) -> None:
        self.machine.memory.write(gpa, data)

    @property
    def interrupts(self) -> int:
        """How many the guest has handled."""
        return int(self.machine.memory.load(COUNTER, 4))

    def run(self, code: bytes) -> float:
        """Seconds from the program's first instruction to its HLT."""
        return self.machine.call(lambda: self._run(code))

    def _run(self, code: bytes) -> float:
        engine = self.machine.engine
        assert engine is not None
        self.write(CODE, b"\xfb" + code)  # sti first
        state = x86.reset_state()
        state.update(rip=CODE, cs_selector=0, cs_base=0, rsp=0x5000)
        engine.set_state(state)
        with every(TICK, engine.kick):
            start = time.perf_counter()
            while (reason := engine.run()).exit is Exit.KICK:
                self.pin.set_level(0)
                self.pin.set_level(1)
                self.ticks += 1
            taken = time.perf_counter() - start
        if reason.exit is not Exit.HALT:
            raise RuntimeError(reason)
        return taken


@contextlib.contextmanager
def every(interval: float, call: Callable[[], None]) -> Iterator[None]:
    """Calls back from another thread meanwhile."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(interval):
            call()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def busy_thread() -> Iterator[None]:
    """A second Python thread that computes all the time."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def binding(n: int) -> float:
    """The same IN loop through the Unicorn binding with a Python hook: seconds a round."""
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
    uc.mem_map(0, 1 << 20)
    code = loop(n, IN_BYTE, COM1 + LINE_STATUS)
    uc.mem_write(CODE, code)
    uc.hook_add(unicorn.UC_HOOK_INSN, lambda uc, port, size, data: 0x60, None, 1, 0, x86_const.UC_X86_INS_IN)
    start = time.perf_counter()
    uc.emu_start(CODE, CODE + len(code) - 1)
    return (time.perf_counter() - start) / n


def benchmarks() -> Iterator[Benchmark]:
    bench = Bench()

    def a_round(n: int, body: bytes = b"", port: int = 0) -> float:
        return bench.run(loop(n, body, port)) / n

    def ratio(measured: Callable[[], float], reference: Callable[[], float]) -> float:
        # The machine's speed drifts; the best of short turns does not, and their ratio even less.
        turns = [(measured(), reference()) for _ in range(5)]
        return min(t for t, _ in turns) / min(t for _, t in turns)

    def of_empty(n: int, body: bytes, port: int) -> float:
        return ratio(lambda: a_round(n, body, port), lambda: a_round(fast))

    def contended() -> float:
        with busy_thread():
            return a_round(20_000, IN_BYTE, PYTHON_PORT)

    fast, slow = 1_000_000, 100_000
    status, scratch = COM1 + LINE_STATUS, COM1 + SCRATCH
    yield Benchmark("engine: empty loop", lambda: a_round(5 * fast))
    for name, body, port in (
        ("in, UART line status", IN_BYTE, status),
        ("in, UART scratch", IN_BYTE, scratch),
        ("out, UART scratch", OUT_BYTE, scratch),
    ):
        yield Benchmark(f"engine: {name}", lambda body=body, port=port: a_round(fast, body, port))
        yield Benchmark(
            f"engine: {name}, of an empty loop", lambda body=body, port=port: of_empty(fast // 4, body, port),
            unit="x", target=10.0, less_is_better=True,
        )  # fmt: skip
    yield Benchmark("engine: in, Python device", lambda: a_round(slow, IN_BYTE, PYTHON_PORT))
    yield Benchmark(
        "engine: in, Python device, of an empty loop", lambda: of_empty(slow // 4, IN_BYTE, PYTHON_PORT),
        unit="x", target=40.0, less_is_better=True,
    )  # fmt: skip
    yield Benchmark("engine: in, Python device beside a busy Python thread", contended)
    yield Benchmark("engine: in, unassigned port", lambda: a_round(fast, IN_BYTE, NOTHING))
    yield Benchmark("engine: out, unassigned port", lambda: a_round(fast, OUT_BYTE, NOTHING))
    yield Benchmark("engine: in, hook of the Unicorn binding", lambda: binding(slow))
    yield Benchmark(
        "engine: hook of the Unicorn binding, of in on UART line status",
        lambda: ratio(lambda: binding(slow // 4), lambda: a_round(fast // 4, IN_BYTE, status)), unit="x", target=8.0,
    )  # fmt: skip

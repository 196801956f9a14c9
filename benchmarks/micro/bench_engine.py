# SPDX-License-Identifier: MIT
"""Port accesses from guest code, against an empty loop and against a Python hook of the Unicorn binding.

The guest runs with interrupts on and a timer that raises its line a thousand times a second. The ports
are those of a via-pc with all that it maps: a 16550A (compiled), a Python device, and nothing.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterator

import unicorn
from unicorn import x86_const
from pyemu import Machine, PortioEntry, PortioList
from pyemu.cpu import x86
from pyemu.cpu.engine import CPUEngine, Exit
from pyemu.device._cpuhost import make_cpu_host
from pyemu.machine.memorymap import EngineMemory
from pyemu.testing.bench import Benchmark
from pyemu_unicorn.engine import create

COM1, LINE_STATUS, SCRATCH = 0x3F8, 5, 7
PYTHON_PORT, NOTHING = 0x2F0, 0x200
CODE, HANDLER, VECTOR, TICK = 0x7C00, 0x6000, 0x30, 0.001

IN_BYTE, OUT_BYTE = b"\xec", b"\xee"


def loop(n: int, body: bytes, port: int = 0) -> bytes:
    """mov dx, port / mov ecx, n / l: body / dec ecx / jnz l / cli / hlt"""
    tail = body + bytes.fromhex("6649")
    back = bytes((0x75, 256 - len(tail) - 2))
    return b"\xba" + struct.pack("<H", port) + b"\x66\xb9" + struct.pack("<I", n) + tail + back + b"\xfa\xf4"


class Bench:
    """A processor before everything that a via-pc maps, a Python device among it, and a timer interrupt."""

    def __init__(self) -> None:
        # The machine's own thread sleeps: it has no processor. This one takes its place.
        self.machine = Machine("via-pc", memory="16M", cpu="none", properties={"reset-style": "qemu"})
        self.machine.call(self.machine.clock.start)
        self.ram = self.machine.ram["pc.ram"]
        entry = PortioEntry(0, 1, 1, lambda offset, size: 0x60, lambda offset, size, value: None)
        PortioList("python", (entry,), "python").add(self.machine.ports, PYTHON_PORT)
        self.ticks = 0
        host = make_cpu_host(self.machine.ports, self.machine.memory, self.machine.clock, self._acknowledge)
        self.engine: CPUEngine = create("x86", host)
        self.view = EngineMemory(self.engine, self.machine.memory, [self.ram])
        self.ram.write(4 * VECTOR, struct.pack("<HH", HANDLER, 0))
        self.ram.write(HANDLER, b"\xcf")  # iret

    def _acknowledge(self) -> int:
        self.engine.set_irq(0)
        self.ticks += 1
        return VECTOR

    def run(self, code: bytes) -> float:
        """Seconds from the program's first instruction to its HLT."""
        self.ram.write(CODE, b"\xfb" + code)  # sti first
        state = x86.reset_state()
        state.update(rip=CODE, cs_selector=0, cs_base=0, rsp=0x5000)
        self.engine.set_state(state)
        with every(TICK, self.engine.kick):
            start = time.perf_counter()
            while True:
                reason = self.engine.run()
                if reason.exit is not Exit.KICK:
                    break
                self.engine.set_irq(1)
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
            return a_round(2000, IN_BYTE, PYTHON_PORT)

    fast, slow = 1_000_000, 100_000
    status, scratch = COM1 + LINE_STATUS, COM1 + SCRATCH
    yield Benchmark("engine: empty loop", lambda: a_round(5 * fast))
    for name, body, port in (
        ("in, UART line status", IN_BYTE, status),
        ("in, UART scratch", IN_BYTE, scratch),
        ("out, UART line status", OUT_BYTE, status),
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

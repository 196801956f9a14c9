# SPDX-License-Identifier: MIT
"""Memory tricks: how long a background snapshot stops the guest, what a lazy restore costs when, reading by threads.

``PYEMU_BENCH_MIB`` sets the size of RAM (default 1024). Files are on tmpfs: what is measured is not the disk.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pathlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

import pyemu
from pyemu.testing.bench import Benchmark

MIB = int(os.environ.get("PYEMU_BENCH_MIB", "1024"))
SIZE = MIB << 20
SPARSE = 16 << 30
PAGE = 4096
CHUNK = 4 << 20
FILE = pathlib.Path("/dev/shm") / f"pyemu-bench-memory-{os.getpid()}"


def fill(memory: np.ndarray, pattern: str) -> None:
    """A quarter of the pages zero, the others different from each other."""
    pages = memory.reshape(-1, PAGE)
    noise = np.random.default_rng(7).integers(1, 256, (256, PAGE), dtype=np.uint8)
    for start in range(0, len(pages), 256):
        pages[start : start + 256] = noise[: len(pages) - start]
    if pattern == "runs":
        pages[: len(pages) // 64 * 64].reshape(-1, 64, PAGE)[::4] = 0
    else:
        pages[3::4] = 0


@cache
def running(huge: bool) -> pyemu.Machine:
    """A machine that runs, all of whose RAM is there, in huge pages or in small ones."""
    made = pyemu.Machine("none", memory=SIZE)
    block = made.ram["ram"]
    if not huge:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(block.pointer), ctypes.c_size_t(SIZE), mmap.MADV_NOHUGEPAGE)
    fill(block.array, "runs")
    made.cont()
    return made


def pause(huge: bool) -> float:
    """Seconds between STOP and RESUME of a background snapshot."""
    machine = running(huge)
    at: dict[str, float] = {}

    def listen(event: pyemu.Event) -> None:
        at[event.name] = time.perf_counter()

    machine.on_event(listen)
    machine.save(FILE, mapped_ram=True, background=True)
    FILE.unlink()
    return at["RESUME"] - at["STOP"]


@cache
def sparse() -> pathlib.Path:
    """A saved machine of 16 GiB, an eighth of a GiB of which is used, at its beginning and its end."""
    path = FILE.with_suffix(".sparse")
    with pyemu.Machine("none", memory=SPARSE) as machine:
        memory = machine.ram["ram"].array
        for start in (0, SPARSE - (64 << 20)):
            fill(memory[start : start + (64 << 20)], "runs")
        machine.save(path, mapped_ram=True)
    return path


def lazy(what: str) -> float:
    """Seconds until the state is loaded, of the first look at a page, until all is resident."""
    path = sparse()
    begin = time.perf_counter()
    with pyemu.restore(path, lazy=True) as machine:
        loaded = time.perf_counter()
        assert machine.ram["ram"].array[SPARSE - PAGE + 9] >= 0
        touched = time.perf_counter()
        assert machine.migration.lazy is not None and machine.migration.lazy.wait()
        resident = time.perf_counter()
    return {"loaded": loaded - begin, "touch": touched - loaded, "resident": resident - begin}[what]


@cache
def saved(pattern: str) -> pathlib.Path:
    path = FILE.with_suffix(f".{pattern}")
    with pyemu.Machine("none", memory=SIZE) as machine:
        fill(machine.ram["ram"].array, pattern)
        machine.save(path, mapped_ram=True)
    return path


def eager(pattern: str) -> float:
    """Rate of a restore as a part of the rate at which as many threads read as many bytes into such memory."""
    length = SIZE // 4 * 3
    block = pyemu.RAMBlock("plain", length)
    view = memoryview(block.array)
    threads = min(4, len(os.sched_getaffinity(0)))
    path = dense()
    begin = time.perf_counter()
    with open(path, "rb", buffering=0) as file, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda at: os.preadv(file.fileno(), [view[at : at + CHUNK]], at), range(0, length, CHUNK)))
    plain = time.perf_counter() - begin
    view.release()
    block.close()
    path = saved(pattern)
    begin = time.perf_counter()
    machine = pyemu.restore(path)
    seconds = time.perf_counter() - begin
    machine.close()
    return plain / seconds


@cache
def dense() -> pathlib.Path:
    """As many bytes as a saved machine has, one behind the other."""
    path = FILE.with_suffix(".dense")
    data = np.random.default_rng(1).integers(1, 256, CHUNK, dtype=np.uint8)
    with open(path, "wb") as file:
        for _ in range(0, SIZE // 4 * 3, CHUNK):
            file.write(data)
    return path


def cleanly(function: object, *arguments: object) -> float:
    """Calls a function; what it left in tmpfs goes at the end of the process at the latest."""
    import atexit

    atexit.register(_remove)
    assert callable(function)
    figure: float = function(*arguments)
    return figure


def _remove() -> None:
    for path in FILE.parent.glob(f"{FILE.name}*"):
        path.unlink()


def benchmarks() -> Iterator[Benchmark]:
    yield Benchmark(
        f"memory: pause of a background snapshot, {MIB} MiB in huge pages", lambda: cleanly(pause, True), target=0.01
    )
    yield Benchmark(f"memory: pause of a background snapshot, {MIB} MiB in 4 KiB pages", lambda: cleanly(pause, False))
    yield Benchmark("memory: lazy restore of 16 GiB, state loaded", lambda: cleanly(lazy, "loaded"), target=0.02)
    yield Benchmark("memory: lazy restore of 16 GiB, first touch of a page", lambda: cleanly(lazy, "touch"))
    yield Benchmark("memory: lazy restore of 16 GiB, all resident (128 MiB)", lambda: cleanly(lazy, "resident"))
    for pattern, words in (("runs", "zero pages in runs"), ("fourth", "every 4th page zero")):
        yield Benchmark(
            f"memory: restore / read by as many threads, {words}",
            lambda pattern=pattern: cleanly(eager, pattern),
            unit="x",
            target=0.8,
            less_is_better=False,
        )

# SPDX-License-Identifier: MIT
"""Finding zero pages, and writing pages to their places, against a plain copy of the same bytes.

Ratios are measured in pairs, copy and save in turn, so that a slow moment of the machine hits both.
``PYEMU_BENCH_MIB`` sets the size of RAM (default 1024; a quarter of it for the disk, whose durable writes
take their time), ``PYEMU_BENCH_DISK`` a folder on a disk.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

import pyemu
from pyemu.migration import pages
from pyemu.testing.bench import Benchmark

MIB = int(os.environ.get("PYEMU_BENCH_MIB", "1024"))
SIZE = MIB << 20
PAGE = 4096
THREADS = 2
CHUNK = 4 << 20
TMPFS = pathlib.Path("/dev/shm")
DISK = pathlib.Path(os.environ.get("PYEMU_BENCH_DISK", tempfile.gettempdir()))


@cache
def machine(pattern: str, size: int) -> pyemu.Machine:
    """A stopped machine with a quarter of its RAM zero."""
    made = pyemu.Machine("none", memory=size)
    ram = made.ram["ram"].array.reshape(-1, PAGE)
    # Incompressible and different in each page, but made in a moment.
    noise = np.random.default_rng(7).integers(1, 256, (256, PAGE), dtype=np.uint8)
    for start in range(0, len(ram), 256):
        ram[start : start + 256] = noise[: len(ram) - start]
        numbers = np.arange(start, min(start + 256, len(ram)), dtype=np.uint64)
        ram[start : start + 256, :8] = numbers[:, None].view(np.uint8)
    if pattern == "runs":
        ram.reshape(-1, 64, PAGE)[::4] = 0
    else:
        ram[3::4] = 0
    return made


@cache
def plain(pattern: str, size: int) -> np.ndarray:
    """The pages of that machine that are not zero, one behind the other."""
    ram = machine(pattern, size).ram["ram"].array.reshape(-1, PAGE)
    return np.ascontiguousarray(ram[ram.any(axis=1)]).reshape(-1)


def copy(pattern: str, path: pathlib.Path, size: int, durable: bool, threads: int = THREADS) -> float:
    """Seconds that threads take to write the same bytes to one new file."""
    data = memoryview(plain(pattern, size))
    path.unlink(missing_ok=True)
    begin = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def work(first: int) -> None:
        for at in range(first * CHUNK, len(data), threads * CHUNK):
            os.pwrite(fd, data[at : at + CHUNK], at)

    with ThreadPoolExecutor(threads) as pool:
        # The list asks each thread for its result, and so for what went wrong in it.
        list(pool.map(work, range(threads)))
    if durable:
        os.fsync(fd)
    os.close(fd)
    seconds = time.perf_counter() - begin
    path.unlink()
    return seconds


def save(pattern: str, path: pathlib.Path, size: int, kind: str) -> float:
    """Seconds of a whole save."""
    path.unlink(missing_ok=True)
    begin = time.perf_counter()
    if kind == "stream":
        machine(pattern, size).save(path)
    else:
        machine(pattern, size).save(path, mapped_ram=True, multifd=THREADS, direct_io=kind == "direct")
    seconds = time.perf_counter() - begin
    path.unlink()
    return seconds


def ratio(pattern: str, folder: pathlib.Path, kind: str, threads: int = THREADS) -> float:
    """Rate of a save as a part of the rate of the copy just before it."""
    path = folder / f"pyemu-bench-{os.getpid()}"
    size = SIZE // 4 if folder is DISK else SIZE
    return copy(pattern, path, size, folder is DISK, threads) / save(pattern, path, size, kind)


def restore(pattern: str, *, mapped: bool) -> float:
    """Rate of a restore as a part of the rate at which one thread reads the same bytes into fresh memory."""
    path = TMPFS / f"pyemu-bench-{os.getpid()}"
    machine(pattern, SIZE).save(path, mapped_ram=mapped, multifd=THREADS if mapped else 0)
    seconds = read(path, len(plain(pattern, SIZE)))
    begin = time.perf_counter()
    made = pyemu.restore(path)
    seconds /= time.perf_counter() - begin
    path.unlink()
    made.close()
    return seconds


def read(path: pathlib.Path, length: int) -> float:
    """Seconds to read *length* bytes that lie one behind the other. (Holes are read, too; they cost as much.)"""
    block = pyemu.RAMBlock("plain", SIZE)
    view = memoryview(block.array)
    begin = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        for at in range(0, length, CHUNK):
            os.preadv(file.fileno(), [view[at : at + CHUNK]], at)
    return time.perf_counter() - begin


def zero_scan(level: str | None) -> float:
    """Bytes a second; ``bytes.find`` of the same memory is what libc's search does."""
    block = zeros()
    runs = pages.as_runs([(0, block.used_length // PAGE)])
    pages.select_simd(level)
    try:
        begin = time.perf_counter()
        flags = pages.zero_flags_of(block, runs)
        seconds = time.perf_counter() - begin
    finally:
        pages.select_simd()
    assert flags.all()
    return block.used_length / seconds


@cache
def zeros() -> pyemu.RAMBlock:
    block = pyemu.RAMBlock("zeros", 256 << 20)
    block.array[:] = 0
    return block


def compare() -> float:
    """What memcmp of two halves reaches: twice the bytes are read."""
    view = memoryview(zeros().array)
    half = len(view) // 2
    a, b = view[:half].tobytes(), view[half:].tobytes()
    begin = time.perf_counter()
    assert a == b
    return 2 * half / (time.perf_counter() - begin)


def benchmarks() -> Iterator[Benchmark]:
    for level in ("avx2", "sse2", "plain"):
        try:
            pages.select_simd(level)
        except ValueError:
            continue
        finally:
            pages.select_simd()
        yield Benchmark(f"pages: zero scan of 256 MiB, {level}", lambda level=level: zero_scan(level), unit="B/s")
    yield Benchmark("pages: memcmp of 2 x 128 MiB, for comparison", compare, unit="B/s")
    for pattern, words in (("runs", "zero pages in runs"), ("fourth", "every 4th page zero")):
        yield Benchmark(
            f"pages: plain 2-thread copy to tmpfs, {words}",
            lambda pattern=pattern: SIZE * 3 / 4 / copy(pattern, TMPFS / f"pyemu-bench-{os.getpid()}", SIZE, False),
            unit="B/s",
        )
        yield Benchmark(
            f"pages: mapped-ram save to tmpfs / plain copy, {words}",
            lambda pattern=pattern: ratio(pattern, TMPFS, "mapped"),
            unit="x",
            target=0.7,
            less_is_better=False,
        )
        yield Benchmark(
            f"pages: stream save to tmpfs / plain copy, {words}",
            lambda pattern=pattern: ratio(pattern, TMPFS, "stream"),
            unit="x",
            less_is_better=False,
        )
        yield Benchmark(
            f"pages: stream save to tmpfs / plain 1-thread copy, {words}",
            lambda pattern=pattern: ratio(pattern, TMPFS, "stream", threads=1),
            unit="x",
            less_is_better=False,
        )
        yield Benchmark(
            f"pages: stream restore from tmpfs / plain read, {words}",
            lambda pattern=pattern: restore(pattern, mapped=False),
            unit="x",
            less_is_better=False,
        )
        yield Benchmark(
            f"pages: mapped-ram restore from tmpfs / plain read, {words}",
            lambda pattern=pattern: restore(pattern, mapped=True),
            unit="x",
            less_is_better=False,
        )
        yield Benchmark(
            f"pages: durable mapped-ram save to disk / durable copy, {words}",
            lambda pattern=pattern: ratio(pattern, DISK, "mapped"),
            unit="x",
            less_is_better=False,
        )
        yield Benchmark(
            f"pages: the same with direct-io, {words}",
            lambda pattern=pattern: ratio(pattern, DISK, "direct"),
            unit="x",
            less_is_better=False,
        )

# SPDX-License-Identifier: MIT
"""Reading the dirty log of 1 GiB at different shares of dirty pages, scattered and in runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

import numpy as np

from pyemu.memory import DirtyBitmap, DirtySource, RAMBlock, select_dirty_source
from pyemu.testing.bench import Benchmark

SIZE = 1 << 30
PAGES = SIZE // 4096
#: The figure asked for 1 % of dirty pages, where the system tracks writes itself.
TARGET = 1.5e-3


@functools.cache
def tracked() -> tuple[RAMBlock, DirtyBitmap, DirtySource]:
    """A gigabyte, all of it resident, under the best dirty source there is."""
    block = RAMBlock("ram", SIZE)
    block.array[:] = 1
    bitmap = block.dirty_client("benchmark")
    source = select_dirty_source()
    source.start([block])
    return block, bitmap, source


@functools.cache
def chosen(percent: int, scattered: bool) -> np.ndarray:
    count = PAGES * percent // 100
    if not scattered:
        return np.arange(PAGES // 4, PAGES // 4 + count) % PAGES
    return np.sort(np.random.default_rng(percent).choice(PAGES, count, replace=False))


def sync(percent: int, scattered: bool) -> float:
    """Dirties pages, then times the sync alone."""
    block, bitmap, source = tracked()
    source.sync()
    bitmap.clear_all()
    pages = chosen(percent, scattered)
    block.array[pages * 4096] += 1
    start = time.perf_counter()
    found = source.sync()
    took = time.perf_counter() - start
    if found != len(pages):
        raise RuntimeError(f"{found} pages found dirty, {len(pages)} were written")
    return took


def mark() -> float:
    """Marking single pages from Python, as a device's DMA does."""
    block, _, _ = tracked()
    start = time.perf_counter()
    for offset in range(0, 4096 * 1000, 4096):
        block.mark_dirty(offset, 4096)
    return (time.perf_counter() - start) / 1000


def take(percent: int) -> float:
    """Taking every run of a map out of it."""
    bitmap = DirtyBitmap(PAGES)
    for page in chosen(percent, True):
        bitmap.set(int(page))
    start = time.perf_counter()
    at = 0
    while (run := bitmap.take_run(at, PAGES)) is not None:
        at = run[0] + run[1]
        if at >= PAGES:
            break
    return time.perf_counter() - start


def benchmarks() -> Iterator[Benchmark]:
    source = select_dirty_source().name
    for percent, scattered in ((0, True), (1, True), (1, False), (50, True), (50, False), (100, False)):
        how = "scattered" if scattered else "in one run"
        target = TARGET if percent == 1 and source == "uffd" else None
        yield Benchmark(
            f"dirty: sync of 1 GiB, {percent} % {how}, source {source}",
            lambda p=percent, s=scattered: sync(p, s), target=target,
        )  # fmt: skip
    yield Benchmark("dirty: mark one page from Python", mark)
    yield Benchmark("dirty: take all runs of a 1 GiB map, 1 % scattered", lambda: take(1))

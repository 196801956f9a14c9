# SPDX-License-Identifier: MIT
"""The third party: the same bytes copied by a few threads that do nothing else."""

from __future__ import annotations

import concurrent.futures
import mmap
import os
import time
from pathlib import Path

import numpy as np

from .formats import PAGE, memory

#: Bytes of one system call.
PIECE = 4 << 20
#: Bytes to copy from, again and again: more than any cache holds, little beside a guest of 8 GiB.
SOURCE = 512 << 20


def _pieces(size: int) -> list[tuple[int, int]]:
    return [(at, min(PIECE, size - at)) for at in range(0, size, PIECE)]


def buffer(size: int) -> mmap.mmap:
    """Memory with incompressible bytes to copy *size* bytes from, all of it touched."""
    size = min(size, SOURCE)
    area = memory(size)
    block = os.urandom(min(PIECE, size))
    for at, length in _pieces(size):
        area[at : at + length] = block[:length]
    return area


def save(source: mmap.mmap, size: int, path: Path, threads: int, direct: bool) -> dict[str, float]:
    """Writes *size* bytes from *source* to a new file: seconds, and seconds until it is durable."""
    usage = os.times()
    start = time.monotonic()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | (os.O_DIRECT if direct else 0), 0o600)
    with memoryview(source) as view, concurrent.futures.ThreadPoolExecutor(threads) as pool:

        def write(piece: tuple[int, int]) -> None:
            at, length = piece
            begin = at % (len(view) // PIECE * PIECE or len(view))
            if os.pwrite(fd, view[begin : begin + length], at) != length:
                raise RuntimeError(f"{path}: short write at {at}")

        list(pool.map(write, _pieces(size)))
    seconds = time.monotonic() - start
    now = os.times()
    os.fsync(fd)
    os.close(fd)
    cpu = now.user + now.system - usage.user - usage.system
    return {"seconds": seconds, "durable": time.monotonic() - start, "cpu": cpu, "memory": 0.0}


def warm(size: int) -> None:
    """Touches *size* bytes and gives them back, so that whoever comes next is given memory that is really there.

    A virtual machine's host may take memory back that is free, within seconds; the first touch of it afterwards costs
    ten times what the guest's kernel needs for it, and would be counted for whom it happens to.
    """
    with memory(size) as area:
        np.frombuffer(area, dtype=np.uint8)[::PAGE] = 1


def load(path: Path, length: int, threads: int, direct: bool, size: int) -> dict[str, float]:
    """Reads *length* bytes of a file into fresh memory of a guest of *size* bytes."""
    target = memory(size)
    usage = os.times()
    start = time.monotonic()
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    with memoryview(target) as view, concurrent.futures.ThreadPoolExecutor(threads) as pool:

        def read(piece: tuple[int, int]) -> None:
            at, wanted = piece
            if os.preadv(fd, [view[at : at + wanted]], at) != wanted:
                raise RuntimeError(f"{path}: short read at {at}")

        list(pool.map(read, _pieces(length)))
    seconds = time.monotonic() - start
    now = os.times()
    os.close(fd)
    target.close()
    return {"seconds": seconds, "cpu": now.user + now.system - usage.user - usage.system, "memory": 0.0}

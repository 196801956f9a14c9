# SPDX-License-Identifier: MIT
"""What the plugin host costs: hooks, start-up, assembling a machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pluggy

from pyemu import Machine, PluginManager
from pyemu.plugin import hookimpl, hookspec
from pyemu.testing.bench import Benchmark

CALLS = 2_000


class Spec:
    @hookspec
    def pyemu_boards(self):
        """One hook of ours."""


class Plugin:
    @hookimpl
    def pyemu_boards(self):
        return ()


def hooks(implementations: int) -> float:
    """Seconds a hook call takes: why none is on a path that a guest can drive."""
    manager = pluggy.PluginManager("pyemu")
    manager.add_hookspecs(Spec)
    for n in range(implementations):
        manager.register(Plugin(), f"plugin{n}")
    call = manager.hook.pyemu_boards
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def python(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    return time.perf_counter() - start


def start_up(code: str) -> float:
    """How many times longer Python takes with *code* than with none, measured one after the other."""
    return python(code) / python("pass")


def assemble() -> None:
    Machine("via-pc", memory="64M").close()


def benchmarks() -> Iterator[Benchmark]:
    for n in (1, 5):
        yield Benchmark(f"host: hook call, {n} implementation{'s' if n > 1 else ''}", lambda n=n: hooks(n))
    for what, code in (
        ("import pyemu", "import pyemu"),
        ("import numpy alone", "import numpy"),
        ("import everything a machine needs", "from pyemu import Machine"),
    ):
        yield Benchmark(
            f"host: {what} / a bare Python", lambda c=code: start_up(c), unit="x", less_is_better=True
        )  # fmt: skip
    yield Benchmark("host: find and load all plugins", lambda: void(PluginManager().load()))
    yield Benchmark("host: assemble and close a via-pc with its processor", assemble)


def void(value: object) -> None:
    """Drops a value: what a benchmark returns would be taken for its figure."""

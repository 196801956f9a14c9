# SPDX-License-Identifier: MIT
"""Benchmarks as objects, so that ``pyemu bench``, tests and other tools run them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

#: How a figure is shown: seconds as ns to s, a rate as MiB/s or GiB/s, or a plain factor.
Unit = Literal["s", "B/s", "x"]
_STEPS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One thing to measure.

    Args:
        name: ``"group: what"``.
        once: does the work and returns the figure; None lets the caller time the call, divided by *per*.
        per: how often one call does the thing that is measured.
        unit: of the figure. Of seconds less is better, of the others more, unless *less_is_better*.
        target: the figure to reach, or None.
        less_is_better: overrules what the unit suggests.
    """

    name: str
    once: Callable[[], float | None]
    per: int = 1
    unit: Unit = "s"
    target: float | None = None
    less_is_better: bool | None = None

    @property
    def less(self) -> bool:
        return self.unit == "s" if self.less_is_better is None else self.less_is_better

    @property
    def target_text(self) -> str:
        assert self.target is not None
        return f"{'≤' if self.less else '≥'} {show(self.target, self.unit)}"


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one benchmark, in the order they were measured."""

    benchmark: Benchmark
    figures: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def best(self) -> float:
        return min(self.figures) if self.benchmark.less else max(self.figures)

    @property
    def worst(self) -> float:
        return max(self.figures) if self.benchmark.less else min(self.figures)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as a fraction of the median."""
        return (max(self.figures) - min(self.figures)) / self.median if self.median else 0.0

    @property
    def met(self) -> bool | None:
        """Whether the median reached the target; None without one."""
        target = self.benchmark.target
        if target is None:
            return None
        return self.median <= target if self.benchmark.less else self.median >= target

    def shown(self, figure: float) -> str:
        return show(figure, self.benchmark.unit)

    def as_dict(self) -> dict[str, Any]:
        b = self.benchmark
        return {"name": b.name, "unit": b.unit, "target": b.target, "met": self.met, "figures": self.figures}


def measure(benchmark: Benchmark, rounds: int) -> Result:
    """Runs *benchmark* once to warm up and *rounds* times for the record."""
    result = Result(benchmark)
    for number in range(rounds + 1):
        start = time.perf_counter()
        own = benchmark.once()
        figure = own if own is not None else (time.perf_counter() - start) / benchmark.per
        if number:
            result.figures.append(figure)
    return result


def show(figure: float, unit: Unit) -> str:
    """A figure for people."""
    if unit == "x":
        return f"{figure:.2f} x"
    if unit == "B/s":
        return f"{figure / (1 << 30):.2f} GiB/s" if figure >= 1 << 30 else f"{figure / (1 << 20):.0f} MiB/s"
    for factor, name in _STEPS:
        if figure >= factor:
            return f"{figure / factor:.3g} {name}"
    return f"{figure / 1e-9:.3g} ns"

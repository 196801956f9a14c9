# SPDX-License-Identifier: MIT
"""``pyemu bench``: runs the micro-benchmarks and prints a table with spread.

A benchmark module is ``bench_NAME.py`` with a function ``benchmarks()`` that yields
:class:`~pyemu.testing.bench.Benchmark` objects.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import platform
from collections.abc import Iterator
from types import ModuleType

from ..errors import ConfigError
from ..testing.bench import Benchmark, Result, measure


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="only benchmarks whose name contains one of these words")
    parser.add_argument(
        "--directory",
        type=pathlib.Path,
        default=pathlib.Path("benchmarks/micro"),
        help="where the bench_*.py modules are (default: ./benchmarks/micro of a checkout)",
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="measurements of each (default: 7)")
    parser.add_argument("--json", action="store_true", help="all measurements as JSON")
    parser.add_argument("--list", action="store_true", help="only print the names")


def run(args: argparse.Namespace) -> int:
    if args.rounds < 1:
        raise ConfigError(f"--rounds {args.rounds}: must be at least 1")
    chosen = [b for b in find(args.directory) if not args.name or any(word in b.name for word in args.name)]
    if not chosen:
        raise ConfigError(f"no benchmark in {args.directory} is called like {' or '.join(args.name)}")
    if args.list:
        print("\n".join(b.name for b in chosen))
        return 0
    results = []
    for benchmark in chosen:
        results.append(measure(benchmark, args.rounds))
    if args.json:
        print(json.dumps({"system": _system(), "results": [r.as_dict() for r in results]}, indent=2))
    else:
        _print(results)
    missed = [r for r in results if r.met is False]
    return 1 if missed else 0


def find(directory: pathlib.Path) -> Iterator[Benchmark]:
    """Every benchmark of the modules in *directory*, in the order of the file names.

    Raises:
        ConfigError: there is no such folder, nothing in it, or a module without ``benchmarks()``.
    """
    paths = sorted(directory.glob("bench_*.py"))
    if not paths:
        raise ConfigError(f"no bench_*.py in {directory}; run this in a checkout or give --directory")
    for path in paths:
        module = _load(path)
        if not callable(getattr(module, "benchmarks", None)):
            raise ConfigError(f"{path} has no function benchmarks()")
        yield from module.benchmarks()


def _load(path: pathlib.Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"pyemu_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _system() -> str:
    return f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}"


def _print(results: list[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=_system(), box=None, header_style="bold", pad_edge=False)
    table.add_column("benchmark")
    for column in ("median", "spread", "best", "worst", "target"):
        table.add_column(column, justify="right")
    for r in results:
        verdict = "" if r.met is None else " met" if r.met else " MISSED"
        target = f"{r.benchmark.target_text}{verdict}" if r.benchmark.target is not None else ""
        table.add_row(r.benchmark.name, r.shown(r.median), f"{r.spread:.0%}", r.shown(r.best), r.shown(r.worst), target)
    console = Console(highlight=False, markup=False)
    # Into a file or a log there is no width to keep to, and names that wrap cannot be searched for.
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(table)

# SPDX-License-Identifier: MIT
"""``python -m benchmarks.peers``, in a checkout that is built in place.

Needs QEMU 10 (``PYEMU_QEMU_CHROOT``, see ``.ci/chroot``; root is not needed once that is there), 12 GiB of memory for
guests of 2 GiB, and matplotlib for the plot.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import facts, live, plot, qemu, report, suite
from .formats import FORMATS

_ROOT = Path(__file__).parents[2]
_PARTS = ("save", "restore", "live", "growth")
_SIZES = (64, 256, 1024, 2048, 4096, 8192)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="256 MiB, two rounds: to see that it works")
    parser.add_argument("--size", type=int, help="guest RAM in MiB (2048)")
    parser.add_argument("--rounds", type=int, help="rounds that count, after one that does not (5)")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="a folder on tmpfs")
    parser.add_argument("--disk", type=Path, default=_ROOT / "build", help="a folder on a disk")
    parser.add_argument("--place", choices=("tmpfs", "disk"), action="append", help="only there")
    parser.add_argument("--zeros", choices=("runs", "every4"), action="append", help="only with these zero pages")
    parser.add_argument("--format", action="append", help="only formats that contain this")
    parser.add_argument("--part", choices=_PARTS, action="append", help="only this part")
    parser.add_argument("--out", type=Path, default=_ROOT / "build" / "peers.json", help="where the figures go")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and the plot as well")
    parser.add_argument("--report", type=Path, help="measure nothing: report on the figures in this file")
    args = parser.parse_args()
    if args.report is not None:
        results = json.loads(args.report.read_text())
    else:
        results = measure(args)
    if args.docs:
        picture = plot.draw(results, _ROOT / "docs" / "benchmarks-growth.svg")
        page = _ROOT / "docs" / "benchmarks.md"
        page.write_text(report.page(results, picture.name if picture else None))
        print(f"{page} written")
    else:
        print(report.tables(results))
    print(report.verdict(results))
    return 0


class Results:
    """The figures so far, in a file after each cell: a run that is interrupted keeps what it has."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self._path = path
        self.values: dict[str, Any] = {"facts": facts, "cells": [], "growth": [], "live": []}
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, where: str, found: Iterable[Any]) -> None:
        for one in found:
            self.values[where].append(dataclasses.asdict(one) if isinstance(one, suite.Cell) else one)
            self._path.write_text(json.dumps(self.values, indent=1) + "\n")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds of everything asked for."""
    start = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - start:7.1f} s  {text}", file=sys.stderr, flush=True)

    places = {"tmpfs": args.tmpfs, "disk": args.disk}
    args.disk.mkdir(parents=True, exist_ok=True)
    size = (args.size or (256 if args.quick else 2048)) << 20
    rounds = args.rounds or (2 if args.quick else 5)
    peer: str | None = None
    try:
        peer = qemu.version()
    except qemu.PeerMissing as error:
        log(f"without QEMU: {error}")
    results = Results(args.out, facts.collect(places, peer))
    plan = suite.Plan(
        size,
        rounds,
        {name: folder for name, folder in places.items() if name in (args.place or places)},
        args.zeros or ("runs", "every4"),
        [f for f in FORMATS if not args.format or any(text in f.name for text in args.format)],
        tuple(suite.PEERS) if peer is not None else (),
        log,
    )
    parts = args.part or _PARTS
    if "save" in parts:
        results.add("cells", suite.saves(plan))
    if "restore" in parts:
        results.add("cells", suite.restores(plan))
    if "live" in parts:
        results.add("live", live.measure(plan, size >> 2))
    if "growth" in parts:
        sizes = (64, 128, 256) if args.quick else _SIZES
        results.add("growth", suite.growth(dataclasses.replace(plan, rounds=min(rounds, 3)), [n << 20 for n in sizes]))
    log("done")
    return results.values


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""Figures as tables, as a page, and against the targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Cell = dict[str, Any]
Round = dict[str, dict[str, float]]

#: The targets: a save reaches the lesser of these shares of QEMU's rate and of a plain copy's; an eager restore takes
#: at most this many times a plain read's time and no longer than QEMU; a lazy one has its state within this many
#: seconds; a saver holds no more than this many bytes beyond the guest.
SAVE_QEMU, SAVE_PLAIN, RESTORE_PLAIN, LAZY, MEMORY = 1.3, 0.9, 1.2, 0.020, 64 << 20
_PEERS = ("QEMU", "QEMU share=on")


class Ratio:
    """One number a round: its median and its spread."""

    def __init__(self, values: Iterable[float]) -> None:
        self.values = sorted(values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.values[0]:.2f}-{self.values[-1]:.2f})"


def _times(cell: Cell, party: str, key: str = "seconds") -> Ratio | None:
    values = [r[party][key] for r in cell["rounds"] if party in r and key in r[party]]
    return Ratio(values) if values else None


def _best_peer(figures: Round) -> float | None:
    found = [figures[name]["seconds"] for name in _PEERS if name in figures]
    return min(found) if found else None


def against_peer(cell: Cell) -> Ratio | None:
    """pyemu's rate as a multiple of that of QEMU's quicker kind of RAM, round by round."""
    values = [best / r["pyemu"]["seconds"] for r in cell["rounds"] if (best := _best_peer(r)) is not None]
    return Ratio(values) if values else None


def against_plain(cell: Cell) -> Ratio:
    """pyemu's rate as a multiple of the plain copy's, round by round."""
    return Ratio(r["plain"]["seconds"] / r["pyemu"]["seconds"] for r in cell["rounds"])


def met(cell: Cell) -> bool | None:
    """Whether a cell reaches its target; None without a QEMU to compare with."""
    if cell["work"] == "lazy":
        loaded = _times(cell, "pyemu", "loaded")
        return loaded is not None and loaded.median <= LAZY
    peer, plain = against_peer(cell), against_plain(cell)
    if peer is None:
        return None
    if cell["work"] == "save":
        return peer.median >= SAVE_QEMU or plain.median >= SAVE_PLAIN
    return plain.median >= 1 / RESTORE_PLAIN and peer.median >= 1


# -- tables -----------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _shown(value: Ratio | None, form: Callable[[float], str]) -> str:
    return "" if value is None else form(value.median)


def _seconds(value: Ratio | None) -> str:
    return _shown(value, lambda v: f"{v:.2f}" if v >= 0.1 else f"{v:.3f}")


def _mib(value: Ratio | None) -> str:
    return _shown(value, lambda v: f"{v / 2**20:.0f}")


_MARK = {True: "yes", False: "**no**", None: ""}


def _speed_row(cell: Cell) -> list[str]:
    peer = against_peer(cell)
    times = [_seconds(_times(cell, party)) for party in ("pyemu", *_PEERS, "plain")]
    return [cell["format"], *times, "" if peer is None else str(peer), str(against_plain(cell)), _MARK[met(cell)]]


def _cost_row(cell: Cell) -> list[str]:
    out = [cell["format"]]
    if cell["work"] == "save":
        out += [_seconds(_times(cell, party, "durable")) for party in ("pyemu", "QEMU", "plain")]
    out += [_seconds(_times(cell, party, "cpu")) for party in ("pyemu", *_PEERS, "plain")]
    return [*out, *(_mib(_times(cell, party, "memory")) for party in ("pyemu", *_PEERS))]


_SPEED = ("format", "pyemu", "QEMU", "QEMU share=on", "plain copy", "rate / QEMU's best", "rate / plain copy", "target met")
_DURABLE = ("durable: pyemu", "QEMU, then fsync", "plain, then fsync")
_COST = ("CPU: pyemu", "QEMU", "QEMU share=on", "plain", "memory: pyemu", "QEMU", "QEMU share=on")
_LAZY = ("size", "place", "zero pages", "state loaded", "first touch", "all resident", "eager restore", "target met")


def tables(results: dict[str, Any]) -> str:
    """All tables as Markdown."""
    parts: list[str] = []
    groups: dict[tuple[str, str, str, int], list[Cell]] = {}
    for cell in results["cells"]:
        groups.setdefault((cell["work"], cell["place"], cell["zeros"], cell["size"]), []).append(cell)
    for (work, place, zeros, size), cells in groups.items():
        if work == "lazy":
            continue
        where = f"{place} ({results['facts']['places'][place]})"
        spread = "in runs of 8 MiB" if zeros == "runs" else "as every fourth page"
        parts.append(f"### {work.capitalize()}, {where}, {size >> 20} MiB, zero pages {spread}")
        parts.append("Seconds, median:")
        parts.append(_table(_SPEED, (_speed_row(c) for c in cells)))
        what = "Seconds until durable, " if work == "save" else ""
        parts.append(f"{what}{'s' if what else 'S'}econds of processor time and MiB beyond the guest's RAM, medians:")
        parts.append(_table(("format", *(_DURABLE if work == "save" else ()), *_COST), (_cost_row(c) for c in cells)))
    lazy = [cell for cell in results["cells"] if cell["work"] == "lazy"]
    if lazy:
        parts += ["### Lazy restore", "Seconds, medians:", _table(_LAZY, (_lazy_row(c) for c in lazy))]
    if results["live"]:
        parts += ["### Live", _live(results["live"])]
    return "\n\n".join(parts)


def _lazy_row(cell: Cell) -> list[str]:
    numbers = [_seconds(_times(cell, "pyemu", key)) for key in ("loaded", "touched", "resident", "eager")]
    return [f"{cell['size'] >> 20} MiB", cell["place"], cell["zeros"], *numbers, _MARK[met(cell)]]


def _live(runs: list[dict[str, Any]]) -> str:
    head = ("way", "program", "total ms", "downtime ms", "iterations", "pages sent", "sweeps of the guest meanwhile")
    rows = []
    for run in runs:
        for party in run["rounds"][0]:
            figures = [Ratio(r[party][key] for r in run["rounds"])
                       for key in ("total_ms", "downtime_ms", "syncs", "pages", "sweeps")]  # fmt: skip
            shown = [f"{f.median:.0f} ({f.values[0]:.0f}-{f.values[-1]:.0f})" for f in figures]
            rows.append((run["way"], party, *shown))
    return _table(head, rows)


# -- targets ----------------------------------------------------------------------------------------------------------


def verdict(results: dict[str, Any]) -> str:
    """Which targets are met, one line each, those that are missed with their figures."""
    lines = []
    for work, what in (
        ("save", f"saves at the lesser of {SAVE_QEMU} times QEMU's rate and {SAVE_PLAIN:.0%} of a plain copy's"),
        ("restore", f"eager restores within {RESTORE_PLAIN - 1:.0%} of a plain read and no slower than QEMU"),
        ("lazy", f"lazy restores with their state loaded within {LAZY * 1000:.0f} ms"),
    ):
        # A lazy restore's figure holds at any size, so the growth counts, too.
        cells = [c for c in (*results["cells"], *(results["growth"] * (work == "lazy"))) if c["work"] == work]
        judged = [(c, met(c)) for c in cells]
        lines.append(f"{what}: {sum(m is True for _, m in judged)} of {len(judged)}")
        lines += [f"  missed: {_where(c)}: {_why(c)}" for c, m in judged if m is False]
    saved = [(c, m.values[-1]) for c in results["cells"] if c["work"] == "save" and (m := _times(c, "pyemu", "memory"))]
    if saved:
        worst, most = max(saved, key=lambda pair: pair[1])
        lines.append(
            f"a saver's memory beyond the guest, at most {MEMORY >> 20} MiB: {'met' if most <= MEMORY else 'missed'}, "
            f"most was {most / 2**20:.1f} MiB ({_where(worst)})"
        )
    return "\n".join(lines)


def _where(cell: Cell) -> str:
    return f"{cell['place']}, zeros {cell['zeros']}, {cell['size'] >> 20} MiB, {cell['format']}"


def _why(cell: Cell) -> str:
    if cell["work"] == "lazy":
        return f"{_seconds(_times(cell, 'pyemu', 'loaded'))} s"
    return f"{against_peer(cell)} of QEMU's rate, {against_plain(cell)} of a plain copy's"


# -- the page ---------------------------------------------------------------------------------------------------------

_INTRODUCTION = """# pyemu beside QEMU and beside a plain copy

Made by `python -m benchmarks.peers --docs`; do not edit. {machine}

## How it is measured

* Guest RAM has incompressible bytes in three quarters of its pages and zeros in the rest. All programs have the same
  content; QEMU got it by loading a file of ours.
* In each round every party does the same work on the same file system, one after the other, in an order that rotates.
  The first round is dropped, {rounds} count. A ratio is taken round by round; given are its median and, in brackets, the
  smallest and the largest.
* QEMU is measured until its event `completed` arrives, with `max-bandwidth` 0, once with its default RAM and once with
  `share=on`; the better of the two in each round is what we compare with.
* QEMU does not make files durable, pyemu always does. So that like is compared with like, the first table takes pyemu's time
  until everything is written (its last progress report, just before it syncs) and the second one the time until
  `save()` returns, with file and directory synced, beside QEMU's and the plain copy's with a sync after them.
* Each save goes to a new file; on the disk, everything is synced between the turns. Restores read files that are in
  the page cache (direct-io goes past it) into a fresh process, whose start is not counted.
* The plain copy writes as many bytes as there are in data pages, in pieces of 4 MiB, with as many threads as the format has
  channels, from memory with huge pages; the plain read reads as many of a file without holes into such memory, with one
  thread a processor.
* Processor time is user and system time of the whole process. Memory is the peak of the resident set above what it was
  before a save, or above what it is after a restore.
* A save's target is the lesser of {save_qemu} times QEMU's rate and {save_plain:.0%} of the plain copy's; a restore's is to
  take no longer than {restore_plain} times a plain read, and no longer than QEMU.

## Figures
"""


def page(results: dict[str, Any], picture: str | None) -> str:
    """The whole page as Markdown."""
    f = results["facts"]
    machine = (
        f"Taken on {f['date']}, revision {f['revision']}: {f['processors']} x {f['processor']}, "
        f"{f['memory'] / 2**30:.0f} GiB of memory, Linux {f['kernel']}, huge pages {f['huge pages']}, Python {f['python']}, "
        f"QEMU {f['qemu'] or 'missing'}; load {f['load']:.1f} at the start."
    )
    counted = max((len(c["rounds"]) for c in (*results["cells"], *results["growth"], *results["live"])), default=0)
    text = _INTRODUCTION.format(
        machine=machine, rounds=counted, save_qemu=SAVE_QEMU, save_plain=SAVE_PLAIN, restore_plain=RESTORE_PLAIN
    )
    parts = [text, tables(results)]
    if picture:
        parts += ["### Growth with RAM size", f"![Seconds to save and to restore, by RAM size]({picture})"]
    parts += ["## Targets", "```\n" + verdict(results) + "\n```"]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"

# SPDX-License-Identifier: MIT
"""Rounds: every party does the same work in turn, the order rotates, the first round is dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import plain
from .formats import MAPPED, MULTIFD2, PAGE, STREAM, Format, Zeros, zero_pages
from .ours import Ours
from .qemu import QEMU

#: QEMU with its default RAM, and with RAM that others can share.
PEERS = {"QEMU": False, "QEMU share=on": True}

Party = Callable[[], dict[str, float]]
Log = Callable[[str], None]


@dataclasses.dataclass
class Cell:
    """The rounds of one piece of work: for each round, for each party, its numbers.

    Attributes:
        work: ``save``, ``restore`` or ``lazy``.
        place: ``tmpfs`` or ``disk``.
    """

    work: str
    place: str
    zeros: str
    format: str
    size: int
    rounds: list[dict[str, dict[str, float]]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        size: bytes of guest RAM.
        rounds: that count; one more comes before them and is dropped.
        places: folder of each place by name.
        qemu: its kinds of RAM to compare with; none without a QEMU.
    """

    size: int
    rounds: int
    places: dict[str, Path]
    zeros: Sequence[Zeros]
    formats: Sequence[Format]
    qemu: tuple[str, ...]
    log: Log


def _turns(cell: Cell, parties: dict[str, Party], rounds: int, between: Callable[[], None], log: Log) -> Cell:
    names = list(parties)
    for number in range(rounds + 1):
        figures = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            between()
            figures[name] = parties[name]()
        between()
        if number:
            cell.rounds.append({name: figures[name] for name in names})
    shown = ", ".join(f"{n} {min(r[n]['seconds'] for r in cell.rounds):.3f} s" for n in names)
    log(f"{cell.work}, {cell.place}, zeros {cell.zeros}, {cell.size >> 20} MiB, {cell.format}: {shown}")
    return cell


def _data_bytes(size: int, zeros: Zeros) -> int:
    return int((~zero_pages(size // PAGE, zeros)).sum()) * PAGE


@contextlib.contextmanager
def _filled(size: int, zeros: Zeros, folder: Path, qemu: Sequence[str]) -> Iterator[tuple[Ours, dict[str, QEMU]]]:
    """pyemu and QEMUs with the same content, which the latter loaded from a file of the former."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Ours())
        ours("fill", size=size, zeros=zeros)
        peers = {}
        if qemu:
            seed = folder / "seed"
            ours("save", path=seed, form=MAPPED)
            for name in qemu:
                peers[name] = stack.enter_context(QEMU(size, shared=PEERS[name], incoming=True))
                peers[name].load(MULTIFD2, seed)
            seed.unlink()
        yield ours, peers


def saves(plan: Plan) -> Iterator[Cell]:
    """Saving, in each format."""
    for place, folder in plan.places.items():
        for zeros in plan.zeros:
            with tempfile.TemporaryDirectory(dir=folder, prefix="pyemu-peers-") as name, _filled(
                plan.size, zeros, Path(name), plan.qemu
            ) as (ours, peers):
                copied = plain.buffer(_data_bytes(plan.size, zeros))
                for form in plan.formats:
                    yield _save(plan, place, zeros, Path(name), form, ours, peers, copied)
                copied.close()


def _save(
    plan: Plan, place: str, zeros: Zeros, folder: Path, form: Format, ours: Ours, peers: dict[str, QEMU], copied: Any
) -> Cell:
    path = folder / "saved"

    def fresh() -> None:
        """Nobody pays for the old file, nor for what the one before has left to be written."""
        path.unlink(missing_ok=True)
        if place == "disk":
            os.sync()
        plain.warm(plan.size)

    parties: dict[str, Party] = {"pyemu": lambda: ours("save", path=path, form=form)}
    for name, qemu in peers.items():
        parties[name] = lambda qemu=qemu: qemu.save(form, path)  # type: ignore[misc]
    data = _data_bytes(plan.size, zeros)
    parties["plain"] = lambda: plain.save(copied, data, path, form.threads, form.direct)
    cell = Cell("save", place, zeros, form.name, plan.size)
    return _turns(cell, parties, plan.rounds, fresh, plan.log)


def restores(plan: Plan) -> Iterator[Cell]:
    """Loading into fresh processes, from files that are in the page cache."""
    for place, folder in plan.places.items():
        for zeros in plan.zeros:
            with tempfile.TemporaryDirectory(dir=folder, prefix="pyemu-peers-") as name:
                yield from _restores(plan, place, zeros, Path(name))


def _restores(plan: Plan, place: str, zeros: Zeros, folder: Path) -> Iterator[Cell]:
    with Ours() as ours:
        ours("fill", size=plan.size, zeros=zeros)
        for layout in (STREAM, MAPPED):
            ours("save", path=folder / layout.name, form=layout)
    # The plain read takes as many bytes from the stream's file as there are in data pages: that has no holes.
    data = _data_bytes(plan.size, zeros)
    threads = os.cpu_count() or 1
    for form in plan.formats:
        path = folder / (MAPPED if form.mapped else STREAM).name
        parties: dict[str, Party] = {"pyemu": lambda form=form, path=path: _load(plan.size, form, path)}  # type: ignore[misc]
        for name in plan.qemu:
            parties[name] = lambda form=form, path=path, name=name: _peer_load(plan.size, form, path, PEERS[name])  # type: ignore[misc]
        parties["plain"] = lambda form=form: _plain_load(plan.size, form, folder / STREAM.name, data, threads)  # type: ignore[misc]
        cell = Cell("restore", place, zeros, form.name, plan.size)
        yield _turns(cell, parties, plan.rounds, lambda: None, plan.log)
    if any(form.mapped for form in plan.formats):
        yield _lazy(plan, place, zeros, folder / MAPPED.name)


def _lazy(plan: Plan, place: str, zeros: str, path: Path) -> Cell:
    """The three numbers of a lazy restore, beside the eager one."""
    cell = Cell("lazy", place, zeros, "lazy", plan.size)
    for number in range(plan.rounds + 1):
        with Ours() as ours:
            ours("wait", size=plan.size)
            plain.warm(plan.size)
            figures = ours("lazy", path=path)
        figures["eager"] = _load(plan.size, MULTIFD2, path)["seconds"]
        if number:
            cell.rounds.append({"pyemu": figures})
    shown = ", ".join(f"{key} {min(r['pyemu'][key] for r in cell.rounds):.4f} s" for key in figures)
    plan.log(f"lazy, {place}, zeros {zeros}, {plan.size >> 20} MiB: {shown}")
    return cell


# Memory is warmed when everything else is ready: the host takes it back soon.
def _load(size: int, form: Format, path: Path) -> dict[str, float]:
    with Ours() as ours:
        ours("wait", size=size)
        plain.warm(size)
        return ours("load", path=path, form=form)


def _peer_load(size: int, form: Format, path: Path, shared: bool) -> dict[str, float]:
    with QEMU(size, shared=shared, incoming=True) as qemu:
        plain.warm(size)
        return qemu.load(form, path)


def _plain_load(size: int, form: Format, path: Path, length: int, threads: int) -> dict[str, float]:
    plain.warm(size)
    return plain.load(path, length, threads, form.direct, size)


def available() -> int:
    """Bytes of memory that can be used without pushing anything out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) << 10
    raise RuntimeError("/proc/meminfo has no MemAvailable")


def growth(plan: Plan, sizes: Sequence[int]) -> Iterator[Cell]:
    """Saving and restoring at each size, zero pages in runs, in the first place."""
    place, folder = next(iter(plan.places.items()))
    for size in sizes:
        # At most three at a time of a saver, a QEMU and two files, each with three quarters of the guest.
        needed = 3 * size * 3 // 4 + (3 << 29)
        if available() < needed:
            plan.log(f"growth: {size >> 20} MiB left out: needs {needed >> 20} MiB of memory, {available() >> 20} are free")
            continue
        at = dataclasses.replace(
            plan, size=size, places={place: folder}, zeros=("runs",), formats=(STREAM, MULTIFD2), qemu=plan.qemu[:1]
        )
        yield from saves(at)
        yield from restores(at)

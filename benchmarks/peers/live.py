# SPDX-License-Identifier: MIT
"""Migrating a guest while it rewrites a quarter of its RAM as fast as it can."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import guest
from .formats import Format
from .ours import Ours
from .qemu import QEMU
from .suite import Plan

#: A name for the tables, the format, and whether it goes over a socket to a waiting machine.
WAYS = (
    ("file, stream", Format("stream"), False),
    ("file, mapped-ram", Format("mapped-ram", True), False),
    ("file, mapped-ram, multifd 2", Format("mapped-ram, multifd 2", True, 2), False),
    ("unix socket", Format("stream"), True),
    ("unix socket, multifd 2", Format("multifd 2", False, 2), True),
)
_PATIENCE = 120


def measure(plan: Plan, size: int) -> Iterator[dict[str, Any]]:
    """For each way and each program the numbers of each round; the first round is dropped."""
    folder = next(iter(plan.places.values()))
    for name, form, socket in WAYS:
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(plan.rounds + 1):
            with tempfile.TemporaryDirectory(dir=folder, prefix="pyemu-peers-") as place:
                rom = guest.write(Path(place), size)
                figures = {"pyemu": _ours(Path(place), rom, size, form, socket)}
                if plan.qemu:
                    figures["QEMU"] = _theirs(Path(place), rom, size, form, socket)
            if number:
                rounds.append(figures)
        plan.log(f"live, {size >> 20} MiB, {name}: {rounds[-1]}")
        yield {"way": name, "size": size, "rounds": rounds}


def _figures(answer: dict[str, Any], sweeps: int) -> dict[str, float]:
    ram = answer["ram"]
    return {
        "total_ms": answer["total-time"],
        "downtime_ms": answer["downtime"],
        "syncs": ram["dirty-sync-count"],
        "pages": ram["normal"],
        "sweeps": sweeps,
    }


def _ours(place: Path, rom: Path, size: int, form: Format, socket: bool) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(Ours())
        source("boot", rom=rom, size=size)
        uri = f"file:{place}/saved"
        if socket:
            uri = f"unix:{place}/socket"
            target = stack.enter_context(Ours())
            target("listen", rom=rom, size=size, uri=uri, form=form)
        before = source("sweeps")["sweeps"]
        answer = source("migrate", uri=uri, form=form)
        sweeps = source("sweeps")["sweeps"] - before
        if socket:
            target("arrived", sweeps=before)
        return _figures(answer["query"], sweeps)


@contextlib.contextmanager
def _booted(rom: Path, size: int, **options: Any) -> Iterator[QEMU]:
    with QEMU(size, "-bios", str(rom), machine="pc", **options) as qemu:
        yield qemu


def _words(qemu: QEMU, place: Path) -> tuple[int, int]:
    path = place / "words"
    qemu("pmemsave", val=guest.STATUS, size=8, filename=str(path))
    data = path.read_bytes()
    return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:], "little")


def _theirs(place: Path, rom: Path, size: int, form: Format, socket: bool) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_booted(rom, size))
        source("cont")
        _await(lambda: _words(source, place)[0] == guest.READY and _words(source, place)[1] > 0)
        source.configure(form)
        uri = f"file:{place}/saved"
        if socket:
            uri = f"unix:{place}/socket"
            target = stack.enter_context(_booted(rom, size, incoming=True))
            target.configure(form)
            target.begin("migrate-incoming", uri)
        before = _words(source, place)[1]
        source.migrate("migrate", uri)
        sweeps = _words(source, place)[1] - before
        if socket:
            target.ended()
        return _figures(source("query-migrate"), sweeps)


def _await(condition: Any) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("the guest does not come up")
        time.sleep(0.02)

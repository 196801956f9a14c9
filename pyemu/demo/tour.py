# SPDX-License-Identifier: MIT
"""The tour: boot the guest, save it twice while it runs, bring it back, check that nothing was lost."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PyemuError
from ..machine import Machine, restore
from ..machine.save import SaveReport

if TYPE_CHECKING:
    from rich.console import Console

GUEST = Path(__file__).parent / "guest.bin"
MEMORY = "64M"
#: Where the guest keeps the number of finished walks (guest.S: COUNTER).
COUNTER = 0x200000
#: The guest's first line of counting, after 256 walks, and the end of any line.
FIRST_BEAT = b"guest: walks 0x00000100\r\n"
LINE_END = b"\r\n"
#: Host seconds that anything in the tour may take; it takes two or three in all.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class LiveSave:
    """One save of the running guest, with the guest's counter before and after."""

    kind: str
    report: SaveReport
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Proof:
    """A claim and whether it held."""

    claim: str
    held: bool


def counter(machine: Machine) -> int:
    """The guest's count of finished walks, read from its RAM."""
    return int(machine.ram["pc.ram"].array[COUNTER : COUNTER + 4].view(np.uint32)[0])


def run_tour(console: Console, folder: Path | None = None, memory: str = MEMORY) -> bool:
    """Gives the whole tour on *console*; true if every claim held.

    Args:
        console: where to print.
        folder: where the saved files stay; None for a temporary place.
        memory: RAM of the machine.
    """
    with tempfile.TemporaryDirectory(prefix="pyemu-demo-") as temporary:
        place = folder if folder is not None else Path(temporary)
        with Machine("via-pc", memory=memory, kernel=GUEST, serial=["memory"]) as machine:
            lines = boot(console, machine)
            saves = [
                live_save(console, machine, place / "demo.stream", "stream"),
                live_save(console, machine, place / "demo.mapped", "mapped-ram"),
            ]
        console.print()
        console.print(table(saves))
        proofs = boot_proofs(lines) + save_proofs(saves) + come_back(console, saves[-1])
    console.print()
    for proof in proofs:
        mark = "[green]proved[/]" if proof.held else "[red]FAILED[/]"
        console.print(f"  {mark}  {proof.claim}", highlight=False, soft_wrap=True)
    return all(p.held for p in proofs)


def boot(console: Console, machine: Machine) -> list[str]:
    """Runs the guest until it walks; returns what it said."""
    console.print(f"[bold]Booting[/] our guest on via-pc, {machine.memory_size >> 20} MiB, engine {machine.cpu_name}")
    serial = machine.serial[0]
    if not machine.run(until=serial.contains(FIRST_BEAT), timeout=PATIENCE):
        raise PyemuError(f"demo: the guest did not come up; it said {serial.capture.text()!r}")
    machine.cont()
    lines = [line for line in serial.capture.text().split("\r\n") if line]
    for line in lines:
        console.print(f"  [cyan]{line}[/]", highlight=False, soft_wrap=True)
    return lines


def live_save(console: Console, machine: Machine, path: Path, kind: str) -> LiveSave:
    """Saves the running guest, with a progress bar."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"  saving live, {kind:10}"), BarColumn(30), DownloadColumn(binary_units=True))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(kind, total=None)
        before = counter(machine)
        report = machine.save(
            path,
            mapped_ram=kind == "mapped-ram",
            progress=lambda p: bar.update(task, completed=p.done_bytes, total=max(p.total_bytes, p.done_bytes)),
        )
        bar.update(task, completed=report.ram_bytes, total=report.ram_bytes)
    return LiveSave(kind, report, before, counter(machine))


def table(saves: list[LiveSave]):  # type: ignore[no-untyped-def]
    """What the saves took, one row each."""
    from rich import box
    from rich.table import Table

    out = Table(title="Saved while the guest ran", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("format", "RAM", "pages written", "file", "on disk", "bounded", "syncs", "pause"):
        out.add_column(name, justify="left" if name == "format" else "right")
    for save in saves:
        r = save.report
        # A page that is written again takes more room in a stream, and the same place in a mapped file.
        bounded = "yes" if save.kind == "mapped-ram" else "no"
        row = (f"{r.ram_bytes >> 20} MiB", f"{r.data_pages:,}", _mib(r.file_bytes), _mib(r.allocated_bytes), bounded)
        out.add_row(save.kind, *row, str(r.dirty_syncs), f"{r.downtime_ms} ms")
    return out


def boot_proofs(lines: list[str]) -> list[Proof]:
    said = "\n".join(lines)
    moved = "COM1 at 0x3f8" in said and "COM1 is at 0x2e8 now" in said and "nothing answers at 0x3f8" in said
    return [Proof("the guest moved COM1 from 0x3f8 to 0x2e8 while it was using it", moved)]


def save_proofs(saves: list[LiveSave]) -> list[Proof]:
    proofs = []
    for s in saves:
        proofs.append(
            Proof(
                f"{s.kind}: live: the guest's counter went from {s.before} to {s.after} during the save, "
                f"{s.report.dirty_syncs} dirty syncs (source {s.report.dirty_source})",
                s.after > s.before and s.report.dirty_syncs >= 3,
            )
        )
    mapped = saves[-1].report
    # One hole of up to 1 MiB before the pages of each of a few blocks, and the device state.
    bound = mapped.ram_bytes + (8 << 20)
    proofs.append(Proof(f"mapped-ram: {mapped.file_bytes:,} bytes, within the bound of {bound:,}", mapped.file_bytes <= bound))
    return proofs


def come_back(console: Console, save: LiveSave) -> list[Proof]:
    """Restores *save* in a fresh machine and watches it go on."""
    console.print(f"\n[bold]Restoring[/] {save.report.path.name} in a fresh machine")
    # The file names the guest's image, and was written here a moment ago.
    with restore(save.report.path, serial=["memory"], host_files=True) as machine:
        at = counter(machine)
        serial = machine.serial[0]
        went_on = machine.run(until=serial.contains(LINE_END), timeout=PATIENCE)
        later = counter(machine)
        said = serial.capture.text()
        for line in said.split("\r\n"):
            if line:
                console.print(f"  [cyan]{line}[/]", highlight=False, soft_wrap=True)
    between = save.before <= at <= save.after
    return [
        Proof(f"restored: counting went on from {at} to {later}", went_on and between and at < later),
        Proof("restored: every page was of the same moment (the guest checks each one)", went_on and "ERROR" not in said),
    ]


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"

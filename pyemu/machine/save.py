# SPDX-License-Identifier: MIT
"""Saving a machine from Python: one call, one report."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MigrationError

if TYPE_CHECKING:
    from .machine import Machine


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What a save did.

    Attributes:
        path: the file.
        ram_bytes: guest RAM covered.
        file_bytes: apparent size of the file.
        allocated_bytes: what it takes on the disk; holes do not count.
        data_pages: pages written with their bytes, rewrites included.
        zero_pages: pages found to be zero.
        dirty_syncs: how often the dirty log was read; 3 or more for a guest that ran on meanwhile.
        total_seconds: from the start to the renamed, durable file.
        downtime_ms: how long the guest stood still.
        dirty_source: what found the pages the guest wrote.
    """

    path: Path
    ram_bytes: int
    file_bytes: int
    allocated_bytes: int
    data_pages: int
    zero_pages: int
    dirty_syncs: int
    total_seconds: float
    downtime_ms: int
    dirty_source: str


def save(
    machine: Machine,
    path: str | os.PathLike[str],
    *,
    mapped_ram: bool = False,
    multifd: int = 0,
    direct_io: bool = False,
    background: bool = False,
    external_disks: bool = False,
    progress: Callable[[Any], None] | None = None,
) -> SaveReport:
    """See :meth:`pyemu.Machine.save`."""
    target = Path(path)
    written = [] if external_disks else machine.unprotected_drives()
    if written:
        raise MigrationError(
            f"{target}: the guest writes {', '.join(drive.path for drive in written)} in place, so its disk and what is saved"
            " would disagree as soon as it runs on; snapshot=on keeps its writes with the saved machine, external_disks=True"
            " says that you keep copies"
        )
    controller = machine.migration
    capabilities = {"mapped-ram": mapped_ram, "multifd": multifd > 0, "background-snapshot": background}
    parameters: dict[str, Any] = {"max-bandwidth": 0}
    if direct_io:
        parameters["direct-io"] = True
    if multifd:
        parameters["multifd-channels"] = multifd
    try:
        with controller.configured(capabilities, parameters):
            controller.migrate_file(target, resume_after=True, progress=progress)
            result = controller.query()
    except MigrationError as error:
        if str(target) in str(error):
            raise
        raise MigrationError(f"{target}: {error}", desc=error.desc) from error
    info = target.stat()
    ram = result["ram"]
    return SaveReport(
        path=target,
        ram_bytes=ram["total"],
        file_bytes=info.st_size,
        allocated_bytes=info.st_blocks * 512,
        data_pages=ram["normal"],
        zero_pages=ram["duplicate"],
        dirty_syncs=ram["dirty-sync-count"],
        total_seconds=result["total-time"] / 1000,
        downtime_ms=result["downtime"],
        dirty_source=controller.dirty_source_name,
    )

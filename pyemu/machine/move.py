# SPDX-License-Identifier: MIT
"""Moving a machine to another process from Python: one call, one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MigrationError

if TYPE_CHECKING:
    from .machine import Machine


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What a live migration did.

    Attributes:
        ram_bytes: guest RAM covered.
        sent_bytes: bytes sent, on all connections.
        data_pages: pages sent with their bytes, those sent again included.
        zero_pages: pages found to be zero.
        dirty_syncs: how often the dirty log was read; 3 or more for a guest that ran on meanwhile.
        total_seconds: from the start to the end.
        downtime_ms: how long the guest stood still at the source.
        dirty_source: what found the pages the guest wrote.
    """

    ram_bytes: int
    sent_bytes: int
    data_pages: int
    zero_pages: int
    dirty_syncs: int
    total_seconds: float
    downtime_ms: int
    dirty_source: str


def move(
    machine: Machine,
    where: str | Sequence[Any],
    *,
    multifd: int = 0,
    compression: str = "none",
    max_bandwidth: int = 0,
    downtime_ms: int = 300,
    auto_converge: bool = False,
    progress: Callable[[Any], None] | None = None,
) -> MoveReport:
    """See :meth:`pyemu.Machine.migrate`."""
    controller = machine.migration
    parameters: dict[str, Any] = {"max-bandwidth": max_bandwidth, "downtime-limit": downtime_ms}
    if multifd:
        parameters.update({"multifd-channels": multifd, "multifd-compression": compression})
    elif compression != "none":
        raise MigrationError(f"compression {compression!r} is for pages on connections of their own: give multifd=1 or more")
    capabilities = {"multifd": multifd > 0, "auto-converge": auto_converge, "return-path": controller.answers(where)}
    with controller.configured(capabilities, parameters):
        controller.migrate(where if isinstance(where, str) else list(where), blocking=True, progress=progress)
        result = controller.query()
    ram = result["ram"]
    return MoveReport(
        ram_bytes=ram["total"],
        sent_bytes=ram["transferred"],
        data_pages=ram["normal"],
        zero_pages=ram["duplicate"],
        dirty_syncs=ram["dirty-sync-count"],
        total_seconds=result["total-time"] / 1000,
        downtime_ms=result["downtime"],
        dirty_source=controller.dirty_source_name,
    )

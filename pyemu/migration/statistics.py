# SPDX-License-Identifier: MIT
"""Numbers of a migration, as ``query-migrate`` shows them, and what a progress callback gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .wire import PAGE_SIZE

#: Statuses in which the numbers of the ``ram`` object are shown.
_SHOWING = frozenset({"active", "device", "pre-switchover", "cancelling", "completed"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a save is.

    Attributes:
        status: as in ``query-migrate``.
        pass_: number of the pass over RAM, from 1.
        done_bytes: guest RAM of this pass that is dealt with.
        total_bytes: guest RAM in all.
        transferred_bytes: bytes written so far, over all passes.
        rate: bytes written a second, lately.
        dirty_syncs: how often the dirty log was read.
        elapsed: seconds since the start.
    """

    status: str
    pass_: int
    done_bytes: int
    total_bytes: int
    transferred_bytes: int
    rate: float
    dirty_syncs: int
    elapsed: float

    @property
    def remaining_bytes(self) -> int:
        return self.total_bytes - self.done_bytes


ProgressCallback = Callable[[Progress], object]


@dataclass(slots=True)
class Statistics:
    """Counters of one outgoing migration. One thread writes; readers may see them a moment old."""

    total: int = 0
    remaining: int = 0
    transferred: int = 0
    normal: int = 0
    duplicate: int = 0
    dirty_sync_count: int = 0
    dirty_pages_rate: int = 0
    multifd_bytes: int = 0
    precopy_bytes: int = 0
    downtime_bytes: int = 0
    mbps: float = 0.0
    pages_per_second: int = 0
    setup_ms: int = 0
    total_ms: int = 0
    downtime_ms: int = 0
    expected_downtime_ms: int = 0
    cpu_throttle: int = 0

    def as_dict(self, status: str, error: str | None, now_ms: int) -> dict[str, Any]:
        """The answer to ``query-migrate`` of a source.

        Args:
            status: of the migration; ``none`` when there was none.
            error: why it failed.
            now_ms: time since the start.
        """
        if status == "none":
            return {}
        result: dict[str, Any] = {"status": status}
        if status in _SHOWING:
            completed = status == "completed"
            result["setup-time"] = self.setup_ms
            result["total-time"] = self.total_ms if completed else now_ms
            if completed:
                result["downtime"] = self.downtime_ms
            else:
                result["expected-downtime"] = self.expected_downtime_ms
            result["ram"] = self.ram()
            if self.cpu_throttle:
                result["cpu-throttle-percentage"] = self.cpu_throttle
        if error is not None:
            result["error-desc"] = error
        return result

    def ram(self) -> dict[str, Any]:
        """The ``ram`` object."""
        return {
            "total": self.total,
            "remaining": self.remaining,
            "transferred": self.transferred,
            "normal": self.normal,
            "normal-bytes": self.normal * PAGE_SIZE,
            "duplicate": self.duplicate,
            "dirty-pages-rate": self.dirty_pages_rate,
            "dirty-sync-count": self.dirty_sync_count,
            "dirty-sync-missed-zero-copy": 0,
            "mbps": self.mbps,
            "page-size": PAGE_SIZE,
            "pages-per-second": self.pages_per_second,
            "multifd-bytes": self.multifd_bytes,
            "precopy-bytes": self.precopy_bytes,
            "downtime-bytes": self.downtime_bytes,
            "postcopy-bytes": 0,
            "postcopy-requests": 0,
        }

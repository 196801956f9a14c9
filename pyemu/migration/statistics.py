# SPDX-License-Identifier: MIT
"""Numbers of a migration, as ``query-migrate`` shows them, and what a progress callback gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .wire import PAGE_SIZE

#: Statuses in which the numbers of the ``ram`` object are shown.
_SHOWING = frozenset({"active", "device", "pre-switchover", "cancelling", "completed"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a save, a move or a load is.

    Attributes:
        status: as in ``query-migrate``.
        pass_: number of the pass over RAM, from 1.
        done_bytes: guest RAM of this pass that is dealt with.
        total_bytes: guest RAM in all.
        transferred_bytes: bytes written, or read, so far, over all passes.
        rate: bytes written, or read, a second, lately.
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
#: Seconds between two calls of a progress callback.
PROGRESS_INTERVAL = 0.05


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


class LoadStatistics:
    """Counters of one incoming migration. Any thread may add to them and read them.

    QEMU's destination shows none of this; the names are those of the source's answer, and what only a
    source knows is 0 there.

    Args:
        progress: called now and then, by one of the threads that bring pages; what it raises ends the load.
    """

    def __init__(self, progress: ProgressCallback | None = None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._next = 0.0
        self._started = self._ended = 0.0
        self._beside = 0
        self.total = 0
        self.normal = 0
        self.duplicate = 0
        #: Bytes that the main stream has brought.
        self.stream_bytes: Callable[[], int] = lambda: 0

    def begin(self) -> None:
        """The stream begins to come."""
        self._started = time.monotonic()

    def end(self) -> None:
        """Everything is there."""
        self._ended = time.monotonic()
        self._report(force=True)

    def loaded(self, normal: int = 0, zero: int = 0, size: int = 0) -> None:
        """Pages have come.

        Args:
            normal: with data.
            zero: without.
            size: bytes that they took which did not come on the main stream.
        """
        with self._lock:
            self.normal += normal
            self.duplicate += zero
            self._beside += size
        self._report()

    @property
    def remaining(self) -> int:
        """Bytes of RAM that have not come yet for the first time: a source sends everything once before it repeats."""
        return max(self.total - (self.normal + self.duplicate) * PAGE_SIZE, 0)

    def _elapsed(self) -> float:
        return max((self._ended or time.monotonic()) - self._started, 1e-3) if self._started else 0.0

    def _report(self, force: bool = False) -> None:
        if self._progress is None:
            return
        with self._lock:
            now = time.monotonic()
            if now < self._next and not force:
                return
            self._next = now + PROGRESS_INTERVAL
            sent, elapsed = self.stream_bytes() + self._beside, self._elapsed()
            self._progress(
                Progress(
                    status="active",
                    pass_=1,
                    done_bytes=self.total - self.remaining,
                    total_bytes=self.total,
                    transferred_bytes=sent,
                    rate=sent / elapsed,
                    dirty_syncs=0,
                    elapsed=elapsed,
                )
            )

    def as_dict(self, status: str) -> dict[str, Any]:
        """The answer to ``query-migrate`` of a destination, as far as it is numbers."""
        if status not in _SHOWING or not self._started:
            return {}
        elapsed = self._elapsed()
        transferred = self.stream_bytes() + self._beside
        shown = Statistics(
            total=self.total,
            remaining=self.remaining,
            transferred=transferred,
            normal=self.normal,
            duplicate=self.duplicate,
            multifd_bytes=self._beside,
            mbps=transferred * 8 / elapsed / 1e6,
            pages_per_second=int((self.normal + self.duplicate) / elapsed),
        )
        return {"total-time": round(elapsed * 1000), "ram": shown.ram()}

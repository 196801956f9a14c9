# SPDX-License-Identifier: MIT
"""Auto-converge: a guest that dirties memory faster than it is sent is slowed down, step by step.

The rule is QEMU's. At most once a second, when the dirty log has been read, the bytes that the guest
dirtied since the last look are compared with those sent meanwhile. Each second time that the guest
was too fast, its processor is throttled, by ``cpu-throttle-initial`` percent at first and
``cpu-throttle-increment`` more each time, up to ``max-cpu-throttle``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Seconds between two judgements.
PERIOD = 1.0
#: Seconds after which the dirty log is read for the sake of the judgement alone.
FORCED_SYNC = 5.0
#: Judgements against the guest before the next step.
PATIENCE = 2


class AutoConverge:
    """Decides on the throttle of one migration.

    Args:
        parameter: the present value of a migration parameter.
        apply: sets the processor's throttle in percent.
        now: the present time in seconds.
    """

    def __init__(self, parameter: Callable[[str], Any], apply: Callable[[int], object], now: float) -> None:
        self._parameter = parameter
        self._apply = apply
        self.percent = 0
        self._judged = self._synced = now
        self._dirtied = 0
        self._sent = 0
        self._against = 0

    def sync_due(self, now: float) -> bool:
        """Nobody has read the dirty log for so long that it has to be done for the throttle."""
        return now - self._synced >= FORCED_SYNC

    def synced(self, now: float, dirtied: int, sent: int) -> None:
        """The dirty log has been read.

        Args:
            now: seconds, as for the constructor.
            dirtied: bytes of RAM found written since the last time.
            sent: bytes sent since the migration began.
        """
        self._synced = now
        self._dirtied += dirtied
        if now - self._judged < PERIOD:
            return
        allowed = (sent - self._sent) * self._parameter("throttle-trigger-threshold") // 100
        if self._dirtied > allowed:
            self._against += 1
            if self._against >= PATIENCE:
                self._against = 0
                self._step(allowed, self._dirtied)
        self._judged, self._sent, self._dirtied = now, sent, 0

    def _step(self, allowed: int, dirtied: int) -> None:
        limit: int = self._parameter("max-cpu-throttle")
        if not self.percent:
            percent = self._parameter("cpu-throttle-initial")
        else:
            step = self._parameter("cpu-throttle-increment")
            if self._parameter("cpu-throttle-tailslow"):
                # Of the time left to the guest, the share that would dirty just as much as may be dirtied.
                left = 100 - self.percent
                step = min(step, int(left - left * (allowed / dirtied)))
            percent = self.percent + step
        percent = max(min(percent, limit), self.percent)
        if percent != self.percent:
            self.percent = percent
            self._apply(percent)

    def stop(self) -> None:
        """The processor gets all its time back."""
        if self.percent:
            self.percent = 0
            self._apply(0)

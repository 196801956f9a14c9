# SPDX-License-Identifier: MIT
"""Takes a share of its time away from the processor: it works for a slice, then rests in proportion."""

from __future__ import annotations

#: Seconds of work between two rests. As in QEMU: short enough for a guest not to notice, long enough for the
#: way into and out of guest code to cost nothing beside it.
SLICE = 0.010
MAXIMUM = 99


class Throttle:
    """The arithmetic of a throttled processor; time comes from outside. Machine thread only, but for :attr:`percent`.

    Attributes:
        percent: of the time that the processor rests, 0 to 99; may be set from any thread.
    """

    def __init__(self) -> None:
        self.percent = 0
        self._worked = 0.0
        self._rests_until = 0.0

    def rest_left(self, now: float) -> float:
        """Seconds for which the processor has to stand still from *now* on; at most 0 if it may work."""
        return self._rests_until - now if self.percent else 0.0

    def work_left(self) -> float:
        """Seconds that the processor may work before its next rest."""
        return max(SLICE - self._worked, 0.0)

    def worked(self, begin: float, end: float) -> None:
        """The processor worked from *begin* to *end*. One that was stopped late rests longer for it."""
        percent = self.percent
        self._worked += end - begin
        if self._worked >= SLICE and percent:
            self._rests_until = end + self._worked * percent / (100 - percent)
            self._worked = 0.0

# SPDX-License-Identifier: MIT
"""How many threads read a file."""

from __future__ import annotations

import os

#: More threads than these only wait for each other: two already move as much as memory does on many machines.
_MOST = 4


def reading_threads(*, waiting: int = 0) -> int:
    """Threads that bring a file to memory.

    Args:
        waiting: threads that are worth having where each waits for the disk most of the time, as past the page cache;
            otherwise more than there are processors for slow each other down.
    """
    return max(min(_MOST, len(os.sched_getaffinity(0))), waiting)

# SPDX-License-Identifier: MIT
"""What a process has used, from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads, those that ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/{pid}/status has no {key}")


def resident(pid: int) -> int:
    """Bytes resident now."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """Most bytes resident since :func:`reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Usage:
    """Processor time and memory of one process over one piece of work.

    Args:
        pid: the process.
        before: bytes resident before its first piece of work; now, if not given.
    """

    def __init__(self, pid: int, before: int | None = None) -> None:
        self._pid = pid
        reset_peak(pid)
        self._resident = resident(pid) if before is None else before
        self._cpu = cpu_seconds(pid)

    def cpu(self) -> float:
        """Seconds of processor time since the beginning."""
        return cpu_seconds(self._pid) - self._cpu

    def grown(self) -> int:
        """How far the peak of the resident memory lay above what there was before."""
        return max(0, peak(self._pid) - self._resident)

    def beyond_end(self) -> int:
        """How far the peak lay above what is resident now."""
        return max(0, peak(self._pid) - resident(self._pid))

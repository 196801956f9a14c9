# SPDX-License-Identifier: MIT
"""What the figures were taken on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def collect(places: dict[str, Path], qemu: str | None) -> dict[str, Any]:
    """The machine, the programs and the file systems."""
    memory = next(n for n in Path("/proc/meminfo").read_text().splitlines() if n.startswith("MemTotal"))
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory": int(memory.split()[1]) << 10,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "revision": _revision(),
        "qemu": qemu,
        "places": {name: _file_system(folder) for name, folder in places.items()},
        "huge pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load": os.getloadavg()[0],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _revision() -> str:
    out = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False,
                         cwd=Path(__file__).parent)  # fmt: skip
    return out.stdout.strip() or "unknown"


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    best, kind = "", "unknown"
    target = str(folder.resolve())
    for line in Path("/proc/mounts").read_text().splitlines():
        where, found = line.split()[1:3]
        if (target == where or target.startswith(where.rstrip("/") + "/")) and len(where) >= len(best):
            best, kind = where, found
    return kind


def _chosen(path: str) -> str:
    """The word in brackets of a setting in sysfs."""
    text = Path(path).read_text() if Path(path).exists() else "[unknown]"
    return text.partition("[")[2].partition("]")[0]

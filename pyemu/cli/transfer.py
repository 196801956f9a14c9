# SPDX-License-Identifier: MIT
"""Following a migration of a running machine from outside, with a progress bar."""

from __future__ import annotations

import time
from typing import Any

from ..errors import MigrationError
from .qmpclient import QMPConnection

_POLL = 0.05


def set_capabilities(qmp: QMPConnection, **capabilities: bool) -> None:
    """Switches capabilities on or off; underscores become dashes. Those that are off and unknown are left alone."""
    known = {c["capability"]: c["state"] for c in qmp.execute("query-migrate-capabilities")}
    wanted = {name.replace("_", "-"): state for name, state in capabilities.items()}
    changes = [{"capability": n, "state": s} for n, s in wanted.items() if s or known.get(n)]
    if changes:
        qmp.execute("migrate-set-capabilities", capabilities=changes)


def follow(qmp: QMPConnection, what: str, failed: str) -> dict[str, Any]:
    """Waits for the migration to end, showing how far it is.

    Returns:
        The final answer of ``query-migrate``.

    Raises:
        MigrationError: it failed or was cancelled; *failed* says what that means for the user.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        while True:
            info: dict[str, Any] = qmp.execute("query-migrate")
            ram = info.get("ram")
            if ram:
                bar.update(task, total=ram["total"], completed=ram["total"] - ram["remaining"])
            status = info.get("status", "none")
            if status == "completed":
                return info
            if status in ("failed", "cancelled"):
                raise MigrationError(f"{failed}: {info.get('error-desc', status)}")
            time.sleep(_POLL)

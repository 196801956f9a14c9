# SPDX-License-Identifier: MIT
"""Following a migration of a running machine from outside, with a progress bar."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ControlError, MigrationError
from .qmpclient import QMPConnection

_POLL = 0.05


class Speed:
    """How fast a migration is, and how long it will take, from successive answers of ``query-migrate``.

    What is left is taken from the bytes sent, not from how the bar moves: a guest that writes makes it go back.
    """

    #: Seconds over which the speed is averaged.
    WINDOW = 1.0

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def text(self, now: float, info: Mapping[str, Any]) -> str:
        """Speed, remaining time, and what is worth knowing of a guest that runs on.

        Args:
            now: seconds.
            info: an answer with member ``ram``.
        """
        ram = info["ram"]
        self._points.append((now, ram["transferred"]))
        while len(self._points) > 2 and now - self._points[1][0] >= self.WINDOW:
            self._points.popleft()
        (begin, first), (end, last) = self._points[0], self._points[-1]
        # One that is over before it was seen twice has its own mean.
        rate = (last - first) / (end - begin) if end > begin else ram["mbps"] * 1e6 / 8
        parts = [f"{rate / (1 << 20):.1f} MiB/s"]
        if rate and ram["remaining"]:
            seconds = round(ram["remaining"] / rate)
            parts.append(f"{seconds // 60}:{seconds % 60:02} left")
        # The first reading of the dirty log is the start, the second is that of a guest which stands still.
        if ram["dirty-sync-count"] > 2:
            parts.append(f"pass {ram['dirty-sync-count'] - 1}")
        if "cpu-throttle-percentage" in info:
            parts.append(f"guest slowed by {info['cpu-throttle-percentage']} %")
        return ", ".join(parts)


def file_channels(path: Path) -> list[dict[str, Any]]:
    """A file as a list of channels, which takes any path; in a URI a comma would begin an option."""
    return [{"channel-type": "main", "addr": {"transport": "file", "filename": str(path), "offset": 0}}]


@contextlib.contextmanager
def configured(
    qmp: QMPConnection, capabilities: Mapping[str, bool], parameters: Mapping[str, Any]
) -> Iterator[None]:
    """Capabilities and parameters of the machine's migrations for the length of a ``with`` block.

    Those that are to be off and unknown to the machine are left alone. Underscores in the names of
    parameters stand for dashes.
    """
    before = {c["capability"]: c["state"] for c in qmp.execute("query-migrate-capabilities")}
    values = qmp.execute("query-migrate-parameters")
    changes = {name: on for name, on in capabilities.items() if on != before.get(name, False)}
    _set_capabilities(qmp, changes)
    try:
        qmp.execute("migrate-set-parameters", **parameters)
        yield
    finally:
        # A machine that has gone away, or still migrates because this program is being ended, keeps them.
        with contextlib.suppress(ControlError):
            qmp.execute("migrate-set-parameters", **{name: values[name.replace("_", "-")] for name in parameters})
            _set_capabilities(qmp, {name: before.get(name, False) for name in changes})


def _set_capabilities(qmp: QMPConnection, changes: Mapping[str, bool]) -> None:
    if changes:
        qmp.execute("migrate-set-capabilities", capabilities=[{"capability": n, "state": s} for n, s in changes.items()])


def follow(qmp: QMPConnection, what: str, failed: str, *, cancel: bool = True) -> dict[str, Any]:
    """Waits for the migration to end, showing how far it is.

    Args:
        qmp: the machine.
        what: in front of the bar.
        failed: what a failure means for the user.
        cancel: Ctrl-C cancels the migration, and the machine goes on; a load cannot be cancelled.

    Returns:
        The final answer of ``query-migrate``.

    Raises:
        MigrationError: it failed or was cancelled.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(binary_units=True), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, speed="")
        speed = Speed()
        while True:
            try:
                info: dict[str, Any] = qmp.execute("query-migrate")
                ram = info.get("ram")
                if ram:
                    done = ram["total"] - ram["remaining"]
                    bar.update(task, total=ram["total"], completed=done, speed=speed.text(time.monotonic(), info))
                status = info.get("status", "none")
                if status == "completed":
                    return info
                if status in ("failed", "cancelled"):
                    raise MigrationError(f"{failed}: {info.get('error-desc', status)}")
                time.sleep(_POLL)
            except KeyboardInterrupt:
                if not cancel:
                    raise
                cancel = False
                qmp.execute("migrate_cancel")

# SPDX-License-Identifier: MIT
"""pyemu in a process of its own, told over its standard input what to do: one JSON object a line each way.

It uses nothing but the public interface. The moment before the file is made durable is that of the last progress
report, which :meth:`pyemu.Machine.save` makes when everything is written and before it syncs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pyemu

from . import guest
from .formats import Format, fill
from .process import Usage, resident

_PATIENCE = 120


class Worker:
    """The machine at hand and what can be done with it."""

    def __init__(self) -> None:
        self._machine: pyemu.Machine | None = None
        self._resident = 0

    @property
    def machine(self) -> pyemu.Machine:
        assert self._machine is not None
        return self._machine

    def fill(self, size: int, zeros: str) -> dict[str, Any]:
        self._machine = pyemu.Machine("none", memory=size)
        fill(self.machine.ram["ram"].array, zeros)  # type: ignore[arg-type]
        return {}

    def save(self, path: str, form: dict[str, Any]) -> dict[str, Any]:
        chosen = Format(**form)
        written = [0.0]

        def progress(report: object) -> None:
            written[0] = time.monotonic()

        # Against what it held before its first save: what that one allocated stays allocated for the next.
        self._resident = self._resident or resident(os.getpid())
        usage = Usage(os.getpid(), self._resident)
        start = time.monotonic()
        self.machine.save(
            path, mapped_ram=chosen.mapped, multifd=chosen.channels, direct_io=chosen.direct, progress=progress
        )
        durable = time.monotonic() - start
        return {"seconds": written[0] - start, "durable": durable, "cpu": usage.cpu(), "memory": usage.grown()}

    def wait(self, size: int) -> dict[str, Any]:
        """A machine that waits for a migration."""
        self._machine = pyemu.Machine("none", memory=size, incoming=True)
        return {}

    def load(self, path: str, form: dict[str, Any]) -> dict[str, Any]:
        chosen = Format(**form)
        control = self.machine.migration
        self._configure(chosen)
        usage = Usage(os.getpid())
        start = time.monotonic()
        control.incoming(f"file:{path}", blocking=True, autostart=False)
        seconds = time.monotonic() - start
        return {"seconds": seconds, "cpu": usage.cpu(), "memory": usage.beyond_end()}

    def lazy(self, path: str) -> dict[str, Any]:
        """Restores lazily: seconds until the state is loaded, until a page far from the first is read, until all are."""
        control = self.machine.migration
        control.set_capabilities({"mapped-ram": True})
        control.set_parameters({"lazy-restore": True})
        array = self.machine.ram["ram"].array
        start = time.monotonic()
        control.incoming(f"file:{path}", blocking=True, autostart=False)
        loaded = time.monotonic()
        int(array[len(array) * 5 // 8])
        touched = time.monotonic()
        assert control.lazy is not None
        if not control.lazy.wait():
            raise RuntimeError(f"reading ahead ended early: {control.lazy.error}")
        return {"loaded": loaded - start, "touched": touched - loaded, "resident": time.monotonic() - start}

    # -- live -------------------------------------------------------------------------------------

    def boot(self, rom: str, size: int) -> dict[str, Any]:
        """Starts the guest and waits until it rewrites its RAM."""
        self._machine = self._board(rom, size)
        self.machine.cont()
        self._await(lambda: self._word(guest.STATUS) == guest.READY and self._word(guest.STATUS + 4) > 0, "come up")
        return {}

    def listen(self, rom: str, size: int, uri: str, form: dict[str, Any]) -> dict[str, Any]:
        """Waits for the guest at a socket."""
        self._machine = self._board(rom, size, incoming=True)
        self._configure(Format(**form))
        self.machine.migration.incoming(uri)
        return {}

    def migrate(self, uri: str, form: dict[str, Any]) -> dict[str, Any]:
        self._configure(Format(**form))
        self.machine.migration.migrate(uri, blocking=True)
        return {"query": self.machine.migration.query()}

    def arrived(self, sweeps: int) -> dict[str, Any]:
        """The guest goes on here: it has counted further than *sweeps*, and still does."""
        status = self.machine.migration.wait(_PATIENCE)
        if status != "completed":
            raise RuntimeError(f"incoming migration {status}: {self.machine.migration.error}")
        self._await(lambda: self._word(guest.STATUS + 4) > sweeps, "go on")
        now = self._word(guest.STATUS + 4)
        self._await(lambda: self._word(guest.STATUS + 4) > now, "go on")
        return {}

    def sweeps(self) -> dict[str, Any]:
        return {"sweeps": self._word(guest.STATUS + 4)}

    @staticmethod
    def _board(rom: str, size: int, *, incoming: bool = False) -> pyemu.Machine:
        return pyemu.Machine("via-pc", memory=size, cpu="unicorn", bios=rom, incoming=incoming)

    def _configure(self, form: Format) -> None:
        self.machine.migration.set_capabilities(form.capabilities)
        self.machine.migration.set_parameters(form.parameters)

    def _word(self, address: int) -> int:
        return int(self.machine.ram["pc.ram"].array[address : address + 4].view("<u4")[0])

    @staticmethod
    def _await(condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"the guest does not {what}")
            time.sleep(0.02)


def main() -> int:
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        function: Callable[..., dict[str, Any]] = getattr(worker, command.pop("do"))
        print(json.dumps(function(**command)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""A QEMU 10 process, driven over QMP; times are taken when its events arrive."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from .formats import Format
from .process import Usage, resident

_PATIENCE = 300.0


class PeerMissing(RuntimeError):
    """There is no QEMU to compare with."""


def command() -> list[str]:
    """How QEMU is started: ``qemu-system-x86_64`` of the system, or that of the chroot that the interop tests use.

    The latter runs without root and without chroot(2), by its own dynamic loader, so it sees the same files as we do.

    Raises:
        PeerMissing: neither is there.
    """
    given = os.environ.get("PYEMU_QEMU_CHROOT")
    if given is None and (own := shutil.which("qemu-system-x86_64")):
        return [own]
    root = Path(given or Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "pyemu-qemu-chroot")
    program = root / "usr/bin/qemu-system-x86_64"
    if not program.exists():
        raise PeerMissing(f"no QEMU in PATH and none at {program}: .ci/chroot makes one, PYEMU_QEMU_CHROOT names another")
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = root / "lib64/ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", str(libraries), str(program), "-L", str(root / "usr/share/qemu"),
            "-L", str(root / "usr/share/seabios")]  # fmt: skip


def version() -> str:
    out = subprocess.run([*command(), "--version"], capture_output=True, text=True, check=True, timeout=60)
    return out.stdout.splitlines()[0].removeprefix("QEMU emulator version ")


class QEMU:
    """One process, stopped at its start.

    Args:
        size: bytes of RAM.
        shared: RAM in a memfd that is shared, instead of QEMU's default.
        incoming: waits for a migration.
        machine: board and, behind it, further arguments.
    """

    def __init__(self, size: int, *arguments: str, shared: bool = False, incoming: bool = False, machine: str = "none") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pyemu-peer-")
        path = f"{self._folder.name}/qmp"
        words = [*command(), "-M", machine, "-m", f"{size >> 20}M", "-S", "-nodefaults", "-display", "none"]
        words += ["-qmp", f"unix:{path},server=on,wait=off"]
        if shared:
            words += ["-object", f"memory-backend-memfd,id=ram,size={size},share=on", "-machine", "memory-backend=ram"]
        if incoming:
            words += ["-incoming", "defer"]
        self._log = open(f"{self._folder.name}/log", "w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen([*words, *arguments], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        self._resident = 0
        self._socket, self._lines = self._connect(path)
        self._lines.readline()
        self("qmp_capabilities")
        self("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])

    def _connect(self, path: str) -> tuple[socket.socket, Any]:
        end = time.monotonic() + _PATIENCE
        while True:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(_PATIENCE)
            try:
                sock.connect(path)
                return sock, sock.makefile("rw")
            except OSError:
                sock.close()
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"QEMU does not answer: {self.output()}") from None
                time.sleep(0.01)

    def output(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def __call__(self, name: str, **arguments: Any) -> Any:
        message = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        self._lines.write(json.dumps(message) + "\n")
        self._lines.flush()
        while True:
            answer = self._receive()
            if "error" in answer:
                raise RuntimeError(f"QEMU: {name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
            self._status(answer)

    def _receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise RuntimeError(f"QEMU has gone: {self.output()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _status(self, answer: dict[str, Any]) -> None:
        if answer.get("event") == "MIGRATION":
            self._last = answer["data"]["status"]

    def migrate(self, name: str, uri: str) -> float:
        """Runs ``migrate`` or ``migrate-incoming`` to its end; seconds until the event ``completed`` arrives."""
        start = time.monotonic()
        self.begin(name, uri)
        return self.ended() - start

    def begin(self, name: str, uri: str) -> None:
        self._last = ""
        self(name, uri=uri)

    def ended(self) -> float:
        """Waits for the end of a migration; the moment at which it was announced."""
        while self._last not in ("completed", "failed", "cancelled"):
            self._status(self._receive())
        now = time.monotonic()
        if self._last != "completed":
            raise RuntimeError(f"QEMU: migration {self._last}: {self('query-migrate')}\n{self.output()}")
        return now

    def configure(self, form: Format) -> None:
        states = {**form.capabilities}
        self("migrate-set-capabilities", capabilities=[{"capability": n, "state": s} for n, s in states.items()])
        self("migrate-set-parameters", **{"direct-io": False, **form.parameters})

    def save(self, form: Format, path: Path) -> dict[str, float]:
        """Saves once more to a new file: seconds, seconds until it is also durable, processor time, peak memory."""
        if self("query-status")["status"] == "postmigrate":
            # QEMU saves a second time only after the machine ran; without a processor nothing changes by that.
            self("cont")
            self("stop")
        self.configure(form)
        # Against what it held before its first save: what that one allocated stays allocated for the next.
        self._resident = self._resident or resident(self.process.pid)
        usage = Usage(self.process.pid, self._resident)
        start = time.monotonic()
        seconds = self.migrate("migrate", f"file:{path}")
        cpu, grown = usage.cpu(), usage.grown()
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        return {"seconds": seconds, "durable": time.monotonic() - start, "cpu": cpu, "memory": grown}

    def load(self, form: Format, path: Path) -> dict[str, float]:
        self.configure(form)
        usage = Usage(self.process.pid)
        seconds = self.migrate("migrate-incoming", f"file:{path}")
        return {"seconds": seconds, "cpu": usage.cpu(), "memory": usage.beyond_end()}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._lines.close()
        self._socket.close()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> QEMU:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

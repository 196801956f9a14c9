# SPDX-License-Identifier: MIT
"""memtest86+ on ``pyemu run``, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyemu.cli.qmpclient import QMPConnection

KERNEL = Path(os.environ.get("PYEMU_MEMTEST", "/boot/memtest86+ia32.bin"))
#: What ``pyemu run`` is given for it beside the machine.
MEMTEST = ("--kernel", str(KERNEL), "--append", "console=ttyS0,115200")
PATIENCE = 120

needs_memtest = pytest.mark.skipif(
    not KERNEL.exists(), reason=f"needs memtest86+ (Debian package memtest86+), not at {KERNEL}"
)


class Running:
    """``pyemu run`` in a process of its own, with its serial output and QMP."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.qmp_address = f"unix:{folder}/{name}.qmp"
        self._output = folder / f"{name}.serial"
        command = [sys.executable, "-P", "-m", "pyemu", "run", "--serial", f"file:{self._output}", *arguments]
        self.process = subprocess.Popen([*command, "--qmp", self.qmp_address], stderr=subprocess.PIPE, text=True)
        socket = Path(self.qmp_address.removeprefix("unix:"))
        self.wait(socket.exists, "its QMP socket")

    def screen(self) -> str:
        return self._output.read_text("latin1") if self._output.exists() else ""

    def wait(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, f"pyemu ended: {self.process.stderr.read()}"
            assert time.monotonic() < end, f"no sign of {what}; the screen ends in {self.screen()[-400:]!r}"
            time.sleep(0.1)

    def wait_for(self, pattern: str) -> None:
        self.wait(lambda: re.search(pattern, self.screen()), pattern)

    def errors(self) -> int:
        """The highest error count that memtest86+ has shown."""
        return max(int(n) for n in re.findall(r"Errors: (\d+)", self.screen()))

    def quit(self) -> None:
        with QMPConnection(self.qmp_address) as qmp:
            qmp.execute("quit")
        assert self.process.wait(20) == 0, self.process.stderr.read()

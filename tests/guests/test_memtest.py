# SPDX-License-Identifier: MIT
"""memtest86+, unmodified, from Debian's package: it fills and checks all of RAM, so a wrong page is found.

Runs for about a minute a board; part of ``pytest -m guest``.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyemu.cli.qmpclient import QMPConnection

KERNEL = Path(os.environ.get("PYEMU_MEMTEST", "/boot/memtest86+ia32.bin"))
PATIENCE = 120

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(not KERNEL.exists(), reason=f"needs memtest86+ (Debian package memtest86+), not at {KERNEL}"),
]


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


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(name, *arguments):
        started.append(Running(tmp_path, name, *arguments))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait()
        running.process.stderr.close()


BOARDS = ["via-pc", "isa-pc,superio=pc87312,config=1"]


@pytest.mark.parametrize("board", BOARDS)
def test_memtest_is_saved_in_the_middle_of_a_test_and_goes_on_in_a_new_process(start, tmp_path, board):
    machine = ("-M", board, "-m", "32M")
    first = start("first", *machine, "--kernel", str(KERNEL), "--append", "console=ttyS0,115200")
    first.wait_for(r"#4 ")
    saved = tmp_path / "memtest.mapped"
    with QMPConnection(first.qmp_address) as qmp:
        qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        qmp.execute("migrate", uri=f"file:{saved}")
        first.wait(lambda: qmp.execute("query-migrate").get("status") in ("completed", "failed"), "the save")
        assert qmp.execute("query-migrate")["status"] == "completed"
        assert qmp.execute("query-status") == {"status": "postmigrate", "running": False}
    first.quit()

    second = start("second", *machine, "--incoming", "defer")
    with QMPConnection(second.qmp_address) as qmp:
        qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        qmp.execute("migrate-incoming", uri=f"file:{saved}")
        second.wait(lambda: qmp.execute("query-status")["running"], "the restored guest")
    second.wait_for(r"#(7|8|9|10) ")
    assert second.errors() == 0
    second.quit()

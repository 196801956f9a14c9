# SPDX-License-Identifier: MIT
"""Machines that move while they run: inside one process, and from process to process."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys

import numpy as np
import pytest

from pyemu import Machine
from pyemu.cli.qmpclient import QMPConnection
from pyemu.demo.tour import FIRST_BEAT, GUEST, counter
from pyemu.errors import ConfigError, MigrationError

MEMORY = 1 << 20


def pattern():
    return np.random.default_rng(5).integers(0, 256, MEMORY, dtype=np.uint8)


@pytest.fixture(params=["tcp:127.0.0.1:0", "unix:PATH"])
def where(request, tmp_path):
    return request.param.replace("PATH", str(tmp_path / "sock"))


def test_a_stopped_machine_moves(where):
    with Machine("none", memory=MEMORY) as source, Machine("none", memory=MEMORY, incoming=where) as target:
        source.ram["ram"].array[:] = pattern()
        (uri,) = target.migration.listening
        seen = []
        report = source.migrate(uri, progress=seen.append)
        assert target.migration.wait(20) == "completed"
        assert target.migration.listening == []
        assert np.array_equal(target.ram["ram"].array, pattern())
        assert (source.run_state, target.run_state) == ("postmigrate", "prelaunch")
        assert report.ram_bytes == MEMORY < report.sent_bytes
        assert report.data_pages == MEMORY >> 12 and report.downtime_ms == 0
        assert seen[-1].transferred_bytes == report.sent_bytes


def test_pages_take_compressed_connections_of_their_own(tmp_path):
    with Machine("none", memory=MEMORY) as source, Machine("none", memory=MEMORY, incoming=True) as target:
        source.ram["ram"].array[:] = pattern()
        target.migration.set_capabilities({"multifd": True})
        target.migration.set_parameters({"multifd-compression": "zlib"})
        target.migration.incoming(f"unix:{tmp_path}/sock")
        with pytest.raises(MigrationError, match="compression 'zlib' is for pages on connections of their own"):
            source.migrate(f"unix:{tmp_path}/sock", compression="zlib")
        source.migrate(f"unix:{tmp_path}/sock", multifd=2, compression="zlib")
        assert target.migration.wait(20) == "completed"
        assert np.array_equal(target.ram["ram"].array, pattern())


@pytest.mark.live
def test_a_running_guest_moves_and_goes_on(where):
    with (
        Machine("via-pc", memory="64M", kernel=GUEST, serial=["memory"]) as source,
        Machine("via-pc", memory="64M", serial=["memory"], incoming=where) as target,
    ):
        assert source.run(until=source.serial[0].contains(FIRST_BEAT), timeout=30)
        source.cont()
        report = source.migrate(target.migration.listening[0])
        assert target.migration.wait(20) == "completed"
        assert report.dirty_syncs >= 3 and report.dirty_source != "none"
        assert (source.run_state, target.run_state) == ("postmigrate", "running")
        assert source.serial[0].contains(FIRST_BEAT)
        left = counter(source)
        assert target.run(until=lambda: counter(target) > left, timeout=30)


def test_where_nobody_can_listen_there_is_no_machine(tmp_path):
    with pytest.raises(MigrationError, match="No such file or directory"):
        Machine("none", memory=MEMORY, incoming=f"unix:{tmp_path}/no/sock")
    with Machine("none", memory=MEMORY, incoming=True) as machine, pytest.raises(ConfigError, match="waits for"):
        machine.cont()


def test_a_failed_move_leaves_the_machine_as_it_was(tmp_path):
    with Machine("none", memory=MEMORY) as source:
        with pytest.raises(MigrationError, match=f"Failed to connect to '{tmp_path}/sock'"):
            source.migrate(f"unix:{tmp_path}/sock")
        assert source.run_state == "prelaunch"


@contextlib.contextmanager
def program(*arguments):
    """``pyemu`` with these arguments; gives its errors, line by line."""
    process = subprocess.Popen([sys.executable, "-P", "-m", "pyemu", *arguments], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.live
def test_two_processes(tmp_path):
    """The programs alone: one waits at a port of the system's choice, the other is told to go there."""
    machine = ("run", "-M", "none", "-m", "1M")
    with (
        program(*machine, "--incoming", "tcp:127.0.0.1:0", "--qmp", f"unix:{tmp_path}/into") as into,
        program(*machine, "--qmp", f"unix:{tmp_path}/out", "-S") as out,
    ):
        uri = re.search(r"tcp:127\.0\.0\.1:\d+", into.stderr.readline())[0]
        while not (tmp_path / "out").exists():
            assert out.poll() is None
        moved = subprocess.run(
            [sys.executable, "-P", "-m", "pyemu", "migrate", "--qmp", f"unix:{tmp_path}/out", uri],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert re.fullmatch(rf"{uri}: \d+ bytes in \d+ ms, downtime 0 ms\n", moved.stdout)
        with QMPConnection(f"unix:{tmp_path}/into") as qmp:
            while (status := qmp.execute("query-migrate")["status"]) == "active":
                pass
            assert status == "completed"
            assert qmp.execute("query-status") == {"status": "prelaunch", "running": False}
        with QMPConnection(f"unix:{tmp_path}/out") as qmp:
            assert qmp.execute("query-status") == {"status": "postmigrate", "running": False}


@pytest.mark.live
def test_a_program_that_waits_can_be_ended():
    with program("run", "-M", "none", "-m", "1M", "--incoming", "tcp:127.0.0.1:0") as waiting:
        assert "waiting for a migration" in waiting.stderr.readline()
        waiting.terminate()
        assert waiting.wait(20) == 0

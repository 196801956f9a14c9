# SPDX-License-Identifier: MIT
"""``pyemu save``, ``restore``, ``migrate`` and ``run --incoming`` against machines in this process."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pyemu import Machine
from pyemu.cli import main
from pyemu.cli import run as run_command
from pyemu.cli.transfer import Speed
from pyemu.control import QMPServer


@pytest.fixture
def served(tmp_path):
    """``served("a", incoming=True)``: a machine and the address of its QMP socket."""
    opened = []

    def make(name, **options):
        machine = Machine("none", memory=1 << 20, **options)
        server = QMPServer(machine, f"unix:{tmp_path}/{name}")
        opened.extend((machine, server))
        return machine, f"unix:{tmp_path}/{name}"

    yield make
    for thing in reversed(opened):
        thing.close()


def fill(machine):
    machine.ram["ram"].array[:] = np.arange(1 << 20, dtype=np.uint32).astype(np.uint8)


@pytest.mark.parametrize("options", [["--stream"], ["--multifd", "2", "--stop"]])
def test_save_and_restore_of_running_machines(served, tmp_path, capsys, options):
    machine, address = served("a")
    fill(machine)
    machine.cont()
    before = machine.migration.capabilities, machine.migration.parameters
    # A name that a URI would take for an option.
    path = tmp_path / "x,offset=1"
    assert main(["save", "--qmp", address, *options, str(path)]) == 0
    assert f"{path}: {path.stat().st_size} bytes" in capsys.readouterr().out
    assert machine.running is ("--stop" not in options)
    assert (machine.migration.capabilities, machine.migration.parameters) == before
    waiting, address = served("b", incoming=True)
    assert main(["restore", "--qmp", address, str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{path}: loaded, the machine is running\n"
    assert "1.0/1.0 MiB" in captured.err
    assert np.array_equal(waiting.ram["ram"].array, machine.ram["ram"].array)
    assert not any(waiting.migration.capabilities.values())


def test_a_move_is_over_when_the_destination_has_everything(served, tmp_path, capsys):
    machine, address = served("a")
    fill(machine)
    machine.cont()
    waiting = Machine("none", memory=1 << 20, incoming=f"unix:{tmp_path}/s")
    try:
        assert main(["migrate", "--qmp", address, f"unix:{tmp_path}/s"]) == 0
        # Without a return path the destination might still be loading.
        assert waiting.migration.wait(10) == "completed" and waiting.running
        assert machine.run_state == "postmigrate"
        assert np.array_equal(waiting.ram["ram"].array, machine.ram["ram"].array)
    finally:
        waiting.close()


def test_a_move_that_the_destination_refuses(served, tmp_path, capsys):
    machine, address = served("a")
    machine.cont()
    waiting = Machine("none", memory=2 << 20, incoming=f"unix:{tmp_path}/s")
    try:
        assert main(["migrate", "--qmp", address, f"unix:{tmp_path}/s"]) == 1
        assert "pyemu: the machine was not moved: " in capsys.readouterr().err
        assert machine.running
    finally:
        waiting.close()


def test_ctrl_c_cancels_and_the_machine_goes_on(served, tmp_path, capsys, monkeypatch):
    machine, address = served("a")
    machine.cont()
    machine.migration.set_capabilities({"pause-before-switchover": True})
    stopped = threading.Event()
    machine.on_event(lambda event: stopped.set() if event.name == "STOP" else None)

    def sleep(seconds):
        # It waits before the switchover, for ever.
        assert stopped.wait(10)
        if machine.migration.status == "pre-switchover":
            raise KeyboardInterrupt

    monkeypatch.setattr("pyemu.cli.transfer.time.sleep", sleep)
    assert main(["save", "--qmp", address, str(tmp_path / "x")]) == 1
    assert f"pyemu: {tmp_path}/x was not written: cancelled" in capsys.readouterr().err
    assert machine.running and not (tmp_path / "x").exists()


@pytest.fixture
def begun(monkeypatch):
    """Machines of ``pyemu run``, looked at when it would begin to wait for their end: board, size, state."""
    seen = []

    def wait(self):
        m = self._machine
        m.migration.wait(10)
        seen.append((m.board, m.memory_size, m.run_state))

    monkeypatch.setattr(run_command._Finished, "wait", wait)
    return seen


def test_a_saved_file_says_what_machine_it_needs(tmp_path, begun, capsys):
    with Machine("none", memory=3 << 20) as machine:
        machine.cont()
        machine.save(tmp_path / "x", mapped_ram=True)
    assert main(["run", "--incoming", f"file:{tmp_path}/x"]) == 0
    assert main(["run", "--incoming", f"file:{tmp_path}/x", "-S"]) == 0
    assert begun == [("none", 3 << 20, "running"), ("none", 3 << 20, "paused")]
    assert main(["run", "--incoming", f"file:{tmp_path}/x", "-m", "4"]) == 2
    assert "--memory needs -M/--machine" in capsys.readouterr().err
    assert main(["run", "--incoming", "defer"]) == 2


@pytest.mark.parametrize("machine", [[], ["-M", "none"]])
def test_what_cannot_be_loaded_is_named_once(tmp_path, capsys, machine):
    (tmp_path / "junk").write_bytes(b"junk" * 10)
    assert main(["run", *machine, "--incoming", f"file:{tmp_path}/junk"]) == 1
    assert capsys.readouterr().err == f"pyemu: file:{tmp_path}/junk: Not a migration stream\n"
    if machine:
        assert main(["run", *machine, "--incoming", "foo:bar"]) == 1
        assert capsys.readouterr().err.count("foo:bar") == 1


@pytest.mark.parametrize("options", [[], ["--qmp", "unix:PATH/q"]])
def test_a_fault_is_told_once(tmp_path, monkeypatch, capsys, caplog, options):
    def wait(self):
        self._machine.notify(lambda: 1 // 0)
        self._machine.call(lambda: None)

    monkeypatch.setattr(run_command._Finished, "wait", wait)
    assert main(["run", "-M", "none", *(o.replace("PATH", str(tmp_path)) for o in options)]) == 1
    assert (capsys.readouterr().err + caplog.text).count("division") == 1


def info(transferred, remaining, syncs=1, **more):
    ram = {"transferred": transferred, "remaining": remaining, "dirty-sync-count": syncs, "mbps": 80.0}
    return {"ram": ram, **more}


def test_speed_and_what_is_left():
    mib = 1 << 20
    speed = Speed()
    assert speed.text(0.0, info(0, 100 * mib)) == "9.5 MiB/s, 0:10 left"
    assert speed.text(0.5, info(10 * mib, 90 * mib)) == "20.0 MiB/s, 0:04 left"
    # An older point stays until another is a second old: the mean is over a second at least.
    assert speed.text(1.0, info(30 * mib, 70 * mib)) == "30.0 MiB/s, 0:02 left"
    assert speed.text(2.0, info(40 * mib, 600 * mib)) == "10.0 MiB/s, 1:00 left"
    # A guest that writes makes the bar go back, not the speed.
    assert speed.text(3.0, info(60 * mib, 700 * mib, 5)) == "20.0 MiB/s, 0:35 left, pass 4"
    throttled = info(80 * mib, 0, 9, **{"cpu-throttle-percentage": 30})
    assert speed.text(4.0, throttled) == "20.0 MiB/s, pass 8, guest slowed by 30 %"

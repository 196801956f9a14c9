# SPDX-License-Identifier: MIT
"""``exec:``: streams through commands, whose exit status counts."""

from __future__ import annotations

import os
import threading

import pytest
from migration.fakehost import FakeHost
from migration.test_channels_fd import open_fds, refused, same_ram

from pyemu.errors import MigrationError


def test_through_a_shell_and_back(controller, filled, tmp_path):
    before = open_fds()
    source = filled()
    controller(source).migrate(f"exec:gzip -1 > '{tmp_path}/x y'", blocking=True)
    assert (tmp_path / "x y").read_bytes()[:2] == b"\x1f\x8b"
    target = FakeHost(run_state="inmigrate")
    words = ["gzip", "-dc", f"{tmp_path}/x y"]
    controller(target).incoming([{"channel-type": "main", "addr": {"transport": "exec", "args": words}}], blocking=True)
    assert same_ram(source, target)
    assert open_fds() == before


def failure(function):
    with pytest.raises(MigrationError) as caught:
        function()
    return str(caught.value)


def test_the_exit_status_counts(controller, tmp_path):
    def save(command):
        host = FakeHost()
        text = failure(lambda: controller(host).migrate(f"exec:{command}", blocking=True))
        assert host.run_state == "paused"
        return text

    assert save("cat > /dev/null; exit 3") == "exec: command 'cat > /dev/null; exit 3' exited with status 3"
    assert save("kill -9 $$") == "exec: command 'kill -9 $$' was ended by SIGKILL"
    assert save("false") == "exec: command 'false' exited with status 1"

    def load(command):
        return failure(lambda: controller(FakeHost(run_state="inmigrate")).incoming(f"exec:{command}", blocking=True))

    assert load("exit 4") == "exec: command 'exit 4' exited with status 4"
    path = tmp_path / "good"
    controller().migrate(f"exec:cat > {path}", blocking=True)
    # All of a good stream, and then it says that it was not.
    assert load(f"cat {path}; exit 5").endswith("exited with status 5")
    assert "ends inside" in load(f"head -c 1000 {path}")


def test_commands_that_cannot_be_run(controller):
    def list_of(*words):
        return [{"channel-type": "main", "addr": {"transport": "exec", "args": list(words)}}]

    assert refused(controller().migrate, "exec:  ") == "exec: '  ' is no command"
    assert refused(controller().migrate, list_of()) == "exec: 'args' must begin with a program"
    assert refused(controller().migrate, list_of("/no/such", "x y")) == (
        "Failed to execute child process “/no/such” (No such file or directory)"
    )
    made = controller(kind="mapped")
    assert refused(made.migrate, "exec:cat") == "Migration requires seekable transport (e.g. file)"


@pytest.mark.parametrize(
    "command",
    [
        "sleep 1000 | sleep 1000",  # takes nothing
        "cat > /dev/null; sleep 1000",  # takes all and does not end
    ],
)
def test_cancelling_ends_the_command(controller, filled, tmp_path, command):
    """Whatever it does; a pipe to all of its processes tells that none of them is left."""
    alive, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    source = filled(blocks=(("ram", 4 << 20),), run_state="running")
    leaving = controller(source)
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\nexec 9>/proc/{os.getpid()}/fd/{theirs}\necho >&9\n{command}\n")
    script.chmod(0o700)
    leaving.migrate(f"exec:{script}")
    assert os.read(alive, 1) == b"\n"
    os.close(theirs)
    timer = threading.Timer(0.05, leaving.cancel)
    timer.start()
    assert leaving.wait(20) == "cancelled"
    timer.join()
    assert os.read(alive, 1) == b""
    os.close(alive)
    assert source.run_state == "running"
    leaving.close()

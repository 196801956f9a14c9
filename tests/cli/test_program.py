# SPDX-License-Identifier: MIT
"""Exit statuses, one line an error, subcommands of plugins."""

import json
import subprocess
import sys

import pytest

from pyemu import __version__


def test_version(pyemu):
    assert pyemu("--version") == (0, f"pyemu {__version__}\n", "")


def test_help_lists_the_commands_of_core_and_plugins(pyemu, installed):
    installed("fake-good")
    status, out, _ = pyemu("--help")
    assert status == 0
    assert all(word in out for word in ("run ", "plugins ", "doctor ", "greet ", "says hello"))


def test_a_command_of_a_plugin_runs(pyemu, installed):
    installed("fake-good")
    assert pyemu("greet") == (0, "hello\n", "")


@pytest.mark.parametrize("line", ["", "--nonsense", "plugins", "plugins list --nonsense", "frobnicate", "run --block"])
def test_wrong_usage_is_status_2(pyemu, line):
    status, out, err = pyemu(line)
    assert (status, out) == (2, "")
    assert "usage: pyemu" in err


def test_an_unknown_command_names_the_known_ones(pyemu):
    assert "unknown command rum (did you mean run?); known: bench, demo" in pyemu("rum")[2]


def test_a_command_of_a_blocked_plugin_says_so(pyemu, installed):
    installed("fake-good")
    assert "plugin good (fake-good 1.2) blocked: blocked by --block" in pyemu("greet --block good")[2]


@pytest.mark.parametrize("line", ["--block good plugins list --json", "plugins list --json --block=good"])
def test_common_options_may_stand_anywhere(pyemu, installed, line):
    installed("fake-good")
    states = {p["name"]: p["state"] for p in json.loads(pyemu(line)[1])}
    assert states == {"core": "loaded", "good": "blocked"}


def test_an_error_is_one_line_and_status_1(pyemu, installed):
    installed("fake-good")
    assert pyemu("greet --fail error") == (1, "", "pyemu: greet: it was asked to fail\n")


def test_debug_shows_where(pyemu, installed):
    installed("fake-good")
    status, _, err = pyemu("greet --fail error --debug")
    assert status == 1
    assert err.startswith("Traceback") and err.endswith("pyemu: greet: it was asked to fail\n")


def test_a_bug_is_one_line_too_and_says_that_it_is_one(pyemu, installed):
    installed("fake-good")
    text = "pyemu: internal error: ZeroDivisionError: a bug (--debug shows where)\n"
    assert pyemu("greet --fail bug") == (1, "", text)


def test_ctrl_c_is_status_130(pyemu, installed):
    installed("fake-good")
    assert pyemu("greet --fail interrupt") == (130, "", "")


def test_the_terminal_comes_back_as_it_was(installed, monkeypatch):
    import os
    import pty
    import sys
    import termios
    import tty

    from pyemu.cli import main

    installed("fake-good")
    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal:
        before = termios.tcgetattr(terminal)
        import fake_good_parts

        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(fake_good_parts, "configure", lambda parser: tty.setraw(terminal))
        assert main(["greet", "--fail"]) == 2
        assert termios.tcgetattr(terminal) == before
    os.close(master)


def test_no_plugins(pyemu, installed):
    installed("fake-good")
    status, out, _ = pyemu("--no-plugins plugins list")
    assert status == 0
    assert "switched off by --no-plugins" in out
    assert pyemu("--no-plugins greet")[0] == 2


@pytest.mark.parametrize("line", ["--version", "doctor --no-plugins"])
def test_a_system_without_unix_modules_is_told_what_is_missing(line):
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['termios', 'tty', 'fcntl', 'resource']))\n"
        "from pyemu.cli import _program\n"
        "sys.exit(_program.main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", script, *line.split()]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    assert done.stdout.startswith(("pyemu 0", "ok"))

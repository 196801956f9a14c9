# SPDX-License-Identifier: MIT
"""The program in this process, with a hand-made set of installed plugins."""

import importlib.metadata
import pathlib
import sys

import pytest

from pyemu.cli import main

FOLDER = pathlib.Path(__file__).parents[1] / "plugin_host" / "distributions"


@pytest.fixture
def installed(monkeypatch):
    """``installed("fake-good")``: the program sees these distributions and no others."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def install(*names):
        found = {d.name: d for d in importlib.metadata.distributions(path=[str(FOLDER)])}
        points = [e for n in names for e in found[n].entry_points]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [e for e in points if e.group == group])

    install()
    yield install
    for name in [n for n in sys.modules if n.startswith("fake_")]:
        del sys.modules[name]


@pytest.fixture
def pyemu(installed, capsys):
    """``pyemu("plugins list")`` gives (exit status, stdout, stderr)."""

    def run(line):
        capsys.readouterr()
        status = main(line if isinstance(line, list) else line.split())
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run

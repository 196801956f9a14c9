# SPDX-License-Identifier: MIT
"""Hand-made distributions, found in a folder the way installed ones are found in site-packages."""

import importlib.metadata
import pathlib
import sys

import pytest

from pyemu.plugin import PluginManager

FOLDER = pathlib.Path(__file__).parent / "distributions"


@pytest.fixture
def entry_points(monkeypatch):
    """``entry_points("fake-good", ...)``: those distributions' entry points; all without arguments."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def find(*names):
        found = {d.name: d for d in importlib.metadata.distributions(path=[str(FOLDER)])}
        assert set(names) <= set(found)
        return [e for n, d in found.items() if not names or n in names for e in d.entry_points.select(group="pyemu")]

    yield find
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


@pytest.fixture
def manager(entry_points):
    """``manager("fake-good", ..., block=[...])``: a loaded manager of those distributions."""

    def make(*names, **options):
        return PluginManager(entry_points(*names), **options).load()

    return make

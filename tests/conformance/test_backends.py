# SPDX-License-Identifier: MIT
"""Every migration backend keeps what one promises: ours, and the example of one from outside."""

import importlib.metadata
import importlib.util
import pathlib
import sys
import types

import pytest

from pyemu.migration import PageSink, PageSource, SinkWrapper, SourceWrapper
from pyemu.plugin import PluginManager
from pyemu.testing.backend import BackendConformance

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "pyemu-xxhash"


@pytest.mark.parametrize(("wrapper", "base"), [(SinkWrapper, PageSink), (SourceWrapper, PageSource)])
def test_wrappers_hand_on_all_there_is(wrapper, base):
    public = {name for name in vars(base) if not name.startswith("_")} - {"place", "portion", "fixed_places"}
    assert public <= set(vars(wrapper))


class Small(BackendConformance):
    memory = 256 << 10


class TestStreaming(Small):
    pass


class TestMappedRam(Small):
    capabilities = types.MappingProxyType({"mapped-ram": True})


class TestMultifdIntoFixedPlaces(Small):
    capabilities = types.MappingProxyType({"mapped-ram": True, "multifd": True})
    parameters = types.MappingProxyType({"direct-io": True})


@pytest.mark.skipif(importlib.util.find_spec("xxhash") is None, reason="needs xxhash")
class TestXxhashExample(Small):
    """Not installed, but found by an entry point as if it were; ``-m packaging`` runs its own tests installed."""

    capabilities = types.MappingProxyType({"xxhash": True, "mapped-ram": True, "multifd": True})

    @pytest.fixture(autouse=True)
    def on_the_path(self, monkeypatch):
        monkeypatch.setattr(sys, "path", [*sys.path, str(EXAMPLE)])

    def plugins(self):
        installed = [e for e in importlib.metadata.entry_points(group="pyemu") if e.name != "xxhash"]
        example = importlib.metadata.EntryPoint("xxhash", "pyemu_xxhash", "pyemu")
        return PluginManager([*installed, example])

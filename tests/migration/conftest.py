# SPDX-License-Identifier: MIT
from __future__ import annotations

import numpy as np
import pytest
from migration.fakehost import FakeHost

from pyemu.migration import MigrationController
from pyemu.plugin import PluginManager

#: Every way to save to a file: capabilities and parameters.
KINDS = {
    "stream": ({}, {}),
    "mapped": ({"mapped-ram": True}, {}),
    "mapped-multifd": ({"mapped-ram": True, "multifd": True}, {"multifd-channels": 3}),
    "mapped-direct": ({"mapped-ram": True}, {"direct-io": True}),
    "mapped-multifd-direct": ({"mapped-ram": True, "multifd": True}, {"direct-io": True}),
    "stream-dense": ({}, {"zero-page-detection": "none"}),
    "mapped-dense": ({"mapped-ram": True}, {"zero-page-detection": "none"}),
}


@pytest.fixture(scope="session")
def plugins():
    return PluginManager()


@pytest.fixture
def controller(plugins):
    def make(host=None, kind="stream", **more):
        capabilities, parameters = KINDS[kind]
        made = MigrationController(host or FakeHost(), plugins)
        made.set_capabilities({**capabilities, "events": True})
        made.set_parameters({"max-bandwidth": 0, **parameters, **more})
        return made

    return make


def fill(block, seed=1):
    """Random pages with zero pages as every fourth, in runs, and at both ends of nothing."""
    pages = block.array.reshape(-1, block.page_size)
    pages[:] = np.random.default_rng(seed).integers(0, 256, pages.shape, dtype=np.uint8)
    pages[1::4] = 0
    pages[len(pages) // 2 : len(pages) // 2 + len(pages) // 8] = 0


@pytest.fixture
def filled():
    def make(**options):
        host = FakeHost(**options)
        for seed, block in enumerate(host.blocks):
            fill(block, seed)
        return host

    return make

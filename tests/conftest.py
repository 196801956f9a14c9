# SPDX-License-Identifier: MIT
"""Says which pyemu is being tested, and makes sure of it where that matters."""

import gc
import os
import pathlib

import pytest
from hypothesis import settings

import pyemu

pytest_plugins = ["pyemu.testing.fixtures"]

# How long an example takes says how busy the system is, not whether the code is right.
settings.register_profile("pyemu", deadline=None, max_examples=15)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("PYEMU_HYPOTHESIS", "pyemu"))

HERE = pathlib.Path(pyemu.__file__).parent
CHECKOUT = pathlib.Path(__file__).parents[1]


def pytest_report_header():
    return f"pyemu: {pyemu.__version__} in {HERE}"


def pytest_configure(config):
    if os.environ.get("PYEMU_TEST_INSTALLED") and HERE == CHECKOUT / "pyemu":
        raise pytest.UsageError(f"the installed pyemu is to be tested, but {HERE} was imported")


def pytest_collection_finish():
    # Thousands of collected tests live to the end: whoever collects garbage need not look at them each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)

# SPDX-License-Identifier: MIT
"""Processes that run a guest, ended with the test."""

import pytest
from guests.running import Running


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

# SPDX-License-Identifier: MIT
"""Pytest fixtures for device tests. To use them, put this into the top conftest.py:

    pytest_plugins = ["pyemu.testing.fixtures"]
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..device import Clock, IRQLine
from ..device.chardev import MemoryChardev
from .fakes import ISAFixture, PCIFixture


@pytest.fixture
def isa() -> ISAFixture:
    """An empty ISA bus with ports, memory, sixteen lines and a clock that stands still."""
    return ISAFixture()


@pytest.fixture
def pci() -> PCIFixture:
    """An empty PCI bus with configuration ports, memory, four lines and a clock that stands still."""
    return PCIFixture()


@pytest.fixture
def step_clock() -> Clock:
    """A clock that only ``advance()`` moves."""
    return Clock("step")


class RecordedLine(IRQLine):
    """An interrupt line that remembers its levels.

    Attributes:
        levels: the level after each change.
    """

    def __init__(self, name: str = "irq", n: int = 0) -> None:
        self.levels: list[int] = []
        super().__init__(name, n, lambda n, level: self.levels.append(level))


@pytest.fixture
def irq_line() -> RecordedLine:
    """A line with a record of its changes in ``levels``."""
    return RecordedLine()


@pytest.fixture
def chardev() -> Iterator[MemoryChardev]:
    """A chardev in memory: ``feed()`` is what the host types, ``capture`` what the guest wrote."""
    with MemoryChardev() as backend:
        yield backend

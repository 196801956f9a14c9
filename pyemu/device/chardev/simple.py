# SPDX-License-Identifier: MIT
"""Chardevs that need nothing of the host."""

from __future__ import annotations

from .base import Chardev
from .capture import DEFAULT_CAPTURE


class NullChardev(Chardev):
    """``null``: output goes nowhere (but into the capture), input never comes."""

    kind = "null"


class MemoryChardev(Chardev):
    """``memory``: for tests and programs. Input comes from :meth:`feed`, output stays in the capture."""

    kind = "memory"

    def __init__(self, name: str = "", *, capture: int = DEFAULT_CAPTURE) -> None:
        super().__init__(name, capture=capture)
        # Without a machine there is one thread only, and delivery may happen right away.
        self._post = lambda deliver: deliver()

    def feed(self, data: bytes) -> int:
        """Gives the guest *data* to read; returns how much of it there was room for. Any thread."""
        taken = bytes(data)[: max(0, self._room())]
        self._queue_input(taken)
        return len(taken)

# SPDX-License-Identifier: MIT
"""Machines: assembly, the machine thread, life cycle."""

from .events import Event
from .machine import Machine
from .restoration import restore

__all__ = ["Event", "Machine", "restore"]

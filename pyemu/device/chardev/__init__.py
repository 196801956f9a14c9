# SPDX-License-Identifier: MIT
"""Character backends: where the bytes of serial and parallel ports go and come from."""

from .base import Chardev
from .capture import Capture, Condition
from .simple import MemoryChardev, NullChardev
from .spec import open_chardev

__all__ = ["Capture", "Chardev", "Condition", "MemoryChardev", "NullChardev", "open_chardev"]

# SPDX-License-Identifier: MIT
"""``pyemu run --post``: the POST codes of the firmware, as a diagnostic card in a slot would show them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..chips.i8237 import DMAController
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..machine import Machine


def watch(machine: Machine) -> None:
    """Prints each value written to port 80 that differs from the one before, one a line, to standard error.

    Raises:
        ConfigError: the board has no such port.
    """
    found = [device for device in machine.devices.values() if isinstance(device, DMAController)]
    if not found:
        raise ConfigError(f"board {machine.board} has no port 80")
    last: int | None = None

    def show(value: int) -> None:
        nonlocal last
        if value != last:
            last = value
            print(f"POST {value:02X}", file=sys.stderr, flush=True)

    def begin() -> None:
        found[0].on_post = show

    machine.call(begin)

# SPDX-License-Identifier: MIT
"""What this package provides. Hosts import it for every listing, so it imports nothing heavy."""

from collections.abc import Iterator

import pyemu


@pyemu.hookimpl
def pyemu_devices() -> Iterator[pyemu.DeviceType]:
    yield pyemu.DeviceType(
        name="dice",
        factory="pyemu_dice.device:Dice",
        api=(1, 0),
        bus="isa",
        help="a dice at ports 0x2a0-0x2a3",
    )

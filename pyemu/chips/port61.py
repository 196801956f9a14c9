# SPDX-License-Identifier: MIT
"""System control port B."""

from __future__ import annotations

from ..device import ISADevice, VMState, vmstate
from ..errors import ConfigError
from . import _registers
from ._i8254 import PITCore
from ._port61 import SystemControlBCore
from .superio import PRIORITY_CORE


class SystemControlB(SystemControlBCore, ISADevice):
    """Port 61: gate (bit 0) and output (bit 5) of timer channel 2, speaker data (bit 1), refresh toggle (bit 4).

    It works on the timer chip of its bus, or on the one given to :meth:`connect_pit` before.
    """

    type_name = "port61"
    vmstate = VMState("port61", fields=(vmstate.uint8("latch", limit=0x0F),))
    register_tables = (_registers.PORT61,)
    volatile = frozenset({"pit"})

    def realize(self) -> None:
        from ..memory import PortioEntry

        if self.pit is None:
            chips = [device for device in self.bus.devices if isinstance(device, PITCore)]
            if len(chips) != 1:
                raise ConfigError(f"{self.id}: needs one timer chip on {self.bus.name}, there are {len(chips)}")
            self.connect_pit(chips[0])
        self.add_ports((PortioEntry(0, 1, 1, handler=self.handler()),), 0x61, priority=PRIORITY_CORE)

    def reset(self) -> None:
        self.reset_core()

# SPDX-License-Identifier: MIT
"""The host bridge at 0:0.0: identity and storage; it has nothing to switch on these boards."""

from __future__ import annotations

from typing import ClassVar

from pyemu import PCIDevice
from pyemu.device import Register

from .functions import PRIVATE, REG_COMMAND, REG_STATUS, STATUS_W1C, VENDOR_VIA


class ViaHostBridge(PCIDevice):
    """VT82C691/694 north bridge, whose memory-control registers only keep what firmware writes."""

    type_name = "via-host"
    vendor_id: ClassVar[int] = VENDOR_VIA
    device_id: ClassVar[int] = 0x0691
    revision: ClassVar[int] = 0xC4
    class_code: ClassVar[int] = 0x060000

    config_registers = (
        Register(REG_COMMAND, "command", 0x0006, 0x0340, size=2),
        Register(REG_STATUS, "status", 0x0200, 0, size=2, clear=STATUS_W1C),
        Register(PRIVATE.start, "storage", size=len(PRIVATE)),
    )

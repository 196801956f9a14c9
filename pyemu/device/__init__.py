# SPDX-License-Identifier: MIT
"""Devices, their declared state, the buses they sit on, and their connections to the host."""

from . import vmstate
from ._clock import Clock, Timer
from ._irq import IRQLine, IRQOut
from .bus import Bus
from .device import Device
from .dma import DMAClient, DMAController, DMARequest
from .isa import ISABus, ISADevice, ISAFunction
from .pci import PCIBus, PCIConfigPorts
from .pci_device import PCIDevice, pci_state
from .properties import Property, parse_properties, parse_size
from .vmstate import VMState

__all__ = [
    "Bus",
    "Clock",
    "DMAClient",
    "DMAController",
    "DMARequest",
    "Device",
    "IRQLine",
    "IRQOut",
    "ISABus",
    "ISADevice",
    "ISAFunction",
    "PCIBus",
    "PCIConfigPorts",
    "PCIDevice",
    "Property",
    "Timer",
    "VMState",
    "parse_properties",
    "parse_size",
    "pci_state",
    "vmstate",
]

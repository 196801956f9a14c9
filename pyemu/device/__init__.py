# SPDX-License-Identifier: MIT
"""Devices, their declared state, the buses they sit on, and their connections to the host."""

from . import vmstate
from ._clock import Clock, Timer
from ._irq import IRQLine, IRQOut
from .block import BlockBackend, MediaChanger, assign_indexes, open_drive
from .bus import Bus
from .chardev import Chardev, open_chardev
from .device import Device
from .display import Display, Keyboard, Picture, Text
from .dma import DMAClient, DMAController, DMARequest
from .isa import ISABus, ISADevice, ISAFunction
from .pci import PCIBus, PCIConfigPorts
from .pci_device import PCIDevice, pci_state
from .properties import Property, parse_properties, parse_size, portable_options
from .registers import Register, RegisterBlock, RegisterTable, RegisterValue, block_field, touches
from .vmstate import VMState

__all__ = [
    "BlockBackend",
    "Bus",
    "Chardev",
    "Clock",
    "DMAClient",
    "DMAController",
    "DMARequest",
    "Device",
    "Display",
    "IRQLine",
    "IRQOut",
    "ISABus",
    "ISADevice",
    "ISAFunction",
    "Keyboard",
    "MediaChanger",
    "PCIBus",
    "PCIConfigPorts",
    "PCIDevice",
    "Picture",
    "Property",
    "Register",
    "RegisterBlock",
    "RegisterTable",
    "RegisterValue",
    "Text",
    "Timer",
    "VMState",
    "assign_indexes",
    "block_field",
    "open_chardev",
    "open_drive",
    "parse_properties",
    "parse_size",
    "pci_state",
    "portable_options",
    "touches",
    "vmstate",
]

# SPDX-License-Identifier: MIT
"""pyemu: a programmable machine.

Everything listed in ``__all__`` is public and follows the version of the plugin interface
(:data:`API_VERSION`). Names are imported when they are first used, so ``import pyemu`` costs next to
nothing and works where a compiled part is missing; using such a part then says which one it is.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import errors as errors
    from .cpu.engine import CPUEngine as CPUEngine
    from .cpu.engine import Exit as Exit
    from .cpu.engine import ExitReason as ExitReason
    from .device import Clock as Clock
    from .device import Device as Device
    from .device import IRQLine as IRQLine
    from .device import IRQOut as IRQOut
    from .device import ISABus as ISABus
    from .device import ISADevice as ISADevice
    from .device import ISAFunction as ISAFunction
    from .device import PCIBus as PCIBus
    from .device import PCIDevice as PCIDevice
    from .device import Property as Property
    from .device import Timer as Timer
    from .device import VMState as VMState
    from .device import vmstate as vmstate
    from .errors import ConfigError as ConfigError
    from .errors import ControlError as ControlError
    from .errors import DeviceError as DeviceError
    from .errors import EngineError as EngineError
    from .errors import MemoryMapError as MemoryMapError
    from .errors import MigrationError as MigrationError
    from .errors import PluginError as PluginError
    from .errors import PyemuError as PyemuError
    from .machine import Machine as Machine
    from .machine import restore as restore
    from .memory import AddressSpace as AddressSpace
    from .memory import DirtyBitmap as DirtyBitmap
    from .memory import IoHandler as IoHandler
    from .memory import MemoryRegion as MemoryRegion
    from .memory import PortioEntry as PortioEntry
    from .memory import PortioList as PortioList
    from .memory import PortSpace as PortSpace
    from .memory import RAMBlock as RAMBlock
    from .plugin import API_VERSION as API_VERSION
    from .plugin import Backend as Backend
    from .plugin import Board as Board
    from .plugin import Channel as Channel
    from .plugin import Command as Command
    from .plugin import Compression as Compression
    from .plugin import DeviceType as DeviceType
    from .plugin import Engine as Engine
    from .plugin import PluginInfo as PluginInfo
    from .plugin import PluginManager as PluginManager
    from .plugin import hookimpl as hookimpl

_EXPORTS = {
    ".cpu.engine": "CPUEngine Exit ExitReason",
    ".device": (
        "Clock Device IRQLine IRQOut ISABus ISADevice ISAFunction PCIBus PCIDevice Property Timer VMState vmstate"
    ),
    ".errors": (
        "ConfigError ControlError DeviceError EngineError MemoryMapError MigrationError PluginError PyemuError"
    ),
    ".machine": "Machine restore",
    ".memory": "AddressSpace DirtyBitmap IoHandler MemoryRegion PortSpace PortioEntry PortioList RAMBlock",
    ".plugin": (
        "API_VERSION Backend Board Channel Command Compression DeviceType Engine PluginInfo PluginManager hookimpl"
    ),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = ["__version__"]
__all__ += sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'pyemu' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(module, __name__), name)
    except ImportError as error:
        raise _missing(name, error) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _missing(name: str, error: ImportError) -> ImportError:
    """Says which part is missing, and what to do, instead of only that an import failed."""
    part = error.name or "?"
    if part.startswith("pyemu.") and part.rpartition(".")[2].startswith("_"):
        advice = "this compiled part is not built for this Python; install with: pip install pyemu-machine"
    elif part.startswith("pyemu"):
        advice = "the installation is incomplete"
    elif part in sys.stdlib_module_names:  # no package to install: of that name there may be a stranger's
        advice = f"this Python on {sys.platform} does not have it; machines run on Linux"
    else:
        advice = f"install it with: pip install {part.partition('.')[0]}"
    return ImportError(f"pyemu.{name} needs {part}: {error} ({advice})", name=error.name, path=error.path)

# SPDX-License-Identifier: MIT
"""The plugin host: hooks, the records they yield, and the manager that loads plugins."""

from .hookspecs import hookimpl, hookspec
from .manager import PluginInfo, PluginManager, default_manager
from .records import API_VERSION, Backend, Board, Channel, Command, Compression, DeviceType, Engine, Record

__all__ = [
    "API_VERSION",
    "Backend",
    "Board",
    "Channel",
    "Command",
    "Compression",
    "DeviceType",
    "Engine",
    "PluginInfo",
    "PluginManager",
    "Record",
    "default_manager",
    "hookimpl",
    "hookspec",
]

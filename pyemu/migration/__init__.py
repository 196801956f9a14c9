# SPDX-License-Identifier: MIT
"""Saving and loading machines in QEMU's migration format.

The core is here: framing, sections, capabilities, parameters, the precopy loop and the state machine.
Where pages go and who carries them is decided by backends, which are plugins (:mod:`.backend`).
"""

from __future__ import annotations

from .backend import (
    LoadContext,
    MigrationBackend,
    PageIndex,
    PageSink,
    PageSource,
    SaveContext,
)
from .channel import Buffer, ChannelContext, ChannelType, InputChannel, Listener, OutputChannel
from .compression import CompressionMethod, Compressor, Decompressor, find_compression, inflated
from .configuration import Configuration
from .connection import Connection, PipeConnection, SocketConnection, StreamInput, StreamOutput
from .controller import MigrationController
from .description import find_description, read_description, read_header
from .descriptors import Descriptors
from .faults import load_fault, read_fault, truncated, write_fault
from .framing import StreamReader, StreamWriter
from .host import DeviceSection, MigrationHost
from .interrupt import Cancelled, Interrupt
from .lazy import LazyRestore
from .pages import PageCount, Runs
from .parameters import Parameter
from .statistics import Progress, Statistics
from .uri import AddressMembers
from .wrapper import SinkWrapper, SourceWrapper

__all__ = [
    "AddressMembers",
    "Buffer",
    "Cancelled",
    "ChannelContext",
    "ChannelType",
    "CompressionMethod",
    "Compressor",
    "Configuration",
    "Connection",
    "Descriptors",
    "Decompressor",
    "DeviceSection",
    "InputChannel",
    "Interrupt",
    "LazyRestore",
    "Listener",
    "LoadContext",
    "MigrationBackend",
    "MigrationController",
    "MigrationHost",
    "OutputChannel",
    "PageCount",
    "PageIndex",
    "PageSink",
    "PageSource",
    "Parameter",
    "PipeConnection",
    "Progress",
    "Runs",
    "SaveContext",
    "SinkWrapper",
    "SourceWrapper",
    "Statistics",
    "StreamReader",
    "SocketConnection",
    "StreamInput",
    "StreamOutput",
    "StreamWriter",
    "find_compression",
    "find_description",
    "inflated",
    "load_fault",
    "read_description",
    "read_fault",
    "read_header",
    "truncated",
    "write_fault",
]

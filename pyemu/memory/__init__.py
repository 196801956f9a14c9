# SPDX-License-Identifier: MIT
"""Guest memory and I/O ports: RAM blocks, regions and address spaces, the port space, dirty tracking."""

from ._dirty import DirtyBitmap
from ._dispatch import IoHandler
from ._keeper import PageKeeper
from ._portio import PortioList, PortRegion
from ._ports import PortSpace
from ._ram import RAMBlock
from .backend import MemoryBackend
from .dirty import DirtySource, select_dirty_source
from .portio import PortioEntry
from .region import FlatRange, MemoryRegion
from .space import AddressSpace, MemoryListener

__all__ = [
    "AddressSpace",
    "DirtyBitmap",
    "DirtySource",
    "FlatRange",
    "IoHandler",
    "MemoryBackend",
    "MemoryListener",
    "MemoryRegion",
    "PageKeeper",
    "PortRegion",
    "PortSpace",
    "PortioEntry",
    "PortioList",
    "RAMBlock",
    "select_dirty_source",
]

# SPDX-License-Identifier: MIT
"""Saved machines as data: what is in a file, without building the machine.

Files of any machine type open, also those of QEMU's own machines::

    with pyemu.snapshot.open_snapshot("vm.mapped") as saved:
        saved.blocks["pc.ram"].array()[0x7c00:0x7e00]
"""

from .blocks import SnapshotBlock
from .reader import SavedSection, Snapshot, open_snapshot

__all__ = ["SavedSection", "Snapshot", "SnapshotBlock", "open_snapshot"]

# SPDX-License-Identifier: MIT
"""Capability ``x-ignore-shared``: RAM that both ends map is not sent.

The block list then carries each block's place in guest memory. Nothing in it says which blocks were left out,
so ours say it in the description, and a destination that does not map the same memory refuses the stream.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import MigrationError
from ..memory import RAMBlock
from .description import MIGRATION_KEY, OWN_KEY
from .host import MigrationHost

CAPABILITY = "x-ignore-shared"
#: The key of the description: which blocks were left out, and what file each is.
IGNORED_KEY = "ignored"


@dataclass(frozen=True)
class SharedRAM:
    """Which blocks are left out of a stream, and where all of them are.

    Attributes:
        addresses: of each block, in the region that it is part of; empty when the capability is off.
        blocks: those left out, by name.
    """

    addresses: Mapping[str, int] = field(default_factory=dict)
    blocks: Mapping[str, RAMBlock] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """The capability is on."""
        return bool(self.addresses)

    def describe(self) -> dict[str, Any]:
        """For the description."""
        if not self.blocks:
            return {}
        return {IGNORED_KEY: {name: _identity(block) for name, block in self.blocks.items()}}

    def check_address(self, name: str, address: int) -> None:
        """Refuses a shared block that is somewhere else at the other end.

        Raises:
            MigrationError: it is.
        """
        if name in self.blocks and address != self.addresses[name]:
            raise MigrationError(
                f"block {name}: shared memory is at {address:#x} in the stream, at {self.addresses[name]:#x} here"
            )

    def check(self, document: Mapping[str, Any] | None) -> None:
        """Refuses a stream whose absent blocks are not shared with its writer.

        Memory without a name must be the very same; a file may be a copy, or come by a network file system.

        Args:
            document: the stream's description; one of another program says nothing.

        Raises:
            MigrationError: a block is neither in the stream nor here.
        """
        found: Any = document
        for key in (OWN_KEY, MIGRATION_KEY, IGNORED_KEY):
            found = found.get(key) if isinstance(found, dict) else None
        for name, identity in found.items() if isinstance(found, dict) else ():
            block = self.blocks.get(name)
            if block is None:
                raise MigrationError(
                    f"block {name} is not in the stream, for it was shared memory ({CAPABILITY}); here it is not shared"
                )
            if isinstance(identity, dict) and identity.get("backing") == "memfd":
                mine = _identity(block)
                if any(identity.get(key) != mine[key] for key in ("device", "inode")):
                    raise MigrationError(
                        f"block {name} is not in the stream ({CAPABILITY}), and here it is not the same memory"
                    )


def _identity(block: RAMBlock) -> dict[str, Any]:
    status = os.fstat(block.fd)
    return {"backing": block.backing, "device": status.st_dev, "inode": status.st_ino}


def shared_ram(host: MigrationHost, capabilities: frozenset[str], blocks: Sequence[RAMBlock]) -> SharedRAM:
    """What *capabilities* leave out of a migration of *blocks*."""
    if CAPABILITY not in capabilities:
        return SharedRAM()
    addresses = host.call(host.ram_addresses)
    return SharedRAM(
        {block.idstr: addresses.get(block.idstr, 0) for block in blocks},
        {block.idstr: block for block in blocks if block.shared},
    )

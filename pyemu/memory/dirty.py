# SPDX-License-Identifier: MIT
"""Dirty sources: what finds the pages that a guest writes through plain host mappings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, MemoryMapError
from ._compare import CompareSource
from ._ram import RAMBlock
from ._uffd import UserfaultSource

NAMES = ("uffd", "compare")
_PROBE_PAGES = 16


class DirtySource(Protocol):
    """Watches RAM blocks. Writes by devices are not its business: they mark the bitmaps themselves.

    Attributes:
        name: ``"uffd"`` or ``"compare"``.
        reason: why this one was chosen, one line.
    """

    @property
    def name(self) -> str: ...

    @property
    def reason(self) -> str: ...

    def start(self, blocks: Sequence[RAMBlock]) -> None:
        """Begins to watch; the first sync gives what was written since now."""

    def sync(self) -> int:
        """Marks pages written since the last call in all clients of each block; returns how many there were."""

    def data(self, block: RAMBlock) -> NDArray[np.uint8]:
        """The bytes to read for pages this source reported. Not always the block itself: see CompareSource."""

    def stop(self) -> None:
        """Ends watching; may be repeated."""


class AutomaticSource:
    """The kernel's write tracking, or the comparison where a block's memory does not lend itself to the former.

    Which one it is turns out in :meth:`start`; see the table in docs/explanation/memory.md.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._chosen: DirtySource = UserfaultSource(reason)

    @property
    def name(self) -> str:
        return self._chosen.name

    @property
    def reason(self) -> str:
        return self._chosen.reason

    def start(self, blocks: Sequence[RAMBlock]) -> None:
        """See :class:`DirtySource`."""
        source = UserfaultSource(self._reason)
        try:
            source.start(blocks)
            self._chosen = source
        except MemoryMapError as error:
            compare = CompareSource(f"the kernel's write tracking does not work here: {error}")
            compare.start(blocks)
            self._chosen = compare

    def sync(self) -> int:
        """See :class:`DirtySource`."""
        return self._chosen.sync()

    def data(self, block: RAMBlock) -> NDArray[np.uint8]:
        """See :class:`DirtySource`."""
        return self._chosen.data(block)

    def stop(self) -> None:
        """See :class:`DirtySource`."""
        self._chosen.stop()


def probe_uffd() -> str | None:
    """Tries write tracking by the kernel on scratch memory: None when it works, else why not."""
    block = RAMBlock("probe", _PROBE_PAGES * 4096)
    client = block.dirty_client("probe")
    memory: Any = block.array
    memory[0] = 1
    source = UserfaultSource()
    try:
        source.start([block])
        for pages in ((), (0, 5), (), (5, _PROBE_PAGES - 1)):
            for page in pages:
                memory[page * 4096 + 7] += 1
            found = source.sync()
            seen = [page for page in range(client.pages) if client.test(page)]
            if seen != list(pages) or found != len(pages):
                return f"write tracking reports pages {seen} where {list(pages)} were written"
            client.clear_all()
    except MemoryMapError as error:
        return str(error)
    finally:
        source.stop()
        block.close()
    return None


def select_dirty_source(prefer: str | None = None) -> DirtySource:
    """The best dirty source that works on this host, or the one named *prefer*.

    Raises:
        ConfigError: no such source, or it does not work here.
    """
    if prefer not in (None, *NAMES):
        raise ConfigError(f"dirty source {prefer!r} is not one of {', '.join(NAMES)}")
    if prefer == "compare":
        return CompareSource("asked for")
    trouble = probe_uffd()
    if trouble is None:
        return (
            UserfaultSource("asked for")
            if prefer
            else AutomaticSource("the kernel's write tracking was tried and works")
        )
    if prefer:
        raise ConfigError(f"dirty source {prefer} does not work here: {trouble}")
    return CompareSource(f"the kernel's write tracking does not work here: {trouble}")

# SPDX-License-Identifier: MIT
"""The plugin's record."""

from __future__ import annotations

from collections.abc import Iterator

from pyemu import Backend, hookimpl


@hookimpl
def pyemu_backends() -> Iterator[Backend]:
    yield Backend(
        name="mapped-ram",
        factory="pyemu_mapped_ram.backend:MappedRamBackend",
        capabilities=("mapped-ram",),
        help="every page at a fixed place in a file of bounded size",
    )

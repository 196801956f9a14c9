# SPDX-License-Identifier: MIT
"""The plugin's record."""

from __future__ import annotations

from collections.abc import Iterator

from pyemu import Backend, hookimpl


@hookimpl
def pyemu_backends() -> Iterator[Backend]:
    yield Backend(
        name="multifd",
        factory="pyemu_multifd.backend:MultifdBackend",
        capabilities=("multifd",),
        help="pages written and read by several threads at once",
    )

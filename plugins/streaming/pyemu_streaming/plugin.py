# SPDX-License-Identifier: MIT
"""The plugin's record."""

from __future__ import annotations

from collections.abc import Iterator

from pyemu import Backend, hookimpl


@hookimpl
def pyemu_backends() -> Iterator[Backend]:
    yield Backend(
        name="streaming",
        factory="pyemu_streaming.backend:StreamingBackend",
        help="pages one after another in the stream; used when no other layout is on",
    )

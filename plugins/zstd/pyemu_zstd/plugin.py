# SPDX-License-Identifier: MIT
"""The plugin's record."""

from __future__ import annotations

from collections.abc import Iterator

from pyemu import Compression, hookimpl


@hookimpl
def pyemu_compressions() -> Iterator[Compression]:
    yield Compression(name="zstd", factory="pyemu_zstd.method:Zstandard", help="Zstandard, levels 0 to 20")

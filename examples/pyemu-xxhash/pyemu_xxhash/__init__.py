# SPDX-License-Identifier: MIT
"""What this package provides. Hosts import it for every listing, so it imports nothing heavy."""

from collections.abc import Iterator

import pyemu


@pyemu.hookimpl
def pyemu_backends() -> Iterator[pyemu.Backend]:
    yield pyemu.Backend(
        name="xxhash",
        factory="pyemu_xxhash.backend:HashBackend",
        api=(1, 0),
        capabilities=("xxhash",),
        help="a hash of every page, verified on load",
    )

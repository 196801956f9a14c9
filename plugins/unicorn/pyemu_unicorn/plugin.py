# SPDX-License-Identifier: GPL-2.0-or-later
"""What this distribution offers to pyemu."""

from __future__ import annotations

from collections.abc import Iterator

from pyemu.plugin.hookspecs import hookimpl
from pyemu.plugin.records import Engine


@hookimpl
def pyemu_engines() -> Iterator[Engine]:
    yield Engine(
        name="unicorn",
        factory="pyemu_unicorn.engine:create",
        arches=("x86",),
        help="x86 processor by binary translation; runs everywhere",
    )

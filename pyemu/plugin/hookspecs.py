# SPDX-License-Identifier: MIT
"""Every hook, with its contract. Hooks are called while a machine is assembled, never per access."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from .records import Backend, Board, Channel, Command, DeviceType, Engine

hookspec = pluggy.HookspecMarker("pyemu")
hookimpl = pluggy.HookimplMarker("pyemu")


@hookspec
def pyemu_boards() -> Iterable[Board]:
    """Machine types for ``-M NAME``."""
    return ()


@hookspec
def pyemu_devices() -> Iterable[DeviceType]:
    """Devices for ``--device NAME`` and for boards that name them."""
    return ()


@hookspec
def pyemu_engines() -> Iterable[Engine]:
    """CPU engines for ``--cpu NAME``."""
    return ()


@hookspec
def pyemu_backends() -> Iterable[Backend]:
    """Migration backends: where pages go and who carries them."""
    return ()


@hookspec
def pyemu_channels() -> Iterable[Channel]:
    """Carriers of migration bytes, one a URI scheme."""
    return ()


@hookspec
def pyemu_commands() -> Iterable[Command]:
    """Subcommands of the ``pyemu`` program."""
    return ()

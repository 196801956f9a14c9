# SPDX-License-Identifier: MIT
"""Every hook, with its contract. Hooks are called while a machine is assembled, never per access.

``docs/reference/hooks.md`` is made from the docstrings here: ``python -m pyemu.plugin.docs``.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from .records import Backend, Board, Channel, Command, Compression, DeviceType, Engine

hookspec = pluggy.HookspecMarker("pyemu")
hookimpl = pluggy.HookimplMarker("pyemu")


@hookspec
def pyemu_boards() -> Iterable[Board]:
    """Machine types for ``-M NAME``.

    The factory is called once for each machine, on the thread that builds it, with the
    :class:`~pyemu.Machine` and the board's properties (parsed, with ``-`` in their names turned into
    ``_``). It adds RAM, buses and devices; whatever it raises leaves nothing behind.

    Example:
        @pyemu.hookimpl
        def pyemu_boards():
            yield pyemu.Board(
                name="tray",
                factory="my_package.board:build",
                api=(1, 0),
                help="a board with RAM only",
                properties=(pyemu.Property("pages", "int", 16, "pages of RAM", minimum=1, maximum=1024),),
                arch="none",
            )
    """
    return ()


@hookspec
def pyemu_devices() -> Iterable[DeviceType]:
    """Devices for ``--device NAME`` and for boards that name them.

    The factory is a subclass of :class:`~pyemu.Device` whose ``type_name`` is the record's name. It is
    called with the properties that the user gave, as text; the class declares and parses them.

    Example:
        @pyemu.hookimpl
        def pyemu_devices():
            yield pyemu.DeviceType(
                name="dice",
                factory="pyemu_dice.device:Dice",
                api=(1, 0),
                bus="isa",
                help="a dice at ports 0x2a0-0x2a3",
            )
    """
    return ()


@hookspec
def pyemu_engines() -> Iterable[Engine]:
    """CPU engines for ``--cpu NAME``.

    The factory is called with the architecture and a capsule ``pyemu.cpu_host`` (the C table of
    ``pyemu/capi/pyemu.h``), and returns a :class:`~pyemu.CPUEngine`.

    Example:
        @pyemu.hookimpl
        def pyemu_engines():
            yield pyemu.Engine(
                name="slow",
                factory="my_package.engine:create",
                api=(1, 0),
                arches=("x86",),
                help="an interpreter for teaching",
            )
    """
    return ()


@hookspec
def pyemu_backends() -> Iterable[Backend]:
    """Migration backends: where pages go and who carries them.

    A migration uses the backend that serves the capabilities that are on; the one without any is
    used when none is. Two capabilities that no single backend serves must compose, or be refused by name.

    Example:
        @pyemu.hookimpl
        def pyemu_backends():
            yield pyemu.Backend(
                name="sparse",
                factory="my_package.backend:Sparse",
                api=(1, 0),
                capabilities=("x-sparse",),
                help="pages by content",
            )
    """
    return ()


@hookspec
def pyemu_channels() -> Iterable[Channel]:
    """Carriers of migration bytes, one a URI scheme.

    The record is called like its scheme: ``migrate carrier:...`` looks for the channel ``carrier``.

    Example:
        @pyemu.hookimpl
        def pyemu_channels():
            yield pyemu.Channel(
                name="carrier",
                scheme="carrier",
                factory="my_package.channel:Carrier",
                api=(1, 0),
                help="carrier:NAME",
            )
    """
    return ()


@hookspec
def pyemu_compressions() -> Iterable[Compression]:
    """Ways to compress pages, for carriers that send them over connections.

    The record is called as migration parameters name it: ``multifd-compression=squeeze`` looks for the compression
    ``squeeze``. The factory is called without arguments, once for each migration.

    Example:
        @pyemu.hookimpl
        def pyemu_compressions():
            yield pyemu.Compression(
                name="squeeze",
                factory="my_package.squeeze:Squeeze",
                api=(1, 0),
                help="small, at the price of time",
            )
    """
    return ()


@hookspec
def pyemu_commands() -> Iterable[Command]:
    """Subcommands of the ``pyemu`` program.

    The factory names a module. ``configure(parser)`` adds arguments to an
    :class:`argparse.ArgumentParser`; ``run(args)`` does the work and returns the exit status.
    ``args.plugins`` is the :class:`~pyemu.PluginManager` that the command line selects. A
    :class:`~pyemu.PyemuError` or ``OSError`` that comes out becomes one line and status 1.

    Example:
        @pyemu.hookimpl
        def pyemu_commands():
            yield pyemu.Command(
                name="hexdump",
                factory="my_package.hexdump",
                api=(1, 0),
                help="print guest memory of a saved machine",
            )
    """
    return ()

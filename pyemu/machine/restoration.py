# SPDX-License-Identifier: MIT
"""Bringing a saved machine back from its file alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from ..device import Chardev, portable_options
from ..errors import MigrationError
from ..plugin import PluginManager, default_manager
from .machine import Machine


def restore(
    path: str | os.PathLike[str],
    *,
    cpu: str | None = None,
    serial: Sequence[str | Chardev] = (),
    run: bool = False,
    plugins: PluginManager | None = None,
) -> Machine:
    """A new machine in the state that *path* holds.

    The file's description says which board, options, memory, devices and drives to build; then the
    state is loaded. Backends of the host (serial ports) are not part of a file and are given anew.

    Args:
        path: a file that :meth:`Machine.save` or QMP ``migrate`` wrote.
        cpu: another CPU engine than the one the machine was saved with.
        serial: character backends, as for :class:`Machine`.
        run: let the guest run at once if it ran when it was saved; otherwise the machine waits, paused.
        plugins: the plugin manager to use.

    Raises:
        MigrationError: no stream, a damaged one, or one that does not describe a machine of pyemu's.
        ConfigError, PluginError: the machine it describes cannot be built here.
    """
    from ..migration import read_description, read_header

    name = os.fspath(path)
    with _naming(name):
        description = read_description(path)
        machine = from_description(description, cpu=cpu, serial=serial, plugins=plugins)
        try:
            machine.migration.set_capabilities(dict.fromkeys(read_header(path).capabilities, True))
            # The list form takes any path; in a URI a comma would begin an option.
            address = {"transport": "file", "filename": name, "offset": 0}
            machine.migration.incoming([{"channel-type": "main", "addr": address}], blocking=True, autostart=run)
        except BaseException:
            machine.close()
            raise
    return machine


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Puts the file's name in front of what went wrong with it; ``desc`` stays what QMP clients know."""
    try:
        yield
    except MigrationError as error:
        if path in str(error):
            raise
        raise MigrationError(f"{path}: {error}", desc=error.desc) from error.__cause__


def from_description(
    description: dict[str, Any] | None,
    *,
    cpu: str | None = None,
    serial: Sequence[str | Chardev] = (),
    plugins: PluginManager | None = None,
) -> Machine:
    """A machine that waits for the migration whose description this is.

    Raises:
        MigrationError: the description is missing or not of a form we know.
    """
    if not isinstance(description, dict):
        raise MigrationError("the stream does not describe a pyemu machine; start one with --incoming")
    if description.get("format") != 1:
        raise MigrationError(f"machine description of format {description.get('format')!r}, known: 1")
    host = plugins if plugins is not None else default_manager()
    try:
        return Machine(
            str(description["board"]),
            memory=int(description["memory"]),
            cpu=cpu if cpu is not None else str(description["cpu"]),
            properties=dict(description["properties"]),
            devices=[_device(host, str(name), dict(options)) for name, options in description["devices"]],
            drives=[str(spec) for spec in description["drives"]],
            kernel=description["kernel"],
            append=str(description["append"]),
            initrd=description["initrd"],
            bios=description["bios"],
            uuid=description["uuid"],
            serial=serial,
            incoming=True,
            plugins=host,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MigrationError(f"machine description is damaged: {type(error).__name__}: {error}") from None


def _device(plugins: PluginManager, name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    # Again, although saving left such things out: the file may be a stranger's.
    return name, portable_options(plugins.resolve(plugins.get("device", name)).properties, options)

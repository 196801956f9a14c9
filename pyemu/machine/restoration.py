# SPDX-License-Identifier: MIT
"""Bringing a saved machine back from its file alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..device import BlockBackend, Chardev, portable_options
from ..errors import MigrationError
from ..plugin import PluginManager, default_manager
from .machine import Machine


def restore(
    path: str | os.PathLike[str],
    *,
    cpu: str | None = None,
    serial: Sequence[str | Chardev] = (),
    drives: Sequence[str | BlockBackend] | None = None,
    host_files: bool = False,
    run: bool = False,
    plugins: PluginManager | None = None,
) -> Machine:
    """A new machine in the state that *path* holds.

    The file's description says which board, options, memory, devices and drives to build; then the
    state is loaded. Backends of the host (serial ports) are not part of a file and are given anew.

    Whoever wrote the file chose the paths in it, and a guest reads and writes its disks. So a file that
    names drives, a kernel or firmware is refused, before anything is opened, unless *host_files* says that
    its writer is trusted, or *drives* gives others.

    Args:
        path: a file that :meth:`Machine.save` or QMP ``migrate`` wrote.
        cpu: another CPU engine than the one the machine was saved with.
        serial: character backends, as for :class:`Machine`.
        drives: block backends in the place of those that the file names, as for :class:`Machine`.
        host_files: open the files of this host that the saved machine names.
        run: let the guest run at once if it ran when it was saved; otherwise the machine waits, paused.
        plugins: the plugin manager to use.

    Raises:
        MigrationError: no stream, a damaged one, one that does not describe a machine of pyemu's, or one
            that names files of this host without *host_files*.
        ConfigError, PluginError: the machine it describes cannot be built here.
    """
    from ..migration import read_description, read_header

    name = os.fspath(path)
    with _naming(name):
        description = read_description(path)
        machine = from_description(
            description, cpu=cpu, serial=serial, drives=drives, host_files=host_files, plugins=plugins
        )
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
    drives: Sequence[str | BlockBackend] | None = None,
    host_files: bool = False,
    plugins: PluginManager | None = None,
) -> Machine:
    """A machine that waits for the migration whose description this is; the rest is as for :func:`restore`.

    Raises:
        MigrationError: the description is missing, not of a form we know, or names files of this host
            without *host_files*.
    """
    if not isinstance(description, dict):
        raise MigrationError("the stream does not describe a pyemu machine; start one with --incoming")
    if description.get("format") != 1:
        raise MigrationError(f"machine description of format {description.get('format')!r}, known: 1")
    host = plugins if plugins is not None else default_manager()
    try:
        if drives is not None:
            description = {**description, "drives": []}
        if not host_files:
            _refuse_files(host, description)
        return Machine(
            str(description["board"]),
            memory=int(description["memory"]),
            cpu=cpu if cpu is not None else str(description["cpu"]),
            properties=portable_options(host.get("board", str(description["board"])).properties, description["properties"]),
            devices=[_device(host, str(name), dict(options)) for name, options in description["devices"]],
            drives=[str(spec) for spec in description["drives"]] if drives is None else drives,
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


def _refuse_files(plugins: PluginManager, description: dict[str, Any]) -> None:
    """Raises MigrationError if building the machine would open files that the description chose."""
    files = [f"drive '{spec}'" for spec in description["drives"]]
    files += [f"{what} '{description[what]}'" for what in ("kernel", "initrd", "bios") if description[what] is not None]
    files += _named_by("board", plugins, description["board"], description["properties"])
    for name, options in description["devices"]:
        files += _named_by("device", plugins, name, options)
    if files:
        raise MigrationError(
            f"the saved machine uses files of this host: {', '.join(files)}; host_files=True opens them (trust whoever"
            " wrote the file: a guest reads and writes its disks), drives=[...] gives others"
        )


def _named_by(kind: str, plugins: PluginManager, name: str, options: Mapping[str, Any]) -> list[str]:
    """Drives among the properties of a board or a device."""
    record = plugins.get(kind, str(name))
    declared = record.properties if kind == "board" else plugins.resolve(record).properties
    own = {spelling for p in declared if p.kind == "drive" for spelling in (p.name, p.attribute)}
    return [f"{kind} {name},{key}={value}" for key, value in options.items() if key in own and value is not None]


def _device(plugins: PluginManager, name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    # Again, although saving left such things out: the file may be a stranger's.
    return name, portable_options(plugins.resolve(plugins.get("device", name)).properties, options)

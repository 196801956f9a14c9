# SPDX-License-Identifier: MIT
"""Bringing a saved machine back from its file alone."""

from __future__ import annotations

import contextlib
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..device import BlockBackend, Chardev, Property, portable_options
from ..errors import MigrationError
from ..migration.statistics import ProgressCallback
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
    lazy: bool = False,
    memory_backend: str | None = None,
    progress: ProgressCallback | None = None,
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
        lazy: map RAM over the file instead of reading it: the machine is there in milliseconds, whatever its size, and
            pages are read when they are used, and by threads behind. For files with mapped-ram. The file must stay
            as it is (replacing it by a rename is fine) until :meth:`Machine.settle` or the machine's end.
        memory_backend: where RAM is, as for :class:`Machine`; no file says that itself.
        progress: called with a :class:`~pyemu.migration.Progress` now and then, by a thread of the load; what it raises
            ends it.
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
            description,
            cpu=cpu,
            serial=serial,
            drives=drives,
            host_files=host_files,
            memory_backend=memory_backend,
            plugins=plugins,
        )
        try:
            machine.migration.set_capabilities(dict.fromkeys(read_header(path).capabilities, True))
            machine.migration.set_parameters({"lazy-restore": lazy})
            # The list form takes any path; in a URI a comma would begin an option.
            address = {"transport": "file", "filename": name, "offset": 0}
            channels = [{"channel-type": "main", "addr": address}]
            machine.migration.incoming(channels, blocking=True, autostart=run, progress=progress)
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
    memory_backend: str | None = None,
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
        raise MigrationError(f"machine description of format {reprlib.repr(description.get('format'))}, known: 1")
    host = plugins if plugins is not None else default_manager()
    saved = _Description(description)
    if not host_files:
        _refuse_files(host, saved, saved.drives if drives is None else [])
    return Machine(
        saved.board,
        memory=saved.memory,
        cpu=cpu if cpu is not None else saved.cpu,
        # Again, although saving left such things out: the file may be a stranger's.
        properties=portable_options(_properties(host, "board", saved.board), saved.properties),
        devices=[(name, portable_options(_properties(host, "device", name), options)) for name, options in saved.devices],
        drives=saved.drives if drives is None else drives,
        kernel=saved.images["kernel"],
        append=saved.append,
        initrd=saved.images["initrd"],
        bios=saved.images["bios"],
        uuid=saved.uuid,
        serial=serial,
        memory_backend=memory_backend,
        incoming=True,
        plugins=host,
    )


class _Description:
    """The members of a machine's description, each of the type that it must have.

    Raises:
        MigrationError: one is missing or of another type.
    """

    def __init__(self, members: dict[str, Any]) -> None:
        self._members = members
        self.board: str = self._member("board", str)
        self.memory: int = self._member("memory", int)
        self.cpu: str = self._member("cpu", str)
        self.append: str = self._member("append", str)
        self.uuid: str | None = self._member("uuid", str, type(None))
        self.images: dict[str, str | None] = {
            name: self._member(name, str, type(None)) for name in ("kernel", "initrd", "bios")
        }
        self.properties: dict[str, Any] = self._options(self._member("properties", dict), "properties")
        self.drives: list[str] = self._member("drives", list)
        if any(type(spec) is not str for spec in self.drives):
            raise _damaged("drives", self.drives)
        self.devices: list[tuple[str, dict[str, Any]]] = []
        for entry in self._member("devices", list):
            if type(entry) is not list or len(entry) != 2 or type(entry[0]) is not str or type(entry[1]) is not dict:
                raise _damaged("devices", entry)
            self.devices.append((entry[0], self._options(entry[1], f"devices: {entry[0]}")))

    def _member(self, name: str, *types: type) -> Any:
        value = self._members.get(name, _MISSING)
        if type(value) not in types:
            raise _damaged(name, value)
        if isinstance(value, str) and "\0" in value:
            raise _damaged(name, value)
        return value

    @staticmethod
    def _options(options: dict[str, Any], where: str) -> dict[str, Any]:
        """Options have scalar values; what each of them may be is up to the board or device."""
        for name, value in options.items():
            if type(value) not in (str, int, bool, float, type(None)):
                raise _damaged(f"{where}: {name}", value)
        return options


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()


def _damaged(name: str, value: object) -> MigrationError:
    return MigrationError(f"machine description is damaged: {name}: {reprlib.repr(value)}")


def _refuse_files(plugins: PluginManager, saved: _Description, drives: Sequence[str]) -> None:
    """Raises MigrationError if building the machine would open files that the description chose."""
    files = [f"drive '{spec}'" for spec in drives]
    files += [f"{what} '{path}'" for what, path in saved.images.items() if path is not None]
    files += _named_by("board", plugins, saved.board, saved.properties)
    for name, options in saved.devices:
        files += _named_by("device", plugins, name, options)
    if files:
        raise MigrationError(
            f"the saved machine uses files of this host: {', '.join(files)}; host_files=True (--host-files)"
            " opens them (trust whoever wrote the file: a guest reads and writes its disks), drives=[...] (--drive) gives others"
        )


def _named_by(kind: str, plugins: PluginManager, name: str, options: Mapping[str, Any]) -> list[str]:
    """Drives and files among the properties of a board or a device."""
    declared = _properties(plugins, kind, name)
    own = {spelling for p in declared if p.kind in ("drive", "file") for spelling in (p.name, p.attribute)}
    return [f"{kind} {name},{key}={value}" for key, value in options.items() if key in own and value is not None]


def _properties(plugins: PluginManager, kind: str, name: str) -> Sequence[Property]:
    record = plugins.get(kind, name)
    found: Sequence[Property] = record.properties if kind == "board" else plugins.resolve(record).properties
    return found

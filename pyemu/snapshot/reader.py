# SPDX-License-Identifier: MIT
"""Walks over a saved machine's file: configuration, RAM, device sections, description."""

from __future__ import annotations

import os
import reprlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import MigrationError
from ..migration import wire
from ..migration.backend import LoadContext, PageSource
from ..migration.capabilities import Backends
from ..migration.channel import PluginSource
from ..migration.channels import FileInput
from ..migration.configuration import Configuration, read_configuration
from ..migration.description import OWN_KEY, find_description
from ..migration.faults import load_fault
from ..migration.framing import StreamReader
from ..migration.ram import RamReader
from ..migration.sections import read_footer, read_header
from .blocks import SnapshotBlock

#: Nesting of structures that a description may have.
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class SavedSection:
    """The state of one device in a file.

    Attributes:
        name: section name.
        instance_id: number among sections of that name.
        version: of its declaration.
        position: of its payload in the file.
        size: of its payload in bytes.
    """

    name: str
    instance_id: int
    version: int
    position: int
    size: int


class Snapshot:
    """A saved machine opened as data; made by :func:`open_snapshot`. Close it, or use ``with``.

    Attributes:
        path: of the file.
        configuration: machine type, capabilities and UUID.
        description: the JSON text at the end of the file, None if there is none.
        layout: name of the backend that laid out the pages.
        blocks: RAM blocks by name.
        sections: device sections in the order of the file.
        size: apparent size of the file.
        allocated: bytes that it takes on the disk.
    """

    def __init__(self, path: str, offset: int, plugins: PluginSource) -> None:
        self.path = path
        self._channel = FileInput(path, offset)
        try:
            status = os.fstat(self._channel.fileno())
            self.size = status.st_size
            self.allocated = status.st_blocks * 512
            self.description = self._find_description(offset)
            self._stream = StreamReader(self._channel)
            self.configuration: Configuration = read_configuration(self._stream)
            self._source = self._page_source(plugins)
            self.sections: list[SavedSection] = []
            self._walk()
            self.blocks: Mapping[str, SnapshotBlock] = {
                index.block.idstr: SnapshotBlock(self._channel.fileno(), index) for index in self._source.index()
            }
        except BaseException:
            self.close()
            raise

    def _find_description(self, offset: int) -> dict[str, Any] | None:
        document = find_description(self._channel)
        self._channel.seek(offset)
        return document

    def _page_source(self, plugins: PluginSource) -> PageSource:
        backends = Backends(plugins)
        served = backends.served()
        for name in self.configuration.capabilities:
            if name not in served:
                raise load_fault(f"the file needs capability {name}: {backends.reason_missing(name)}")
        active = backends.active(frozenset(self.configuration.capabilities))
        self.layout = next(name for name, backend in backends.all.items() if backend is active[0])
        context = LoadContext(self._stream, backends.parameters().as_dict(), into_memory=False)
        source: PageSource | None = None
        for backend in active:
            source = backend.source(context, source)
        assert source is not None
        return source

    def _walk(self) -> None:
        stream = self._stream
        ram = RamReader(
            stream, self._source, None, addresses="x-ignore-shared" in self.configuration.capabilities
        )
        ram_ids: set[int] = set()
        sizes = self._section_sizes()
        while True:
            kind = stream.u8("a section header")
            if kind == wire.END_OF_STREAM:
                break
            if kind in (wire.SECTION_START, wire.SECTION_FULL):
                header = read_header(stream)
                if header.name == wire.RAM_SECTION:
                    ram.check_version(header.version)
                    ram.payload()
                    ram_ids.add(header.section_id)
                elif kind == wire.SECTION_START:
                    raise load_fault(f"section '{header.name}' comes in parts, which cannot be read as data")
                else:
                    size = self._size_of(header.name, header.instance_id, sizes)
                    self.sections.append(
                        SavedSection(header.name, header.instance_id, header.version, stream.position, size)
                    )
                    stream.skip(size, f"section '{header.name}'")
                read_footer(stream, header.name, header.section_id)
            elif kind in (wire.SECTION_PART, wire.SECTION_END):
                section_id = stream.u32("a section header")
                if section_id not in ram_ids:
                    raise load_fault(f"Unknown savevm section {section_id}")
                ram.payload()
                read_footer(stream, wire.RAM_SECTION, section_id)
            elif kind == wire.COMMAND:
                stream.u16("a command")
                stream.skip(stream.u16("a command"), "a command")
            else:
                raise load_fault(f"Unknown savevm section type {kind}")
        self._source.finish()

    def _section_sizes(self) -> list[tuple[str, int, int]]:
        """Name, instance and payload size of each FULL section, from the description."""
        devices = (self.description or {}).get("devices", [])
        if not isinstance(devices, list):
            raise load_fault("description: 'devices' is no list")
        sizes = []
        for device in devices:
            if not isinstance(device, dict) or not _is_name(device.get("name")):
                raise load_fault("description: an entry of 'devices' has no name")
            sizes.append((device["name"], _number(device, "instance_id"), _payload_size(device, 0)))
        return sizes

    def _size_of(self, name: str, instance_id: int, sizes: list[tuple[str, int, int]]) -> int:
        number = len(self.sections)
        if self.description is None:
            raise load_fault(f"section '{name}' has no length, and the file no description that tells it")
        if number >= len(sizes) or sizes[number][:2] != (name, instance_id):
            expected = "nothing" if number >= len(sizes) else f"'{sizes[number][0]}' {sizes[number][1]}"
            raise load_fault(f"section '{name}' {instance_id} is described as {expected}")
        return sizes[number][2]

    @property
    def machine(self) -> dict[str, Any] | None:
        """What pyemu wrote about the machine: board, options, devices, drives; None for other programs' files."""
        own = (self.description or {}).get(OWN_KEY)
        return own if isinstance(own, dict) else None

    def section_data(self, section: SavedSection) -> bytes:
        """The payload of a device section."""
        return os.pread(self._channel.fileno(), section.size, section.position)

    def info(self) -> dict[str, Any]:
        """Everything about the file as plain values."""
        identity = self.configuration.uuid
        return {
            "path": self.path,
            "machine": self.configuration.machine,
            "layout": self.layout,
            "capabilities": list(self.configuration.capabilities),
            "uuid": None if identity is None else str(uuid.UUID(bytes=identity)),
            "page-size": wire.PAGE_SIZE,
            "size": self.size,
            "allocated": self.allocated,
            "blocks": [
                {"name": b.idstr, "size": b.size, "pages": b.pages, "pages-present": b.pages_present}
                for b in self.blocks.values()
            ],
            "sections": [
                {"name": s.name, "instance-id": s.instance_id, "version": s.version, "size": s.size}
                for s in self.sections
            ],
            "pyemu": self.machine,
        }

    def close(self) -> None:
        """Closes the file; arrays stay valid."""
        self._channel.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Snapshot {self.path} of {self.configuration.machine}>"


def _number(entry: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = entry.get(key, default)
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise load_fault(f"description: {key} {reprlib.repr(value)} of {reprlib.repr(entry.get('name', '?'))} is no size")
    return value


def _is_name(value: object) -> bool:
    """A text that a stream can hold and a terminal can show; JSON has others."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) < 256


def _payload_size(entry: Mapping[str, Any], depth: int) -> int:
    """Bytes of an object: its fields, then its subsections with their headers."""
    if depth > _MAX_DEPTH:
        raise load_fault(f"description: nested deeper than {_MAX_DEPTH}")
    fields, parts = entry.get("fields", []), entry.get("subsections", [])
    if not isinstance(fields, list) or not isinstance(parts, list):
        raise load_fault(f"description: fields or subsections of {reprlib.repr(entry.get('name', '?'))} are no list")
    total = 0
    for item in fields:
        if not isinstance(item, dict):
            raise load_fault("description: a field is no object")
        total += _number(item, "size") * _number(item, "array_len", 1)
    for part in parts:
        if not isinstance(part, dict) or not _is_name(part.get("vmsd_name")):
            raise load_fault("description: a subsection has no name")
        total += 1 + 1 + len(part["vmsd_name"].encode()) + 4 + _payload_size(part, depth + 1)
    return total


def open_snapshot(
    path: str | os.PathLike[str], *, offset: int = 0, plugins: PluginSource | None = None
) -> Snapshot:
    """Opens a saved machine as data.

    Args:
        path: the file.
        offset: where in the file the stream begins.
        plugins: where page layouts come from; the installed plugins when None.

    Raises:
        MigrationError: the file cannot be read or is no whole saved machine.
    """
    if plugins is None:
        from ..plugin import PluginManager

        plugins = PluginManager()
    name = os.fspath(path)
    try:
        return Snapshot(name, offset, plugins)
    except MigrationError as error:
        if name in str(error):
            raise
        raise MigrationError(f"{name}: {error}", desc=error.desc) from error

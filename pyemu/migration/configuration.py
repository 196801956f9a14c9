# SPDX-License-Identifier: MIT
"""The stream's head: magic, version, machine type, capabilities, UUID."""

from __future__ import annotations

import errno
import logging
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import wire
from .capabilities import QEMU_CAPABILITIES
from .faults import load_fault
from .framing import StreamReader, StreamWriter, text_of

_log = logging.getLogger("pyemu.migration")

_PREFIX = b"configuration/"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a stream says about itself before its sections.

    Attributes:
        machine: machine type name.
        capabilities: those that the writer had on and that change how the stream reads.
        uuid: 16 raw bytes, if the writer sent its UUID.
        page_bits: log2 of the page size.
    """

    machine: str
    capabilities: tuple[str, ...] = ()
    uuid: bytes | None = None
    page_bits: int = wire.PAGE_BITS

    def write(self, stream: StreamWriter) -> None:
        """Writes magic, version and the configuration section."""
        name = self.machine.encode()
        stream.write(wire.MAGIC)
        stream.u32(wire.VERSION)
        stream.u8(wire.CONFIGURATION)
        stream.u32(len(name))
        stream.write(name)
        if self.capabilities:
            self._subsection(stream, "configuration/capabilities")
            stream.u32(len(self.capabilities))
            for capability in self.capabilities:
                stream.counted(capability)
        if self.uuid is not None:
            self._subsection(stream, "configuration/uuid")
            stream.write(self.uuid)

    @staticmethod
    def _subsection(stream: StreamWriter, name: str) -> None:
        stream.u8(wire.SUBSECTION)
        stream.counted(name)
        stream.u32(1)

    def describe(self) -> dict[str, Any]:
        """The entry ``configuration`` of the JSON description."""
        entry: dict[str, Any] = {
            "vmsd_name": "configuration",
            "version": 1,
            "fields": [
                {"name": "len", "type": "uint32", "size": 4},
                {"name": "name", "type": "buffer", "size": len(self.machine.encode())},
            ],
        }
        parts: list[dict[str, Any]] = []
        if self.capabilities:
            fields: list[dict[str, Any]] = [{"name": "caps_count", "type": "uint32", "size": 4}]
            single = len(self.capabilities) == 1
            for i, name in enumerate(self.capabilities):
                field = {"name": "capabilities", "type": "capability", "size": 1 + len(name)}
                fields.append(field if single else {**field, "index": i})
            parts.append({"vmsd_name": "configuration/capabilities", "version": 1, "fields": fields})
        if self.uuid is not None:
            fields = [{"name": "uuid", "type": "uint8", "array_len": 16, "size": 1}]
            parts.append({"vmsd_name": "configuration/uuid", "version": 1, "fields": fields})
        return {**entry, "subsections": parts} if parts else entry


def read_configuration(stream: StreamReader) -> Configuration:
    """Reads a stream's head up to its first section.

    Raises:
        MigrationError: this is no stream, or one that cannot be read.
    """
    if stream.peek(4) != wire.MAGIC:
        raise load_fault("Not a migration stream")
    stream.read(4)
    version = stream.u32("the stream version")
    if version == 2:
        raise load_fault("SaveVM v2 format is obsolete and don't work anymore", errno.EOPNOTSUPP)
    if version != wire.VERSION:
        raise load_fault(f"Unsupported migration stream version {version}", errno.EOPNOTSUPP)
    if stream.u8("the configuration section") != wire.CONFIGURATION:
        raise load_fault("Configuration section missing")
    length = stream.u32("the configuration section")
    if length > wire.MAX_MACHINE_NAME:
        raise load_fault(f"machine type name of {length} bytes is over the limit of {wire.MAX_MACHINE_NAME}")
    machine = text_of(stream.read(length, "the machine type name"), "machine type name")
    capabilities: tuple[str, ...] = ()
    identity: bytes | None = None
    page_bits = wire.PAGE_BITS
    while True:
        name = _next_subsection(stream)
        if name is None:
            return Configuration(machine, capabilities, identity, page_bits)
        if name == "configuration/capabilities":
            count = stream.u32(name)
            if count > wire.MAX_CAPABILITIES:
                raise load_fault(f"{name}: {count} names are over the limit of {wire.MAX_CAPABILITIES}")
            capabilities = tuple(stream.counted("capability name") for _ in range(count))
        elif name == "configuration/uuid":
            identity = stream.read(16, name)
        elif name == "configuration/target-page-bits":
            page_bits = stream.u32(name)
        else:
            raise load_fault(f"unknown subsection {name!r} of the configuration", errno.ENOENT)


def _next_subsection(stream: StreamReader) -> str | None:
    head = stream.peek(2)
    if len(head) < 2 or head[0] != wire.SUBSECTION:
        return None
    full = stream.peek(2 + head[1])
    if not full[2:].startswith(_PREFIX):
        return None
    stream.read(2)
    name = text_of(stream.read(head[1], "a subsection name"), "subsection name")
    (version,) = struct.unpack(">I", stream.read(4, name))
    if version != 1:
        raise load_fault(f"{name}: unsupported version {version}, ours is 1")
    return name


def check_configuration(
    found: Configuration, machine: str, identity: bytes | None, enabled: frozenset[str], named: Sequence[str]
) -> None:
    """Compares a stream's head with the machine that loads it.

    Args:
        found: what the stream says.
        machine: local machine type.
        identity: local UUID, None when unset.
        enabled: capabilities that are on here.
        named: capabilities that a stream names when they are on.

    Raises:
        MigrationError: they differ.
    """
    if found.machine != machine:
        raise load_fault(f"Machine type received is '{found.machine}' and local is '{machine}'")
    if found.page_bits != wire.PAGE_BITS:
        raise load_fault(f"Received TARGET_PAGE_BITS is {found.page_bits} but local is {wire.PAGE_BITS}")
    for name in found.capabilities:
        if name not in QEMU_CAPABILITIES and name not in named:
            raise load_fault(f"Received unknown capability {name}")
        if name in named and name not in enabled:
            raise load_fault(f"Capability {name} is off, but received capability is on")
    for name in named:
        if name in enabled and name not in found.capabilities:
            raise load_fault(f"Capability {name} is on, but received capability is off")
    if found.uuid is not None and identity is None:
        _log.warning("the stream is of machine %s, and this one has no UUID to compare", uuid.UUID(bytes=found.uuid))
    if found.uuid is not None and identity is not None and found.uuid != identity:
        raise load_fault(f"UUID received is {uuid.UUID(bytes=found.uuid)} and local is {uuid.UUID(bytes=identity)}")

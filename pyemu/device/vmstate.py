# SPDX-License-Identifier: MIT
"""Declared device state.

A device lists its fields once, as a :class:`VMState`. Encoding, decoding, the JSON description in
the stream, comparison and the round-trip tests all follow from that list. The bytes are those of
QEMU's migration stream (format sections 6.1 to 6.4): big-endian, back to back, no tags.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import MigrationError

Reader = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class FieldType:
    """How one kind of field looks on the wire.

    Attributes:
        name: the type name of the JSON description, e.g. ``uint8``.
        code: ``struct`` code for a number, or ``""`` for raw bytes.
        size: bytes of one element.
    """

    name: str
    code: str
    size: int


_NUMBERS = {
    "bool": FieldType("bool", "?", 1),
    "uint8": FieldType("uint8", "B", 1),
    "uint16": FieldType("uint16", "H", 2),
    "uint32": FieldType("uint32", "I", 4),
    "uint64": FieldType("uint64", "Q", 8),
    "int8": FieldType("int8", "b", 1),
    "int16": FieldType("int16", "h", 2),
    "int32": FieldType("int32", "i", 4),
    "int64": FieldType("int64", "q", 8),
    "timer": FieldType("timer", "q", 8),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field.

    Args:
        name: attribute of the device (dots reach into parts: ``"fifo.count"``).
        type: a wire type.
        count: elements; None for a single one. Arrays are any mutable sequence or ``bytearray``.
        since: section version that introduced the field; older sections leave it alone.
        when: ``when(obj) -> bool``; the field is present only if it answers true. It may look at
            fields declared before it.
        struct: nested declaration, for type ``struct``.
        limit: largest acceptable value; loading a larger one is an error.
    """

    name: str
    type: FieldType
    count: int | None = None
    since: int = 0
    when: Callable[[Any], bool] | None = None
    struct: VMState | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.name or (self.count is not None and self.count < 1):
            raise ValueError(f"field {self.name!r} of {self.count} elements cannot be declared")

    @property
    def size(self) -> int:
        return self.type.size * (self.count or 1)


def _number(kind: str) -> Callable[..., Field]:
    def declare(
        name: str,
        count: int | None = None,
        *,
        since: int = 0,
        when: Callable[[Any], bool] | None = None,
        limit: int | None = None,
    ) -> Field:
        return Field(name, _NUMBERS[kind], count, since, when, None, limit)

    declare.__name__ = kind
    declare.__doc__ = f"A {kind} field, or an array of *count* of them."
    return declare


boolean = _number("bool")
uint8 = _number("uint8")
uint16 = _number("uint16")
uint32 = _number("uint32")
uint64 = _number("uint64")
int8 = _number("int8")
int16 = _number("int16")
int32 = _number("int32")
int64 = _number("int64")


def timer(name: str, *, since: int = 0, when: Callable[[Any], bool] | None = None) -> Field:
    """A :class:`~pyemu.device.Timer` attribute: its deadline in ns, -1 when it is not armed."""
    return Field(name, _NUMBERS["timer"], None, since, when)


def buffer(name: str, size: int, *, since: int = 0, when: Callable[[Any], bool] | None = None) -> Field:
    """*size* raw bytes in a ``bytearray`` (or ``bytes``) attribute."""
    return Field(name, FieldType("buffer", "", size), None, since, when)


def nested(name: str, state: VMState, *, count: int | None = None, since: int = 0) -> Field:
    """A part with a declaration of its own, or a list of *count* of them, written inline."""
    return Field(name, FieldType("struct", "", 0), count, since, None, state)


@dataclass(frozen=True, slots=True)
class VMState:
    """The declared state of one object.

    Args:
        name: section or structure name.
        version: written with the section; a stream with a higher one is refused.
        minimum_version: oldest version that can still be loaded.
        fields: in wire order.
        subsections: optional parts; each is written only when its ``needed`` answers true.
        needed: for a subsection: ``needed(obj) -> bool``.
    """

    name: str
    version: int = 1
    minimum_version: int = 1
    fields: tuple[Field, ...] = ()
    subsections: tuple[VMState, ...] = ()
    needed: Callable[[Any], bool] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) < 256 or not 0 <= self.minimum_version <= self.version:
            raise ValueError(f"state {self.name!r}: name or versions cannot be put into a stream")
        names = [f.name for f in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"state {self.name}: a field is declared twice: {', '.join(names)}")
        for sub in self.subsections:
            # A reader tells its subsections from other data by this prefix.
            if not sub.name.startswith(self.name + "/"):
                raise ValueError(f"state {self.name}: subsection {sub.name} must be called {self.name}/...")

    def attributes(self) -> set[str]:
        """Names of the top-level attributes that the declaration covers."""
        names = {f.name.split(".")[0] for f in self.fields}
        for sub in self.subsections:
            names |= sub.attributes()
        return names

    def present(self, obj: Any, version: int) -> Iterator[Field]:
        for f in self.fields:
            if f.since <= version and (f.when is None or f.when(obj)):
                yield f

    def encode(self, obj: Any) -> bytes:
        """The payload of a section: fields, then subsections."""
        return encode(self, obj)

    def decode(self, obj: Any, read: Reader, version: int, peek: Reader | None = None) -> None:
        """Loads *obj* from ``read(n) -> bytes``; ``peek(n)`` looks ahead for subsections.

        Raises:
            MigrationError: the version is out of range, a value is over its limit, the data ends.
        """
        decode(self, obj, read, version, peek)

    def describe(self, obj: Any) -> dict[str, Any]:
        """The object's entry in the stream's JSON description (format section 1.6)."""
        return describe(self, obj)


def _get(obj: Any, path: str) -> Any:
    for part in path.split("."):
        obj = getattr(obj, part)
    return obj


def _set(obj: Any, path: str, value: Any) -> None:
    head, _, last = path.rpartition(".")
    setattr(_get(obj, head) if head else obj, last, value)


def _timer_value(obj: Any, f: Field) -> int:
    return int(_get(obj, f.name).deadline_ns)


def encode(state: VMState, obj: Any) -> bytes:
    out = bytearray()
    for f in state.present(obj, state.version):
        value = _get(obj, f.name)
        try:
            if f.struct is not None:
                for item in value if f.count is not None else (value,):
                    out += encode(f.struct, item)
            elif f.type.name == "timer":
                out += struct.pack(">q", value.deadline_ns)
            elif f.type.name == "buffer":
                data = bytes(value)
                if len(data) != f.type.size:
                    raise ValueError(f"{len(data)} bytes, declared {f.type.size}")
                out += data
            elif f.count is not None:
                if len(value) != f.count:
                    raise ValueError(f"{len(value)} elements, declared {f.count}")
                out += struct.pack(f">{f.count}{f.type.code}", *value)
            else:
                out += struct.pack(f">{f.type.code}", value)
        except (struct.error, ValueError, TypeError) as error:
            raise MigrationError(f"{state.name}: field {f.name}={value!r} does not fit {f.type.name}: {error}") from error
    for sub in state.subsections:
        if sub.needed is None or sub.needed(obj):
            name = sub.name.encode()
            out += b"\x05" + bytes([len(name)]) + name + struct.pack(">I", sub.version) + encode(sub, obj)
    return bytes(out)


def decode(state: VMState, obj: Any, read: Reader, version: int, peek: Reader | None = None) -> None:
    if version > state.version:
        raise MigrationError(f"{state.name}: version {version} of the stream is newer than ours, {state.version}")
    if version < state.minimum_version:
        raise MigrationError(f"{state.name}: version {version} of the stream is older than {state.minimum_version}")
    for f in state.present(obj, version):
        try:
            _decode_field(state, f, obj, read, peek)
        except (ValueError, TypeError, OverflowError) as error:
            raise MigrationError(f"{state.name}: field {f.name}: {error}") from error
    if peek is not None:
        _decode_subsections(state, obj, read, peek)


def _take(state: VMState, f: Field, read: Reader, size: int) -> bytes:
    data = read(size)
    if len(data) != size:
        raise MigrationError(f"{state.name}: the data ends in field {f.name}: {len(data)} of {size} bytes")
    return data


def _decode_field(state: VMState, f: Field, obj: Any, read: Reader, peek: Reader | None) -> None:
    if f.struct is not None:
        value = _get(obj, f.name)
        for item in value if f.count is not None else (value,):
            decode(f.struct, item, read, f.struct.version, peek)
        return
    data = _take(state, f, read, f.size)
    if f.type.name == "buffer":
        _fill(obj, f.name, data)
        return
    values = struct.unpack(f">{f.count or 1}{f.type.code}", data)
    if f.type.name == "timer":
        deadline = values[0]
        if deadline < -1:
            raise MigrationError(f"{state.name}: timer {f.name} has deadline {deadline}")
        clock_timer = _get(obj, f.name)
        clock_timer.cancel() if deadline < 0 else clock_timer.arm(deadline)
        return
    if f.limit is not None and max(values) > f.limit:
        raise MigrationError(f"{state.name}: field {f.name}={max(values)} is over its limit {f.limit}")
    if f.count is None:
        _set(obj, f.name, values[0])
    else:
        _fill(obj, f.name, values)


def _fill(obj: Any, path: str, values: Sequence[int]) -> None:
    """Stores an array: in place where that is possible, since others may hold on to it."""
    current = _get(obj, path)
    if isinstance(current, (bytes, tuple)):
        _set(obj, path, type(current)(values))
        return
    if len(current) != len(values):
        raise ValueError(f"has {len(current)} elements here, {len(values)} in the stream")
    if isinstance(current, (bytearray, memoryview)):
        current[:] = bytes(values)
    else:
        for i, value in enumerate(values):
            current[i] = value
    if _get(obj, path) is not current:
        # A property made a copy for us: give it back.
        _set(obj, path, current)


def _decode_subsections(state: VMState, obj: Any, read: Reader, peek: Reader) -> None:
    prefix = state.name.encode() + b"/"
    seen: set[str] = set()
    while True:
        head = peek(2)
        if len(head) < 2 or head[0] != 0x05:
            return
        length = head[1]
        ahead = peek(2 + length)
        if len(ahead) < 2 + length or not ahead[2:].startswith(prefix):
            return
        name = ahead[2:].decode("utf-8", "replace")
        if name in seen:
            raise MigrationError(f"{state.name}: subsection {name!r} comes twice")
        seen.add(name)
        read(2 + length)
        version = read(4)
        if len(version) != 4:
            raise MigrationError(f"{state.name}: the data ends in subsection {name!r}")
        for sub in state.subsections:
            if sub.name == name:
                decode(sub, obj, read, int.from_bytes(version, "big"), peek)
                break
        else:
            known = ", ".join(s.name for s in state.subsections) or "none"
            raise MigrationError(f"{state.name}: unknown subsection {name!r}; known: {known}")


def describe(state: VMState, obj: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"vmsd_name": state.name, "version": state.version}
    fields: list[dict[str, Any]] = []
    for f in state.present(obj, state.version):
        item: dict[str, Any] = {"name": f.name, "type": f.type.name, "size": f.type.size}
        if f.struct is not None:
            part = _get(obj, f.name)
            first = part[0] if f.count is not None else part
            item["struct"] = describe(f.struct, first)
            item["size"] = len(encode(f.struct, first))
        if f.count is not None:
            item["array_len"] = f.count
        fields.append(item)
    entry["fields"] = fields
    subs = [describe(sub, obj) for sub in state.subsections if sub.needed is None or sub.needed(obj)]
    if subs:
        entry["subsections"] = subs
    return entry


def snapshot(state: VMState, obj: Any) -> dict[str, Any]:
    """The declared fields as plain values: for ``repr``, ``info`` output and comparison."""
    values: dict[str, Any] = {}
    for f in state.present(obj, state.version):
        value = _get(obj, f.name)
        if f.struct is not None:
            part: Sequence[Any] = value if f.count is not None else (value,)
            values[f.name] = [snapshot(f.struct, item) for item in part]
        elif f.type.name == "timer":
            values[f.name] = _timer_value(obj, f)
        elif f.count is not None or f.type.name == "buffer":
            values[f.name] = bytes(value) if f.type.size == 1 or f.type.name == "buffer" else list(value)
        else:
            values[f.name] = value
    return values

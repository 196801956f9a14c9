# SPDX-License-Identifier: MIT
"""Every place in the source that refuses a stream is reached by some input, found by the line that raised."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import pathlib
import traceback

import pytest
from migration import streams
from migration.attacks import STREAMS
from migration.fakehost import FakeHost
from migration.streams import DESCRIPTION, PAGE, RAM, u32, u64
from migration.test_hostile import CASES

import pyemu
from pyemu.errors import MigrationError
from pyemu.migration import MigrationController, find_compression, read_description
from pyemu.snapshot import open_snapshot

CORE = pathlib.Path(pyemu.__file__).parent
MAKERS = {"load_fault", "truncated"}
#: Refusals that no bytes of a file can cause, and who tests them.
ELSEWHERE = {
    "the file, which has shrunk": "a file that is cut while it is read",
    "this channel has no end": "a channel that cannot tell its size, of which none reads descriptions",
    "load_fault(how, 5)": "test_channels_exec: a command that failed",
    "Error reading dirty bitmap of block {block.idstr}": "a file that is cut after its header was read",
    "cannot map": "a file system without mmap",
    "the file ends at": "a file that is cut after it was opened",
    "block {block.idstr}: {error}": "a file that is cut after its headers were read",
}


def modules():
    """The sources that read streams: those of the core and of the plugins with a layout or a carrier."""
    import pyemu_mapped_ram.backend
    import pyemu_multifd.packets
    import pyemu_streaming.backend

    plugins = [pathlib.Path(m.__file__).parent for m in (pyemu_mapped_ram.backend, pyemu_streaming.backend)]
    folders = [CORE / "migration", CORE / "snapshot", *plugins]
    return sorted([*(path for folder in folders for path in folder.glob("*.py")), pathlib.Path(pyemu_multifd.packets.__file__)])


def sites():
    """Statements that raise a refusal: (file, first line, last line) -> its text."""
    found = {}
    for path in modules():
        source = path.read_text(encoding="utf-8")
        if not any(f"raise {maker}(" in source for maker in MAKERS):
            continue
        for node in ast.walk(ast.parse(source)):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in MAKERS:
                lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
                found[str(path), node.lineno, node.end_lineno] = " ".join("".join(lines).split())
    return found


class Reached:
    def __init__(self, path, plugins):
        self.path, self.plugins = path, plugins
        self.lines = set()

    def try_(self, function):
        try:
            function()
        except MigrationError as error:
            link = error
            while link is not None:
                self.lines.update((f.filename, f.lineno) for f in traceback.extract_tb(link.__traceback__))
                link = link.__cause__ or link.__context__

    def load(self, data, kind="stream", host=None, **options):
        self.path.write_bytes(data)
        host = host or FakeHost(RAM, run_state="inmigrate", **options)
        made = MigrationController(host, self.plugins)
        made.set_capabilities({"mapped-ram": kind == "mapped"})
        self.try_(lambda: made.incoming(f"file:{self.path}", blocking=True))

    def open(self, data=None):
        if data is not None:
            self.path.write_bytes(data)
        self.try_(lambda: read_description(self.path))
        self.try_(lambda: open_snapshot(self.path, plugins=self.plugins).close())

    def described(self, **changes):
        """A stream whose description differs in some keys of its first device."""
        devices = [{**DESCRIPTION["devices"][0], **changes}, *DESCRIPTION["devices"][1:]]
        self.tail(json.dumps({**DESCRIPTION, "devices": devices}).encode())

    def tail(self, text):
        self.open(STREAMS["stream"].build(description_length=u32(len(text)), description_text=text))


@pytest.fixture
def path():
    fd = os.memfd_create("stream")
    yield pathlib.Path(f"/proc/self/fd/{fd}")
    os.close(fd)


def packets(reached):
    """Each field of a packet's head, wrong."""
    from pyemu_multifd import packets

    blocks = {block.idstr: block for block in FakeHost(RAM).blocks}
    form, good = packets.HEADER, [packets.MAGIC, 1, 0, 128, 2, 2 * PAGE, 7, 1, b"ram"]
    offsets = [0, PAGE, 2 * PAGE]
    wrong = [
        (0, 5), (1, 2), (2, 0x40), (2, 0x80), (2, 2), (2, 1), (3, 129), (4, 129), (7, 127), (8, b"ran"), (8, b"r" * 256), (5, 1),
    ]  # fmt: skip
    for at, value in wrong:
        head = form.pack(*good[:at], value, *good[at + 1 :])
        reached.try_(lambda head=head: packets.decode(head + bytes(1024), 0, 1, blocks, PAGE))
    for offset in (16 * PAGE, 5):
        data = form.pack(*good) + b"".join(map(u64, [offset, *offsets[1:]])) + bytes(1000)
        reached.try_(lambda data=data: packets.decode(data, 0, 1, blocks, PAGE))
    for initial in (packets.encode_initial(b"u" * 16, 1), packets.encode_initial(bytes(16), 255)):
        reached.try_(lambda initial=initial: packets.decode_initial(initial, bytes(16)))


def test_every_refusal_is_reached(plugins, path):
    reached = Reached(path, plugins)
    for kind, changes, _ in CASES:
        reached.load(STREAMS[kind].build(**changes), kind, uuid=b"b" * 16)
        reached.open()
    for kind, parts in STREAMS.items():
        data, position = parts.build(), 0
        for label, part in parts.items:
            reached.load(data[: position + len(part) // 2], kind)
            if label.endswith(".data"):
                reached.open()
            position += len(part)
    stream = STREAMS["stream"]
    reached.load(stream.build(description_text=b"", description_length=b""))
    reached.open(stream.build(description=b"", description_text=b"", description_length=b""))
    reached.open(stream.build(start_kind=b"\x09"))
    reached.open(stream.build(part_id=u32(7)))
    reached.open(stream.build(timer_kind=b"\x01"))
    reached.open(stream.build(machine=b"none\x05\x1aconfiguration/capabilities" + u32(1) + u32(1) + b"\x05xyzzy"))
    reached.open(stream.build(ram_length=u64(15 * PAGE + 1), total=u64(18 * PAGE | 4)))
    for text in (b'{"pyemu": 3}', b'{"devices": 3}', b'{"devices": [3]}', b"{}"):
        reached.tail(text)
    deep = {}
    for _ in range(100):
        deep = {"fields": [], "subsections": [{"vmsd_name": "x", **deep}]}
    reached.described(**deep)
    for fields in (3, [3], [{"size": -1}]):
        reached.described(fields=fields)
    reached.described(subsections=[{}])
    broken = FakeHost(RAM, run_state="inmigrate")
    (chip,) = broken.sections()
    broken.sections = lambda: [dataclasses.replace(chip, post_load=lambda version: [][version])]
    reached.load(stream.build(), host=broken)
    method = find_compression("zlib", plugins)
    reached.try_(lambda: method.decompressor().decompress(b"nothing", 4))
    # A block of more than a TiB, whose bitmap nobody reads.
    huge = streams.mapped(PAGE).build(total=u64(1 << 50 | 4), ram_length=u64((1 << 50) - 2 * PAGE))
    reached.open(huge)
    many = b"".join(bytes([5]) + f"{n:05}".encode() + u64(PAGE) for n in range(5000))
    reached.open(stream.build(total=u64(5000 * PAGE | 4), ram_name=many))

    def was_reached(site):
        file, first, last = site
        return any((file, line) in reached.lines for line in range(first, last + 1))

    packets(reached)

    places = sites()
    excused = {key: [site for site, text in places.items() if key in text] for key in ELSEWHERE}
    missing = {site: text for site, text in places.items() if not was_reached(site)}
    for key, found in excused.items():
        # What is excused is there, and is not reached after all.
        assert found and not any(map(was_reached, found)), key
        for site in found:
            missing.pop(site)
    assert not missing, "\n".join(f"{os.path.relpath(site[0], CORE)}:{site[1]}: {text}" for site, text in missing.items())

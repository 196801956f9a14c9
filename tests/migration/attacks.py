# SPDX-License-Identifier: MIT
"""Spoilt input of each kind, made field by field, and what must hold for every one of it.

Run as a program it has limits on memory and processor time: ``attacks KIND SEED COUNT``.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import random
import re
import resource
import struct
import sys

import numpy as np
from migration import streams
from migration.fakehost import FakeHost
from migration.streams import DESCRIPTION, PAGE, RAM, u32

from pyemu.errors import MigrationError, PyemuError
from pyemu.machine.restoration import from_description
from pyemu.migration import MigrationController, find_compression, read_description
from pyemu.plugin import PluginManager
from pyemu.snapshot import open_snapshot

STREAMS = {"stream": streams.stream(), "mapped": streams.mapped(PAGE)}
#: Address space beyond what the program has when it begins, and processor time for one input.
MEMORY = 512 << 20
SECONDS_EACH = 0.2

INTERESTING = [0, 1, 2, 4, 5, 7, 8, 0x10, 0x7E, 0x7F, 0x80, 0xFF, 0xFFF, 0x1000, 0x1001, 0x7FFFFFFF, 0x80000000]


def spoilt_fields(items, rng, count):
    """Inputs in which one or two of the fields *items* were changed, repeated, left out, swapped or cut."""
    for _ in range(count):
        changed = list(items)
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(changed))
            way = rng.randrange(6)
            if way == 5:
                other = rng.randrange(len(changed))
                changed[at], changed[other] = changed[other], changed[at]
            else:
                changed[at] = spoilt_field(changed[at], way, rng)
        result = b"".join(changed)
        yield result[: rng.randrange(len(result))] if rng.random() < 0.05 else result


def spoilt_one(items, rng):
    """*items* with one field spoilt; its length stays mostly, for these have fixed places."""
    at = rng.randrange(min(len(items), 14))
    items[at] = spoilt_field(items[at], rng.choice((0, 0, 0, 4, 4, 1)), rng)
    return items


def fields(form, data):
    """*data* cut where ``struct`` has its fields."""
    at = 0
    for count, kind in re.findall(r"(\d*)([IQBsx])", form):
        size = int(count) if kind in "sx" else struct.calcsize(">" + kind)
        yield data[at : at + size]
        at += size


def spoilt_field(data, way, rng):
    if way == 0 and len(data) <= 8:
        value = rng.choice(INTERESTING) if rng.random() < 0.7 else rng.getrandbits(8 * max(len(data), 1))
        if rng.random() < 0.2:
            value = (1 << 8 * len(data)) - 1 - value
        return (value & ((1 << 8 * len(data)) - 1)).to_bytes(len(data), "big")
    if way == 1:
        return data[: rng.randrange(len(data) + 1)]
    if way == 2:
        return data + rng.randbytes(rng.randrange(1, 9))
    if way == 3:
        return data + data
    spoilt = bytearray(data)
    if spoilt:
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


VALUES = [
    None, True, False, 0, 1, -1, 255, 1 << 31, 1 << 63, 1 << 200, -(1 << 64), 0.5, 1e308, float("nan"), float("inf"),
    "", "x", "none", "\0", "\ud800", "..", "a" * 1000, [], [[]], [None], {}, {"name": "x"}, [{"name": {}}], [["dice", {}]],
]  # fmt: skip


def spoilt_document(document, rng):
    """A copy of a JSON document in which one or two values were replaced, left out, repeated or wrapped."""
    result = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(containers(result))
        parent = rng.choice(places)
        if not parent:
            continue
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        way = rng.randrange(5)
        if way == 0:
            del parent[key]
        elif way == 1 and isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[key]) for _ in range(rng.choice((1, 3))))
        elif way == 2:
            for _ in range(rng.choice((1, 40, 400))):
                parent[key] = {"fields": [parent[key]], "subsections": [parent[key]]} if rng.random() < 0.01 else [parent[key]]
        else:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
    return result


def containers(node):
    if isinstance(node, dict | list):
        yield node
        for child in node.values() if isinstance(node, dict) else node:
            yield from containers(child)


def spoilt_tails(rng, count):
    """Good streams whose description is a spoilt one, or is framed in a way that is not right."""
    parts = STREAMS["stream"]
    for _ in range(count):
        text = json.dumps(spoilt_document(DESCRIPTION, rng)).encode()
        if rng.random() < 0.2:
            text = spoilt_field(text, rng.choice((1, 2, 3, 4)), rng)
        length, mark = len(text), b"\x06"
        way = rng.randrange(12)
        if way == 0:
            length = rng.choice([*INTERESTING, len(text) - 1, len(text) + 1])
        elif way == 1:
            mark = bytes([rng.choice((0, 5, 6, 7, 0x7E))])
        elif way == 2:
            # One that looks whole inside of one that is.
            text += b"\0\x06" + u32(2) + b"{}"
            length = rng.choice((len(text), 2, len(text) - 8))
        yield parts.build(description=mark, description_length=u32(length), description_text=text)


class Attack:
    """Loads, opens and describes inputs; counts what was refused and what was accepted."""

    def __init__(self, path, plugins=None):
        self.path = pathlib.Path(path)
        self.plugins = plugins or PluginManager()
        self.accepted = self.refused = 0

    def _try(self, function, fault=MigrationError):
        try:
            function()
        except fault as error:
            self.refused += 1
            text = str(error)
            assert text and "\n" not in text and len(text) < 2000, text[:2000]
        else:
            self.accepted += 1

    def load(self, data, capabilities=()):
        self.path.write_bytes(data)
        host = FakeHost(RAM, run_state="inmigrate")
        made = MigrationController(host, self.plugins)
        made.set_capabilities(dict.fromkeys(capabilities, True))

        def load():
            try:
                made.incoming(f"file:{self.path}", blocking=True)
            except MigrationError as error:
                assert error.desc.startswith("load of migration failed: "), error.desc
                assert not any(block.array.any() for block in host.blocks), "RAM is zero after a load that failed"
                raise

        self._try(load)

    def lazy(self, rng, count):
        """Files that RAM is mapped over: the same are refused, and RAM is the same, as when they are read."""
        for data in spoilt_fields([data for _, data in STREAMS["mapped"].items], rng, count):
            self.path.write_bytes(data)
            outcomes = [self._loaded(way) for way in (False, True)]
            assert outcomes[0] == outcomes[1]
            if outcomes[0] is None:
                self.refused += 1
            else:
                self.accepted += 1

    def _loaded(self, lazy):
        host = FakeHost(RAM, run_state="inmigrate")
        made = MigrationController(host, self.plugins)
        made.set_capabilities({"mapped-ram": True})
        made.set_parameters({"lazy-restore": lazy})
        try:
            made.incoming(f"file:{self.path}", blocking=True)
            return [block.array.tobytes() for block in host.blocks]
        except MigrationError:
            return None
        finally:
            made.close()

    def open(self):
        def look():
            with open_snapshot(self.path, plugins=self.plugins) as snapshot:
                for block in snapshot.blocks.values():
                    block.read(0, min(block.size, 1 << 20))
                json.dumps(snapshot.info())

        self._try(lambda: read_description(self.path))
        self._try(look)

    def streams(self, kind, rng, count):
        for data in spoilt_fields([data for _, data in STREAMS[kind].items], rng, count):
            self.load(data, ["mapped-ram"] if kind == "mapped" else [])
            self.open()

    def tails(self, rng, count):
        for data in spoilt_tails(rng, count):
            self.load(data)
            self.open()

    def machines(self, rng, count):
        """What ``restore`` builds a machine from."""
        for _ in range(count):
            document = spoilt_document(MACHINE, rng)
            self._try(lambda document=document: from_description(document, plugins=self.plugins).close(), PyemuError)

    def packets(self, rng, count):
        """Heads of multifd packets, and the initial packets of channels."""
        from pyemu_multifd import packets

        blocks = {block.idstr: block for block in FakeHost(RAM).blocks}
        numbers = np.arange(12), np.arange(12, 16)
        good = [
            packets.encode_initial(bytes(16), 3),
            packets.encode_pages(7, 0, blocks["ram"], *numbers, 12 * PAGE),
            packets.encode_pages(8, 2, blocks["rom"], np.arange(2), np.arange(0), 900),
            packets.encode_sync(9, PAGE),
        ]
        for _ in range(count):
            which = rng.randrange(4)
            form = ">II16sB39x" if which == 0 else f">IIIIIIQI4s24s256s{'Q' * 128}"
            data = b"".join(spoilt_one(list(fields(form, good[which])), rng))[: len(good[which])].ljust(len(good[which]), b"\0")
            if which == 0:
                self._try(lambda data=data: packets.decode_initial(data, bytes(16)))
            else:
                self._try(lambda data=data, which=which: self._decode(packets, data, 2 * (which == 2), blocks))

    @staticmethod
    def _decode(packets, data, flags, blocks):
        found = packets.decode(data, flags, 1, blocks, PAGE)
        if not found.sync:
            # What comes out can be used without looking: pages of the block, and no more than fit a packet.
            both = [*found.data, *found.zero]
            assert len(both) <= 128 and all(0 <= n < found.block.used_length // PAGE for n in both)
            assert found.size <= 2 * len(found.data) * PAGE

    def compressed(self, name, rng, count):
        """One channel's packets: a good beginning, then spoilt ones."""
        method = find_compression(name, self.plugins)
        pages = (b"abcd" * 1024 + rng.randbytes(PAGE)) * 3
        compressor = method.compressor(1)
        good = [bytes(compressor.compress(pages)) for _ in range(3)]
        for _ in range(count):
            decompressor, packets = method.decompressor(), list(good)
            at = rng.randrange(len(packets))
            packets[at] = spoilt_field(packets[at], rng.choice((1, 2, 3, 4)), rng)
            for packet in packets:
                size = len(pages) if rng.random() < 0.95 else rng.choice((0, PAGE, 1 << 19))
                self._try(lambda packet=packet, size=size, d=decompressor: self._inflate(d, packet, size))

    @staticmethod
    def _inflate(decompressor, data, size):
        assert len(decompressor.decompress(data, size)) == size


MACHINE = {
    "format": 1,
    "board": "none",
    "properties": {},
    "memory": 1 << 20,
    "cpu": "none",
    "devices": [],
    "drives": [],
    "kernel": None,
    "append": "",
    "initrd": None,
    "bios": None,
    "uuid": None,
}


def attack(kind, path, seed, count, plugins=None):
    """Makes *count* inputs of one kind; returns how many attempts were refused and accepted."""
    rng = random.Random(f"{kind} {seed}")
    made = Attack(path, plugins)
    if kind in STREAMS:
        made.streams(kind, rng, count)
    elif kind in ("zlib", "zstd"):
        made.compressed(kind, rng, count)
    else:
        {"lazy": made.lazy, "tail": made.tails, "machine": made.machines, "packets": made.packets}[kind](rng, count)
    return made.refused, made.accepted


KINDS = (*STREAMS, "lazy", "tail", "machine", "packets", "zlib", "zstd")


def main():
    kind, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    plugins = PluginManager()
    path = f"/proc/self/fd/{os.memfd_create('input')}"
    attack(kind, path, "a first one, so that everything is imported", 20, plugins)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    seconds = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime + 10 + count * SECONDS_EACH)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    print(*attack(kind, path, seed, count, plugins))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Streams put together field by field, so that tests can spoil one field and leave the others."""

from __future__ import annotations

import json
import struct

PAGE = 4096
RAM = (("ram", 16 * PAGE), ("rom", 2 * PAGE))
MIB = 1 << 20


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def u64(value):
    return struct.pack(">Q", value)


def counted(text):
    return bytes([len(text)]) + text.encode()


class Parts:
    """A stream as (label, bytes) pairs; labels are unique."""

    def __init__(self):
        self.items = []

    def add(self, label, data):
        assert label not in dict(self.items)
        self.items.append((label, data))

    def build(self, **replaced):
        labels = {label.replace("-", "_").replace(".", "_"): label for label, _ in self.items}
        changed = {labels[name]: value for name, value in replaced.items()}
        return b"".join(changed.get(label, data) for label, data in self.items)

    def head(self, capabilities):
        self.add("magic", b"QEVM")
        self.add("version", u32(3))
        self.add("config", b"\x07")
        self.add("machine-length", u32(4))
        self.add("machine", b"none")
        if capabilities:
            self.add("caps-marker", b"\x05")
            self.add("caps-name", counted("configuration/capabilities"))
            self.add("caps-version", u32(1))
            self.add("caps-count", u32(len(capabilities)))
            for name in capabilities:
                self.add(f"cap-{name}", counted(name))

    def section(self, label, kind, number, name=None, version=0, instance=0):
        self.add(f"{label}.kind", bytes([kind]))
        self.add(f"{label}.id", u32(number))
        if name is not None:
            self.add(f"{label}.name", counted(name))
            self.add(f"{label}.instance", u32(instance))
            self.add(f"{label}.version", u32(version))

    def footer(self, label, number):
        self.add(f"{label}.footer", b"\x7e")
        self.add(f"{label}.footer-id", u32(number))

    def tail(self):
        self.section("timer", 4, 0, "timer", 2)
        self.add("timer.ticks", u64(5))
        self.add("timer.unused", u64(0))
        self.add("timer.clock", u64(5))
        self.footer("timer", 0)
        self.section("chip", 4, 2, "chip", 3)
        self.add("chip.index", b"\x11")
        self.add("chip.count", u16(900))
        self.add("chip.regs", u32(1) + u32(2) + u32(3) + u32(4))
        self.add("chip.fifo", b"f" * 16)
        self.add("chip.new", b"\x22")
        self.footer("chip", 2)
        self.section("global", 4, 3, "globalstate", 1)
        self.add("state.length", u32(7))
        self.add("state.name", b"paused".ljust(32, b"\0"))
        self.add("state.suspended", b"\1\0")
        self.add("state.unused", bytes(66))
        self.footer("global", 3)
        self.add("end", b"\0")
        text = json.dumps(DESCRIPTION).encode()
        self.add("description", b"\x06")
        self.add("description-length", u32(len(text)))
        self.add("description-text", text)


def _field(name, kind, size, **more):
    return {"name": name, "type": kind, "size": size, **more}


DESCRIPTION = {
    "configuration": {},
    "page_size": PAGE,
    "devices": [
        {
            "name": "timer",
            "instance_id": 0,
            "vmsd_name": "timer",
            "version": 2,
            "fields": [_field("all", "buffer", 24)],
        },
        {
            "name": "chip",
            "instance_id": 0,
            "vmsd_name": "chip",
            "version": 3,
            "fields": [
                _field("head", "buffer", 3),
                _field("regs", "uint32", 4, array_len=4),
                _field("x", "buffer", 17),
            ],
        },
        {
            "name": "globalstate",
            "instance_id": 0,
            "vmsd_name": "globalstate",
            "version": 1,
            "fields": [_field("all", "buffer", 104)],
        },
    ],
    "pyemu": {"board": "none"},
}


def stream():
    parts = Parts()
    parts.head(())
    parts.section("start", 1, 1, "ram", 4)
    parts.add("total", u64(18 * PAGE | 4))
    for name, size in RAM:
        parts.add(f"{name}.name", counted(name))
        parts.add(f"{name}.length", u64(size))
    parts.add("start.eos", u64(0x10))
    parts.footer("start", 1)
    parts.section("part", 2, 1)
    parts.add("page0", u64(0 | 8))
    parts.add("page0.block", counted("ram"))
    parts.add("page0.data", b"a" * PAGE)
    parts.add("page1", u64(PAGE | 0x28))
    parts.add("page1.data", b"b" * PAGE)
    parts.add("page2", u64(2 * PAGE | 0x28))
    parts.add("page2.data", b"c" * PAGE)
    parts.add("zero3", u64(3 * PAGE | 0x22))
    parts.add("zero3.data", b"\0")
    parts.add("zero4", u64(4 * PAGE | 0x22))
    parts.add("zero4.data", b"\0")
    parts.add("part.eos", u64(0x10))
    parts.footer("part", 1)
    parts.add("switch", b"\x08")
    parts.add("switch.number", u16(11))
    parts.add("switch.length", u16(0))
    parts.section("end-ram", 3, 1)
    parts.add("rom0", u64(0 | 2))
    parts.add("rom0.block", counted("rom"))
    parts.add("rom0.data", b"\0")
    parts.add("end-ram.eos", u64(0x10))
    parts.footer("end-ram", 1)
    parts.tail()
    return parts


#: Where the fields of the mapped stream point to.
RAM_BITMAP, RAM_PAGES = 0x81, MIB


def mapped(gap=MIB):
    """As :func:`stream` with fixed places. *gap* moves the page areas together, to keep inputs small."""
    parts = Parts()
    parts.head(("mapped-ram",))
    parts.section("start", 1, 1, "ram", 4)
    parts.add("total", u64(18 * PAGE | 4))
    position = sum(len(data) for _, data in parts.items)
    for name, size in RAM:
        parts.add(f"{name}.name", counted(name))
        parts.add(f"{name}.length", u64(size))
        position += len(name) + 9
        bitmap = position + 28
        pages = -(-(bitmap + 8) // gap) * gap
        parts.add(f"{name}.header-version", u32(1))
        parts.add(f"{name}.page-size", u64(PAGE))
        parts.add(f"{name}.bitmap-offset", u64(bitmap))
        parts.add(f"{name}.pages-offset", u64(pages))
        parts.add(f"{name}.bitmap", (0b101 if name == "ram" else 0b10).to_bytes(8, "little"))
        parts.add(f"{name}.gap", bytes(pages - bitmap - 8))
        parts.add(f"{name}.pages", b"".join(bytes([65 + i]) * PAGE for i in range(size // PAGE)))
        position = pages + size
    parts.add("start.eos", u64(0x10))
    parts.footer("start", 1)
    parts.section("part", 2, 1)
    parts.add("part.eos", u64(0x10))
    parts.footer("part", 1)
    parts.add("switch", b"\x08")
    parts.add("switch.number", u16(11))
    parts.add("switch.length", u16(0))
    parts.section("end-ram", 3, 1)
    parts.add("end-ram.eos", u64(0x10))
    parts.footer("end-ram", 1)
    parts.tail()
    return parts

# SPDX-License-Identifier: MIT
"""Streams that somebody spoilt: one exception type, one clear line, empty RAM, no unbounded work."""

from __future__ import annotations

import os
import pathlib
import random
import tracemalloc

import pytest
from migration import attacks, syscalls
from migration.fakehost import FakeHost
from migration.streams import PAGE, RAM, counted, u16, u32, u64

from pyemu.errors import MigrationError
from pyemu.migration import MigrationController
from pyemu.snapshot import open_snapshot

KINDS = attacks.STREAMS


@pytest.fixture
def path():
    """A file in memory: thousands of small ones on a disk take their time."""
    fd = os.memfd_create("stream")
    yield pathlib.Path(f"/proc/self/fd/{fd}")
    os.close(fd)


@pytest.fixture
def load(plugins, path):
    def run(kind, data, *, blocks=RAM, uuid=None):
        path.write_bytes(data)
        host = FakeHost(blocks, run_state="inmigrate", uuid=uuid)
        made = MigrationController(host, plugins)
        if kind == "mapped":
            made.set_capabilities({"mapped-ram": True})
        made.incoming(f"file:{path}", blocking=True)
        return host

    return run


def test_the_streams_themselves_are_good(load, path, plugins):
    for kind, parts in KINDS.items():
        host = load(kind, parts.build())
        ram, rom = (b.array.reshape(-1, PAGE) for b in host.blocks)
        if kind == "stream":
            assert [p[0] for p in ram] == [97, 98, 99] + [0] * 13 and not rom.any()
        else:
            # Pages whose bit is clear are zero although the file has other bytes there.
            assert [p[0] for p in ram] == [65, 0, 67] + [0] * 13 and [p[0] for p in rom] == [0, 66]
        assert (host.chips[0].count, host.chips[0].new, host.clock.now_ns) == (900, 0x22, 5)
        with open_snapshot(path, plugins=plugins) as snapshot:
            for block in host.blocks:
                assert (snapshot.blocks[block.idstr].array() == block.array).all()
                assert snapshot.blocks[block.idstr].read(0, block.used_length) == block.array.tobytes()
            assert [s.size for s in snapshot.sections] == [24, 36, 104]


HEAD = bytes.fromhex("5145564d 00000003 07 00000004 6e6f6e65")
CAPS = b"\x05" + counted("configuration/capabilities") + u32(1)
UUID = b"\x05" + counted("configuration/uuid") + u32(1)
M = "mapped"
S = "stream"

#: (kind of stream, what to change, what the error says).
CASES = [
    (S, {"magic": b"QEVN"}, "Not a migration stream"),
    (S, {"version": u32(2)}, "SaveVM v2 format is obsolete and don't work anymore"),
    (S, {"version": u32(9)}, "Unsupported migration stream version 9"),
    (S, {"config": b"\x01"}, "Configuration section missing"),
    (S, {"machine": b"nope"}, "Machine type received is 'nope' and local is 'none'"),
    (S, {"machine_length": u32(0), "machine": b""}, "Machine type received is ''"),
    (S, {"machine": b"n\xff\xfee"}, "is not text"),
    (S, {"machine": b"no\0e"}, "cannot be printed"),
    (S, {"machine_length": u32(0xFFFFFFFF)}, "machine type name of 4294967295 bytes is over the limit"),
    (S, {"machine": b"none" + CAPS + u32(1) + counted("xyzzy")}, "Received unknown capability xyzzy"),
    (S, {"machine": b"none" + CAPS + u32(1) + counted("mapped-ram")}, "mapped-ram is off, but received"),
    (S, {"machine": b"none" + CAPS + u32(1) + counted("x-ignore-shared")}, "x-ignore-shared is off, but"),
    (M, {"caps_count": u32(0), "cap_mapped_ram": b""}, "mapped-ram is on, but received capability is off"),
    (M, {"caps_count": u32(1 << 31)}, "2147483648 names are over the limit"),
    (M, {"caps_version": u32(2)}, "configuration/capabilities: unsupported version 2"),
    (M, {"caps_name": counted("configuration/xxxxxxxxxxxx")}, "unknown subsection 'configuration/xxxxxxxxxxxx'"),
    (S, {"machine": b"none\x05" + counted("configuration/target-page-bits") + u32(1) + u32(14)}, "PAGE_BITS is 14 but"),
    (S, {"machine": b"none" + UUID + b"u" * 16}, "UUID received is 75757575-.* and local is 62626262-"),
    (S, {"start_kind": b"\x09"}, "Unknown savevm section type 9"),
    (S, {"start_name": counted("ra")}, "Unknown savevm section or instance 'ra' 0"),
    (S, {"start_name": b"\0"}, "Unable to read ID string for section 1"),
    (S, {"start_name": b"\x03r\nm"}, "Unable to read ID string for section 1"),
    (S, {"start_instance": u32(1)}, "Unknown savevm section or instance 'ram' 1"),
    (S, {"start_version": u32(5)}, "savevm: unsupported version 5 for 'ram' v4"),
    (S, {"start_version": u32(3)}, "ram: version 3 of the section is too old"),
    (S, {"start_footer": b"\x7f"}, "Missing section footer for ram"),
    (S, {"start_footer_id": u32(3)}, "Mismatched section id in footer for ram - read 0x3 expected 0x1"),
    (S, {"part_id": u32(7)}, "Unknown savevm section 7"),
    (S, {"end_ram_id": u32(7)}, "Unknown savevm section 7"),
    (S, {"end": b"\x02" + u32(2)}, "section 2 \\(chip\\) comes in one piece"),
    (S, {"total": u64(0x10000 | 4)}, "RAM block list: rom has 0x2000 bytes, 0x0 of 0x10000|Unknown combination"),
    (S, {"total": u64(17 * PAGE | 4)}, "RAM block list: rom has 0x2000 bytes, 0x1000 of 0x11000 are left"),
    (S, {"total": u64(1 << 62 | 4)}, "empty RAM block name"),
    (S, {"ram_name": counted("rap")}, 'Unknown ramblock "rap", cannot accept migration'),
    (S, {"ram_name": b"\0"}, "empty RAM block name"),
    (S, {"ram_name": b"\x03\xff\xfe\xfd"}, "RAM block name .* is not text"),
    (S, {"ram_length": u64(15 * PAGE)}, "Size mismatch: ram: 0xf000 != 0x10000"),
    (S, {"ram_length": u64(0)}, "RAM block list: ram has 0x0 bytes"),
    (S, {"rom_name": counted("ram"), "rom_length": u64(16 * PAGE), "total": u64(32 * PAGE | 4)}, "ram is listed twice"),
    (S, {"start_eos": u64(4)}, "second RAM block list"),
    (S, {"page0": u64(0x18)}, "Unknown combination of migration flags: 0x18"),
    (S, {"page0": u64(0x108)}, "Unknown combination of migration flags: 0x108"),
    (S, {"page0": u64(0x40)}, "XBZRLE pages are not supported"),
    (S, {"page0": u64(0x28)}, "Ack, bad migration stream"),
    (S, {"page0_block": counted("bar")}, "Can't find block bar"),
    (S, {"page0": u64(16 * PAGE | 8)}, "Illegal RAM offset 10000 in block ram"),
    (S, {"page1": u64(16 * PAGE | 0x28)}, "Illegal RAM offset 10000 in block ram"),
    (S, {"page1": u64(((1 << 64) - PAGE) | 0x28)}, "Illegal RAM offset fffffffffffff000 in block ram"),
    (S, {"zero3": u64(1 << 62 | 0x22)}, "Illegal RAM offset 4000000000000000 in block ram"),
    (S, {"zero3_data": b"\1"}, "Found a zero page with value 1"),
    (S, {"zero4_data": b"\7"}, "Found a zero page with value 7"),
    (S, {"switch_number": u16(0x63)}, "MIG_CMD 0x63 unknown \\(len 0x0\\)"),
    (S, {"switch_length": u16(2)}, "SWITCHOVER_START received with bad length - expecting 0, got 2"),
    (S, {"switch_number": u16(2), "switch_length": u16(4) + u32(5)}, "CMD_PING \\(0x5\\) received with no return path"),
    (S, {"switch_number": u16(1), "switch_length": u16(0) + b"\x08" + u16(1) + u16(0)}, "RETURN_PATH comes a second time"),
    (S, {"timer_version": u32(3)}, "savevm: unsupported version 3 for 'timer' v2"),
    (S, {"timer_version": u32(1)}, "timer: version 1 of the stream is older than 2"),
    (S, {"timer_clock": b"\xff" * 8}, "error while loading state for instance 0x0 of device 'timer'"),
    (S, {"chip_count": u16(1001)}, "chip: field count=1001 is over its limit 1000"),
    (S, {"chip_instance": u32(4)}, "Unknown savevm section or instance 'chip' 4"),
    (S, {"state_name": b"florble".ljust(32, b"\0")}, "invalid parameter value: florble"),
    (S, {"description_length": u32(0xFFFFFFFF)}, "description of 4294967295 bytes is over the limit"),
    (S, {"description_text": b"{"}, "the stream ends inside the description"),
    (S, {"description_length": u32(2), "description_text": b"{]"}, "no JSON text"),
    (S, {"description_length": u32(2), "description_text": b"[]"}, "JSON list, not an object"),
    (S, {"description_length": u32(99999), "description_text": b"[" * 99999}, "no JSON text"),
    (M, {"ram_header_version": u32(2)}, "capability version not supported \\(expected <= 1, got 2\\)"),
    (M, {"ram_header_version": u32(0)}, "capability version not supported \\(expected <= 1, got 0\\)"),
    (M, {"ram_page_size": u64(0)}, "block ram: mapped-ram pages of 0 bytes, ours have 4096"),
    (M, {"ram_page_size": u64(8192)}, "block ram: mapped-ram pages of 8192 bytes"),
    (M, {"ram_bitmap_offset": u64(1 << 40)}, "Error reading dirty bitmap of block ram: it ends at"),
    (M, {"ram_bitmap_offset": b"\xff" * 8}, "Error reading dirty bitmap of block ram: it ends at"),
    (M, {"ram_bitmap_offset": u64(2 * PAGE)}, "pages of ram at .* overlaps the bitmap of ram"),
    (M, {"ram_pages_offset": u64(PAGE + 1)}, "pages, region has bad alignment"),
    (M, {"ram_pages_offset": u64(1 << 40)}, "the pages of block ram end at 0x10000010000"),
    (M, {"ram_pages_offset": u64((1 << 64) - PAGE)}, "the pages of block ram end at"),
    (M, {"ram_pages_offset": u64(0)}, "pages at 0x0 lie before their header"),
    (M, {"rom_pages_offset": u64(PAGE)}, "block rom: pages at 0x1000 lie before their header"),
    (M, {"rom_bitmap_offset": u64(PAGE)}, "bitmap of rom at 0x1000-0x1007 overlaps the pages of ram"),
    (M, {"part_eos": u64(8)}, "Unexpected RAM flags: 8"),
    (M, {"part_eos": u64(0x200)}, "Unexpected RAM flags: 512"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), CASES)
def test_documented_errors(load, kind, changes, message):
    data = KINDS[kind].build(**changes)
    with pytest.raises(MigrationError, match=message) as caught:
        load(kind, data, uuid=b"b" * 16)
    assert caught.value.desc.startswith("load of migration failed: ")
    assert "\n" not in str(caught.value)


def test_sections_and_headers_cut_short(load):
    for kind, parts in KINDS.items():
        data = parts.build()
        end = len(parts.build(description_text=b"", description=b"", description_length=b""))
        position = 0
        for label, part in parts.items:
            for cut in {position, position + len(part) // 2, position + len(part) - 1}:
                if cut >= end or not part:
                    continue
                with pytest.raises(MigrationError) as caught:
                    load(kind, data[:cut])
                assert str(caught.value), label
            position += len(part)
        # Without the description everything is there.
        load(kind, data[:end])


def test_sections_are_optional(load):
    host = load("stream", HEAD + b"\0")
    assert host.run_state == "running" and not host.blocks[0].array.any()


def test_unused_parts_of_headers_are_ignored(load):
    # Bits behind the last page mean nothing, in whatever byte.
    host = load("mapped", KINDS["mapped"].build(rom_bitmap=b"\xfe" + b"\xff" * 7))
    assert [p[0] for p in host.blocks[1].array.reshape(-1, PAGE)] == [0, 66]
    assert load("stream", KINDS["stream"].build(page1=u64(PAGE | 8) + counted("ram"))).run_state == "paused"


def test_huge_claims_allocate_nothing(load):
    claims = [
        ("stream", {"description_length": u32((64 << 20) - 1)}),
        ("stream", {"total": u64(1 << 60 | 4), "ram_length": u64(1 << 59)}),
        ("mapped", {"ram_bitmap_offset": u64(1 << 62)}),
    ]
    for kind, changes in claims:
        data = KINDS[kind].build(**changes)
        tracemalloc.start()
        with pytest.raises(MigrationError):
            load(kind, data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20


@pytest.mark.parametrize("kind", attacks.KINDS)
def test_spoilt_input(plugins, path, kind):
    """A hundred inputs of each kind; ``-m fuzz`` makes many."""
    if kind == "zstd" and "zstd" not in plugins.compressions():
        pytest.skip("needs zstd: the plugin's distribution")
    count = {"lazy": 60, "tail": 80, "machine": 80}.get(kind, 150)
    refused, accepted = attacks.attack(kind, path, 1, count, plugins)
    # Both happen, or what is done to the fields is too timid or too wild to find anything.
    assert refused > count / 8 and accepted > count / 25


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", attacks.KINDS)
def test_much_spoilt_input_in_little_memory(kind):
    """In a process of its own, whose memory and processor time have limits."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    (line,) = syscalls.run(None, "migration.attacks", kind, seed, 10000)
    refused, accepted = map(int, line.split())
    assert refused + accepted >= 10000 and refused > 2000 and accepted > 200


def test_failed_loads_leave_empty_ram(plugins, path):
    for kind, changes in (("stream", {"timer_version": u32(9)}), ("mapped", {"timer_version": u32(9)})):
        path.write_bytes(KINDS[kind].build(**changes))
        host = FakeHost(RAM, run_state="inmigrate")
        made = MigrationController(host, plugins)
        made.set_capabilities({"mapped-ram": kind == "mapped"})
        with pytest.raises(MigrationError):
            made.incoming(f"file:{path}", blocking=True)
        assert not any(b.array.any() for b in host.blocks)
        assert host.run_state == "inmigrate" and made.status == "failed"


def test_bad_headers_touch_no_memory(plugins, path):
    """Of two blocks the second is bad: the first is not loaded either."""
    path.write_bytes(KINDS["mapped"].build(rom_page_size=u64(512)))
    host = FakeHost(RAM, run_state="inmigrate")
    seen = []
    host.ram_changed = lambda: seen.append([b.array.any() for b in host.blocks])
    made = MigrationController(host, plugins)
    made.set_capabilities({"mapped-ram": True})
    with pytest.raises(MigrationError, match="pages of 512 bytes"):
        made.incoming(f"file:{path}", blocking=True)
    assert seen == [[False, False]]

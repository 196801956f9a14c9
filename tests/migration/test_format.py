# SPDX-License-Identifier: MIT
"""The bytes of the format, spelled out."""

from __future__ import annotations

import json
import struct

import pytest
from migration.fakehost import FakeHost

from pyemu.errors import MigrationError
from pyemu.migration import read_description, read_header

MIB = 1 << 20


def saved(controller, host, path, kind="stream", **parameters):
    controller(host, kind, **parameters).migrate_file(path)
    return path.read_bytes()


def test_stream_of_a_small_machine(controller, tmp_path):
    host = FakeHost((("ram", 4 * 4096),), devices=0)
    host.ram["ram"].array[2 * 4096 : 3 * 4096] = 0xAB
    data = saved(controller, host, tmp_path / "x")
    head = bytes.fromhex(
        "5145564d 00000003"
        "07 00000004 6e6f6e65"
        "01 00000001 03 72616d 00000000 00000004"
        "0000000000004004 03 72616d 0000000000004000"
        "0000000000000010 7e 00000001"
        "02 00000001"
    )
    assert data.startswith(head)
    at = len(head)
    records = bytes.fromhex("0000000000000002 03 72616d 00 0000000000001022 00 0000000000002028") + b"\xab" * 4096
    records += bytes.fromhex("0000000000003022 00")
    assert data[at : at + len(records)] == records
    at += len(records)
    tail = bytes.fromhex(
        "0000000000000010 7e 00000001"
        "08 000b 0000"
        "03 00000001 0000000000000010 7e 00000001"
        "04 00000000 05 74696d6572 00000000 00000002" + "00" * 24 + "7e 00000000"
        "04 00000002 0b 676c6f62616c7374617465 00000000 00000001"
        "00000007 706175736564" + "00" * 26 + "01 00" + "00" * 66 + "7e 00000002"
        "00 06"
    )
    assert data[at : at + len(tail)] == tail
    at += len(tail)
    (length,) = struct.unpack_from(">I", data, at)
    document = json.loads(data[at + 4 :])
    assert at + 4 + length == len(data)
    assert list(document) == ["configuration", "page_size", "devices", "pyemu"]
    assert [d["name"] for d in document["devices"]] == ["timer", "globalstate"]
    assert document["pyemu"]["board"] == "none"


def test_mapped_file_of_64_mib_has_the_known_places(controller, tmp_path):
    host = FakeHost((("ram", 64 * MIB),), devices=0)
    pages = host.ram["ram"].array.reshape(-1, 4096)
    pages[256:2304] = 0xBB
    pages[256:2304][2::4] = 0
    controller(host, "mapped").migrate_file(tmp_path / "x")
    with open(tmp_path / "x", "rb") as file:
        assert file.read(0x81) == bytes.fromhex(
            "5145564d 00000003 07 00000004 6e6f6e65 05 1a"
            + b"configuration/capabilities".hex()
            + "00000001 00000001 0a"
            + b"mapped-ram".hex()
            + "01 00000001 03 72616d 00000000 00000004"
            "0000000004000004 03 72616d 0000000004000000"
            "00000001 0000000000001000 0000000000000081 0000000000100000"
        )
        assert file.read(2048) == bytes(32) + b"\xbb" * 256 + bytes(2048 - 288)
        file.seek(0x100000 + 256 * 4096)
        assert file.read(4 * 4096) == b"\xbb" * 8192 + bytes(4096) + b"\xbb" * 4096
        file.seek(0x4100000)
        head = bytes.fromhex("0000000000000010 7e 00000001")
        part = bytes.fromhex("02 00000001 0000000000000010 7e 00000001")
        tail = bytes.fromhex(
            "08 000b 0000"
            "03 00000001 0000000000000010 7e 00000001"
            "04 00000000 05 74696d6572"
            "00000000 00000002"
        )
        assert file.read(len(head) + len(part)) == head + part
        # A part lasts 50 ms at most, so a busy system needs more of them.
        rest = file.read(4096)
        while rest.startswith(part):
            rest = rest.removeprefix(part)
        assert rest.startswith(tail)
    status = (tmp_path / "x").stat()
    assert status.st_blocks * 512 < 1536 * 4096 + 64 * 1024


def test_blocks_are_listed_largest_first_and_begin_at_multiples_of_1_mib(controller, tmp_path):
    host = FakeHost((("small", 4096), ("large", 2 * MIB), ("odd", 76 * 4096)), devices=0)
    for block in host.blocks:
        block.array[:] = 1
    data = saved(controller, host, tmp_path / "x", "mapped")
    places = []
    for name in (b"\x05large", b"\x03odd", b"\x05small"):
        at = data.index(name) + len(name)
        length, version, page_size, bitmap, pages = struct.unpack_from(">QIQQQ", data, at)
        assert (version, page_size, bitmap) == (1, 4096, at + 36)
        assert pages % MIB == 0 and 0 < pages - bitmap <= MIB
        assert data[pages : pages + length] == b"\x01" * length
        places.append(pages)
    assert places == sorted(places)


def test_dense_saves_set_every_bit(controller, tmp_path):
    host = FakeHost((("ram", 64 * 4096),), devices=0)
    data = saved(controller, host, tmp_path / "x", "mapped", **{"zero-page-detection": "none"})
    assert data[0x81:0x89] == b"\xff" * 8


def test_header_and_description_can_be_read_alone(controller, tmp_path):
    identity = bytes(range(16))
    made = controller(FakeHost(uuid=identity), "mapped")
    made.set_capabilities({"validate-uuid": True})
    made.migrate_file(tmp_path / "x")
    header = read_header(tmp_path / "x")
    assert (header.machine, header.capabilities, header.uuid) == ("none", ("mapped-ram",), identity)
    own = read_description(tmp_path / "x")
    assert own["memory"] == MIB
    assert own["migration"] == {"capabilities": ["mapped-ram"], "absent-pages": "zero"}


def test_description_is_found_however_long_it_is(controller, tmp_path):
    host = FakeHost()
    notes = "x" * (3 << 20)
    host.description = lambda: {"notes": notes}
    controller(host).migrate_file(tmp_path / "x")
    assert read_description(tmp_path / "x")["notes"] == notes


def test_description_of_other_programs_is_none(tmp_path):
    smallest = bytes.fromhex("5145564d 00000003 07 00000004 6e6f6e65 00")
    (tmp_path / "x").write_bytes(smallest + b"\x06\0\0\0\x02{}")
    assert read_description(tmp_path / "x") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Not a migration stream"),
        (b"QEVN\0\0\0\3", "Not a migration stream"),
        (b"QEVM\0\0\0\2", "SaveVM v2 format is obsolete"),
        (b"QEVM\0\0\0\4", "Unsupported migration stream version 4"),
        (b"QEVM\0\0\0\3\1", "Configuration section missing"),
        (b"QEVM\0\0\0\3\7\0\0\0\4none", "no description at the end"),
        (b"QEVM\0\0\0\3\7\0\0\0\4none\0\6\0\0\0\2[]", "JSON list, not an object"),
        (b"QEVM\0\0\0\3\7\0\0\0\4none\0\6\0\0\0\1{", "no JSON text"),
        (b'QEVM\0\0\0\3\7\0\0\0\4none\0\6\0\0\0\x0b{"pyemu":1}', "'pyemu' is no object"),
    ],
)
def test_descriptions_that_cannot_be_read(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(MigrationError, match=message):
        read_description(tmp_path / "x")

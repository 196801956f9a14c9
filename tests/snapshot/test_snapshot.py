# SPDX-License-Identifier: MIT
"""Saved machines as data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from migration import streams
from migration.conftest import KINDS, fill
from migration.fakehost import FakeHost

from pyemu.cli import main
from pyemu.errors import MigrationError
from pyemu.migration import MigrationController
from pyemu.plugin import PluginManager
from pyemu.snapshot import open_snapshot

PAGE = 4096
BLOCKS = (("ram", 4 << 20), ("vga.vram", 77 * PAGE))


@pytest.fixture(scope="module")
def plugins():
    return PluginManager()


@pytest.fixture
def saved(plugins, tmp_path):
    def make(kind):
        host = FakeHost(BLOCKS, devices=2, uuid=bytes(range(16)))
        for block in host.blocks:
            fill(block)
        controller = MigrationController(host, plugins)
        capabilities, parameters = KINDS[kind]
        controller.set_capabilities({**capabilities, "validate-uuid": True})
        controller.set_parameters(parameters)
        controller.migrate_file(tmp_path / "x")
        return host, tmp_path / "x"

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_arrays(saved, plugins, kind):
    host, path = saved(kind)
    with open_snapshot(path, plugins=plugins) as snapshot:
        for block in host.blocks:
            found = snapshot.blocks[block.idstr]
            array = found.array()
            assert (array == block.array).all()
            assert array is found.array() and not array.flags.writeable
            data = block.array.reshape(-1, PAGE).any(axis=1)
            present = np.ones_like(data) if kind.endswith("dense") else data
            assert (found.present() == present).all()
            assert found.pages_present == present.sum()
            for offset, length in ((0, 1), (PAGE - 1, 2), (5 * PAGE + 7, 9 * PAGE), (block.used_length - 3, 3), (9, 0)):
                assert found.read(offset, length) == block.read(offset, length)
    # The arrays outlive the file's being open.
    assert (array == block.array).all()


def test_reading_outside_of_a_block_is_refused(saved, plugins):
    _, path = saved("mapped")
    with open_snapshot(path, plugins=plugins) as snapshot:
        block = snapshot.blocks["vga.vram"]
        for offset, length in ((-1, 1), (0, -1), (77 * PAGE, 1), (0, 78 * PAGE)):
            with pytest.raises(MigrationError, match=r"vga.vram: .* are not inside its 315392"):
                block.read(offset, length)


def test_info_says_what_is_in_the_file(saved, plugins):
    _, path = saved("mapped-multifd")
    with open_snapshot(path, plugins=plugins) as snapshot:
        info = snapshot.info()
        payloads = {(s.name, s.instance_id): snapshot.section_data(s) for s in snapshot.sections}
    status = path.stat()
    assert info == {
        "path": str(path),
        "machine": "none",
        "layout": "mapped-ram",
        "capabilities": ["mapped-ram"],
        "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "page-size": PAGE,
        "size": status.st_size,
        "allocated": status.st_blocks * 512,
        "blocks": [
            {"name": "ram", "size": 4 << 20, "pages": 1024, "pages-present": 672},
            {"name": "vga.vram", "size": 77 * PAGE, "pages": 77, "pages-present": 51},
        ],
        "sections": [
            {"name": "timer", "instance-id": 0, "version": 2, "size": 24},
            {"name": "chip", "instance-id": 0, "version": 3, "size": 36},
            {"name": "chip", "instance-id": 1, "version": 3, "size": 36},
            {"name": "globalstate", "instance-id": 0, "version": 1, "size": 104},
        ],
        "pyemu": {
            "board": "none",
            "memory": (4 << 20) + 77 * PAGE,
            "migration": {"capabilities": ["mapped-ram"], "absent-pages": "zero"},
        },
    }
    assert payloads["chip", 1][3 + 16 : 3 + 32] == b"0123456789abcdef"


def test_command_line(saved, capsys):
    _, path = saved("stream")
    assert main(["snapshot", "info", str(path)]) == 0
    text = capsys.readouterr().out
    for words in ("machine none, layout streaming", "672 of 1024 pages present", "globalstate", "instance 1"):
        assert words in text
    assert main(["snapshot", "info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"] == "none"


def test_command_line_with_files_that_are_none(tmp_path, capsys):
    for content in (None, b"hello", b"QEVM\0\0\0\3\7\0\0\0\4none"):
        path = tmp_path / "x"
        if content is not None:
            path.write_bytes(content)
        assert main(["snapshot", "info", str(path)]) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and str(path) in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (1, "an entry of 'devices' has no name"),
        ({"name": "timer", "instance_id": 1}, "section 'timer' 0 is described as 'timer' 1"),
        ({"name": "timer", "instance_id": 0, "fields": [{"size": -1}]}, "size -1"),
        ({"name": "timer", "instance_id": 0, "fields": [{"size": 1 << 50}]}, "is no size"),
        ({"name": "timer", "instance_id": 0, "fields": [{"size": 1 << 40}]}, "ends inside section 'timer'"),
        ({"name": "timer", "instance_id": 0, "fields": [{"size": 23}]}, "Missing section footer for timer"),
        ({"name": "timer", "instance_id": 0, "fields": 5}, "are no list"),
        ({"name": "timer", "instance_id": 0, "subsections": [{}]}, "a subsection has no name"),
    ],
)
def test_descriptions_that_lie(plugins, tmp_path, device, message):
    parts = streams.stream()
    document = json.loads(json.dumps(streams.DESCRIPTION))
    document["devices"][0] = device
    text = json.dumps(document).encode()
    (tmp_path / "x").write_bytes(parts.build(description_length=streams.u32(len(text)), description_text=text))
    with pytest.raises(MigrationError, match=message):
        open_snapshot(tmp_path / "x", plugins=plugins)


def test_files_without_a_description_have_no_device_sections_to_show(plugins, tmp_path):
    head = bytes.fromhex("5145564d 00000003 07 00000004 6e6f6e65")
    (tmp_path / "x").write_bytes(head + b"\0")
    with open_snapshot(tmp_path / "x", plugins=plugins) as snapshot:
        assert (snapshot.blocks, snapshot.sections, snapshot.machine) == ({}, [], None)
    data = streams.stream().build(description=b"", description_length=b"", description_text=b"")
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(MigrationError, match="section 'timer' has no length, and the file no description"):
        open_snapshot(tmp_path / "x", plugins=plugins)

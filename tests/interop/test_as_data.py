# SPDX-License-Identifier: MIT
"""Files of QEMU's own machine types, which have devices that are not ours, opened as data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from interop.formats import FOUR, MAPPED, PAGE, SIZE, STREAM, Format, differing

from pyemu.snapshot import open_snapshot

pytestmark = pytest.mark.interop
#: Below it other regions lie over RAM.
LOW = 1 << 20


@pytest.mark.parametrize("form", [STREAM, MAPPED, FOUR], ids=str)
def test_theirs_rewritten_while_saving(plugins, qemu, folder, form):
    """Each page counts as it was sent last. (QEMU's board none has no way to write to RAM, its pc has.)"""
    source = qemu(machine="pc", qtest=True)
    source.configure(form)
    source("migrate-set-parameters", **{"max-bandwidth": 1 << 20, "downtime-limit": 1})
    pages = [256 + number * 53 % (SIZE // PAGE - 512) for number in range(300)]
    for page in pages:
        source.tell(f"memset {page * PAGE:#x} {PAGE:#x} 0x11")
    source("migrate", uri=f"file:{source.inside(folder / 'x')}")
    source.wait("active")
    for number, page in enumerate(pages):
        source.tell(f"memset {page * PAGE:#x} {PAGE:#x} {number % 3 and number % 250:#x}")
    assert source("query-migrate")["status"] == "active", "the writes above came too late to test anything"
    source("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 300})
    assert source.wait("completed")["ram"]["dirty-sync-count"] >= 3
    with open_snapshot(folder / "x", plugins=plugins) as snapshot:
        array = snapshot.blocks["pc.ram"].array()
        assert not differing(source.memory(LOW, SIZE - LOW), array[LOW:])
        assert [array[p * PAGE] for p in pages] == [n % 3 and n % 250 for n in range(300)]


FORMS = [STREAM, MAPPED, Format(zeros="none"), Format(True, zeros="none"), FOUR, Format(True, 2, True)]


@pytest.mark.parametrize("board", ["pc", "q35", "microvm"])
def test_their_machines(plugins, qemu, folder, board):
    source = qemu("-S", machine=board)
    for form in FORMS:
        source.save(form, folder / "x")
        with open_snapshot(folder / "x", plugins=plugins) as snapshot:
            info = snapshot.info()
            assert board in info["machine"] and info["pyemu"] is None, form
            assert info["capabilities"] == (["mapped-ram"] if form.mapped else []), form
            main = max(snapshot.blocks.values(), key=lambda b: b.size)
            assert main.size == SIZE, form
            assert not differing(source.memory(LOW, SIZE - LOW), main.array()[LOW:]), form
            assert [s["name"] for s in info["sections"]][:1] == ["timer"], form
            assert info["sections"][-1]["name"] == "globalstate", form
            if board != "microvm":
                bios = snapshot.blocks["pc.bios"]
                assert bios.array().tobytes() == source.memory((1 << 32) - bios.size, bios.size), form
                assert len(info["sections"]) > 20, form
            state = snapshot.section_data(snapshot.sections[-1])[4:13]
            assert state == (b"prelaunch" if form is FORMS[0] else b"paused\0\0\0"), form


@pytest.mark.parametrize("form", [STREAM, MAPPED, Format(True, offset=0x11111)], ids=str)
def test_snapshot_info_describes_their_file(qemu, folder, form):
    source = qemu("-S", machine="pc", qtest=True)
    source.tell(f"memset {300 * PAGE:#x} {10 * PAGE:#x} 0x11")
    (folder / "x").write_bytes(b"h" * (form.offset or 0))
    source.save(form, folder / "x")
    command = [sys.executable, "-P", "-m", "pyemu", "snapshot", "info", "--offset", str(form.offset or 0)]
    out = subprocess.run([*command, "--json", folder / "x"], capture_output=True, text=True, check=True, timeout=60)
    info = json.loads(out.stdout)
    blocks = {b["name"]: b for b in info["blocks"]}
    assert blocks["pc.ram"]["size"] == SIZE
    assert blocks["pc.ram"]["pages-present"] == 10
    out = subprocess.run([*command, folder / "x"], capture_output=True, text=True, check=True, timeout=60)
    assert "written by    another program" in out.stdout and "pc.bios" in out.stdout

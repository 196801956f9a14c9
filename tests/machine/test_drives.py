# SPDX-License-Identifier: MIT
"""Disks and saved machines: what was written to a snapshot comes back with RAM, other disks are refused by name."""

import argparse

import pytest

import pyemu
from pyemu import ConfigError, ControlError, MigrationError
from pyemu.cli import save
from pyemu.control import QMPServer
from pyemu.control.commands import Commands
from pyemu.device import BlockBackend

CONTENT = bytes(range(256)) * 256


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT)
    return path


def machine(*drives, **options):
    return pyemu.Machine("via-pc", cpu="none", memory="1M", drives=drives, **options)


@pytest.mark.parametrize("mapped", [False, True])
def test_what_was_written_to_a_snapshot_comes_back(disk, tmp_path, mapped):
    saved = tmp_path / "saved"
    with machine(f"file={disk},snapshot=on") as m:
        drive = m.drives("ide")[0]
        m.call(lambda: drive.write(5000, b"first"))
        m.save(saved, mapped_ram=mapped)
        m.call(lambda: drive.write(5000, b"later"))
    assert disk.read_bytes() == CONTENT
    with pyemu.restore(saved, host_files=True) as m:
        drive = m.drives("ide")[0]
        assert drive.read(0, len(CONTENT)) == CONTENT[:5000] + b"first" + CONTENT[5005:]
        assert m.ram["ide0.overlay"] is drive.overlay()


def test_a_device_of_its_own_keeps_its_overlay_too(disk):
    device = ("isa-ide", {"iobase": 0x1E8, "irq": 11, "id": "third", "drive0": f"file={disk},snapshot=on"})
    with machine(devices=[device]) as m:
        assert list(m.block_backends()) == ["third.drive0"]
        assert "third.drive0.overlay" in m.ram


def test_a_disk_that_is_written_in_place_is_refused(disk, tmp_path):
    with machine(f"file={disk}") as m:
        with pytest.raises(MigrationError, match=rf"the guest writes {disk} in place.*snapshot=on"):
            m.save(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()
        m.save(tmp_path / "saved", external_disks=True)
    for option in ("readonly=on", "media=cdrom"):
        with machine(f"file={disk},{option}") as m:
            m.save(tmp_path / "saved")


def test_an_overlay_is_only_made_where_it_is_needed(disk):
    with BlockBackend(disk, snapshot=True) as drive:
        assert drive.read(0, 10) == CONTENT[:10]
        assert drive.overlay("mine").idstr == "mine"
        assert drive.overlay("other").idstr == "mine"
    assert drive.overlay() is None
    with BlockBackend(disk) as drive:
        assert drive.overlay() is None


def test_query_block_says_which_drives_are_protected(disk, tmp_path):
    other = tmp_path / "cd.iso"
    other.write_bytes(CONTENT)
    with machine(f"file={disk},snapshot=on", f"file={other},media=cdrom,index=2") as m:
        answer, _ = Commands(m).execute("query-block", {})
    assert [(d["device"], d["removable"], d["inserted"]["ro"], d["inserted"]["overlay"]) for d in answer] == [
        ("ide0", False, False, True),
        ("ide2", True, True, False),
    ]


def test_saving_from_outside_refuses_too(disk, tmp_path):
    with machine(f"file={disk}") as m:
        server = QMPServer(m, f"unix:{tmp_path}/qmp")
        try:
            arguments = argparse.Namespace(
                qmp=f"unix:{tmp_path}/qmp", file=tmp_path / "saved", stop=False, external_disks=False, stream=True,
                multifd=0, direct_io=False, background=False,
            )  # fmt: skip
            with pytest.raises(MigrationError, match=f"would go on writing {disk} in place: --stop"):
                save.run(arguments)
            arguments.stop = arguments.background = True
            with pytest.raises(MigrationError, match=f"would go on writing {disk} in place"):
                save.run(arguments)
            arguments.background = False
            assert save.run(arguments) == 0
        finally:
            server.close()


def test_another_medium_is_part_of_the_machine_that_is_saved(disk, tmp_path):
    first, second = tmp_path / "first.iso", tmp_path / "second,2.iso"
    first.write_bytes(b"1" * 4096)
    second.write_bytes(b"2" * 4096)
    with machine(f"file={disk},snapshot=on", f"file={first},media=cdrom,index=2") as m:
        commands = Commands(m)
        commands.execute("eject", {"device": "ide2"})
        commands.execute("blockdev-change-medium", {"id": "ide2", "filename": str(second)})
        assert commands.execute("query-block", {})[0][1]["inserted"]["file"] == str(second)
        for arguments, message in (
            ({"device": "ide0", "filename": str(first)}, "drive ide0: its medium cannot be changed"),
            ({"device": "ide9", "filename": str(first)}, "drive ide9: there is none"),
            ({"device": "ide2", "filename": str(tmp_path / "none")}, "No such file"),
            ({"device": "ide2", "filename": str(first), "format": "qcow2"}, "format 'qcow2' is not raw"),
            ({"filename": str(first)}, "device"),
        ):
            with pytest.raises((ConfigError, ControlError), match=message):
                commands.execute("blockdev-change-medium", arguments)
        m.save(tmp_path / "saved")
    with pyemu.restore(tmp_path / "saved", host_files=True) as m:
        assert m.drives("ide")[1].read(0, 3) == b"222"

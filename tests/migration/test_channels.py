# SPDX-License-Identifier: MIT
"""Files: whole or not at all, in place only where nothing else is possible."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from migration.fakehost import FakeHost

from pyemu.errors import MigrationError
from pyemu.migration import channels, disk
from pyemu.migration.channels import FileInput, FileOutput
from pyemu.migration.disk import PARTIAL_SUFFIX, remove_dead


def names(folder):
    return sorted(os.listdir(folder))


def test_a_new_file_appears_when_it_is_whole(tmp_path):
    out = FileOutput(str(tmp_path / "x"), None)
    out.write(b"QEVMabc")
    (name,) = names(tmp_path)
    assert name.endswith(PARTIAL_SUFFIX)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    out.commit()
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"QEVMabc"


def test_an_old_file_stays_until_then(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    out = FileOutput(str(tmp_path / "x"), None)
    out.write(b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    out.abort()
    out.abort()
    assert names(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"old"


def test_relative_paths_and_long_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y" * 255, "\u00fc" * 127, "\udcff" * 255):
        out = FileOutput(name, None)
        out.write(b"data")
        out.commit()
        assert (tmp_path / name).read_bytes() == b"data"


def dead(folder, name):
    """What a save that was killed leaves."""
    (folder / name).write_bytes(b"QEVM")
    return name


def test_the_next_save_removes_what_killed_ones_left(tmp_path):
    left = [dead(tmp_path, f".x.0123456{n}{PARTIAL_SUFFIX}") for n in range(3)]
    others = [".x.y.01234567.pyemu-partial", ".x.0123456.pyemu-partial", ".y.01234567.pyemu-partial", "x.pyemu-partial"]
    for name in others:
        dead(tmp_path, name)
    FileOutput(str(tmp_path / "x"), None).abort()
    assert names(tmp_path) == sorted(others)
    for name in left:
        dead(tmp_path, name)
    assert sorted(remove_dead(str(tmp_path / "x"))) == left


def test_what_a_living_save_writes_stays(tmp_path, monkeypatch):
    path = str(tmp_path / "x")
    first = FileOutput(path, None)
    second = FileOutput(path, None)
    assert len(names(tmp_path)) == 2 and remove_dead(path) == []
    second.write(b"second")
    second.commit()
    first.write(b"first")
    first.commit()
    assert names(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"first"


def test_only_files_are_taken_for_dead_saves(tmp_path):
    (tmp_path / "precious").write_bytes(b"1")
    (tmp_path / f".x.00000000{PARTIAL_SUFFIX}").symlink_to("precious")
    (tmp_path / f".x.00000001{PARTIAL_SUFFIX}").mkdir()
    os.mkfifo(tmp_path / f".x.00000002{PARTIAL_SUFFIX}")
    assert remove_dead(str(tmp_path / "x")) == []
    assert len(names(tmp_path)) == 4 and (tmp_path / "precious").read_bytes() == b"1"


def test_a_temporary_file_that_is_taken_for_a_dead_one_is_made_again(tmp_path, monkeypatch):
    """Another save looks for dead files just between the making of this one and its lock."""
    taken = []

    def flock(fd, how):
        if not taken:
            taken.append(None)
            taken.extend(remove_dead(str(tmp_path / "x")))
        return real(fd, how)

    real = disk.fcntl.flock
    monkeypatch.setattr(disk.fcntl, "flock", flock)
    out = FileOutput(str(tmp_path / "x"), None)
    assert len(taken) == 2
    assert len(names(tmp_path)) == 1 and names(tmp_path) != taken[1:]
    out.write(b"data")
    out.commit()
    assert (tmp_path / "x").read_bytes() == b"data"


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    def flock(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(disk.fcntl, "flock", flock)
    name = dead(tmp_path, f".x.00000000{PARTIAL_SUFFIX}")
    out = FileOutput(str(tmp_path / "x"), None)
    out.write(b"data")
    out.commit()
    assert names(tmp_path) == [name, "x"]


def test_in_place_the_magic_comes_with_the_commit(tmp_path):
    (tmp_path / "x").write_bytes(b"head" + b"QEVM old")
    out = FileOutput(str(tmp_path / "x"), 4)
    for piece in (b"QE", b"VMda", b"ta"):
        out.write(piece)
    assert (tmp_path / "x").read_bytes() == b"head\0\0\0\0data"
    out.commit()
    assert (tmp_path / "x").read_bytes() == b"headQEVMdata"


def test_symbolic_links_are_written_through(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "x").symlink_to("real")
    out = FileOutput(str(tmp_path / "x"), None)
    out.write(b"QEVMnew")
    out.commit()
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"QEVMnew"


def test_failed_saves_in_place_are_no_streams(controller, tmp_path):
    path = tmp_path / "x"
    controller().migrate(f"file:{path},offset=8", blocking=True, resume_after=True)
    host = FakeHost()
    host.chips[0].count = 70000
    with pytest.raises(MigrationError):
        controller(host).migrate(f"file:{path},offset=8", blocking=True)
    target = FakeHost(run_state="inmigrate")
    with pytest.raises(MigrationError, match="Not a migration stream"):
        controller(target).incoming(f"file:{path},offset=8", blocking=True)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such/x", "Could not create '/no/such/x': No such file or directory"),
        ("/dev/null", "failed to truncate migration file to offset 0: Invalid argument"),
        ("/proc/x", "Could not create '/proc/x': No such file or directory"),
        ("/", "Could not create '/': Is a directory"),
    ],
)
def test_places_that_cannot_be_written(path, message):
    with pytest.raises(MigrationError) as caught:
        FileOutput(path, None)
    assert str(caught.value) == message


def test_places_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/null"):
        with pytest.raises(MigrationError, match=r"not a regular file|Is a directory"):
            FileInput(str(path))
    with pytest.raises(MigrationError, match="No such file"):
        FileInput(str(tmp_path / "x"))


@pytest.mark.parametrize(("text", "offset"), [("", None), (",offset=0x1234", 0x1234), (",offset=1M", 1 << 20)])
def test_offsets(text, offset):
    assert channels.split_address(f"/a,b{text}") == ("/a,b", offset)


@pytest.mark.parametrize("address", ["", ",offset=1", "x,offset=", "x,offset=1Q", "x,offset=16777216T", "a\0b"])
def test_addresses_that_are_refused(address):
    with pytest.raises(MigrationError, match="file URI has"):
        channels.split_address(address)


def test_file_systems_without_direct_io_are_named(tmp_path, monkeypatch):
    real = os.open

    def refusing(path, flags, mode=0o777):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    out = FileOutput(str(tmp_path / "x"), None)
    with pytest.raises(MigrationError, match=f"file system of '{tmp_path}/x' refuses O_DIRECT"):
        out.open_again(direct=True)
    out.write(b"x")
    out.commit()
    with pytest.raises(MigrationError, match="refuses O_DIRECT"):
        FileInput(str(tmp_path / "x")).open_again(direct=True)

# SPDX-License-Identifier: MIT
"""Files: whole or not at all, in place only where nothing else is possible."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest
from migration.fakehost import FakeHost

from pyemu.errors import MigrationError
from pyemu.migration import channels
from pyemu.migration.channels import PARTIAL_SUFFIX, FileInput, FileOutput


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
    for name in ("x", "y" * 255):
        out = FileOutput(name, None)
        out.write(b"data")
        out.commit()
        assert (tmp_path / name).read_bytes() == b"data"


class Recorder:
    """Stands between a channel and the system and writes down what it asks for."""

    def __init__(self, real):
        self.real = real
        self.calls = []

    def __getattr__(self, name):
        found = getattr(self.real, name)
        if name not in ("pwrite", "fsync", "rename", "unlink", "ftruncate"):
            return found

        def call(*args):
            self.calls.append((name, *args[1:]) if name != "fsync" else (name,))
            return found(*args)

        return call


def test_order_of_a_replacing_save(tmp_path, monkeypatch):
    monkeypatch.setattr(channels, "os", recorder := Recorder(os))
    out = FileOutput(str(tmp_path / "x"), None)
    out.write(b"QEVM")
    out.commit()
    assert [c[0] for c in recorder.calls] == ["pwrite", "fsync", "rename", "fsync"]


def test_order_of_a_save_in_place(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"head" + b"QEVM old")
    monkeypatch.setattr(channels, "os", recorder := Recorder(os))
    out = FileOutput(str(tmp_path / "x"), 4)
    out.write(b"QE")
    out.write(b"VMda")
    out.write(b"ta")
    assert (tmp_path / "x").read_bytes() == b"head\0\0\0\0data"
    out.commit()
    assert (tmp_path / "x").read_bytes() == b"headQEVMdata"
    assert [c[0] for c in recorder.calls] == [
        "ftruncate", "pwrite", "fsync", "pwrite", "pwrite", "fsync", "pwrite", "fsync"
    ]  # fmt: skip
    assert recorder.calls[-2] == ("pwrite", b"QEVM", 4)


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
    class Refusing(Recorder):
        def open(self, path, flags, mode=0o777):
            if flags & os.O_DIRECT:
                raise OSError(22, "Invalid argument")
            return os.open(path, flags, mode)

    monkeypatch.setattr(channels, "os", Refusing(os))
    out = FileOutput(str(tmp_path / "x"), None)
    with pytest.raises(MigrationError, match=f"file system of '{tmp_path}/x' refuses O_DIRECT"):
        out.open_again(direct=True)
    out.write(b"x")
    out.commit()
    with pytest.raises(MigrationError, match="refuses O_DIRECT"):
        FileInput(str(tmp_path / "x")).open_again(direct=True)


SAVER = textwrap.dedent("""
    import hashlib, os, signal, sys
    path, tests = sys.argv[1:]
    sys.path.insert(0, tests)
    from migration.fakehost import FakeHost
    from pyemu.migration import MigrationController
    from pyemu.migration import channels
    from pyemu.plugin import PluginManager

    class Killing:
        left = 0
        def __getattr__(self, name):
            found = getattr(os, name)
            if name not in ("pwrite", "fsync", "rename"):
                return found
            def call(*args):
                if Killing.left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                Killing.left -= 1
                return found(*args)
            return call

    host = FakeHost((("ram", 1 << 20),))
    host.blocks[0].array[:] = 7
    made = MigrationController(host, PluginManager())
    made.capabilities
    status = 1
    while status:
        child = os.fork()
        if not child:
            channels.os = Killing()
            made.migrate_file(path)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        Killing.left += 1
        names = os.listdir(os.path.dirname(path))
        print(status, hashlib.sha256(open(path, "rb").read()).hexdigest(), *names)
        for name in names:
            if name != os.path.basename(path):
                os.unlink(os.path.join(os.path.dirname(path), name))
""")


def test_killed_saves_leave_the_old_file_or_the_new_one(controller, filled, tmp_path):
    """Killed before each of the calls that change the disk, until one lives to the end."""
    source = filled(blocks=(("ram", 1 << 20),))
    controller(source).migrate_file(tmp_path / "x")
    old = hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
    tests = os.path.dirname(os.path.dirname(__file__))
    script = [sys.executable, "-P", "-c", SAVER, str(tmp_path / "x"), tests]
    lines = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()
    new = lines[-1].split()[1]
    assert len(lines) > 4 and new != old
    statuses = [int(line.split()[0]) for line in lines]
    assert statuses == [signal.SIGKILL] * (len(lines) - 1) + [0]
    found = [line.split()[1] for line in lines]
    # The rename is the one moment of change: killed before the last call, the new file is there already.
    assert found == [old] * (len(lines) - 2) + [new] * 2
    for line in lines:
        for name in line.split()[2:]:
            # What a killed save leaves is hidden, and says what it is.
            assert name == "x" or (name.startswith(".x.") and name.endswith(PARTIAL_SUFFIX))
    target = FakeHost((("ram", 1 << 20),), run_state="inmigrate")
    controller(target).incoming(f"file:{tmp_path}/x", blocking=True)
    assert (target.blocks[0].array == 7).all()

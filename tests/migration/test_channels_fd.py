# SPDX-License-Identifier: MIT
"""``fd:`` and ``file:/dev/fdset/N``: descriptors that somebody hands over."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket

import numpy as np
import pytest
from migration.fakehost import FakeHost

from pyemu.errors import MigrationError
from pyemu.migration import ChannelContext, Descriptors, Interrupt, read_description
from pyemu.migration.given import FDChannel


def same_ram(one, other):
    return all(np.array_equal(a.array, b.array) for a, b in zip(one.blocks, other.blocks, strict=True))


def waiting(controller, kind="stream", **options):
    host = FakeHost(run_state="inmigrate", **options)
    return host, controller(host, kind)


@pytest.fixture
def context():
    descriptors = Descriptors()
    yield ChannelContext(Interrupt(), descriptors)
    descriptors.close()


def open_fds():
    """Open descriptors with what they lead to. Garbage of earlier tests must not go between two looks."""
    gc.collect()
    return {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")}


@pytest.mark.parametrize("kind", ["socket", "pipe"])
def test_a_machine_moves_through_what_it_was_given(controller, filled, kind):
    before = open_fds()
    source = filled()
    target, loading = waiting(controller)
    leaving = controller(source)
    if kind == "pipe":
        here, there = os.pipe()
    else:
        here, there = (s.detach() for s in socket.socketpair())
    loading.descriptors.put("in", here)
    leaving.descriptors.put("out", there)
    loading.incoming("fd:in")
    leaving.migrate([{"channel-type": "main", "addr": {"transport": "socket", "type": "fd", "str": "out"}}])
    assert leaving.wait(20) == loading.wait(20) == "completed"
    assert same_ram(source, target)
    assert open_fds() == before


def test_a_number_that_the_process_has_is_as_good_as_a_name(controller, filled):
    before = open_fds()
    source = filled()
    target, loading = waiting(controller)
    here, there = os.pipe()
    loading.incoming(f"fd:{here}")
    controller(source).migrate(f"fd:{there}", blocking=True)
    assert loading.wait(20) == "completed"
    assert same_ram(source, target)
    assert open_fds() == before


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND])
def test_files_are_written_in_place_from_where_they_stand(controller, filled, tmp_path, flags):
    path = tmp_path / "x"
    path.write_bytes(b"head")
    fd = os.open(path, flags)
    os.lseek(fd, 4, os.SEEK_SET)
    other = os.dup(fd)
    source = filled()
    leaving = controller(source)
    leaving.descriptors.put("out", fd)
    leaving.migrate("fd:out", blocking=True)
    size = path.stat().st_size
    assert os.lseek(other, 0, os.SEEK_CUR) == size and size > 4
    assert fcntl.fcntl(other, fcntl.F_GETFL) & os.O_APPEND == flags & os.O_APPEND
    os.write(other, b"tail")
    os.close(other)
    assert path.read_bytes()[:8] == b"headQEVM"
    target, loading = waiting(controller)
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 4, os.SEEK_SET)
    loading.descriptors.put("in", fd)
    loading.incoming("fd:in", blocking=True)
    assert same_ram(source, target)


def test_the_magic_comes_last(context, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"QEVM old one")
    context.descriptors.put("f", os.open(path, os.O_RDWR))
    out = FDChannel().open_output("f", context)
    assert path.read_bytes() == b"\0\0\0\0"
    for piece in (b"Q", b"EVMab", b"c"):
        out.write(piece)
    assert path.read_bytes() == b"\0\0\0\0abc"
    assert out.position == 7
    out.commit()
    assert path.read_bytes() == b"QEVMabc"


def test_the_magic_never_comes_after_a_failure(context, tmp_path):
    path = tmp_path / "x"
    context.descriptors.put("f", os.open(path, os.O_RDWR | os.O_CREAT))
    out = FDChannel().open_output("f", context)
    out.write(b"QEVMabc")
    out.abort()
    out.abort()
    assert path.read_bytes() == b"\0\0\0\0abc"


def refused(function, *args):
    with pytest.raises(MigrationError) as caught:
        function(*args)
    return caught.value.desc


def test_refusals(context, tmp_path, controller):
    channel = FDChannel()
    assert refused(channel.parse, "") == "invalid file descriptor address"
    assert refused(channel.open_output, "none", context) == "File descriptor named 'none' has not been found"
    assert refused(channel.open_output, "999999", context) == "File descriptor named '999999' has not been found"
    put, flags = context.descriptors.put, os.O_CREAT
    put("r", os.open(tmp_path / "x", os.O_RDONLY | flags))
    assert refused(channel.open_output, "r", context) == "fd 'r' is open for reading only"
    put("w", os.open(tmp_path / "x", os.O_WRONLY))
    assert refused(channel.open_input, "w", context) == "fd 'w' is open for writing only"
    put("d", os.open(tmp_path, os.O_RDONLY))
    assert refused(channel.open_input, "d", context) == "fd 'd' is a directory"
    with socket.create_server(("127.0.0.1", 0)) as server:
        put("l", os.dup(server.fileno()))
        assert refused(channel.open_input, "l", context) == "fd 'l' is a listening socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        put("u", os.dup(datagrams.fileno()))
        assert refused(channel.open_output, "u", context) == "fd 'u' is no stream socket"
    assert refused(put, "3x", os.dup(0)) == "Parameter 'fdname' expects a name not starting with a digit"
    made = controller(kind="mapped")
    assert refused(made.migrate, "fd:out") == "Migration requires seekable transport (e.g. file)"
    made = controller()
    made.set_capabilities({"multifd": True})
    assert refused(made.migrate, "fd:out") == "Migration requires multi-channel URIs (e.g. tcp)"


def test_pipes_keep_their_flags(context):
    here, there = os.pipe()
    kept = os.dup(there)
    context.descriptors.put("p", there)
    out = FDChannel().open_output("p", context)
    assert os.get_blocking(kept)
    out.write(b"abc")
    out.commit()
    assert os.read(here, 10) == b"abc"
    os.close(kept)
    assert os.read(here, 10) == b""
    os.close(here)


def test_no_reader_is_an_error_and_no_signal(context):
    """Also where the process does not ignore SIGPIPE, as programs of the command line like to arrange."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        here, there = os.pipe()
        os.close(here)
        context.descriptors.put("p", there)
        out = FDChannel().open_output("p", context)
        with pytest.raises(MigrationError, match="Unable to write to fd: Broken pipe"):
            out.write(b"abc")
        out.abort()
        one, other = socket.socketpair()
        one.close()
        context.descriptors.put("s", other.detach())
        out = FDChannel().open_output("s", context)
        with pytest.raises(MigrationError, match="Unable to write to socket: Broken pipe"):
            out.write(b"abc")
        out.abort()
        assert not signal.sigpending()
    finally:
        signal.signal(signal.SIGPIPE, before)


# -- sets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd", "mapped-multifd-direct"])
def test_saves_to_a_set_and_back(controller, filled, tmp_path, kind):
    path = tmp_path / "x"
    source = filled()
    leaving = controller(source, kind)
    for flags in (os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_DIRECT):
        given = leaving.descriptors.add(os.open(path, flags), 7)
        assert given["fdset-id"] == 7
    leaving.migrate("file:/dev/fdset/7", blocking=True)
    target, loading = waiting(controller, kind)
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_DIRECT):
        loading.descriptors.add(os.open(path, flags), 0)
    loading.incoming("file:/dev/fdset/0", blocking=True)
    assert same_ram(source, target)
    for controller_ in (leaving, loading):
        controller_.close()
        assert controller_.descriptors.query() == []


def test_the_right_member_is_needed(controller, tmp_path):
    made = controller()
    assert refused(made.migrate, "file:/dev/fdset/1") == "Failed to find fdset /dev/fdset/1"
    assert refused(made.migrate, "file:/dev/fdset/x") == "Could not parse fdset /dev/fdset/x"
    made.descriptors.add(os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT), 1)
    assert refused(made.migrate, "file:/dev/fdset/1") == "Failed to find file descriptor with matching flags=0x41"
    made.descriptors.close()
    made = controller(kind="mapped-multifd-direct")
    made.descriptors.add(os.open(tmp_path / "x", os.O_WRONLY), 1)
    text = f"Failed to find file descriptor with matching flags={os.O_WRONLY | os.O_DIRECT:#x}"
    with pytest.raises(MigrationError, match=text):
        made.migrate("file:/dev/fdset/1", blocking=True)
    made.close()


def test_sets():
    descriptors = Descriptors()
    fds = [os.dup(0) for _ in range(4)]
    assert descriptors.add(fds[0], opaque="rd") == {"fdset-id": 0, "fd": fds[0]}
    assert descriptors.add(fds[1]) == {"fdset-id": 1, "fd": fds[1]}
    assert descriptors.add(fds[2], 0) == {"fdset-id": 0, "fd": fds[2]}
    assert descriptors.query() == [
        {"fdset-id": 0, "fds": [{"fd": fds[0], "opaque": "rd"}, {"fd": fds[2]}]},
        {"fdset-id": 1, "fds": [{"fd": fds[1]}]},
    ]
    assert refused(descriptors.add, fds[3], -1) == "Parameter 'fdset-id' expects a non-negative value"
    descriptors.remove(0, fds[0])
    assert refused(descriptors.remove, 0, fds[0]) == f"File descriptor named 'fdset-id:0, fd:{fds[0]}' not found"
    descriptors.remove(0)
    assert refused(descriptors.remove, 0) == "File descriptor named 'fdset-id:0' not found"
    assert descriptors.add(os.dup(0))["fdset-id"] == 0
    descriptors.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_of_a_longer_file_nothing_is_left_behind_the_stream(controller, tmp_path):
    """A reader looks for the description from the end, and must not find that of the save before."""
    path = tmp_path / "x"
    controller(FakeHost((("ram", 4 << 20),), name="old"), **{"zero-page-detection": "none"}).migrate_file(path)
    made = controller(FakeHost((("ram", 1 << 20),), name="new"))
    made.descriptors.put("given", os.open(path, os.O_RDWR))
    made.migrate("fd:given", blocking=True)
    assert read_description(path)["board"] == "new"
    made.close()


def test_a_file_that_somebody_uses_is_not_written_in_place(context, tmp_path):
    """A machine that was restored lazily has its RAM in the file: cutting it off would take the RAM away."""
    path = tmp_path / "x"
    path.write_bytes(b"QEVM")
    with path.open("rb") as user:
        fcntl.flock(user, fcntl.LOCK_SH)
        context.descriptors.put("f", os.open(path, os.O_RDWR))
        message = refused(FDChannel().open_output, "f", context)
    assert message.startswith("fd 'f' cannot be written in place: somebody writes it, or a machine")
    assert path.read_bytes() == b"QEVM"


def test_the_lock_is_given_back_although_others_have_the_descriptor(context, tmp_path):
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    kept = os.dup(fd)
    context.descriptors.put("f", fd)
    FDChannel().open_output("f", context).commit()
    with open(tmp_path / "x", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(kept)

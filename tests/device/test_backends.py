# SPDX-License-Identifier: MIT
"""Backends under pressure: hosts that do not read, do not stop, or kill us; disks against a model."""

import os
import pty
import queue
import signal
import socket
import subprocess
import sys
import termios
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.device import Device, Property, open_chardev, open_drive
from pyemu.device.chardev import pump
from pyemu.device.chardev.base import INPUT_LIMIT
from pyemu.device.options import escape_commas, parse_options, split_commas
from pyemu.errors import ConfigError

PATIENCE = 20


# -- option strings -------------------------------------------------------------------------------


@given(st.lists(st.text("a,=:é", min_size=1).filter(lambda t: not t.startswith(",")), min_size=1))
def test_escaped_parts_come_back(parts):
    # A part that ends in a comma cannot be told from one before a part that begins with one.
    assert split_commas(",".join(escape_commas(p) for p in parts)) == parts


def test_options_are_checked():
    assert parse_options("x", ["a", "b=1=2"], ("a", "b")) == {"a": "on", "b": "1=2"}
    with pytest.raises(ConfigError, match="x: unknown option 'c=1'; it has: a, b"):
        parse_options("x", ["c=1"], ("a", "b"))
    with pytest.raises(ConfigError, match="a is given twice: '1' and '2'"):
        parse_options("x", ["a=1", "a=2"], ("a",))


# -- as properties --------------------------------------------------------------------------------


class Plugged(Device):
    type_name = "plugged"
    properties = (
        Property("chardev", "chardev"),
        Property("log", "chardev"),
        Property("drive", "drive"),
        Property("size", "int", 1, minimum=1),
    )


def test_backends_given_as_specs_are_opened_and_closed_by_the_device(tmp_path):
    path = tmp_path / "log"
    mine = open_chardev("memory")
    device = Plugged(chardev=mine, log=f"file:{path}")
    assert device.backends() == [mine, device.log]
    device.log.write(b"x")
    device.close()
    assert path.read_bytes() == b"x" and device.log.closed and not mine.closed


def test_nothing_is_opened_for_a_device_that_cannot_be(tmp_path):
    path = tmp_path / "log"
    with pytest.raises(ConfigError, match="size=0"):
        Plugged(log=f"file:{path}", size=0)
    assert not path.exists()


def test_what_was_opened_is_closed_when_the_next_one_fails(tmp_path):
    path = tmp_path / "sock"
    with pytest.raises(ConfigError, match="/nowhere/disk"):
        Plugged(chardev=f"unix:{path},server=on", drive="file=/nowhere/disk")
    assert not path.exists()


def test_what_is_no_backend_is_refused():
    with pytest.raises(ConfigError, match="chardev=3 is not a chardev"):
        Plugged(chardev=3)


# -- chardevs -------------------------------------------------------------------------------------


def test_input_that_nobody_takes_stays_with_the_host():
    sent, total = [], 8 * INPUT_LIMIT
    with open_chardev("tcp:127.0.0.1:0,server=on") as c:
        work, room, got = queue.Queue(), [0], bytearray()
        c.attach(work.put)
        c.set_receiver(got.extend, lambda: room[0])
        with socket.create_connection(("127.0.0.1", c.port), timeout=PATIENCE) as peer:
            data = os.urandom(total)
            sender = threading.Thread(target=lambda: sent.append(peer.sendall(data)))
            sender.start()
            work.get(timeout=PATIENCE)()
            assert not got and c.pending <= INPUT_LIMIT
            room[0] = 1000
            c.accept_input()
            while len(got) < total:
                work.get(timeout=PATIENCE)()
                assert c.pending <= INPUT_LIMIT
            sender.join(PATIENCE)
        assert bytes(got) == data and sent == [None]


def test_a_chardev_that_is_not_attached_keeps_its_input():
    with open_chardev("tcp:127.0.0.1:0,server=on") as c:
        with socket.create_connection(("127.0.0.1", c.port), timeout=PATIENCE) as peer:
            peer.sendall(b"early")
        work, got = queue.Queue(), bytearray()
        c.set_receiver(got.extend)
        c.attach(work.put)
        while got != b"early":
            work.get(timeout=PATIENCE)()


def test_what_a_receiver_raises_comes_out_and_later_input_still_arrives():
    c, got = open_chardev("memory"), []

    def receive(data):
        if data == b"bad":
            raise RuntimeError("bad")
        got.append(data)

    c.set_receiver(receive)
    with pytest.raises(RuntimeError):
        c.feed(b"bad")
    c.feed(b"good")
    assert got == [b"good"]


def test_closing_does_not_wait_for_a_pipe_that_nobody_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(pump, "DRAIN_SECONDS", 0.05)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError, match="fifo"):
        open_chardev(f"file:{fifo}")  # nobody has it open for reading
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        c = open_chardev(f"file:{fifo}")
        for _ in range(64):
            c.write(bytes(64 << 10))
        c.close()
        assert c.dropped > 0
        assert not [t for t in threading.enumerate() if t.name == "pyemu-chardev-file"]
    finally:
        os.close(reader)


def test_the_socket_of_a_dead_process_is_replaced_and_nothing_else(tmp_path):
    stale, precious = tmp_path / "stale", tmp_path / "precious"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    precious.write_text("keep me")
    with open_chardev(f"unix:{stale},server=on"), pytest.raises(ConfigError, match="another process listens"):
        open_chardev(f"unix:{stale},server=on")
    with pytest.raises(ConfigError, match="is no socket"):
        open_chardev(f"unix:{precious},server=on")
    assert precious.read_text() == "keep me" and not stale.exists()
    with pytest.raises(ConfigError, match="1 to 107 bytes"):
        open_chardev(f"unix:{tmp_path}/{'x' * 120},server=on")


def test_a_client_is_a_peer_like_any_other(tmp_path):
    path = tmp_path / "sock"
    with open_chardev(f"unix:{path},server=on") as server, open_chardev(f"unix:{path}") as client:
        work, got = queue.Queue(), bytearray()
        server.attach(work.put)
        server.set_receiver(got.extend)
        client.write(b"over here")
        while got != b"over here":
            work.get(timeout=PATIENCE)()


def test_waiting_for_the_first_client(tmp_path):
    path = tmp_path / "sock"
    opened = queue.Queue()
    opener = threading.Thread(target=lambda: opened.put(open_chardev(f"unix:{path},server=on,wait=on")))
    opener.start()
    with socket.socket(socket.AF_UNIX) as peer:
        while peer.connect_ex(str(path)):
            os.sched_yield()
        with opened.get(timeout=PATIENCE) as c:
            assert c.connected.is_set()
    opener.join(PATIENCE)


HOLD_TERMINAL = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pyemu.device import open_chardev
c = open_chardev("stdio")
c.write(b"ready")
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda process, master: process.send_signal(signal.SIGTERM), -signal.SIGTERM),
        (lambda process, master: os.write(master, b"\x03"), 7),
        (lambda process, master: os.write(master, b"\x01x"), 7),
    ],
    ids=["SIGTERM", "Ctrl-C", "Ctrl-A x"],
)
def test_the_terminal_comes_back_however_the_program_ends(act, status):
    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", HOLD_TERMINAL],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # Makes the pseudo-terminal the controlling one, so that Ctrl-C becomes a signal.
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        shown = b""
        while b"ready" not in shown:
            shown += os.read(master, 100)
        assert not termios.tcgetattr(slave)[3] & termios.ICANON
        act(process, master)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (status, b"")
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_only_one_chardev_has_the_terminal():
    from pyemu.device.chardev.stdio import StdioChardev

    (reader, other), writer = os.pipe(), os.open(os.devnull, os.O_WRONLY)
    try:
        with StdioChardev(reader=reader, writer=writer) as c:
            with pytest.raises(ConfigError, match="has the terminal"):
                open_chardev("stdio")
            # No terminal: every byte is the guest's, the escape key too.
            work, got = queue.Queue(), bytearray()
            c.attach(work.put)
            c.set_receiver(got.extend)
            os.write(other, b"\x01x\x03")
            while got != b"\x01x\x03":
                work.get(timeout=PATIENCE)()
        StdioChardev(reader=reader, writer=writer).close()
    finally:
        for fd in (reader, other, writer):
            os.close(fd)


# -- disks ----------------------------------------------------------------------------------------

SIZE = 5 * 4096 + 1000
WHOLE = -(-SIZE // 512) * 512
ACCESSES = st.lists(st.tuples(st.integers(0, WHOLE), st.integers(0, 9000), st.binary(min_size=1, max_size=3)), max_size=12)


@pytest.mark.parametrize("snapshot", ["on", "off"])
@given(accesses=ACCESSES)
def test_a_disk_is_an_array_of_bytes(tmp_path_factory, snapshot, accesses):
    path = tmp_path_factory.mktemp("disk") / "image"
    original = os.urandom(SIZE)
    path.write_bytes(original)
    model = bytearray(original) + bytes(WHOLE - SIZE)
    with open_drive(f"file={path},snapshot={snapshot}") as drive:
        assert drive.size == WHOLE
        for offset, length, pattern in accesses:
            length = min(length, WHOLE - offset)
            assert drive.read(offset, length) == model[offset : offset + length]
            data = (pattern * length)[:length]
            drive.write(offset, data)
            model[offset : offset + length] = data
        assert drive.read(0, WHOLE) == model
        drive.flush()
    stored = path.read_bytes()
    assert stored == original if snapshot == "on" else stored.ljust(WHOLE, b"\0") == model


def test_a_cdrom_is_never_written(tmp_path):
    path = tmp_path / "cd"
    path.write_bytes(bytes(2048))
    path.chmod(0o444)
    with open_drive(f"file={path},media=cdrom") as drive:
        assert drive.read_only and "media=cdrom" in drive.spec


def test_an_image_that_shrinks_reads_as_zeros(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 4096)
    with open_drive(f"file={path}") as drive:
        os.truncate(path, 512)
        assert drive.read(0, 1024) == b"x" * 512 + bytes(512)

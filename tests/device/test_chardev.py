# SPDX-License-Identifier: MIT
import os
import pty
import queue
import socket
import stat
import termios

import pytest

from pyemu.device import open_chardev
from pyemu.errors import ConfigError

PATIENCE = 10


class FrontEnd:
    """A device's side: takes a few bytes at a time."""

    def __init__(self, chardev, room=1 << 20):
        self.work = queue.Queue()
        self.got = b""
        self.room = room
        chardev.attach(self.work.put)
        chardev.set_receiver(self.receive, lambda: self.room)

    def receive(self, data):
        assert len(data) <= self.room
        self.got += data
        self.room -= len(data)

    def run_until(self, wanted):
        while len(self.got) < wanted:
            self.work.get(timeout=PATIENCE)()


def test_memory_captures_output_and_feeds_input():
    c = open_chardev("memory")
    seen = []
    c.set_receiver(seen.append)
    assert c.write(b"hello") == 5 and c.capture.data() == b"hello"
    assert c.feed(b"in") == 2 and seen == [b"in"]


def test_conditions_see_patterns_in_pieces_and_wake_once():
    c = open_chardev("memory")
    condition, woken = c.contains(b"ready"), []
    condition.subscribe(lambda: woken.append(1))
    for part in (b"rea", b"d", b"y rea", b"dy"):
        c.write(part)
    assert condition() and woken == [1]
    assert not c.contains(b"ready", since=c.capture.total)()


def test_the_capture_is_bounded():
    c = open_chardev("memory")
    for _ in range(100):
        c.write(b"x" * 10_000)
    assert c.capture.total == 1_000_000 and len(c.capture.data()) <= 64 << 10


def test_a_file_gets_what_is_written(tmp_path):
    path = tmp_path / "log"
    c = open_chardev(f"file:{path}")
    c.write(b"one")
    c.close()
    c.close()
    assert path.read_bytes() == b"one"
    with open_chardev(f"file:{path},append=on") as c:
        c.write(b"two")
    assert path.read_bytes() == b"onetwo"


def test_a_tcp_server_keeps_early_output_and_serves_one_client_after_the_other():
    with open_chardev("tcp:127.0.0.1:0,server=on") as c:
        front = FrontEnd(c, room=3)
        c.write(b"early ")
        host, port = c.address.rsplit(":", 1)
        for text in (b"early ", b""):
            with socket.create_connection((host.split(":")[-1], int(port)), timeout=PATIENCE) as peer:
                assert c.wait_connected(PATIENCE)
                c.write(b"now")
                expected = text + b"now"
                got = b""
                while len(got) < len(expected):
                    got += peer.recv(100)
                assert got == expected
                peer.sendall(b"abcdef")
                front.run_until(3)
                front.room = 3
                c.accept_input()
                front.run_until(6)
                assert front.got == b"abcdef"
                front.got, front.room = b"", 3
            while c.connected.is_set():
                os.sched_yield()


def test_a_unix_server_is_private_and_leaves_no_file(tmp_path):
    path = tmp_path / "sock"
    with open_chardev(f"unix:{path},server=on"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_output_nobody_takes_is_dropped_and_counted_and_never_blocks():
    with open_chardev("tcp:127.0.0.1:0,server=on") as c:
        for _ in range(1000):
            c.write(b"x" * 10_000)
        assert c.dropped > 0
        assert c.capture.total == 10_000_000


def test_stdio_gives_the_terminal_back():
    from pyemu.device.chardev.stdio import StdioChardev

    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        c = StdioChardev(reader=slave, writer=slave)
        front = FrontEnd(c)
        assert termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON) == 0
        assert termios.tcgetattr(slave)[3] & termios.ISIG
        os.write(master, b"k\x01\x01")
        front.run_until(2)
        assert front.got == b"k\x01"
        c.write(b"shown")
        assert os.read(master, 5) == b"shown"
        c.close()
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_ctrl_a_x_asks_to_quit():
    from pyemu.device.chardev.stdio import StdioChardev

    master, slave = pty.openpty()
    quits = queue.Queue()
    with StdioChardev(reader=slave, writer=slave) as c:
        c.on_quit = lambda: quits.put(True)
        FrontEnd(c)
        os.write(master, b"\x01x")
        assert quits.get(timeout=PATIENCE)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    "spec",
    ["", "telepathy", "null:x", "file:", "unix:", "tcp:host", "tcp:host:99999", "file:/nowhere/x", "unix:/nowhere/x",
     "unix:/nowhere/x,server=on", "tcp:127.0.0.1:1", "memory,x=1", "tcp:127.0.0.1:0,server=maybe"],
)  # fmt: skip
def test_what_cannot_be_opened_is_named(spec):
    with pytest.raises(ConfigError) as info:
        open_chardev(spec)
    assert spec.split(",")[0].split(":")[-1] in str(info.value)

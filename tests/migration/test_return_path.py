# SPDX-License-Identifier: MIT
"""What a destination tells the source, and what becomes of the source then."""

from __future__ import annotations

import os
import socket
import struct
import threading

import numpy as np
import pytest
from migration.fakehost import FakeHost, FakeSource

from pyemu.errors import MigrationError

BIG = (("ram", 1 << 20),)
PONG = bytes.fromhex("0002000400000001")
DONE = bytes.fromhex("0001000400000000")
FAILED = bytes.fromhex("0001000400000001")
ACKNOWLEDGED = bytes.fromhex("00070000")


def pair(controller, filled, tmp_path, *, capabilities=("return-path",), target_blocks=BIG, state="running"):
    source, target = filled(blocks=BIG, run_state=state), FakeHost(target_blocks, run_state="inmigrate")
    leaving, waiting = controller(source), controller(target)
    for made in (leaving, waiting):
        made.set_capabilities(dict.fromkeys(capabilities, True))
    leaving.use_dirty_source(FakeSource())
    waiting.incoming(f"unix:{tmp_path}/s")
    return source, leaving, target, waiting


@pytest.mark.parametrize(
    "capabilities", [("return-path",), ("return-path", "switchover-ack"), ("return-path", "multifd")], ids=" ".join
)
@pytest.mark.parametrize("state", ["running", "paused"])
def test_both_ends_agree_that_it_is_done(controller, filled, tmp_path, capabilities, state):
    source, leaving, target, waiting = pair(controller, filled, tmp_path, capabilities=capabilities, state=state)
    leaving.migrate(f"unix:{tmp_path}/s")
    assert leaving.wait(10) == waiting.wait(20) == "completed"
    assert source.run_state == "postmigrate" and target.run_state == state
    assert np.array_equal(source.blocks[0].array, target.blocks[0].array)
    assert not [t for t in threading.enumerate() if t.name == "migration-return-path"]


def test_a_destination_that_fails_lets_the_source_run_on(controller, filled, tmp_path):
    source, leaving, _, waiting = pair(controller, filled, tmp_path, target_blocks=(("ram", 8 << 20),))
    leaving.migrate(f"unix:{tmp_path}/s")
    assert leaving.wait(10) == waiting.wait(20) == "failed"
    assert "Size mismatch: ram" in waiting.query()["error-desc"]
    assert leaving.query()["error-desc"] in (
        "the destination failed to load the machine (return path: status 1)",
        # The word is lost where the system drops it together with what nobody read.
        "the destination closed the connection before it had loaded everything",
        "load of migration failed: Input/output error: Unable to read from socket: Connection reset by peer",
    )
    assert source.run_state == "running"


class Destination:
    """A listening socket that takes what comes and answers what it is told to.

    Args:
        path: of the socket.
        first: sent as soon as the source has connected.
    """

    def __init__(self, path, first=b""):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._first = first
        self.data = b""
        self.connected, self.everything, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        self.peer, _ = self._listener.accept()
        self.connected.set()
        self.peer.sendall(self._first)
        try:
            while data := self.peer.recv(1 << 20):
                self.data += data
                # The end of the description's JSON text, which is the end of the stream.
                if b'{"configuration"' in self.data and data.endswith(b"}"):
                    self.everything.set()
        except ConnectionResetError:
            pass  # a source that ends leaves what it was told unread
        self.ended.set()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.thread.join(10)
        self.peer.close()
        self._listener.close()


def leave(controller, filled, tmp_path, first=b"", capabilities=("return-path",), **more):
    source = filled(blocks=BIG, run_state="running")
    leaving = controller(source, **more)
    leaving.set_capabilities(dict.fromkeys(capabilities, True))
    leaving.use_dirty_source(FakeSource())
    return source, leaving, Destination(tmp_path / "s", first)


def test_messages_on_the_wire(controller, filled, tmp_path):
    source, leaving, destination = leave(controller, filled, tmp_path, PONG)
    with destination:
        leaving.migrate(f"unix:{tmp_path}/s")
        assert destination.everything.wait(10)
        destination.peer.sendall(DONE)
        assert leaving.wait(10) == "completed"
        assert destination.ended.wait(10)
    # Directly behind the configuration, which without capabilities ends with the machine's name.
    commands = struct.pack(">BHH", 8, 1, 0) + struct.pack(">BHHI", 8, 2, 4, 1)
    assert destination.data[8:].startswith(b"\x07\0\0\0\4none" + commands + b"\x01")
    assert source.run_state == "postmigrate"


def test_the_answers_on_the_wire(controller, filled, tmp_path):
    saved = filled(blocks=BIG)
    controller(saved).migrate_file(tmp_path / "x")
    stream = (tmp_path / "x").read_bytes()
    head = stream.index(b"none") + 4
    asking = stream[:head] + struct.pack(">BHH", 8, 1, 0) + struct.pack(">BHHI", 8, 2, 4, 7) + stream[head:]
    for capabilities, before in ((("return-path",), b""), (("return-path", "switchover-ack"), ACKNOWLEDGED)):
        target = FakeHost(BIG, run_state="inmigrate")
        waiting = controller(target)
        waiting.set_capabilities(dict.fromkeys(capabilities, True))
        waiting.incoming(f"unix:{tmp_path}/s")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(tmp_path / "s"))
            sock.sendall(asking)
            answer = b""
            while data := sock.recv(4096):
                answer += data
        assert waiting.wait(10) == "completed"
        assert answer == before + bytes.fromhex("0002000400000007") + DONE
    # A stream that asks twice, and one that pings without asking.
    for bad, text in (
        (asking[:head] + asking[head : head + 5] * 2, "OPEN_RETURN_PATH comes a second time"),
        (asking[:head] + asking[head + 5 :], r"CMD_PING \(0x7\) received with no return path"),
    ):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(MigrationError, match=text):
            controller(FakeHost(BIG, run_state="inmigrate")).incoming(f"file:{tmp_path}/bad", blocking=True)
    # Kept in a file nobody waits for an answer.
    (tmp_path / "kept").write_bytes(asking)
    controller(FakeHost(BIG, run_state="inmigrate")).incoming(f"file:{tmp_path}/kept", blocking=True)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (FAILED, "the destination failed to load the machine (return path: status 1)"),
        (DONE, "return path: the destination is done before it was sent everything"),
        (b"\0\2\0\5", "return path: message PONG of 5 bytes is not part of a precopy migration"),
        (b"\0\4\0\x0c", "return path: message type 0x4 of 12 bytes is not part of a precopy migration"),
        (b"\0\0\0\0", "return path: message type 0x0 of 0 bytes is not part of a precopy migration"),
        (b"\xff\xff\xff\xff", "return path: message type 0xffff of 65535 bytes is not part of a precopy migration"),
    ],
)
def test_bad_answers_end_the_migration_while_it_runs(controller, filled, tmp_path, answer, text):
    # So slow that only the answer can end it.
    source, leaving, destination = leave(controller, filled, tmp_path, PONG + answer, **{"max-bandwidth": 1 << 16})
    with destination:
        leaving.migrate(f"unix:{tmp_path}/s")
        assert leaving.wait(10) == "failed"
    assert leaving.query() == {"status": "failed", "error-desc": text}
    assert source.run_state == "running"


def test_a_destination_that_goes_away_is_noticed(controller, filled, tmp_path):
    source, leaving, destination = leave(controller, filled, tmp_path, **{"max-bandwidth": 1 << 16})
    with destination:
        started = threading.Event()
        leaving.migrate(f"unix:{tmp_path}/s", progress=lambda p: p.transferred_bytes and started.set())
        assert started.wait(10) and destination.connected.wait(10)
        destination.peer.shutdown(socket.SHUT_RDWR)
        assert leaving.wait(10) == "failed"
    assert leaving.query()["error-desc"] == "the destination closed the connection before it had loaded everything"
    assert source.run_state == "running"


def test_cancelling_while_the_destination_is_silent(controller, filled, tmp_path):
    source, leaving, destination = leave(controller, filled, tmp_path)
    with destination:
        leaving.migrate(f"unix:{tmp_path}/s")
        assert destination.everything.wait(10)
        assert source.run_state == "finish-migrate"
        leaving.cancel()
        assert leaving.wait(10) == "cancelled"
        assert destination.ended.wait(10)
    assert source.run_state == "running"


def test_a_destination_that_is_no_longer_wanted_does_not_run_its_guest(controller, filled, tmp_path):
    saved = filled(blocks=BIG)
    controller(saved).migrate_file(tmp_path / "x")
    stream = (tmp_path / "x").read_bytes()
    head = stream.index(b"none") + 4
    target = FakeHost(BIG, run_state="inmigrate")
    waiting = controller(target)
    waiting.incoming(f"unix:{tmp_path}/s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "s"))
        sock.sendall(stream[:head] + struct.pack(">BHH", 8, 1, 0) + stream[head:-1])
        # What a cancelled source does, before the last byte has come.
        sock.shutdown(socket.SHUT_RD)
        sock.sendall(stream[-1:])
        assert waiting.wait(10) == "failed"
    assert target.run_state == "inmigrate"


def test_the_guest_runs_until_the_destination_agrees(controller, filled, tmp_path):
    source, leaving, destination = leave(
        controller, filled, tmp_path, PONG, ("return-path", "switchover-ack"), **{"downtime-limit": 2000000}
    )
    waits = threading.Event()
    with destination:
        leaving.migrate(f"unix:{tmp_path}/s")
        control = leaving._control
        pause = control.pause

        def watched(seconds):
            waits.set()
            pause(seconds)

        control.pause = watched
        assert waits.wait(10)
        assert source.run_state == "running" and leaving.status == "active"
        destination.peer.sendall(ACKNOWLEDGED)
        assert destination.everything.wait(10)
        destination.peer.sendall(DONE)
        assert leaving.wait(10) == "completed"
    assert source.run_state == "postmigrate"


def test_a_pipe_has_no_way_back(controller, tmp_path):
    source = FakeHost(run_state="running")
    made = controller(source)
    made.use_dirty_source(FakeSource())
    made.set_capabilities({"return-path": True})
    reader, writer = os.pipe()
    try:
        # What a descriptor is shows only when it is used.
        made.migrate(f"fd:{writer}")
        assert made.wait(10) == "failed"
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)
    assert made.query()["error-desc"] == "Return path requires a transport that goes both ways (e.g. tcp)"
    assert source.run_state == "running"


@pytest.mark.parametrize("uri", ["file:PATH/x", "exec:cat > PATH/x"])
def test_where_nobody_can_answer_it_is_refused_at_once(controller, tmp_path, uri):
    source = FakeHost(run_state="running")
    made = controller(source)
    made.set_capabilities({"return-path": True})
    with pytest.raises(MigrationError) as caught:
        made.migrate(uri.replace("PATH", str(tmp_path)))
    assert caught.value.desc == "Return path requires a transport that goes both ways (e.g. tcp)"
    assert made.query() == {} and os.listdir(tmp_path) == []

# SPDX-License-Identifier: MIT
"""Descriptors handed over with QMP commands, and migrations that use them."""

import json
import os
import socket

import numpy as np
import pytest

from pyemu import Machine
from pyemu.control import QMPServer


class Client:
    """Sends one command at a time, with descriptors, and hears the answer."""

    def __init__(self, server):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(server.address.path)
        self.lines = self.sock.makefile("rb")
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command, fds=(), **arguments):
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        message = json.dumps({"execute": command, "arguments": arguments}).encode()
        socket.send_fds(self.sock, [message], list(fds))
        while True:
            answer = json.loads(self.lines.readline())
            if "event" not in answer:
                return answer["error"]["desc"] if "error" in answer else answer["return"]

    def close(self):
        self.lines.close()
        self.sock.close()


@pytest.fixture
def connect(tmp_path):
    made = []

    def connect(**options):
        machine = Machine("none", memory="1M", **options)
        server = QMPServer(machine, f"unix:{tmp_path}/qmp{len(made)}")
        made.extend((machine, server, client := Client(server)))
        return machine, client

    yield connect
    for thing in reversed(made):
        thing.close()


def test_names(connect):
    _machine, qmp = connect()
    assert qmp("getfd", fdname="x") == "No file descriptor supplied via SCM_RIGHTS"
    assert qmp("getfd", [0], fdname="3x") == "Parameter 'fdname' expects a name not starting with a digit"
    assert qmp("getfd", [0], fdname="x") == {}
    assert qmp("closefd", fdname="x") == {}
    assert qmp("closefd", fdname="x") == "File descriptor named 'x' not found"
    assert qmp("getfd", [0], fdname="x", take_fd=1) == "Parameter 'take-fd' is unexpected"
    # What the refused command did not take is there for the next one.
    assert qmp("getfd", fdname="y") == {}


def test_sets(connect):
    _machine, qmp = connect()
    assert qmp("query-fdsets") == []
    first = qmp("add-fd", [0], opaque="rdonly:x")
    assert first["fdset-id"] == 0
    second = qmp("add-fd", [0], fdset_id=4)
    assert qmp("query-fdsets") == [
        {"fdset-id": 0, "fds": [{"fd": first["fd"], "opaque": "rdonly:x"}]},
        {"fdset-id": 4, "fds": [{"fd": second["fd"]}]},
    ]
    assert qmp("remove-fd", **second | {"fdset-id": 5}) == (
        f"File descriptor named 'fdset-id:5, fd:{second['fd']}' not found"
    )
    assert qmp("remove-fd", fdset_id=4, fd=second["fd"]) == {}
    assert qmp("remove-fd", fdset_id=4) == "File descriptor named 'fdset-id:4' not found"


def test_descriptors_that_nobody_takes_are_closed(connect):
    _machine, qmp = connect()
    here, there = os.pipe()
    qmp("query-status", [there])
    os.close(there)
    os.set_blocking(here, False)
    with pytest.raises(BlockingIOError):
        os.read(here, 1)
    os.set_blocking(here, True)
    qmp.close()
    assert os.read(here, 1) == b""
    os.close(here)


def test_a_machine_moves_from_socket_to_socket_that_clients_made(connect):
    (source, out), (target, into) = connect(), connect(incoming=True)
    source.ram["ram"].array[:] = np.random.default_rng(1).integers(0, 256, 1 << 20, dtype=np.uint8)
    one, other = socket.socketpair()
    with one, other:
        assert out("getfd", [one.fileno()], fdname="wire") == {}
        assert into("getfd", [other.fileno()], fdname="wire") == {}
    address = {"transport": "socket", "type": "fd", "str": "wire"}
    assert into("migrate-incoming", uri="fd:wire") == {}
    assert out("migrate", channels=[{"channel-type": "main", "addr": address}]) == {}
    assert source.migration.wait(20) == target.migration.wait(20) == "completed"
    assert out("query-status")["status"] == "postmigrate"
    assert np.array_equal(source.ram["ram"].array, target.ram["ram"].array)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "need either 'uri' or 'channels' argument"),
        ({"uri": "tcp:a:1", "channels": []}, "need either 'uri' or 'channels' argument"),
        ({"channels": []}, "need either 'uri' or 'channels' argument"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "exec", "args": []}}] * 2},
         "Channel list has more than one main entry"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "socket", "type": "inet", "host": "h"}}]},
         "Parameter 'channels[0].addr.port' is missing"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "socket", "type": "inet", "host": "h", "port": 1}}]},
         "Invalid parameter type for 'channels[0].addr.port', expected: string"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "file", "filename": "/x", "zz": 1}}]},
         "Parameter 'channels[0].addr.zz' is unexpected"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "rdma"}}]},
         "Parameter 'transport' does not accept value 'rdma'"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "socket"}}]},
         "Parameter 'channels[0].addr.type' is missing"),
        ({"channels": [{"channel-type": "main"}]}, "Parameter 'channels[0].addr' is missing"),
        ({"channels": [3]}, "Invalid parameter type for 'channels[0]', expected: object"),
        ({"channels": [{"channel-type": "cpr", "addr": {}}]}, "Parameter 'channel-type' does not accept value 'cpr'"),
        ({"channels": [{"addr": {}}]}, "Parameter 'channels[0].channel-type' is missing"),
        ({"channels": [{"channel-type": "main", "addr": 3}]}, "Invalid parameter type for 'channels[0].addr', expected: object"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "socket", "type": "zz"}}]},
         "Parameter 'type' does not accept value 'zz'"),
        ({"channels": [{"channel-type": "main", "addr": {"transport": "exec", "args": "x"}}]},
         "Invalid parameter type for 'channels[0].addr.args', expected: array"),
        ({"uri": "tcp:foo"}, "error parsing address 'foo'"),
        ({"uri": "tcp:[::1"}, "error parsing IPv6 address '[::1'"),
        ({"uri": "unix:"}, "invalid Unix socket address"),
        ({"uri": "fd:"}, "invalid file descriptor address"),
        ({"uri": "fd:nope"}, "File descriptor named 'nope' has not been found"),
    ],
)  # fmt: skip
def test_refused_destinations(connect, arguments, text):
    machine, qmp = connect()
    assert qmp("migrate", **arguments) == text
    assert machine.run_state == "prelaunch"

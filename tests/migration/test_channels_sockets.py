# SPDX-License-Identifier: MIT
"""Migrations over sockets, from one machine to another in the same process."""

from __future__ import annotations

import contextlib
import select
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from migration.fakehost import FakeHost, FakeSource

from pyemu.errors import MigrationError
from pyemu.migration import ChannelContext, Descriptors, Interrupt, sockets
from pyemu.migration.sockets import UnixChannel
from pyemu.migration.tcp import InetAddress, TCPChannel


def uri_of(target):
    """Where a waiting machine listens, as a URI."""
    (address,) = target.query()["socket-address"][:1]
    if address["type"] == "unix":
        return f"unix:{address['path']}"
    host = f"[{address['host']}]" if ":" in address["host"] else address["host"]
    return f"tcp:{host}:{address['port']}"


@pytest.fixture(params=["tcp:127.0.0.1:0", "tcp:[::1]:0", "unix:PATH"])
def where(request, tmp_path):
    return request.param.replace("PATH", str(tmp_path / "sock"))


def test_a_machine_moves_over_a_socket(controller, filled, where, tmp_path):
    source, target = filled(blocks=(("ram", 1 << 20), ("more", 1 << 16))), FakeHost(
        (("ram", 1 << 20), ("more", 1 << 16)), run_state="inmigrate"
    )
    source.chips[0].count = 77
    waiting, leaving = controller(target), controller(source)
    waiting.incoming(where)
    assert waiting.query()["status"] == "setup"
    leaving.migrate(uri_of(waiting))
    assert leaving.wait(20) == "completed"
    assert waiting.wait(20) == "completed"
    assert "socket-address" not in waiting.query()
    for name, block in source.ram.items():
        assert np.array_equal(block.array, target.ram[name].array)
    assert target.chips[0].count == 77
    assert source.run_state == "postmigrate" and target.run_state == "paused"
    assert list(tmp_path.iterdir()) == []


# -- the channels themselves ----------------------------------------------------------------------


@pytest.fixture
def context():
    return ChannelContext(Interrupt(), Descriptors())


def listening(where, context, further=0):
    """A listener, and a function that connects to it."""
    scheme, _, text = where.partition(":")
    channel = {"tcp": TCPChannel, "unix": UnixChannel}[scheme]()
    listener = channel.listen(channel.parse(text), replace(context, further=further))
    address = channel.parse_object({n: v for n, v in listener.addresses[0].items() if n != "type"})
    return listener, lambda: channel.open_output(address, context)


def read_all(channel):
    data, view = bytearray(), memoryview(bytearray(1 << 16))
    while done := channel.readinto(view):
        data += view[:done]
    return bytes(data)


def test_connections_come_in_any_order(where, context):
    listener, connect = listening(where, context, further=2)
    first, nobody = connect(), connect()
    main, last = first.open_more(), connect()
    nobody.abort()
    first.write(b"first")
    last.writev([b"", b"la", memoryview(b"st")])
    main.write(b"QE")
    main.write(b"VM main")
    main.commit()
    accepted = listener.accept()
    others = [accepted.more(), accepted.more()]
    assert read_all(accepted) == b"QEVM main"
    first.commit()
    last.commit()
    assert {read_all(other) for other in others} == {b"first", b"last"}
    with pytest.raises(MigrationError, match="Failed to connect to"):
        connect()
    accepted.close()


def test_who_waits_is_let_go(where, context):
    """By closing from another thread: accepting, waiting for more, and reading."""
    listener, connect = listening(where, context, further=1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(listener.accept)
        listener.close()
        with pytest.raises(MigrationError, match="the listener was closed"):
            waiting.result(20)
    listener, connect = listening(where, context, further=1)
    out = connect()
    out.write(b"QEVM")
    into = listener.accept()
    answer = out.reply()
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(into.more), pool.submit(read_all, into), pool.submit(read_all, answer)]
        into.close()
        for one, text in zip(waits, ("the listener was closed", "the socket was closed"), strict=False):
            with pytest.raises(MigrationError, match=text):
                one.result(20)
        assert waits[2].result(20) == b""
    out.abort()


def test_unix_sockets_are_private_and_replace_only_dead_ones(context, tmp_path):
    path = tmp_path / "sock"
    listener, _ = listening(f"unix:{path}", context)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(MigrationError, match=f"Failed to bind socket to {path}: Address already in use"):
        listening(f"unix:{path}", context)
    listener.close()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener, _ = listening(f"unix:{path}", context)
    path.unlink()
    path.write_text("somebody else's")
    listener.close()
    with pytest.raises(MigrationError, match="Address already in use"):
        listening(f"unix:{path}", context)
    assert path.read_text() == "somebody else's"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("unix:/no/such/x", "Failed to bind socket to /no/such/x: No such file or directory"),
        ("unix:" + "a" * 108, f"UNIX socket path '{'a' * 108}' is too long"),
        ("tcp:192.0.2.1:0", "Failed to bind socket: Cannot assign requested address"),
        ("tcp:127.0.0.1:no-such-service", "address resolution failed for 127.0.0.1:no-such-service: "),
    ],
)
def test_where_nobody_can_listen(controller, where, text):
    made = controller(FakeHost(run_state="inmigrate"))
    with pytest.raises(MigrationError) as caught:
        made.incoming(where)
    assert caught.value.desc.startswith(text)
    made.incoming("tcp:127.0.0.1:0")
    made.close()


def test_a_range_of_ports(context):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listener, _ = listening(f"tcp:127.0.0.1:{port},to={min(port + 50, 65535)}", context)
        assert port < int(listener.addresses[0]["port"]) <= port + 50
        listener.close()
        with pytest.raises(MigrationError, match="Address already in use"):
            listening(f"tcp:127.0.0.1:{port},to={port}", context)


@pytest.mark.parametrize("text", ["127.0.0.1", "", "h:", "::1:5", "[::1]", "[]:1", "h:1,zz=1", "h:65536", "h:1,to=70000"])
def test_malformed_inet_addresses(text):
    with pytest.raises(MigrationError, match="error parsing (IPv6 )?address '"):
        TCPChannel().parse(text)


def test_inet_addresses():
    parse = TCPChannel().parse
    assert parse("[::1]:4444") == InetAddress("::1", "4444")
    assert parse(":0,to=9,ipv4=on,ipv6=off") == InetAddress("", "0", to=9, ipv4=True, ipv6=False)
    with pytest.raises(MigrationError, match="Cannot disable IPv4 and IPv6 at same time"):
        parse("h:1,ipv4=off,ipv6=off")
    families = {"h:1": socket.AF_UNSPEC, "h:1,ipv4=on": socket.AF_INET, "h:1,ipv4=off": socket.AF_INET6}
    assert {text: parse(text).family() for text in families} == families


def test_all_addresses_have_one_port(controller):
    made = controller(FakeHost(run_state="inmigrate"))
    made.incoming("tcp::0")
    addresses = made.query()["socket-address"]
    assert len({a["port"] for a in addresses}) == 1 and {a["host"] for a in addresses} <= {"::", "0.0.0.0"}
    made.close()
    assert made.status == "cancelled"


# -- failures -------------------------------------------------------------------------------------


def leaving_guest(controller, filled, size=8 << 20):
    """A running machine whose RAM no socket can hold."""
    source = filled(blocks=(("ram", size),), run_state="running")
    made = controller(source)
    made.use_dirty_source(FakeSource())
    return source, made


def unharmed(source, made, status):
    assert made.wait(20) == status
    assert source.run_state == "running"
    assert not [e for e in source.events if e[0] == "STOP"]


def test_nobody_there(controller, filled, tmp_path):
    source, made = leaving_guest(controller, filled)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for where, text in {
        f"tcp:127.0.0.1:{port}": f"Failed to connect to '127.0.0.1:{port}': Connection refused",
        f"unix:{tmp_path}/x": f"Failed to connect to '{tmp_path}/x': No such file or directory",
    }.items():
        made.migrate(where)
        unharmed(source, made, "failed")
        assert made.query() == {"status": "failed", "error-desc": text}


@pytest.fixture(params=["tcp", "unix"])
def peer(request, tmp_path):
    """A listening socket that accepts nothing by itself, and its URI."""
    if request.param == "tcp":
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        uri = f"tcp:127.0.0.1:{server.getsockname()[1]}"
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "peer"))
        server.listen(0)
        uri = f"unix:{tmp_path}/peer"
    with server:
        yield server, uri


def test_cancelled_while_nobody_answers(controller, filled, peer):
    server, uri = peer
    source, made = leaving_guest(controller, filled)
    with contextlib.ExitStack() as stack:
        while True:  # until no more fit into the backlog
            sock = stack.enter_context(socket.socket(server.family))
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
            ready = select.select([], [sock], [], 0.05)[1]
            if not ready or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or sock.connect_ex(server.getsockname()):
                break
        made.migrate(uri)
        assert made.query() == {"status": "setup"}
        made.cancel()
        unharmed(source, made, "cancelled")
    assert [e[1]["status"] for e in source.events if e[0] == "MIGRATION"] == ["setup", "cancelling", "cancelled"]


def test_cancelled_while_nobody_reads(controller, filled, peer):
    server, uri = peer
    source, made = leaving_guest(controller, filled)
    made.migrate(uri)
    taken, _ = server.accept()
    with taken:
        assert taken.recv(4) == b"QEVM"
        made.cancel()
        unharmed(source, made, "cancelled")
        # And it ends there: nothing that could be taken for a whole stream.
        taken.settimeout(20)
        while taken.recv(1 << 20):
            pass


def test_the_destination_goes_away(controller, filled, peer):
    server, uri = peer
    source, made = leaving_guest(controller, filled)
    made.migrate(uri)
    taken, _ = server.accept()
    assert taken.recv(4) == b"QEVM"
    taken.close()
    unharmed(source, made, "failed")
    assert made.query()["error-desc"] in (
        "Unable to write to socket: Broken pipe",
        "Unable to write to socket: Connection reset by peer",
    )


def test_the_source_goes_away(controller, where):
    target = FakeHost(run_state="inmigrate")
    made = controller(target)
    made.incoming(where)
    kind, _, text = uri_of(made).partition(":")
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET6 if "[" in text else socket.AF_INET) as sock:
        host, _, port = text.rpartition(":")
        sock.connect(text if kind == "unix" else (host.strip("[]"), int(port)))
        sock.sendall(b"QEVM\0\0\0\3\7")
    assert made.wait(20) == "failed"
    assert made.query()["error-desc"].startswith("load of migration failed: Input/output error")
    assert target.run_state == "inmigrate" and (target.blocks[0].array == 0).all()


def test_a_machine_that_ends_stops_listening(controller, where, tmp_path):
    target = FakeHost(run_state="inmigrate")
    made = controller(target)
    made.incoming(where, exit_on_error=True)
    uri = uri_of(made)
    made.close()
    assert made.status == "cancelled" and target.failed is None
    source = controller()
    with pytest.raises(MigrationError, match="Failed to connect"):
        source.migrate(uri, blocking=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tcp", "unix"])
def test_who_connects_and_says_nothing_keeps_nobody_out(context, tmp_path, monkeypatch, name):
    monkeypatch.setattr(sockets, "BACKLOG", 3)
    where = "tcp:127.0.0.1:0" if name == "tcp" else f"unix:{tmp_path}/sock"
    listener, connect = listening(where, context, further=1)
    silent = []
    with ThreadPoolExecutor() as pool:
        accepted = pool.submit(listener.accept)
        for _ in range(10):
            silent.append(connect())
        main = connect()
        main.write(b"QEVM")
        into = accepted.result(20)
    for channel in (*silent, main):
        channel.abort()
    into.close()


def test_without_a_way_back_nobody_hears_of_a_destination_that_never_read(controller, peer):
    """All of a small machine fits into the connection; that is the end of it for the source, as QEMU has it."""
    server, uri = peer
    made = controller()
    made.migrate(uri)
    taken, _ = server.accept()
    with taken:
        assert made.wait(20) == "completed"

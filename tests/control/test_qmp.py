# SPDX-License-Identifier: MIT
"""QMP, driven by QEMU's own client library."""

import asyncio
import json
import socket
import stat

import numpy as np
import pytest
from qemu.qmp import ExecuteError, QMPClient

from pyemu import Machine
from pyemu.control import QMPServer


@pytest.fixture
def machine():
    with Machine("none", memory="8M") as m:
        yield m


@pytest.fixture
def server(machine, tmp_path):
    server = QMPServer(machine, f"unix:{tmp_path}/qmp")
    yield server
    server.close()


def talk(server, conversation):
    """Runs ``conversation(client)`` on a connected client."""

    async def run():
        client = QMPClient("test")
        await client.connect(server.address.path)
        try:
            return await asyncio.wait_for(conversation(client), 20)
        finally:
            await client.disconnect()

    return asyncio.run(run())


def execute(server, *calls):
    async def conversation(client):
        return [await client.execute(name, arguments) for name, arguments in calls]

    return talk(server, conversation)


def test_status_version_and_commands(server):
    status, version, commands = execute(
        server, ("query-status", None), ("query-version", None), ("query-commands", None)
    )
    assert status == {"status": "prelaunch", "running": False}
    assert version["qemu"]["major"] == 10 and "pyemu" in version["package"]
    names = {c["name"] for c in commands}
    assert {
        "qmp_capabilities", "query-status", "query-version", "query-commands", "stop", "cont", "system_reset", "quit",
        "pmemsave", "migrate", "migrate-incoming", "migrate_cancel", "migrate-set-capabilities",
        "migrate-set-parameters", "query-migrate", "query-migrate-capabilities", "query-migrate-parameters",
    } <= names  # fmt: skip


def test_cont_stop_reset_and_their_events(server):
    async def conversation(client):
        names = []
        with client.listener() as listener:
            for command in ("cont", "stop", "system_reset"):
                await client.execute(command)
            for _ in range(3):
                names.append((await listener.get())["event"])
        return names, await client.execute("query-status")

    names, status = talk(server, conversation)
    assert names == ["RESUME", "STOP", "RESET"]
    assert status == {"status": "paused", "running": False}


def test_quit_answers_first_and_then_tells_everybody(server, machine):
    async def conversation(client):
        with client.listener("SHUTDOWN") as listener:
            await client.execute("quit")
            return await listener.get()

    event = talk(server, conversation)
    assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}
    assert machine.exited.wait(5)


def test_pmemsave_writes_guest_memory(server, machine, tmp_path):
    machine.ram["ram"].array[:] = np.arange(8 << 20, dtype=np.uint64).astype(np.uint8)
    out = tmp_path / "mem"
    execute(server, ("pmemsave", {"val": 0x1234, "size": 3 << 20, "filename": str(out)}))
    assert out.read_bytes() == machine.ram["ram"].array[0x1234 : 0x1234 + (3 << 20)].tobytes()


def test_pmemsave_writes_zeros_where_no_memory_is(server, machine, tmp_path):
    machine.ram["ram"].array[:] = 7
    out = tmp_path / "mem"
    execute(server, ("pmemsave", {"val": (8 << 20) - 5000, "size": 1 << 30, "filename": str(out)}))
    with out.open("rb") as file:
        assert file.read(10000) == b"\7" * 5000 + bytes(5000)
    status = out.stat()
    assert status.st_size == 1 << 30 and status.st_blocks * 512 < 1 << 20
    execute(server, ("pmemsave", {"val": 1 << 39, "size": 0, "filename": str(out)}))
    assert out.read_bytes() == b""


NONE, FILE = {}, {"uri": "file:/nowhere/x"}
SOCKET = {"channel-type": "main", "addr": {"transport": "socket", "type": "unix", "path": "/nowhere/s"}}


@pytest.mark.parametrize(
    ("command", "arguments", "desc"),
    [
        ("migrate", NONE, "need either 'uri' or 'channels' argument"),
        ("migrate", {**FILE, "channels": [SOCKET]}, "need either 'uri' or 'channels' argument"),
        ("migrate", {"uri": "foo:bar"}, "unknown migration protocol: foo:bar"),
        ("migrate", FILE, "Could not create '/nowhere/x': No such file or directory"),
        ("migrate", {**FILE, "resume": True}, "Cannot resume if there is no paused migration"),
        ("migrate", {"uri": 3}, "Invalid parameter type for 'uri', expected: string"),
        ("migrate", {**FILE, "detach": 1}, "Invalid parameter type for 'detach', expected: boolean"),
        ("migrate", {"channels": [SOCKET, SOCKET]}, "Channel list has more than one main entry"),
        ("migrate-incoming", FILE, "'-incoming' was not specified on the command line"),
        ("migrate-incoming", NONE, "need either 'uri' or 'channels' argument"),
        ("migrate-continue", {"state": "pre-switchover"}, "Migration not in expected state: none"),
        ("migrate-continue", {"state": "device"}, "Migration not in expected state: none"),
        ("migrate-continue", {"state": "nosuch"}, "Parameter 'state' does not accept value 'nosuch'"),
        ("migrate-continue", NONE, "Parameter 'state' is missing"),
        (
            "migrate-pause",
            NONE,
            "migrate-pause is currently only supported during postcopy-active or postcopy-recover state",
        ),
        ("migrate-set-parameters", {"nosuch": 1}, "Parameter 'nosuch' is unexpected"),
        ("migrate-set-parameters", {"tls-creds": 3}, "Invalid parameter type for 'tls-creds', expected: StrOrNull"),
        ("migrate-set-parameters", {"max-bandwidth": None}, "Parameter 'max-bandwidth' expects uint64"),
        (
            "migrate-set-capabilities",
            {"capabilities": [{"capability": "nosuch", "state": False}]},
            "Parameter 'capability' does not accept value 'nosuch'",
        ),
    ],
)
def test_migration_commands_are_refused_with_the_texts_that_clients_know(server, command, arguments, desc):
    with pytest.raises(ExecuteError) as info:
        execute(server, (command, arguments))
    assert str(info.value) == desc
    # A migration that could not begin is no migration, but for one whose file could not be made.
    left = {"status": "failed", "error-desc": desc} if desc.startswith("Could not create") else {}
    assert execute(server, ("query-migrate", None)) == [left]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("no-such-thing", None, "no-such-thing"),
        ("pmemsave", {"val": 0, "size": -1, "filename": "/tmp/x"}, "size=-1 is not a range of guest memory"),
        ("pmemsave", {"val": 1, "size": 1 << 40, "filename": "/tmp/x"}, "is not a range of guest memory"),
        ("pmemsave", {"val": 0, "size": "big", "filename": "/tmp/x"}, "'size'"),
        ("pmemsave", {"val": 0, "size": 4096}, "'filename' is missing"),
        ("pmemsave", {"val": 0, "size": 4096, "filename": "/nowhere/x"}, "/nowhere"),
        ("stop", {"now": True}, "'now' is unexpected"),
        ("migrate", {}, "'uri'"),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "nosuch", "state": True}]}, "nosuch"),
        ("migrate-set-parameters", {"downtime-limit": 3_000_000}, "downtime"),
    ],
)
def test_bad_commands_are_answered_with_the_thing_and_change_nothing(server, command, arguments, message):
    with pytest.raises(ExecuteError) as info:
        execute(server, (command, arguments))
    assert message in str(info.value)
    assert execute(server, ("query-status", None)) == [{"status": "prelaunch", "running": False}]


def test_migrate_to_a_file_and_back(server, machine, tmp_path):
    machine.ram["ram"].array[4096:8192] = 0x5A
    caps = [{"capability": "mapped-ram", "state": True}, {"capability": "events", "state": True}]

    async def conversation(client):
        await client.execute("migrate-set-capabilities", {"capabilities": caps})
        seen = []
        with client.listener("MIGRATION") as listener:
            await client.execute("migrate", {"uri": f"file:{tmp_path}/m"})
            while not seen or seen[-1] not in ("completed", "failed"):
                seen.append((await listener.get())["data"]["status"])
        return seen, await client.execute("query-migrate"), await client.execute("query-status")

    seen, info, status = talk(server, conversation)
    assert seen == ["setup", "active", "device", "completed"]
    assert info["ram"]["total"] == 8 << 20 and info["ram"]["normal"] == 1
    assert status == {"status": "postmigrate", "running": False}

    with Machine("none", memory="8M", incoming=True) as other:
        other.migration.set_capabilities({"mapped-ram": True})
        other.migration.incoming(f"file:{tmp_path}/m", blocking=True)
        assert np.array_equal(other.ram["ram"].array, machine.ram["ram"].array)


def test_the_socket_is_private_and_goes_away(machine, tmp_path):
    server = QMPServer(machine, f"unix:{tmp_path}/private")
    mode = stat.S_IMODE((tmp_path / "private").stat().st_mode)
    assert mode == 0o600
    server.close()
    assert list(tmp_path.iterdir()) == []


def test_malformed_input_is_answered_and_the_session_goes_on(machine):
    server = QMPServer(machine, "tcp:127.0.0.1:0")
    try:
        with socket.create_connection((server.address.host, server.address.port), timeout=10) as sock:
            stream = sock.makefile("rwb")
            assert "QMP" in json.loads(stream.readline())
            for text, reply in [
                (b'{"execute": "query-status"}', "error"),  # before negotiation
                (b"garbage\n", "error"),
                (b'{"execute": 5}', "error"),
                (b'{"execute": "qmp_capabilities", "id": [1, 2]}', "return"),
                (b'["execute"]', "error"),
                (b'{"execute": "query-status", "extra": 1}', "error"),
                (b'{"execute": "query-status", "id": "last"}', "return"),
            ]:
                stream.write(text)
                stream.flush()
                answer = json.loads(stream.readline())
                assert reply in answer, (text, answer)
            assert answer["id"] == "last"
    finally:
        server.close()


def test_two_clients_both_hear_events(server):
    async def run():
        clients = [QMPClient("a"), QMPClient("b")]
        for c in clients:
            await c.connect(server.address.path)
        with clients[0].listener("RESUME") as one, clients[1].listener("RESUME") as two:
            await clients[0].execute("cont")
            names = [(await asyncio.wait_for(listener.get(), 10))["event"] for listener in (one, two)]
        for c in clients:
            await c.disconnect()
        return names

    assert asyncio.run(run()) == ["RESUME", "RESUME"]

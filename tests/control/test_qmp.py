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


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("no-such-thing", None, "no-such-thing"),
        ("pmemsave", {"val": 0, "size": 16 << 20, "filename": "/tmp/x"}, "is not RAM"),
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

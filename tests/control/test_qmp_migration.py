# SPDX-License-Identifier: MIT
"""Migration as QMP clients see it: what a waiting, a leaving and a left machine answers."""

from __future__ import annotations

import asyncio

import pytest
from qemu.qmp import ExecuteError, QMPClient

from pyemu import Machine
from pyemu.control import QMPServer


@pytest.fixture
def start(tmp_path):
    """``start(incoming=True)``: a machine and a function that executes one command and returns its answer or refusal."""
    opened = []

    def make(**options):
        machine = Machine("none", memory=1 << 20, **options)
        path = str(tmp_path / f"qmp{len(opened)}")
        opened.extend((machine, QMPServer(machine, f"unix:{path}")))

        def execute(command, **arguments):
            async def talk():
                client = QMPClient("test")
                await client.connect(path)
                try:
                    return await client.execute(command, {n.replace("_", "-"): v for n, v in arguments.items()})
                except ExecuteError as error:
                    return str(error)
                finally:
                    await client.disconnect()

            return asyncio.run(talk())

        return machine, execute

    yield make
    for thing in reversed(opened):
        thing.close()


def switched(*names, on=True):
    return {"capabilities": [{"capability": name, "state": on} for name in names]}


SEEKABLE = "Migration requires seekable transport (e.g. file)"
MULTIPLE = "Migration requires multi-channel URIs (e.g. tcp)"
ONE_WAY = "Return path requires a transport that goes both ways (e.g. tcp)"


REFUSED = [
    (["mapped-ram"], {}, "tcp:127.0.0.1:1", SEEKABLE),
    (["mapped-ram"], {}, "unix:/nowhere/s", SEEKABLE),
    (["mapped-ram"], {}, "exec:cat", SEEKABLE),
    (["mapped-ram"], {}, "fd:0", SEEKABLE),
    (["multifd"], {}, "file:/nowhere/x", MULTIPLE),
    (["multifd"], {}, "exec:cat", MULTIPLE),
    (["multifd"], {}, "fd:0", MULTIPLE),
    ([], {}, "rdma:x", "unknown migration protocol: rdma:x"),
    ([], {}, "file:/nowhere/x,offset=zz", "file URI has bad offset zz: Invalid argument"),
    ([], {}, "file:/nowhere/x,offset=-1", "file URI has bad offset -1: Numerical result out of range"),
    (["mapped-ram"], {"tls-creds": "t"}, "file:/nowhere/x", "Cannot use TLS with mapped-ram"),
    (["mapped-ram"], {"multifd-compression": "zlib"}, "file:/nowhere/x", "Cannot use compression with mapped-ram"),
]


@pytest.mark.parametrize("way", ["migrate", "migrate-incoming"])
def test_transports_and_combinations_that_are_refused(start, way):
    _, execute = start(incoming=way == "migrate-incoming")
    defaults = execute("query-migrate-parameters")
    answers = []
    for capabilities, parameters, uri, _ in REFUSED:
        execute("migrate-set-parameters", **parameters)
        execute("migrate-set-capabilities", **switched(*capabilities))
        answers.append((capabilities, parameters, uri, execute(way, uri=uri)))
        execute("migrate-set-capabilities", **switched(*capabilities, on=False))
        execute("migrate-set-parameters", **{name: defaults[name] for name in parameters})
    assert answers == REFUSED
    assert execute("query-migrate") == {}
    assert execute("query-migrate-parameters") == defaults


@pytest.mark.parametrize("uri", ["file:/nowhere/x", "exec:cat"])
def test_no_way_back(start, uri):
    _, execute = start()
    execute("migrate-set-capabilities", **switched("return-path"))
    assert execute("migrate", uri=uri) == ONE_WAY
    assert execute("query-migrate") == {}


def test_a_connection_that_nobody_takes_fails_behind_the_command(start):
    machine, execute = start()
    machine.cont()
    assert execute("migrate", uri="tcp:127.0.0.1:1") == {}
    assert machine.migration.wait(10) == "failed"
    failed = {"status": "failed", "error-desc": "Failed to connect to '127.0.0.1:1': Connection refused"}
    assert execute("query-migrate") == failed
    assert execute("query-status") == {"status": "running", "running": True}


def test_a_waiting_machine(start, tmp_path):
    _, execute = start(incoming=True)
    assert execute("query-migrate") == {}
    assert execute("query-status") == {"status": "inmigrate", "running": False}
    assert execute("migrate-incoming", uri="tcp:127.0.0.1:0") == {}
    waiting = execute("query-migrate")
    assert waiting["status"] == "setup" and waiting["socket-address"][0]["host"] == "127.0.0.1"
    assert execute("migrate-set-capabilities", **switched("multifd")) == "Multifd must be set before incoming starts"
    assert execute("migrate-set-capabilities", **switched("mapped-ram")) == "There's a migration process in progress"
    assert execute("migrate-set-capabilities", **switched("events")) == {}
    assert execute("migrate_cancel") == {}
    assert execute("query-migrate") == waiting
    assert execute("migrate-incoming", uri="tcp:127.0.0.1:0") == "The incoming migration has already been started"
    assert execute("migrate", uri="tcp:127.0.0.1:1") == "Guest is waiting for an incoming migration"


@pytest.mark.parametrize(("commands", "state"), [([], "running"), (["stop"], "paused"), (["stop", "cont"], "running")])
def test_stop_and_cont_of_a_waiting_machine_say_how_it_begins(start, tmp_path, commands, state):
    with Machine("none", memory=1 << 20) as saved:
        saved.cont()
        saved.save(tmp_path / "x")
    machine, execute = start(incoming=True)
    for command in commands:
        assert execute(command) == {}
        assert execute("query-status")["status"] == "inmigrate"
    assert execute("migrate-incoming", uri=f"file:{tmp_path}/x") == {}
    assert machine.migration.wait(10) == "completed"
    assert execute("query-status")["status"] == state


def test_before_the_switchover_nothing_lets_the_guest_run(start, tmp_path):
    machine, execute = start()
    machine.cont()
    stopped = []
    machine.on_event(lambda event: stopped.append(event) if event.data == {"status": "pre-switchover"} else None)
    execute("migrate-set-capabilities", **switched("pause-before-switchover", "events"))
    assert execute("migrate", uri=f"file:{tmp_path}/x") == {}
    while not stopped:
        assert machine.migration.status in ("setup", "active", "pre-switchover")
    assert execute("query-migrate")["status"] == "pre-switchover"
    assert execute("cont") == "Migration is not finalized yet"
    assert execute("stop") == {}
    assert execute("query-status") == {"status": "finish-migrate", "running": False}
    assert execute("migrate", uri=f"file:{tmp_path}/y") == "There's a migration process in progress"
    assert execute("migrate-set-capabilities", **switched("multifd")) == "There's a migration process in progress"
    assert execute("migrate-set-parameters", max_bandwidth=0) == {}
    assert execute("migrate-continue", state="device") == "Migration not in expected state: pre-switchover"
    assert execute("migrate-continue", state="pre-switchover") == {}
    assert machine.migration.wait(10) == "completed"
    # What has left stays, whatever it is told, until it is told to run.
    assert execute("stop") == execute("migrate_cancel") == {}
    assert execute("query-status")["status"] == "postmigrate"
    text = "Can't migrate the vm that was paused due to previous migration"
    assert execute("migrate", uri=f"file:{tmp_path}/y") == text
    assert execute("system_reset") == {}
    assert execute("query-status")["status"] == "prelaunch"
    assert execute("cont") == {}
    assert execute("query-status")["status"] == "running"

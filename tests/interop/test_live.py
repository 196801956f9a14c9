# SPDX-License-Identifier: MIT
"""Over sockets and pipes: a guest of ours that rewrites its RAM meanwhile goes to QEMU, and QEMU's comes back.

QEMU's board none has nothing that could write to RAM, so on the way back RAM stands still, although the machine runs.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import pytest
from interop.formats import MAPPED, PAGE, SIZE, STREAM, ZEROS, content, differing
from migration.fakehost import FakeHost, FakeSource, Guest

from pyemu.migration import MigrationController

pytestmark = pytest.mark.interop


@dataclass(frozen=True)
class Way:
    """A transport and what goes over it."""

    transport: str
    channels: int = 0
    compression: str = "none"
    zeros: str = "multifd"
    return_path: bool = False

    @property
    def capabilities(self):
        return {"multifd": self.channels > 0, "return-path": self.return_path, "mapped-ram": False, "events": True}

    @property
    def parameters(self):
        values = {"zero-page-detection": self.zeros, "multifd-compression": self.compression}
        if self.channels:
            values["multifd-channels"] = self.channels
        return values

    def __str__(self):
        words = [self.transport] + [f"multifd{self.channels}"] * bool(self.channels)
        words += [self.compression] * (self.compression != "none")
        words += [f"zeros_{self.zeros}"] * (self.zeros != "multifd") + ["return_path"] * self.return_path
        return "-".join(words)


TRANSPORTS = ("tcp", "unix")
WAYS = [
    *(Way(transport, zeros=zeros) for transport in TRANSPORTS for zeros in ZEROS),
    *(Way(transport, channels) for transport in TRANSPORTS for channels in (1, 2, 4)),
    *(Way(transport, 2, kind) for transport in TRANSPORTS for kind in ("zlib", "zstd")),
    *(Way("unix", channels, kind) for channels in (1, 4) for kind in ("zlib", "zstd")),
    *(Way("tcp", 2, zeros=zeros) for zeros in ZEROS if zeros != "multifd"),
    Way("unix", 2, "zlib", zeros="legacy"),
    Way("unix", 2, "zstd", zeros="none"),
    *(Way(transport, channels, return_path=True) for transport in TRANSPORTS for channels in (0, 2)),
    Way("tcp", 4, "zstd", return_path=True),
]


def configure_ours(controller, way):
    controller.set_capabilities({n: s for n, s in way.capabilities.items() if s or n in controller.capabilities})
    controller.set_parameters(way.parameters)


def configure_theirs(qemu, way):
    states = [{"capability": n, "state": s} for n, s in way.capabilities.items()]
    qemu("migrate-set-capabilities", capabilities=states)
    qemu("migrate-set-parameters", **way.parameters)


def address(way, listening, folder, name):
    """The URI at which *listening*, a function that answers ``query-migrate``, can be reached from either side."""
    if way.transport == "unix":
        return f"unix:{folder}/{name}"
    return f"tcp:127.0.0.1:{listening()['socket-address'][0]['port']}"


def start(way, folder, name):
    return f"unix:{folder}/{name}" if way.transport == "unix" else "tcp:127.0.0.1:0"


@pytest.fixture
def going(plugins):
    """A controller whose guest rewrites pages with data and with zeros, few enough that a migration comes to an end."""
    host = FakeHost((("ram", SIZE),), run_state="running", devices=0)
    block = host.blocks[0]
    block.array[:] = content()
    controller = MigrationController(host, plugins)
    controller.set_parameters({"max-bandwidth": 100 << 20, "downtime-limit": 50})
    controller.use_dirty_source(FakeSource())

    def step(n):
        block.write(n * 7 % 1000 * PAGE, bytes([n % 3 and n % 251]) * PAGE)

    with Guest(host, step) as guest:
        yield controller, guest
    controller.close()


def arrived_there(target, going):
    """QEMU has what the guest stopped with."""
    controller, guest = going
    assert controller.query()["ram"]["dirty-sync-count"] >= 3
    target.wait("completed")
    assert target.output() == ""
    assert target("query-status")["status"] == "running"
    assert [target.memory(0, SIZE)] == guest.pictures[0], "what arrived there is not what the guest stopped with"
    target("migrate-set-parameters", **{"max-bandwidth": 0})


def arrived_here(target, back, going):
    """Our new machine has it, too."""
    target.wait("completed")
    assert back.migration.wait(30) == "completed", back.migration.error
    assert [back.ram["ram"].array.tobytes()] == going[1].pictures[0], "what came back is not what was there"
    assert back.run_state == "running"


@pytest.fixture
def back(ours):
    """A machine that waits, with RAM that must not show through."""
    machine = ours(incoming=True)
    machine.ram["ram"].array[:] = 0xA5
    return machine


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_there_and_back(going, back, qemu, folder, way):
    controller, _ = going
    configure_ours(controller, way)
    target = qemu("-incoming", "defer")
    configure_theirs(target, way)
    inside = f"/{folder.relative_to(qemu.root)}"
    target("migrate-incoming", uri=start(way, inside, "there"))
    controller.migrate(address(way, lambda: target("query-migrate"), folder, "there"), blocking=True)
    arrived_there(target, going)
    configure_ours(back.migration, way)
    back.migration.incoming(start(way, folder, "back"))
    target("migrate", uri=address(way, back.migration.query, inside, "back"))
    arrived_here(target, back, going)


def test_descriptors_there_and_back(going, back, qemu):
    controller, _ = going
    target = qemu("-incoming", "defer")
    near, far = socket.socketpair()
    with far:
        target("getfd", far.fileno(), fdname="there")
    target("migrate-incoming", uri="fd:there")
    controller.descriptors.put("there", near.detach())
    controller.migrate("fd:there", blocking=True)
    arrived_there(target, going)
    near, far = socket.socketpair()
    back.migration.descriptors.put("back", near.detach())
    back.migration.incoming("fd:back")
    with far:
        target("getfd", far.fileno(), fdname="back")
    target("migrate", uri="fd:back")
    arrived_here(target, back, going)


def test_commands_there_and_back(going, back, qemu, folder):
    controller, _ = going
    inside = f"/{folder.relative_to(qemu.root)}"
    controller.migrate(f"exec:cat >{folder}/there", blocking=True)
    target = qemu("-incoming", "defer")
    target("migrate-incoming", uri=f"exec:cat {inside}/there")
    arrived_there(target, going)
    # Through a pipe, for QEMU says that it has completed before its command has written the last of it.
    os.mkfifo(folder / "back")
    back.migration.incoming(f"exec:cat {folder}/back")
    target("migrate", uri=f"exec:cat >{inside}/back")
    arrived_here(target, back, going)


@pytest.mark.parametrize("form", [STREAM, MAPPED], ids=str)
def test_our_background_snapshot_loads_there(going, qemu, folder, form):
    """The picture of the moment of the command, although the guest wrote on. (QEMU's own is useless with mapped-ram.)"""
    controller, guest = going
    controller.set_capabilities({"background-snapshot": True, "mapped-ram": form.mapped})
    controller.migrate(f"file:{folder}/x", blocking=True)
    assert guest.host.run_state == "running"
    block = guest.host.blocks[0]
    target = qemu("-S", "-incoming", "defer")
    target.load(form, folder / "x")
    assert [target.memory(0, SIZE)] == guest.pictures[0]
    assert block.array.tobytes() != guest.pictures[0][0], "the guest wrote nothing meanwhile, so nothing was tested"


def test_their_background_snapshot_loads_here(ours, back, qemu, folder):
    machine = ours()
    machine.ram["ram"].array[:] = content()
    machine.migration.migrate_file(folder / "x")
    # It refuses RAM that is shared with a file, so its own RAM is filled by loading, and it must have run.
    source = qemu("-S", "-incoming", "defer")
    source.load(STREAM, folder / "x")
    source("cont")
    source.capabilities("background-snapshot")
    source("migrate", uri=f"file:{source.inside(folder / 'y')}")
    source.wait("completed")
    back.migration.incoming(f"file:{folder}/y", blocking=True)
    assert not differing(back.ram["ram"].array, content())
    assert back.run_state == "running"

# SPDX-License-Identifier: MIT
"""Files of ours in QEMU, files of QEMU here: board ``none``, and QEMU's own machines as data."""

from __future__ import annotations

import numpy as np
import pytest
from migration.fakehost import FakeHost, FakeSource, Guest

import pyemu
from pyemu.migration import MigrationController
from pyemu.snapshot import open_snapshot

pytestmark = pytest.mark.interop

SIZE = 64 << 20
PAGE = 4096
#: Capabilities and parameters of each way to save to a file.
KINDS = {
    "stream": ((), {}),
    "mapped": (("mapped-ram",), {}),
    "mapped-multifd": (("mapped-ram", "multifd"), {"multifd-channels": 4}),
    "mapped-multifd-direct": (("mapped-ram", "multifd"), {"multifd-channels": 2, "direct-io": True}),
    "stream-dense": ((), {"zero-page-detection": "none"}),
    "mapped-dense": (("mapped-ram",), {"zero-page-detection": "none"}),
}


def content():
    """Runs, holes, single pages, the first page and the last one."""
    data = np.zeros(SIZE, dtype=np.uint8)
    pages = data.reshape(-1, PAGE)
    noise = np.random.default_rng(3).integers(0, 256, (2048, PAGE), dtype=np.uint8)
    pages[256 : 256 + 2048] = noise
    pages[256 : 256 + 2048 : 4] = 0
    pages[0], pages[-1] = noise[0], noise[1]
    pages[8000:8100:2, 4095] = 9
    return data


@pytest.fixture
def ours(plugins):
    machines = []

    def make(**options):
        machines.append(pyemu.Machine("none", memory=SIZE, plugins=plugins, **options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


def configure(controller, kind):
    names, parameters = KINDS[kind]
    controller.set_capabilities(dict.fromkeys(names, True))
    controller.set_parameters({"max-bandwidth": 0, **parameters})


def qemu_loads(qemu, kind, path, suffix=""):
    names, parameters = KINDS[kind]
    target = qemu("-S", "-incoming", "defer")
    target.capabilities(*names)
    if parameters:
        target("migrate-set-parameters", **parameters)
    target("migrate-incoming", uri=f"file:{target.inside(path)}{suffix}")
    target.wait("completed")
    # QEMU says so here when it finds anything to complain about that does not stop it.
    assert target.output() == ""
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_ours_loads_there(ours, qemu, folder, kind):
    machine = ours()
    machine.ram["ram"].array[:] = content()
    configure(machine.migration, kind)
    machine.migration.migrate_file(folder / "x")
    target = qemu_loads(qemu, kind, folder / "x")
    assert target.memory(0, SIZE) == content().tobytes()
    assert target("query-status")["status"] == machine.run_state == "prelaunch"


def shared_ram(qemu, folder, *arguments):
    """A QEMU whose RAM is a file of ours, still under its usual name."""
    path = folder / "ram"
    path.write_bytes(content().tobytes())
    inside = f"/{path.relative_to(qemu.root)}"
    backend = f"memory-backend-file,id=ram,size={SIZE},mem-path={inside},share=on"
    return qemu("-object", backend, "-machine", "memory-backend=ram", *arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_theirs_loads_here(ours, qemu, folder, kind):
    source = shared_ram(qemu, folder, "-S")
    names, parameters = KINDS[kind]
    source.capabilities(*names)
    source("migrate-set-parameters", **{"max-bandwidth": 0, **parameters})
    source("migrate", uri=f"file:{source.inside(folder / 'x')}")
    source.wait("completed")
    machine = ours(incoming=True)
    # What was in RAM before must not show through.
    machine.ram["ram"].array[:] = 0xA5
    configure(machine.migration, kind)
    machine.migration.incoming(f"file:{folder}/x", blocking=True)
    assert (machine.ram["ram"].array == content()).all()
    assert machine.run_state == "prelaunch"


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd"])
def test_theirs_saved_while_running_loads_here(ours, qemu, folder, kind):
    source = shared_ram(qemu, folder)
    source.capabilities(*KINDS[kind][0])
    source("migrate-set-parameters", **{"max-bandwidth": 32 << 20, "downtime-limit": 1})
    source("migrate", uri=f"file:{source.inside(folder / 'x')}")
    source.wait("active")
    source("migrate-set-parameters", **{"max-bandwidth": 0})
    source.wait("completed")
    machine = ours(incoming=True)
    configure(machine.migration, kind)
    machine.migration.incoming(f"file:{folder}/x", blocking=True)
    assert (machine.ram["ram"].array == content()).all()
    assert machine.run_state == "running"


def test_offset_both_ways(ours, qemu, folder):
    machine = ours()
    machine.ram["ram"].array[:] = content()
    for kind in ("stream", "mapped"):
        (folder / "x").write_bytes(b"h" * 70000)
        configure(machine.migration, kind)
        machine.migration.migrate(f"file:{folder}/x,offset=0x11111", blocking=True, resume_after=True)
        target = qemu_loads(qemu, kind, folder / "x", ",offset=0x11111")
        assert target.memory(0, SIZE) == content().tobytes()
        target("cont")
        target("migrate", uri=f"file:{target.inside(folder / 'y')},offset=0x1234")
        target.wait("completed")
        back = ours(incoming=True)
        configure(back.migration, kind)
        back.migration.incoming(f"file:{folder}/y,offset=0x1234", blocking=True, autostart=False)
        assert (back.ram["ram"].array == content()).all()
        machine.migration.set_capabilities({"mapped-ram": False})


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd"])
def test_ours_saved_live_loads_there(plugins, qemu, folder, kind):
    host = FakeHost((("ram", SIZE),), run_state="running", devices=0)
    block = host.blocks[0]
    block.array[:] = content()
    controller = MigrationController(host, plugins)
    configure(controller, kind)
    controller.set_parameters({"max-bandwidth": 100 << 20, "downtime-limit": 50})
    controller.use_dirty_source(FakeSource())

    def step(n):
        # Few enough pages that the save comes to an end.
        block.write(n * 7 % 1000 * PAGE, bytes([n % 3 and n % 251]) * PAGE)

    with Guest(host, step) as guest:
        controller.migrate_file(folder / "x")
    assert controller.query()["ram"]["dirty-sync-count"] >= 3
    target = qemu_loads(qemu, kind, folder / "x")
    assert [target.memory(0, SIZE)] == guest.pictures[0]


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd"])
def test_theirs_rewritten_while_saving_opens_as_data(plugins, qemu, folder, kind):
    """Each page counts as it was sent last. (QEMU's board none has no way to write to RAM, its pc has.)"""
    source = qemu(machine="pc", qtest=True)
    names, parameters = KINDS[kind]
    source.capabilities(*names)
    source("migrate-set-parameters", **{"max-bandwidth": 1 << 20, "downtime-limit": 1, **parameters})
    pages = [256 + number * 53 % 16000 for number in range(300)]
    for page in pages:
        source.tell(f"memset {page * PAGE:#x} {PAGE:#x} 0x11")
    source("migrate", uri=f"file:{source.inside(folder / 'x')}")
    source.wait("active")
    for number, page in enumerate(pages):
        source.tell(f"memset {page * PAGE:#x} {PAGE:#x} {number % 3 and number % 250:#x}")
    assert source("query-migrate")["status"] == "active", "the writes above came too late to test anything"
    source("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 300})
    assert source.wait("completed")["ram"]["dirty-sync-count"] >= 3
    with open_snapshot(folder / "x", plugins=plugins) as snapshot:
        array = snapshot.blocks["pc.ram"].array()
        assert array[1 << 20 :].tobytes() == source.memory(1 << 20, SIZE - (1 << 20))
        assert [array[p * PAGE] for p in pages] == [n % 3 and n % 250 for n in range(300)]


@pytest.mark.parametrize("board", ["pc", "q35", "microvm"])
@pytest.mark.parametrize("kind", ["stream", "mapped"])
def test_their_machines_open_as_data(plugins, qemu, folder, kind, board):
    source = qemu("-S", machine=board)
    source.capabilities(*KINDS[kind][0])
    source("migrate-set-parameters", **{"max-bandwidth": 0})
    source("migrate", uri=f"file:{source.inside(folder / 'x')}")
    source.wait("completed")
    with open_snapshot(folder / "x", plugins=plugins) as snapshot:
        info = snapshot.info()
        assert board in info["machine"] and info["pyemu"] is None
        assert info["capabilities"] == list(KINDS[kind][0])
        main = max(snapshot.blocks.values(), key=lambda b: b.size)
        assert main.size == SIZE
        # Below 1 MiB other regions lie over RAM.
        assert main.array()[1 << 20 :].tobytes() == source.memory(1 << 20, SIZE - (1 << 20))
        assert [s["name"] for s in info["sections"]][:1] == ["timer"]
        assert info["sections"][-1]["name"] == "globalstate"
        if board != "microvm":
            bios = snapshot.blocks["pc.bios"]
            assert bios.array().tobytes() == source.memory((1 << 32) - bios.size, bios.size)
            assert len(info["sections"]) > 20
        assert snapshot.section_data(snapshot.sections[-1])[4:13] == b"prelaunch"

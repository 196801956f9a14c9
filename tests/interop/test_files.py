# SPDX-License-Identifier: MIT
"""Every file format both ways, with board ``none``: RAM is compared byte for byte with what ``pmemsave`` writes."""

from __future__ import annotations

import pytest
from interop.formats import FOUR, MAPPED, PAGE, SIZE, STREAM, Format, content, differing, file_formats
from migration.fakehost import FakeHost, FakeSource, Guest

from pyemu.migration import MigrationController

pytestmark = pytest.mark.interop
FORMATS = list(file_formats())
HEADER = b"somebody else's header"


def configure(controller, form):
    controller.set_capabilities({"mapped-ram": form.mapped, "multifd": form.channels > 0})
    controller.set_parameters(form.parameters)


def ours_saves(machine, form, path):
    configure(machine.migration, form)
    if form.offset is None:
        machine.migration.migrate_file(path)
        return
    path.write_bytes(HEADER.ljust(form.offset, b"."))
    machine.migration.migrate(f"file:{path}{form.suffix}", blocking=True, resume_after=True)
    assert path.read_bytes()[: form.offset] == HEADER.ljust(form.offset, b"."), "what stands before the offset changed"


def ours_loads(machine, form, path, **options):
    # What was in RAM before must not show through.
    machine.ram["ram"].array[:] = 0xA5
    configure(machine.migration, form)
    machine.migration.incoming(f"file:{path}{form.suffix}", blocking=True, **options)


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_there_and_back(ours, qemu, folder, form):
    """A file of ours loads in QEMU; what the same QEMU then saves loads here."""
    machine = ours()
    machine.ram["ram"].array[:] = content()
    ours_saves(machine, form, folder / "x")
    target = qemu("-S", "-incoming", "defer")
    target.load(form, folder / "x")
    assert not differing(target.memory(0, SIZE), content()), "loaded there"
    assert target("query-status")["status"] == machine.run_state == "prelaunch"
    target("cont")
    target("stop")
    target.save(form, folder / "y")
    back = ours(incoming=True)
    ours_loads(back, form, folder / "y")
    assert not differing(back.ram["ram"].array, content()), "loaded here"
    assert back.run_state == "paused"


def test_theirs_from_shared_ram_loads_here(ours, shared_ram, folder):
    """RAM that never went through a file of ours, and of QEMU's other kind."""
    source = shared_ram("-S")
    machine = ours(incoming=True)
    for form in (f for f in FORMATS if f.zeros == "multifd"):
        source.save(form, folder / "x")
        ours_loads(machine, form, folder / "x")
        assert not differing(machine.ram["ram"].array, content()), str(form)
        machine.close()
        machine = ours(incoming=True)


@pytest.mark.parametrize("form", [MAPPED, Format(True, zeros="none")], ids=str)
def test_theirs_is_mapped_here(ours, shared_ram, folder, form):
    """A lazy restore of a file whose writer does not say what it left under clear bits."""
    source = shared_ram("-S")
    source.save(form, folder / "x")
    machine = ours(incoming=True)
    machine.migration.set_parameters({"lazy-restore": True})
    ours_loads(machine, form, folder / "x")
    assert not differing(machine.ram["ram"].array, content())
    lazy = machine.migration.lazy
    assert lazy.wait(30) and lazy.extents > 0 and lazy.stale_pages == 0
    machine.settle()
    assert not differing(machine.ram["ram"].array, content())


@pytest.mark.parametrize("saved", [0, 1, 4], ids=lambda n: f"saved_with_{n}")
@pytest.mark.parametrize("loaded", [0, 2, 8], ids=lambda n: f"loaded_with_{n}")
def test_the_number_of_channels_need_not_agree(ours, qemu, folder, saved, loaded):
    machine = ours()
    machine.ram["ram"].array[:] = content()
    ours_saves(machine, Format(True, saved), folder / "x")
    target = qemu("-S", "-incoming", "defer")
    target.load(Format(True, loaded), folder / "x")
    assert not differing(target.memory(0, SIZE), content()), "loaded there"
    target("cont")
    target("stop")
    target.save(Format(True, saved), folder / "y")
    back = ours(incoming=True)
    ours_loads(back, Format(True, loaded), folder / "y")
    assert not differing(back.ram["ram"].array, content()), "loaded here"


@pytest.mark.parametrize("form", [STREAM, MAPPED, FOUR], ids=str)
def test_theirs_saved_while_running_loads_here(ours, shared_ram, folder, form):
    source = shared_ram()
    source.configure(form)
    source("migrate-set-parameters", **{"max-bandwidth": 32 << 20, "downtime-limit": 1})
    source("migrate", uri=f"file:{source.inside(folder / 'x')}")
    source.wait("active")
    source("migrate-set-parameters", **{"max-bandwidth": 0})
    source.wait("completed")
    machine = ours(incoming=True)
    ours_loads(machine, form, folder / "x")
    assert not differing(machine.ram["ram"].array, content())
    assert machine.run_state == "running"


@pytest.mark.parametrize("form", [STREAM, MAPPED, FOUR, Format(True, 2, True)], ids=str)
def test_ours_saved_live_loads_there(plugins, qemu, folder, form):
    host = FakeHost((("ram", SIZE),), run_state="running", devices=0)
    block = host.blocks[0]
    block.array[:] = content()
    controller = MigrationController(host, plugins)
    configure(controller, form)
    controller.set_parameters({"max-bandwidth": 100 << 20, "downtime-limit": 50})
    controller.use_dirty_source(FakeSource())

    def step(n):
        # Few enough pages that the save comes to an end.
        block.write(n * 7 % 1000 * PAGE, bytes([n % 3 and n % 251]) * PAGE)

    with Guest(host, step) as guest:
        controller.migrate_file(folder / "x")
    assert controller.query()["ram"]["dirty-sync-count"] >= 3
    target = qemu("-S", "-incoming", "defer")
    target.load(form, folder / "x")
    assert [target.memory(0, SIZE)] == guest.pictures[0]

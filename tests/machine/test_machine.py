# SPDX-License-Identifier: MIT
"""Machines without a processor: assembly, description, life, faults, bad input."""

import errno
import os

import numpy as np
import pytest

import pyemu
from pyemu import ConfigError, DeviceError, Machine, PluginError, PortioEntry, PortioList
from pyemu.machine.restoration import from_description


@pytest.fixture
def machine():
    with Machine("none", memory="4M") as m:
        yield m


def test_board_none_is_ram_and_nothing_else(machine):
    assert list(machine.ram) == ["ram"]
    assert machine.ram["ram"].used_length == 4 << 20
    assert machine.devices == {} and machine.engine is None
    assert machine.ram_ranges() == [(0, 4 << 20)]
    assert machine.run_state == "prelaunch"


def test_memory_is_a_numpy_array_of_the_guest_without_a_copy(machine):
    machine.ram["ram"].array[0x1000:0x1004] = [1, 2, 3, 4]
    assert machine.call(lambda: machine.memory.load(0x1000, 4)) == 0x04030201
    machine.call(lambda: machine.memory.store(0x2000, 2, 0xBEEF))
    assert machine.ram["ram"].array[0x2000:0x2002].view(np.uint16)[0] == 0xBEEF


def test_cont_stop_and_their_events(machine):
    names = []
    machine.on_event(lambda event: names.append(event.name))
    machine.cont()
    assert machine.run_state == "running"
    machine.cont()  # a second one changes nothing
    machine.stop()
    machine.stop()
    assert names == ["RESUME", "STOP"]
    assert machine.run_state == "paused"


def test_the_clock_stands_while_the_machine_is_stopped(machine):
    machine.cont()
    machine.stop()
    before = machine.call(lambda: machine.clock.now_ns)
    machine.call(lambda: None)
    assert machine.call(lambda: machine.clock.now_ns) == before > 0


def test_loaders_fill_ram_at_each_reset(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(bytes(range(256)))
    with Machine("none", memory="1M", loaders=[(image, 0x1000)]) as m:
        assert bytes(m.ram["ram"].array[0x1000:0x1100]) == bytes(range(256))
        m.ram["ram"].array[0x1000] = 0xFF
        m.reset()
        assert m.ram["ram"].array[0x1000] == 0


def test_a_bare_number_is_mebibytes_as_on_the_command_line():
    with Machine("none", memory="2") as m:
        assert m.memory_size == 2 << 20


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"board": "nosuch"}, PluginError, "nosuch"),
        ({"board": "none", "memory": "huge"}, ConfigError, "huge"),
        ({"board": "none", "memory": "5000k", "cpu": "unicorn"}, ConfigError, "no processor"),
        ({"board": "none", "memory": 4097}, ConfigError, "4097"),
        ({"board": "none", "memory": 0}, ConfigError, "0 bytes"),
        ({"board": "none", "properties": {"speed": 3}}, ConfigError, "speed"),
        ({"board": "none", "devices": ["nosuch"]}, PluginError, "nosuch"),
        ({"board": "none", "devices": ["nosuch,x"]}, ConfigError, "'x'"),
        ({"board": "none", "drives": ["file=/nowhere/disk,if=ide"]}, ConfigError, "/nowhere/disk"),
        ({"board": "none", "loaders": [("/nowhere/rom", 0)]}, ConfigError, "/nowhere/rom"),
        ({"board": "none", "uuid": "12"}, ConfigError, "12"),
        ({"board": "none", "serial": ["memory"]}, ConfigError, "serial 0"),
    ],
)
def test_what_cannot_be_built_is_named_and_leaves_nothing_behind(arguments, error, message):
    import threading

    before = threading.active_count()
    with pytest.raises(error, match=message):
        Machine(**arguments)
    assert threading.active_count() == before


def test_a_loader_outside_ram_is_refused(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"x" * 4096)
    with pytest.raises(ConfigError, match=r"0xff800-0x1007ff is not RAM"):
        Machine("none", memory="1M", loaders=[(image, 0xFF800)])


def test_a_python_device_that_raises_stops_its_machine_by_name(machine):
    def broken(offset, size):
        raise KeyError("register 3")

    machine.call(lambda: PortioList("dice", [PortioEntry(0, 8, 1, read=broken)], "dice").add(machine.ports, 0x300))
    machine.cont()
    assert machine.call(lambda: machine.ports.read(0x303, 1)) == 0xFF
    with pytest.raises(DeviceError, match=r"dice.*0x3.*register 3") as info:
        machine.run(timeout=5)
    assert isinstance(info.value.__cause__, KeyError)
    assert machine.run_state == "internal-error"
    with pytest.raises(ConfigError, match="internal-error"):
        machine.cont()
    machine.reset()
    machine.cont()
    assert machine.run_state == "running"


def test_a_timer_that_raises_stops_the_machine_too():
    with Machine("none", memory="1M") as m:
        timer = m.clock.timer(lambda: [][0], "watchdog")
        m.call(lambda: timer.arm(0))
        with pytest.raises(DeviceError, match="IndexError"):
            m.run(timeout=5)


def test_an_interrupt_handler_that_raises_stops_the_machine():
    from pyemu.device import IRQOut, PCIBus

    with Machine("none", memory="1M") as m:
        bus = PCIBus(m.ports, m.memory, m.clock, lambda n, level: [][n])
        m.add_bus(bus)
        pin = IRQOut("pin", bus.lines[2])
        m.clock.timer(lambda: pin.set_level(1)).arm(0)
        with pytest.raises(DeviceError, match=r"pci.0.pirq2: handler of level 1 failed: IndexError"):
            m.run(timeout=5)


def test_run_until_a_condition_or_the_time_is_over(machine):
    counts = iter(range(100))
    assert machine.run(until=lambda: next(counts) > 3, timeout=5)
    assert machine.run_state == "paused"
    assert not machine.run(until=lambda: False, timeout=0.05)


def test_several_machines_live_side_by_side():
    with Machine("none", memory="1M") as a, Machine("none", memory="1M") as b:
        a.call(lambda: a.memory.write(0, b"aaaa"))
        b.call(lambda: b.memory.write(0, b"bbbb"))
        a.close()
        assert b.call(lambda: b.memory.read(0, 4)) == b"bbbb"


def test_a_closed_machine_refuses_work_and_its_memory_survives_in_views(machine):
    view = machine.ram["ram"].array
    view[5] = 7
    machine.close()
    with pytest.raises(pyemu.PyemuError, match="closed"):
        machine.stop()
    assert view[5] == 7
    machine.close()


def test_the_description_names_all_that_restore_needs(machine):
    description = machine.description()
    assert description["board"] == "none" and description["memory"] == 4 << 20 and description["cpu"] == "none"


def test_a_machine_without_processor_comes_back_without_one(tmp_path):
    with pyemu.Machine("isa-pc", memory="1M", cpu="none") as machine:
        machine.save(tmp_path / "vm")
    with pyemu.restore(tmp_path / "vm") as back:
        assert (back.cpu_name, back.engine) == ("none", None)


def test_files_of_the_host_are_opened_only_for_whom_the_user_trusts(tmp_path):
    image, other, saved = tmp_path / "disk", tmp_path / "other", tmp_path / "vm"
    image.write_bytes(bytes(1 << 20))
    other.write_bytes(bytes(1 << 20))
    with pyemu.Machine("isa-pc", memory="1M", cpu="none", drives=[f"file={image},if=ide"]) as machine:
        machine.save(saved, external_disks=True)
    with pytest.raises(pyemu.MigrationError) as caught:
        pyemu.restore(saved)
    assert f"uses files of this host: drive 'file={image},if=ide" in str(caught.value)
    with pyemu.restore(saved, host_files=True) as back:
        assert [drive.path for drive in back.drives("ide")] == [str(image)]
    with pyemu.restore(saved, drives=[f"file={other},if=ide"]) as back:
        assert [drive.path for drive in back.drives("ide")] == [str(other)]


@pytest.mark.parametrize("name", ["kernel", "initrd", "bios"])
def test_images_that_a_saved_machine_names_are_not_opened_unasked(machine, name):
    description = {**machine.description(), name: "/etc/hostname"}
    with pytest.raises(pyemu.MigrationError, match=f"uses files of this host: {name} '/etc/hostname'; host_files=True"):
        from_description(description)
    with from_description({**description, name: None}) as back:
        assert back.board == "none"


def test_drives_among_the_properties_of_devices_are_files_of_the_host(machine):
    options = {"drive0": "file=/etc/hostname", "irq": 6}
    with pytest.raises(pyemu.MigrationError, match=r"this host: device isa-fdc,drive0=file=/etc/hostname; host"):
        from_description({**machine.description(), "devices": [["isa-fdc", options]]})


def test_files_among_the_properties_of_boards_are_files_of_the_host(machine):
    with pyemu.Machine("isa-pc", memory="1M", cpu="none") as pc:
        description = pc.description()
    description["properties"]["vgabios"] = "/etc/hostname"
    with pytest.raises(pyemu.MigrationError, match="this host: board isa-pc,vgabios=/etc/hostname; host_files=True"):
        from_description(description)


def test_a_save_that_fails_names_file_and_reason_and_changes_nothing(machine, tmp_path, monkeypatch):
    path = tmp_path / "vm"
    machine.save(path)
    old = path.read_bytes()
    machine.cont()

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(pyemu.MigrationError) as caught:
        machine.save(path, mapped_ram=True)
    assert str(caught.value) == f"{path}: Unable to write to file: No space left on device"
    assert caught.value.desc == "Unable to write to file: No space left on device"
    assert machine.run_state == "running"
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["vm"]


@pytest.mark.parametrize("mapped_ram", [False, True])
def test_save_and_restore_of_a_stopped_machine(machine, tmp_path, mapped_ram):
    rng = np.random.default_rng(5)
    array = machine.ram["ram"].array
    array[1 << 20 : 2 << 20] = rng.integers(0, 256, 1 << 20, dtype=np.uint8)
    array[-1] = 9
    report = machine.save(tmp_path / "vm", mapped_ram=mapped_ram)
    assert report.ram_bytes == 4 << 20
    assert report.data_pages == 257 and report.zero_pages == 1024 - 257
    seen = []
    with pyemu.restore(tmp_path / "vm", progress=seen.append) as back:
        assert seen[-1].done_bytes == seen[-1].total_bytes == 4 << 20
        assert back.board == "none"
        assert np.array_equal(back.ram["ram"].array, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "Not a migration stream"), (b"garbage" * 100, "Not a migration stream"), (None, "nowhere")],
)
def test_restoring_what_is_no_stream_names_the_file(tmp_path, content, message):
    path = tmp_path / "nowhere"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(pyemu.MigrationError, match=message) as info:
        pyemu.restore(path)
    assert str(path) in str(info.value)

# SPDX-License-Identifier: MIT
"""The state machine: statuses, events, refusals with the texts that clients know, cancelling, failing."""

from __future__ import annotations

import os
import resource
import signal
import threading

import numpy as np
import pytest
from migration.fakehost import FakeHost, FakeSource

from pyemu import Backend, Channel
from pyemu.errors import MigrationError, PluginError
from pyemu.migration import Cancelled, ChannelType, MigrationController

BIG = (("ram", 8 << 20),)


def statuses(host):
    return [data.get("status", data.get("pass", name)) for name, data in host.events]


def test_events_of_a_stopped_machine(controller, tmp_path):
    for kind in ("stream", "mapped", "mapped-multifd"):
        host = FakeHost()
        controller(host, kind).migrate(f"file:{tmp_path}/x", blocking=True)
        assert statuses(host) == ["setup", 1, "active", "device", 2, "completed"]
        assert host.run_state == "postmigrate"


def test_events_of_a_running_machine(controller, tmp_path):
    host = FakeHost(run_state="running")
    made = controller(host)
    made.use_dirty_source(FakeSource())
    made.migrate(f"file:{tmp_path}/x")
    assert made.wait(10) == "completed"
    assert statuses(host) == ["setup", 1, "active", 2, "STOP", "device", 3, "completed"]
    assert host.run_state == "postmigrate"


def test_events_only_with_their_capability(controller, tmp_path):
    host = FakeHost()
    made = controller(host)
    made.set_capabilities({"events": False})
    made.migrate(f"file:{tmp_path}/x", blocking=True)
    assert host.events == []


def test_save_that_lets_the_guest_run_on(controller, tmp_path):
    host = FakeHost(run_state="running")
    made = controller(host)
    made.use_dirty_source(FakeSource())
    made.migrate_file(tmp_path / "x")
    assert statuses(host) == ["setup", 1, "active", 2, "STOP", "device", 3, "RESUME", "completed"]
    assert host.run_state == "running"


def test_events_of_a_destination(controller, tmp_path):
    source = FakeHost(run_state="running")
    made = controller(source)
    made.use_dirty_source(FakeSource())
    made.migrate_file(tmp_path / "x")
    target = FakeHost(run_state="inmigrate")
    incoming = controller(target)
    incoming.incoming(f"file:{tmp_path}/x")
    assert incoming.wait(10) == "completed"
    assert statuses(target) == ["setup", "active", "RESUME", "completed"]
    assert set(incoming.query()) == {"status", "total-time", "ram"}


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd"])
def test_numbers_of_a_load(controller, filled, tmp_path, kind):
    blocks = (("ram", 24 << 20), ("small", 1 << 16))
    controller(filled(blocks=blocks), kind).migrate_file(tmp_path / "x")
    target = FakeHost(blocks, run_state="inmigrate")
    made = controller(target, kind)
    assert made.query() == {}
    seen, shown = [], []

    def progress(p):
        seen.append(p)
        shown.append(made.query())

    made.incoming(f"file:{tmp_path}/x", blocking=True, progress=progress)
    data = int(np.count_nonzero(target.blocks[0].array.reshape(-1, 4096).any(axis=1)))
    data += int(np.count_nonzero(target.blocks[1].array.reshape(-1, 4096).any(axis=1)))
    result = made.query()
    ram = result["ram"]
    assert (ram["normal"], ram["duplicate"]) == (data, (24 << 20) // 4096 + 16 - data)
    assert (ram["total"], ram["remaining"]) == ((24 << 20) + (1 << 16), 0)
    assert ram["normal-bytes"] < ram["transferred"] < ram["normal-bytes"] + (2 << 20)
    assert result["status"] == "completed" and "downtime" not in result
    # It was seen on its way, not only at its end.
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)
    assert 0 < seen[0].done_bytes < seen[-1].done_bytes == seen[-1].total_bytes == ram["total"]
    assert shown[0]["status"] == "active" and shown[0]["ram"]["total"] == ram["total"]


def test_progress_that_raises_ends_a_load(controller, filled, tmp_path):
    controller(filled(blocks=BIG), "mapped").migrate_file(tmp_path / "x")
    target = FakeHost(BIG, run_state="inmigrate")

    def progress(p):
        raise KeyboardInterrupt

    made = controller(target, "mapped")
    with pytest.raises(KeyboardInterrupt):
        made.incoming(f"file:{tmp_path}/x", blocking=True, progress=progress)
    assert made.status == "failed" and not target.blocks[0].array.any()


def test_numbers_of_a_finished_migration(controller, tmp_path):
    host = FakeHost(BIG)
    host.blocks[0].array[: 100 * 4096] = 1
    for kind in ("stream", "mapped", "mapped-multifd"):
        made = controller(host, kind)
        assert made.query() == {}
        made.migrate_file(tmp_path / "x")
        result = made.query()
        ram = result["ram"]
        assert result["status"] == "completed"
        assert set(result) == {"status", "setup-time", "total-time", "downtime", "ram"}
        assert result["downtime"] == 0
        assert (ram["total"], ram["remaining"]) == (8 << 20, 0)
        assert (ram["normal"], ram["normal-bytes"], ram["duplicate"]) == (100, 409600, 1948)
        assert ram["dirty-sync-count"] == 2
        assert ram["precopy-bytes"] == 0
        assert ram["transferred"] == ram["downtime-bytes"] + ram["multifd-bytes"]
        assert ram["multifd-bytes"] == (409600 if kind == "mapped-multifd" else 0)
        status = os.stat(tmp_path / "x")
        if kind == "stream":
            assert ram["transferred"] == status.st_size
        else:
            # All of the file but its holes and the room that is lost in the file system's blocks.
            assert 0 <= status.st_blocks * 512 - ram["transferred"] < 40000


CAPABILITY_ERRORS = [
    ({"mapped-ram": True, "xbzrle": True}, "Mapped-ram migration is incompatible with xbzrle"),
    ({"mapped-ram": True, "postcopy-ram": True}, "Mapped-ram migration is incompatible with postcopy"),
    ({"multifd": True, "xbzrle": True}, "Multifd is not compatible with xbzrle"),
    ({"multifd": True, "postcopy-ram": True}, "Postcopy is not yet compatible with multifd"),
    ({"postcopy-ram": True, "x-ignore-shared": True}, "Postcopy is not compatible with ignore-shared"),
    ({"postcopy-preempt": True}, "Postcopy preempt requires postcopy-ram"),
    ({"switchover-ack": True}, "Capability 'switchover-ack' requires capability 'return-path'"),
    ({"dirty-limit": True}, "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set"),
    (
        {"dirty-limit": True, "auto-converge": True},
        "dirty-limit conflicts with auto-converge either of then available currently",
    ),
    ({"zero-copy-send": True}, "Zero copy only available for non-compressed non-TLS multifd migration"),
    *(
        ({"background-snapshot": True, name: True}, f"Background-snapshot is not compatible with {name}")
        for name in (
            "postcopy-ram", "dirty-bitmaps", "postcopy-blocktime", "late-block-activate", "return-path", "multifd",
            "pause-before-switchover", "auto-converge", "release-ram", "rdma-pin-all", "xbzrle", "x-colo",
            "validate-uuid",
        )
    ),
    # Both texts fit; it is the first of the two that is looked for.
    ({"zero-copy-send": True, "multifd": True, "xbzrle": True}, "Multifd is not compatible with xbzrle"),
    ({"x-colo": True}, "Capability 'x-colo' is not supported"),
    ({"nosuch": True}, "Parameter 'capability' does not accept value 'nosuch'"),
    ({"nosuch": False}, "Parameter 'capability' does not accept value 'nosuch'"),
    ({"rdma-pin-all": True}, "Capability 'rdma-pin-all' is not supported"),
]


@pytest.mark.parametrize(("changes", "text"), CAPABILITY_ERRORS)
def test_capabilities_that_are_refused(controller, changes, text):
    made = controller()
    before = made.capabilities
    with pytest.raises(MigrationError) as caught:
        made.set_capabilities({"events": False, **changes})
    assert caught.value.desc == text
    assert made.capabilities == before


def test_listed_are_the_capabilities_that_work(controller):
    made = controller()
    assert list(made.capabilities) == [
        "auto-converge", "events", "return-path", "pause-before-switchover", "multifd",
        "x-ignore-shared", "validate-uuid", "background-snapshot", "switchover-ack", "mapped-ram",
    ]  # fmt: skip
    for name in made.capabilities:
        made.set_capabilities({name: True, **({"return-path": True} if name == "switchover-ack" else {})})
        made.set_capabilities({name: False, "return-path": False})
    # Clients switch the whole list of QEMU off before they begin.
    made.set_capabilities({"xbzrle": False, "rdma-pin-all": False, "dirty-limit": False})


PARAMETER_ERRORS = [
    ({"multifd-channels": 0}, "Parameter 'multifd_channels' expects a value between 1 and 255"),
    ({"multifd-channels": 256}, "Parameter 'multifd-channels' expects uint8_t"),
    ({"multifd-channels": -1}, "Parameter 'multifd-channels' expects uint8_t"),
    ({"multifd-channels": None}, "Parameter 'multifd-channels' expects uint64"),
    ({"max-bandwidth": "1M"}, "Parameter 'max-bandwidth' expects uint64"),
    ({"max-bandwidth": 1.5}, "Parameter 'max-bandwidth' expects uint64"),
    ({"max-bandwidth": 1 << 64}, "Parameter 'max-bandwidth' expects uint64"),
    ({"multifd-zstd-level": 21}, "Parameter 'multifd_zstd_level' expects a value between 0 and 20"),
    ({"multifd-qatzip-level": 0}, "Parameter 'multifd_qatzip_level' expects a value between 1 and 9"),
    ({"throttle-trigger-threshold": 101}, "Parameter 'throttle_trigger_threshold' expects an integer in the range of 1 to 100"),
    ({"cpu-throttle-increment": 100}, "Parameter 'cpu_throttle_increment' expects an integer in the range of 1 to 99"),
    ({"announce-step": 0}, "Parameter 'announce_step' expects a value between 0 and 10000"),
    ({"announce-rounds": 1001}, "Parameter 'announce_rounds' expects a value between 0 and 1000"),
    ({"tls-creds": 3}, "Invalid parameter type for 'tls-creds', expected: StrOrNull"),
    ({"mode": "x"}, "Parameter 'mode' does not accept value 'x'"),
    ({"mode": 1}, "Invalid parameter type for 'mode', expected: string"),
    ({"multifd-channels": "x"}, "Parameter 'multifd-channels' expects uint64"),
    ({"multifd-channels": True}, "Parameter 'multifd-channels' expects uint64"),
    (
        {"downtime-limit": 3000000},
        "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
    ),
    ({"nosuch": 0}, "Parameter 'nosuch' is unexpected"),
    ({"direct-io": 3}, "Invalid parameter type for 'direct-io', expected: boolean"),
    ({"multifd-zlib-level": 30}, "Parameter 'multifd_zlib_level' expects a value between 0 and 9"),
    ({"multifd-compression": "lz4"}, "Parameter 'multifd-compression' does not accept value 'lz4'"),
    ({"announce-initial": 100001}, "Parameter 'announce_initial' expects a value between 0 and 100000"),
    (
        {"xbzrle-cache-size": 5},
        "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size",
    ),
    ({"cpu-throttle-initial": 0}, "Parameter 'cpu_throttle_initial' expects an integer in the range of 1 to 99"),
    (
        {"max-cpu-throttle": 1},
        "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99",
    ),
    ({"zero-page-detection": "x"}, "Parameter 'zero-page-detection' does not accept value 'x'"),
]


@pytest.mark.parametrize(("changes", "text"), PARAMETER_ERRORS)
def test_parameters_that_are_refused(controller, changes, text):
    made = controller()
    before = made.parameters
    with pytest.raises(MigrationError) as caught:
        made.set_parameters({"downtime-limit": 7, **changes})
    assert caught.value.desc == text
    assert made.parameters == before


def test_parameters_in_the_other_forms_that_clients_use(controller):
    made = controller()
    made.set_parameters({"tls-creds": "x", "max-bandwidth": -1, "downtime-limit": 5.0})
    assert made.parameters["max-bandwidth"] == (1 << 64) - 1 and made.parameters["downtime-limit"] == 5
    made.set_parameters({"tls-creds": None})
    assert made.parameters["tls-creds"] == ""


def test_parameters_have_the_names_and_defaults_of_qemu(plugins):
    assert MigrationController(FakeHost(), plugins).parameters == {
        "announce-initial": 50, "announce-max": 550, "announce-rounds": 5, "announce-step": 100,
        "avail-switchover-bandwidth": 0, "cpu-throttle-increment": 10, "cpu-throttle-initial": 20,
        "cpu-throttle-tailslow": False, "direct-io": False, "downtime-limit": 300, "lazy-restore": False,
        "max-bandwidth": 134217728,
        "max-cpu-throttle": 99, "max-postcopy-bandwidth": 0, "mode": "normal", "multifd-channels": 2,
        "multifd-compression": "none", "multifd-qatzip-level": 1, "multifd-zlib-level": 1, "multifd-zstd-level": 1,
        "throttle-trigger-threshold": 50, "tls-authz": "", "tls-creds": "", "tls-hostname": "",
        "vcpu-dirty-limit": 1, "x-checkpoint-delay": 20000, "x-vcpu-dirty-limit-period": 1000,
        "xbzrle-cache-size": 67108864, "zero-page-detection": "multifd",
    }  # fmt: skip


def refused(made, uri, **options):
    with pytest.raises(MigrationError) as caught:
        made.migrate(uri, blocking=True, **options)
    return caught.value.desc


def test_migrations_that_cannot_begin(controller, tmp_path):
    where = f"file:{tmp_path}/x"
    assert refused(controller(), "foo:bar") == "unknown migration protocol: foo:bar"
    assert refused(controller(), "") == "unknown migration protocol: "
    assert refused(controller(), f"{where},offset=zz") == "file URI has bad offset zz: Invalid argument"
    assert refused(controller(), f"{where},offset=-1") == "file URI has bad offset -1: Numerical result out of range"
    assert refused(controller(FakeHost(run_state="inmigrate")), where) == "Guest is waiting for an incoming migration"
    text = "Can't migrate the vm that was paused due to previous migration"
    assert refused(controller(FakeHost(run_state="postmigrate")), where) == text
    made = controller()
    made.set_capabilities({"multifd": True})
    assert refused(made, where) == "Migration requires multi-channel URIs (e.g. tcp)"
    made = controller(kind="mapped")
    made.set_parameters({"multifd-compression": "zlib"})
    assert refused(made, where) == "Cannot use compression with mapped-ram"
    made.set_parameters({"multifd-compression": "none", "tls-creds": "tls0"})
    assert refused(made, where) == "Cannot use TLS with mapped-ram"
    assert "direct-io" in refused(controller(**{"direct-io": True}), where)
    assert refused(controller(), [{"channel-type": "main", "addr": {"transport": "rdma"}}]).endswith("'rdma'")
    assert not (tmp_path / "x").exists()


def test_channel_lists_name_files(controller, tmp_path):
    path = f"{tmp_path}/odd,offset=name"
    address = {"transport": "file", "filename": path, "offset": 0}
    controller().migrate([{"channel-type": "main", "addr": address}], blocking=True)
    assert os.path.exists(path)
    target = FakeHost(run_state="inmigrate")
    controller(target).incoming([{"channel-type": "main", "addr": address}], blocking=True)
    assert target.run_state == "paused"


def test_seekable_channels_are_asked_for(plugins):
    class Pipe(ChannelType):
        def parse(self, text):
            return text

        def open_output(self, address, context):
            raise AssertionError("opened")

        open_input = open_output

    class Plugins:
        def __getattr__(self, name):
            return getattr(plugins, name)

        def channels(self):
            return {"pipe": Channel(name="pipe", scheme="pipe", factory="")}

        def resolve(self, record):
            return Pipe if record.kind == "channel" else plugins.resolve(record)

    made = MigrationController(FakeHost(), Plugins())
    made.set_capabilities({"mapped-ram": True})
    assert refused(made, "pipe:x") == "Migration requires seekable transport (e.g. file)"
    waiting = MigrationController(FakeHost(run_state="inmigrate"), Plugins())
    waiting.set_capabilities({"mapped-ram": True})
    with pytest.raises(MigrationError, match="requires seekable transport"):
        waiting.incoming("pipe:x")


def test_a_backend_that_is_not_there_is_an_unknown_capability(plugins):
    class Without:
        def __getattr__(self, name):
            return getattr(plugins, name)

        def backends(self):
            return {n: r for n, r in plugins.backends().items() if n != "mapped-ram"}

        def get(self, kind, name):
            raise PluginError(f"{kind} {name}: its plugin is blocked")

    made = MigrationController(FakeHost(), Without())
    assert "mapped-ram" not in made.capabilities
    with pytest.raises(MigrationError, match=r"'mapped-ram' is not supported: .* its plugin is blocked"):
        made.set_capabilities({"mapped-ram": True})
    assert "direct-io" not in made.parameters


def test_a_backend_that_cannot_be_imported_harms_nobody_else(plugins):
    broken = Backend(name="mapped-ram", factory="pyemu_no_such_module:X", capabilities=("mapped-ram",))

    class Broken:
        def __getattr__(self, name):
            return getattr(plugins, name)

        def backends(self):
            return {**plugins.backends(), "mapped-ram": broken}

    made = MigrationController(FakeHost(), Broken())
    assert "multifd" in made.capabilities
    with pytest.raises(MigrationError, match="cannot import pyemu_no_such_module"):
        made.set_capabilities({"mapped-ram": True})


def test_one_migration_at_a_time(controller, tmp_path):
    host = FakeHost(BIG)
    made = controller(host)
    inside = threading.Event()
    go_on = threading.Event()

    def progress(p):
        inside.set()
        assert go_on.wait(10)

    made.migrate(f"file:{tmp_path}/x", progress=progress)
    assert inside.wait(10)
    assert made.status == "active"
    assert {"status", "setup-time", "total-time", "expected-downtime", "ram"} == set(made.query())
    with pytest.raises(MigrationError, match="There's a migration process in progress"):
        made.migrate(f"file:{tmp_path}/y")
    with pytest.raises(MigrationError, match="There's a migration process in progress"):
        made.set_capabilities({"multifd": True})
    made.set_parameters({"max-bandwidth": 0})
    go_on.set()
    assert made.wait(10) == "completed"


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd"])
def test_cancelled_migrations_leave_machine_and_files_alone(controller, filled, tmp_path, kind):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    host = filled(blocks=BIG, run_state="running")
    made = controller(host, kind, **{"max-bandwidth": 1 << 20})
    tracker = FakeSource()
    made.use_dirty_source(tracker)
    host.events.clear()
    sent = threading.Event()
    made.migrate(f"file:{path}", progress=lambda p: p.transferred_bytes > 100000 and sent.set())
    assert sent.wait(10)
    made.cancel()
    assert made.wait(10) == "cancelled"
    assert statuses(host) == ["setup", 1, "active", "cancelling", "cancelled"]
    assert made.query() == {"status": "cancelled"}
    assert host.run_state == "running"
    assert tracker.stopped == 1
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
    # Another one may begin at once, from the beginning.
    made.set_parameters({"max-bandwidth": 0})
    made.migrate_file(path)
    assert made.status == "completed"


def test_cancelling_a_paused_switchover_lets_the_guest_run(controller, tmp_path):
    host = FakeHost(run_state="running")
    made = controller(host)
    made.use_dirty_source(FakeSource())
    made.set_capabilities({"pause-before-switchover": True})
    waiting = threading.Event()
    emit = host.emit

    def listen(name, data):
        emit(name, data)
        if data.get("status") == "pre-switchover":
            waiting.set()

    host.emit = listen
    with pytest.raises(MigrationError, match="Migration not in expected state: none"):
        made.continue_("pre-switchover")
    made.migrate(f"file:{tmp_path}/x")
    assert waiting.wait(10)
    assert host.run_state == "finish-migrate"
    made.cancel()
    assert made.wait(10) == "cancelled"
    assert statuses(host)[-4:] == ["pre-switchover", "cancelling", "RESUME", "cancelled"]
    assert host.run_state == "running"
    waiting.clear()
    made.migrate(f"file:{tmp_path}/x")
    assert waiting.wait(10)
    made.continue_("pre-switchover")
    assert made.wait(10) == "completed"
    assert statuses(host)[-5:] == ["STOP", "pre-switchover", "device", 3, "completed"]


def test_cancel_without_a_migration_is_harmless(controller, tmp_path):
    made = controller()
    made.cancel()
    assert made.status == "none"
    made.migrate_file(tmp_path / "x")
    made.cancel()
    assert made.status == "completed"


def test_progress_that_raises_ends_the_migration(controller, filled, tmp_path):
    host = filled(blocks=BIG)
    made = controller(host, "mapped-multifd")

    def progress(p):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.migrate_file(tmp_path / "x", progress=progress)
    assert made.status == "failed"
    assert made.query()["error-desc"].startswith("KeyboardInterrupt")
    assert os.listdir(tmp_path) == []
    assert host.run_state == "paused"
    assert not [t for t in threading.enumerate() if t.name.startswith("multifd")]


@pytest.mark.parametrize("kind", ["stream", "mapped", "mapped-multifd"])
def test_full_disk(controller, filled, tmp_path, kind):
    host = filled(blocks=BIG, run_state="running")
    made = controller(host, kind)
    made.use_dirty_source(FakeSource())
    (tmp_path / "x").write_bytes(b"old")
    # The limit makes writes fail at a place of our choosing, as a full disk does.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, before[1]))
    try:
        with pytest.raises(MigrationError, match="Unable to write to file: File too large"):
            made.migrate_file(tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert made.status == "failed"
    assert made.query() == {"status": "failed", "error-desc": "Unable to write to file: File too large"}
    assert host.run_state == "running"
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"old"


def test_failure_at_the_very_end_restores_the_run_state(controller, tmp_path):
    for state in ("running", "paused"):
        host = FakeHost(run_state=state)
        made = controller(host)
        made.use_dirty_source(FakeSource())
        host.chips[0].count = 70000  # does not fit its declaration
        with pytest.raises(MigrationError, match="chip: field count=70000 does not fit"):
            made.migrate(f"file:{tmp_path}/x", blocking=True)
        assert host.run_state == state
        assert os.listdir(tmp_path) == []


def test_device_that_raises_is_named(controller, tmp_path):
    host = FakeHost()
    host.chips[0].regs = None
    with pytest.raises(MigrationError, match=r"cannot save the state of 'chip' 0|field regs"):
        controller(host).migrate_file(tmp_path / "x")


def test_incoming_in_the_wrong_state(controller, tmp_path):
    controller().migrate_file(tmp_path / "x")
    with pytest.raises(MigrationError, match="'-incoming' was not specified on the command line"):
        controller().incoming(f"file:{tmp_path}/x")
    made = controller(FakeHost(run_state="inmigrate"))
    with pytest.raises(MigrationError, match="Could not open '/no/such': No such file or directory"):
        made.incoming("file:/no/such")
    # An error before anything was read leaves the machine waiting.
    made.incoming(f"file:{tmp_path}/x", blocking=True)
    made._host.run_state = "inmigrate"
    with pytest.raises(MigrationError, match="The incoming migration has already been started"):
        made.incoming(f"file:{tmp_path}/x")


def test_failed_load_leaves_empty_ram_and_says_why(controller, filled, tmp_path):
    source = filled(blocks=BIG)
    controller(source).migrate_file(tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[: len(data) // 2])
    host = FakeHost(BIG, run_state="inmigrate")
    made = controller(host)
    made.incoming(f"file:{tmp_path}/x", exit_on_error=True)
    assert made.wait(10) == "failed"
    assert made.query()["error-desc"].startswith("load of migration failed: Input/output error: the stream ends inside")
    assert not host.blocks[0].array.any()
    assert host.run_state == "inmigrate"
    assert isinstance(host.failed, MigrationError)
    assert statuses(host) == ["setup", "active", "failed"]


def test_configured_restores_what_was_set(controller):
    made = controller()
    before = (made.capabilities, made.parameters)
    with made.configured({"mapped-ram": True}, {"multifd-channels": 9}):
        assert made.capabilities["mapped-ram"] and made.parameters["multifd-channels"] == 9
    with pytest.raises(MigrationError), made.configured({"mapped-ram": True}, {"multifd-channels": 900}):
        pass
    assert (made.capabilities, made.parameters) == before


def test_close_ends_a_migration_under_way(controller, filled, tmp_path):
    made = controller(filled(blocks=BIG), **{"max-bandwidth": 1 << 16})
    made.migrate(f"file:{tmp_path}/x")
    made.close()
    assert made.status == "cancelled"
    assert isinstance(Cancelled("x"), MigrationError)
    assert os.listdir(tmp_path) == []


def test_settings_of_a_command_line(controller):
    made = controller()
    made.set_from_texts({"multifd": "on", "multifd-channels": "0x4", "max-bandwidth": "1M", "direct-io": "on"})
    assert made.capabilities["multifd"] and made.parameters["multifd-channels"] == 4
    assert made.parameters["max-bandwidth"] == 1 << 20 and made.parameters["direct-io"] is True
    before = made.capabilities, made.parameters
    for texts, message in [
        ({"multifd": "yes"}, "capability 'multifd' is on or off, not 'yes'"),
        ({"multifd": "off", "nosuch": "1"}, "Parameter 'nosuch' is unexpected"),
        ({"multifd": "off", "multifd-channels": "many"}, "expects uint64, not 'many'"),
        ({"direct-io": "1"}, "expected: boolean"),
        ({"dirty-limit": "on", "max-bandwidth": "5"}, "dirty-limit requires KVM"),
    ]:
        with pytest.raises(MigrationError, match=message):
            made.set_from_texts(texts)
        assert (made.capabilities, made.parameters) == before

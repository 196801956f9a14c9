# SPDX-License-Identifier: MIT
"""Good plugins work, bad ones are named and set aside, and what a machine names is never missing in silence."""

import re
import sys

import pytest

import pyemu
from pyemu.errors import PluginError
from pyemu.plugin import API_VERSION, PluginManager
from pyemu.plugin.manager import HOOKS
from pyemu.plugin.records import record_kinds

BAD = {
    "broken": ("fake-import-error", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
    "quitter": ("fake-exit", "SystemExit: 3"),
    "newer": ("fake-newer-api", f"was written for plugin API 1.99, this host has {API_VERSION[0]}.{API_VERSION[1]}"),
    "raising": ("fake-raising", "LookupError: the table is empty"),
    "no-record": ("fake-no-record", "pyemu_devices yielded Board(name='not-a-device'"),
    "misspelt": ("fake-misspelt", "unknown hook pyemu_bords (did you mean pyemu_boards?)"),
    "unmarked": ("fake-unmarked", "pyemu_devices lacks the @pyemu.hookimpl mark"),
}


def listed(manager, name):
    (found,) = [p for p in manager.plugins if p.name == name]
    return found


def refusal(manager, kind, name):
    with pytest.raises(PluginError) as caught:
        manager.get(kind, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_plugin_is_listed_with_what_it_provides(manager):
    plugin = listed(manager("fake-good"), "good")
    assert plugin.as_dict() == {
        "name": "good",
        "distribution": "fake-good",
        "version": "1.2",
        "kinds": ["board", "command", "device"],
        "provides": ["board tray", "command greet", "device widget"],
        "api": "1.0",
        "state": "loaded",
        "reason": "",
    }


def test_listing_does_not_import_the_code_behind_the_records(manager):
    host = manager("fake-good")
    assert host.plugins and host.boards() and host.devices()
    assert "fake_good_parts" not in sys.modules
    assert host.resolve(host.get("device", "widget")).__name__ == "Widget"
    assert "fake_good_parts" in sys.modules


def test_a_factory_without_attribute_is_the_module(manager):
    host = manager("fake-good")
    assert host.resolve(host.get("command", "greet")) is sys.modules["fake_good_parts"]


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_plugin_fails_with_its_reason_and_the_others_work(manager, name):
    distribution, reason = BAD[name]
    host = manager(distribution, "fake-good")
    plugin = listed(host, name)
    assert (plugin.state, plugin.distribution) == ("failed", distribution)
    assert reason in plugin.reason
    assert host.get("device", "widget").name == "widget"
    assert host.get("board", "none").name == "none"


@pytest.mark.parametrize("name", sorted(BAD))
def test_nothing_of_a_bad_plugin_can_be_used(manager, name):
    host = manager(BAD[name][0])
    core = manager("fake-good", block=["good"])
    for mine, cores in ((host.boards(), core.boards()), (host.devices(), core.devices()), (host.engines(), {})):
        assert list(mine) == list(cores)


def test_all_bad_plugins_together_stop_nobody(manager):
    host = manager()
    states = {p.name: p.state for p in host.plugins}
    assert {n for n, s in states.items() if s == "failed"} == set(BAD)
    assert host.get("board", "tray").name == "tray"


def test_naming_a_part_of_a_failed_plugin_gives_the_reason(manager):
    text = refusal(manager("fake-raising"), "board", "half-board")
    assert text == "board half-board: its plugin raising (fake-raising 0.1) failed: LookupError: the table is empty"


def test_an_unknown_name_mentions_plugins_that_could_not_be_read(manager):
    text = refusal(manager("fake-import-error"), "board", "via-pc")
    assert text.startswith("unknown board via-pc; known: none; plugin broken (fake-import-error 0.1) failed: Module")


def test_an_unknown_name_lists_the_known_ones_and_a_close_one(manager):
    host = manager("fake-good")
    known = ", ".join(sorted(host.devices()))
    assert "isa-serial" in known and "widget" in known
    text = refusal(host, "device", "wigdet")
    assert text == f"unknown device wigdet (did you mean widget?); known: {known}"


def test_two_providers_of_one_name_are_an_error_that_names_both(manager):
    host = manager("fake-twin-one", "fake-twin-two")
    text = refusal(host, "device", "twin")
    assert text == (
        "device twin is provided by twin-one (fake-twin-one 1.0) and twin-two (fake-twin-two 3.1);"
        " uninstall one or use --block"
    )
    assert "twin" not in host.devices()


def test_a_conflict_leaves_the_other_names_of_both_alone(manager):
    host = manager("fake-twin-one", "fake-twin-two")
    assert {"only-one", "only-two"} <= set(host.devices()) and "twin" not in host.devices()
    assert listed(host, "twin-one").state == "loaded"
    assert listed(host, "twin-one").reason == "device twin is also provided by twin-two (fake-twin-two 3.1)"


def test_blocking_one_of_them_settles_a_conflict(manager):
    host = manager("fake-twin-one", "fake-twin-two", block=["twin-one"])
    assert host.resolve(host.get("device", "only-two")).__module__ == "fake_twin_two"
    assert host.get("device", "twin").factory == "fake_twin_two:Twin"


@pytest.mark.parametrize("name", ["good", "fake-good", "Fake_Good"])
def test_a_blocked_plugin_is_not_even_imported(manager, name):
    host = manager("fake-good", block=[name])
    assert listed(host, "good").state == "blocked"
    assert "fake_good" not in sys.modules
    assert refusal(host, "device", "widget").endswith("plugin good (fake-good 1.2) blocked: blocked by --block")


def test_blocking_what_is_not_there_is_an_error(manager):
    with pytest.raises(PluginError, match=re.escape("cannot block goood: no such plugin; installed: good")):
        manager("fake-good", block=["goood"])
    with pytest.raises(PluginError, match="the core itself cannot be blocked"):
        manager("fake-good", block=["core"])


def test_no_plugins_leaves_only_the_core(manager):
    host = manager("fake-good", "fake-exit", no_plugins=True)
    states = {p.name: p.state for p in host.plugins}
    assert states == {"core": "loaded", "good": "blocked", "quitter": "blocked"}
    assert "fake_good" not in sys.modules
    assert refusal(host, "board", "tray").endswith("plugins are switched off by --no-plugins: good, quitter")


def test_the_order_is_by_name_whatever_the_finder_says(entry_points):
    forwards = entry_points()
    backwards = list(reversed(forwards))
    names = [p.name for p in PluginManager(forwards).plugins]
    assert names == ["core", *sorted(names[1:])]
    assert PluginManager(forwards).plugins == PluginManager(backwards).plugins


def test_a_distribution_that_is_on_the_path_twice_is_one_plugin(entry_points):
    found = entry_points("fake-good")
    assert [p.name for p in PluginManager([*found, *found]).plugins] == ["core", "good"]


def test_the_names_of_the_core_cannot_be_taken(manager):
    host = manager("fake-usurper")
    assert host.get("board", "none").factory.startswith("pyemu.")
    plugin = listed(host, "usurper")
    assert (plugin.state, plugin.reason) == ("loaded", "board none is the core's own and cannot be replaced")
    assert host.get("board", "throne").name == "throne"


def test_a_factory_that_cannot_be_imported_names_plugin_and_cause(manager):
    host = manager("fake-usurper")
    with pytest.raises(PluginError) as caught:
        host.resolve(host.get("board", "throne"))
    assert str(caught.value) == (
        "board throne of plugin usurper (fake-usurper 0.1): cannot import fake_usurper_parts:"
        " ModuleNotFoundError: No module named 'fake_usurper_parts'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_factory_that_is_not_there_names_plugin_and_attribute(manager):
    host = manager("fake-twin-one")
    with pytest.raises(PluginError, match=r"device twin of plugin twin-one .*: fake_twin_one has no Twin"):
        host.resolve(host.get("device", "twin"))


def test_trace_prints_each_hook_call_with_its_results(manager, monkeypatch, capsys):
    monkeypatch.setenv("PYEMU_TRACE_HOOKS", "1")
    manager("fake-good")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("pyemu: hook good.pyemu_devices() -> [DeviceType(name='widget'") for line in lines)
    assert any(line.startswith("pyemu: hook core.pyemu_boards() -> [Board(name='none'") for line in lines)


def test_a_provider_is_known_by_its_record(manager):
    host = manager("fake-good")
    assert host.provider(host.get("board", "tray")).title == "good (fake-good 1.2)"
    with pytest.raises(PluginError, match="board tray comes from no plugin"):
        host.provider(pyemu.Board(name="tray", factory="a:b"))


class Inline:
    """An entry point whose plugin is made on the spot."""

    name, value, dist = "inline", "inline", None

    def __init__(self, **hooks):
        self.plugin = type("Plugin", (), {n: staticmethod(pyemu.hookimpl(f)) for n, f in hooks.items()})()

    def load(self):
        return self.plugin


def reason_for(**hooks):
    return listed(PluginManager([Inline(**hooks)]), "inline").reason


def device(**fields):
    return lambda: [pyemu.DeviceType(**{"name": "x", "factory": "a.b:c", **fields})]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, "device record has the unusable name ''"),
        ({"name": "a,b"}, "device record has the unusable name 'a,b'"),
        ({"name": 5}, "device record has the unusable name 5"),
        ({"factory": "a.b"}, "device x has the factory 'a.b'; it must be 'package.module:attribute'"),
        ({"factory": "a b:c"}, "device x has the factory 'a b:c'; it must be 'package.module:attribute'"),
        ({"factory": print}, f"device x has the factory {print!r}; it must be 'package.module:attribute'"),
        ({"api": 1}, "device x states the plugin API 1; it must be a pair like (1, 0)"),
        ({"api": (2, 0)}, "device x was written for plugin API 2.0, this host has 1.0"),
        ({"api": (0, 9)}, "device x was written for plugin API 0.9, this host has 1.0"),
    ],
)
def test_records_are_checked(fields, reason):
    assert reason_for(pyemu_devices=device(**fields)) == reason


def test_a_hook_that_returns_no_sequence_of_records_fails():
    assert reason_for(pyemu_devices=lambda: "x") == "pyemu_devices must yield DeviceType records, not return 'x'"
    assert reason_for(pyemu_devices=lambda: 7) == "pyemu_devices must yield DeviceType records, not return 7"


def test_a_hook_may_provide_nothing():
    assert reason_for(pyemu_devices=lambda: None) == ""


def test_one_plugin_cannot_provide_a_name_twice():
    twice = lambda: [*device()(), *device()()]  # noqa: E731
    assert reason_for(pyemu_devices=twice) == "device x is provided twice by the same plugin"


def test_a_hook_that_wants_arguments_it_does_not_get_fails():
    assert "pyemu_devices" in reason_for(pyemu_devices=lambda machine: [])


def test_a_plugin_without_hooks_fails():
    assert reason_for().startswith("it implements no hook; there are: pyemu_boards")


def test_a_channel_is_called_like_its_scheme():
    channel = pyemu.Channel(name="carrier", scheme="pigeon", factory="a:b")
    assert reason_for(pyemu_channels=lambda: [channel]) == (
        "channel carrier has the scheme 'pigeon'; a channel is called like its scheme"
    )


def test_every_hook_has_its_record_type_and_every_record_type_its_hook():
    from pyemu.plugin import hookspecs

    assert set(HOOKS) == {n for n in vars(hookspecs) if n.startswith("pyemu_")}
    assert set(HOOKS.values()) == set(record_kinds().values())

# SPDX-License-Identifier: MIT
"""``pyemu plugins``."""

import json
import os
import subprocess
import sys
import tomllib

import pytest

from pyemu.plugin.scaffold import KINDS

FIELDS = {"name", "distribution", "version", "kinds", "provides", "api", "state", "reason"}


def test_list_as_json_has_all_fields(pyemu, installed):
    installed("fake-good", "fake-import-error", "fake-twin-one")
    status, out, err = pyemu("plugins list --json --block twin-one")
    listed = {p["name"]: p for p in json.loads(out)}
    assert (status, err) == (0, "")
    assert all(set(p) == FIELDS for p in listed.values())
    states = {"core": "loaded", "good": "loaded", "broken": "failed", "twin-one": "blocked"}
    assert {n: p["state"] for n, p in listed.items()} == states
    assert listed["good"]["provides"] == ["board tray", "command greet", "device widget"]


def test_list_for_people_names_the_reason(pyemu, installed):
    installed("fake-import-error")
    out = pyemu("plugins list")[1]
    assert "fake-import-error 0.1" in out
    assert "No module named 'a_module_that_nobody_has'" in out


def test_check_loads_what_is_provided(pyemu, installed):
    installed("fake-twin-one")
    status, out, _ = pyemu("plugins check twin-one")
    assert status == 1
    assert out.splitlines()[0] == "twin-one (fake-twin-one 1.0):"
    assert "fake_twin_one has no Twin" in out
    assert "device only-one: fake_twin_one:Only is not a Device class" in out


def test_check_of_a_failed_plugin(pyemu, installed):
    installed("fake-misspelt")
    status, out, _ = pyemu("plugins check misspelt")
    assert status == 1
    assert "failed: unknown hook pyemu_bords" in out


def test_check_of_an_unknown_plugin(pyemu):
    assert pyemu("plugins check nobody") == (1, "", "pyemu: no plugin nobody is installed; installed: core\n")


@pytest.mark.parametrize("name", ["Upper", "two--hyphens", "9", "a b", "../x"])
def test_new_refuses_names_that_cannot_be_one(pyemu, tmp_path, name):
    status, _, err = pyemu(["plugins", "new", name, "--directory", str(tmp_path / "x")])
    assert status == 1
    assert "is not small letters, digits and single hyphens" in err
    assert not (tmp_path / "x").exists()


def test_new_does_not_overwrite(pyemu, tmp_path):
    status, _, err = pyemu(["plugins", "new", "thing", "--directory", str(tmp_path)])
    assert (status, err) == (1, f"pyemu: {tmp_path} exists already\n")


def test_new_plugins_pass_their_own_tests(pyemu, tmp_path):
    """Their metadata is put beside them by hand, which is all that an installation would do."""
    for kind in KINDS:
        folder = tmp_path / kind
        status, out, _ = pyemu(["plugins", "new", f"my-{kind}", "--kind", kind, "--directory", str(folder)])
        assert status == 0
        assert str(folder / "pyproject.toml") in out.splitlines()
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        info = folder / f"pyemu_my_{kind}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
        points = [f"{name} = {value}\n" for name, value in project["entry-points"]["pyemu"].items()]
        (info / "entry_points.txt").write_text("[pyemu]\n" + "".join(points))
    path = [*(str(tmp_path / kind) for kind in KINDS), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout

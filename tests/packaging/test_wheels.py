# SPDX-License-Identifier: MIT
"""Source distribution and wheels: complete, without warnings, and working in an environment of their own.

Everything is built once, from a copy of the files that git knows. Needs the package index for build requirements.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import venv
import zipfile

import pytest

pytestmark = pytest.mark.packaging
ROOT = pathlib.Path(__file__).parents[2]
if not (ROOT / "setup.py").is_file():
    pytest.skip("needs checkout: there is nothing to build", allow_module_level=True)


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    copy = tmp_path_factory.mktemp("checkout")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def sdist(checkout):
    """The source distribution of the core, and what its build said."""
    log = run(sys.executable, "-m", "build", "--sdist", "--outdir", checkout / "dist", cwd=checkout)
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    return archive, log


@pytest.fixture(scope="module")
def core(sdist):
    """The wheel of the core, made from its source distribution, and what its build said."""
    archive, _ = sdist
    folder = archive.parent / "core"
    log = run(sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", folder, archive)
    (wheel,) = folder.glob("*.whl")
    return wheel, log


@pytest.fixture(scope="module")
def others(checkout):
    """Wheels of the pure-Python packages that the tests need beside the core, by name, and what their builds said."""
    folder = checkout / "dist" / "others"
    names = ["plugins/pc87312", "plugins/streaming", "plugins/mapped-ram", "plugins/multifd"]
    sources = [checkout / name for name in (*names, "examples/pyemu-dice", "examples/pyemu-xxhash")]
    log = run(sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", folder, *sources)
    return {w.name.split("-")[0].removeprefix("pyemu_"): w for w in folder.glob("*.whl")}, log


@pytest.fixture(scope="module")
def environment(core, others, tmp_path_factory):
    """The ``bin`` folder of a fresh environment with the core, four plugins and the examples installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "pip", "install", core[0], *others[0].values())
    return folder / "bin"


def warnings(log):
    return [
        line
        for line in log.splitlines()
        if re.search(r"\bwarning\b", line, re.IGNORECASE) and not re.search("pypi|byte-compil", line)
    ]


def test_builds_give_no_warnings(sdist, core, others):
    assert warnings(sdist[1]) == []
    assert warnings(core[1]) == []
    assert warnings(others[1]) == []


def test_the_source_distribution_has_all_sources(sdist, checkout):
    with tarfile.open(sdist[0]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(p.relative_to(checkout)) for p in (checkout / "pyemu").rglob("*") if p.is_file()}
    wanted = {n for n in wanted if not re.search(r"\.(c|so|pyc)$", n)}
    assert wanted - packed == set()
    # C below pyemu/ is what Cython wrote; that of the tests is theirs.
    assert [n for n in packed if n.endswith((".so", ".o")) or re.match(r"pyemu/.*\.c$", n)] == []


def test_the_wheel_has_what_users_and_compilers_need_and_no_more(core, checkout):
    names = set(zipfile.ZipFile(core[0]).namelist())
    for pattern in ("*.py", "*.pxd", "*.pyi", "*.h"):
        assert {str(p.relative_to(checkout)) for p in (checkout / "pyemu").rglob(pattern)} - names == set()
    assert "pyemu/py.typed" in names
    compiled = {n.partition(".")[0] for n in names if n.endswith(".so")}
    assert compiled == {str(p.relative_to(checkout).with_suffix("")) for p in (checkout / "pyemu").rglob("*.pyx")}
    assert not [n for n in names if n.endswith((".c", ".pyc", ".o"))]
    assert {n.partition("/")[0] for n in names if "dist-info" not in n} == {"pyemu"}


def test_every_plugin_folder_is_a_distribution_with_an_entry_point(checkout):
    import tomllib

    for folder in sorted((checkout / "plugins").iterdir()):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["name"] == f"pyemu-{folder.name}"
        assert list(project["entry-points"]["pyemu"]) == [folder.name]


class QTest:
    """A client of the qtest protocol, as simple as can be."""

    def __init__(self, path, process):
        self.socket = socket.socket(socket.AF_UNIX)
        while not path.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rw")

    def __call__(self, command):
        self.lines.write(command + "\n")
        self.lines.flush()
        return self.lines.readline().split()


def test_an_installed_device_answers(environment, tmp_path):
    path = tmp_path / "qtest"
    command = ["run", "-M", "isa-pc", "--cpu", "none", "--device", "dice,seed=7", "--qtest", f"unix:{path}"]
    process = subprocess.Popen(
        [environment / "pyemu", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        qtest = QTest(path, process)
        assert qtest("inb 0x2a3") == ["OK", "0x00d1"]
        rolls = [int(qtest("inb 0x2a0")[1], 0) for _ in range(30)]
        assert set(rolls) == {1, 2, 3, 4, 5, 6}
        assert int(qtest("inb 0x2a2")[1], 0) == 30
        qtest.socket.close()
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("example", ["pyemu-dice", "pyemu-xxhash"])
def test_the_tests_of_the_examples_pass(environment, checkout, example):
    run(environment / "pip", "install", "pytest")
    run(environment / "python", "-P", "-m", "pytest", "-q", "-c", os.devnull, checkout / "examples" / example)


@pytest.mark.parametrize("name", ["dice", "xxhash"])
def test_plugins_check_finds_nothing_wrong(environment, tmp_path, name):
    assert run(environment / "pyemu", "plugins", "check", name, cwd=tmp_path) == f"{name} (pyemu-{name} 1.0.0): ok\n"


def test_uninstalled_it_is_gone(environment, others, tmp_path):
    run(environment / "pip", "uninstall", "-y", "pyemu-dice")
    try:
        listed = json.loads(run(environment / "pyemu", "plugins", "list", "--json", cwd=tmp_path))
        assert "dice" not in {p["name"] for p in listed}
        command = [environment / "pyemu", "run", "-M", "isa-pc", "--cpu", "none", "--device", "dice"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"pyemu: unknown device dice.*\n", done.stderr)
    finally:
        run(environment / "pip", "install", "--no-deps", others[0]["dice"])

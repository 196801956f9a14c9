# SPDX-License-Identifier: MIT
"""Writes the skeleton of a plugin package: metadata, a record, a working part and a test that passes."""

from __future__ import annotations

import pathlib
import re
from string import Template

from ..errors import ConfigError
from .records import API_VERSION

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "pyemu-$name"
version = "0.1.0"
description = "$Class for pyemu"
requires-python = ">=3.11"
dependencies = ["pyemu-machine>=0.1"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points.pyemu]
$name = "$package"

[tool.setuptools]
packages = ["$package"]
"""

_INIT = '''\
"""What this package provides. Hosts import it for every listing, so it imports nothing heavy."""

import pyemu


@pyemu.hookimpl
def $hook():
    yield pyemu.$record(
        name="$name",
        factory="$factory",
        api=$api,
        help="say here in one line what it is",
    )
'''

_DEVICE = '''\
"""An ISA device with one register that holds what was written to it."""

import pyemu
from pyemu import vmstate


class $Class(pyemu.ISAFunction):
    type_name = "$name"
    properties = (pyemu.Property("iobase", "int", 0x2a0, "first port", minimum=0, maximum=0xffff),)
    vmstate = pyemu.VMState("$name", fields=(vmstate.uint8("value"),))

    def __init__(self, **properties):
        super().__init__(**properties)
        self.value = 0

    def reset(self):
        self.value = 0

    def table(self):
        return [pyemu.PortioEntry(0, 1, 1, read=self.read, write=self.write)]

    def read(self, offset, size):
        return self.value

    def write(self, offset, size, value):
        self.value = value
'''

_DEVICE_TEST = """\
from $package.device import $Class

from pyemu.testing import DeviceConformance, ISAFixture


class TestConformance(DeviceConformance):
    device_class = $Class


def test_the_register_holds_what_was_written():
    fixture = ISAFixture()
    fixture.plug($Class())
    fixture.write(0x2a0, 0x5a)
    assert fixture.read(0x2a0) == 0x5a
"""

_BOARD = '''\
"""A board: RAM from address 0."""


import pyemu


def build(machine):
    block = machine.add_ram("$name.ram", machine.memory_size)
    machine.system_memory.add_subregion(0, pyemu.MemoryRegion.ram("$name.ram", block))
'''

_BOARD_TEST = """\
import pyemu


def test_the_board_has_its_ram():
    with pyemu.Machine("$name", memory="1M", cpu="none") as machine:
        machine.memory.write(0xffffc, b"last")
        assert bytes(machine.ram["$name.ram"].array[-4:]) == b"last"
"""

_COMMAND = '''\
"""A subcommand: ``pyemu $name``."""


def configure(parser):
    parser.add_argument("word", nargs="?", default="world")


def run(args):
    print(f"hello, {args.word}")
    return 0
'''

_COMMAND_TEST = """\
from pyemu.cli import main


def test_it_greets(capsys):
    assert main(["$name", "there"]) == 0
    assert capsys.readouterr().out == "hello, there\\n"
"""

#: For each kind: hook, record, module with the code, the attribute the factory names, code, test.
KINDS: dict[str, tuple[str, str, str, str, str, str]] = {
    "board": ("pyemu_boards", "Board", "board", ":build", _BOARD, _BOARD_TEST),
    "command": ("pyemu_commands", "Command", "command", "", _COMMAND, _COMMAND_TEST),
    "device": ("pyemu_devices", "DeviceType", "device", ":$Class", _DEVICE, _DEVICE_TEST),
}


def write_skeleton(name: str, kind: str, directory: pathlib.Path) -> list[pathlib.Path]:
    """Writes the package and returns the files.

    Raises:
        ConfigError: the name is no good, the kind is unknown, or the directory exists already.
    """
    if not _NAME.match(name):
        raise ConfigError(f"plugin name {name!r} is not small letters, digits and single hyphens")
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of plugin {kind!r}; known: {', '.join(sorted(KINDS))}")
    if directory.exists():
        raise ConfigError(f"{directory} exists already")
    hook, record, module, attribute, code, test = KINDS[kind]
    words = {
        "name": name,
        "package": "pyemu_" + name.replace("-", "_"),
        "Class": "".join(part.capitalize() for part in name.split("-")),
        "hook": hook,
        "record": record,
        "api": f"({API_VERSION[0]}, {API_VERSION[1]})",
    }
    words["factory"] = Template(f"{words['package']}.{module}{attribute}").substitute(words)
    files = {
        "pyproject.toml": _PYPROJECT,
        f"{words['package']}/__init__.py": _INIT,
        f"{words['package']}/{module}.py": code,
        f"tests/test_{name.replace('-', '_')}.py": test,
    }
    written = []
    for relative, text in files.items():
        path = directory / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(text).substitute(words), encoding="utf-8")
        written.append(path)
    return written

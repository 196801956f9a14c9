# SPDX-License-Identifier: MIT
"""The pages of the chips are current, and what they say holds for devices that were just reset."""

import pathlib
import tomllib

import pytest

from pyemu.device import Device, PCIDevice, pages
from pyemu.testing.board import Board
from pyemu.testing.fakes import ISAFixture, PCIFixture

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "chips"
CLASSES = [name for entry in tomllib.loads((FOLDER / "pages.toml").read_text()).values() for name in entry["classes"]]
#: Registers that show what is outside of the device, or what time it is.
LIVE = {"CMOS data", "port 1", "port 2"}


def test_the_pages_are_current():
    assert pages.stale(FOLDER) == [], "run: python -m pyemu.device.pages --write docs/reference/chips"


@pytest.fixture(scope="module")
def devices():
    options = [("via-pc", {"southbridge": chip}) for chip in ("vt82c686a", "vt82c686b", "vt8231")] + [("isa-pc", {"config": 31})]
    boards = [Board(name, **properties) for name, properties in options]
    yield [device for board in boards for device in board.machine.devices.values()]
    for board in boards:
        board.close()


@pytest.mark.parametrize("name", CLASSES)
def test_a_device_that_was_reset_has_the_values_of_its_page(name, devices):
    cls = pages.load(name)
    found = [device for device in devices if type(device) is cls]
    if not found and cls.bus_kind in ("isa", "pci"):
        found = [(PCIFixture() if cls.bus_kind == "pci" else ISAFixture()).plug(cls())]
    for device in found:
        if device.type_name == "pc87312":
            continue  # its straps decide
        declared = [v for table in pages.tables(cls) for v in table]
        values = device.register_values()
        assert [v.name for v in values] == [r.name for r in declared]
        for value in values:
            if value.name in LIVE or (isinstance(device, PCIDevice) and value.offset in (0x02, 0x08)):
                continue
            assert value.value == value.reset, value


def every_device(cls=Device):
    for below in cls.__subclasses__():
        yield from every_device(below)
        if below.type_name and below.__module__.startswith(("pyemu.", "pyemu_via.", "pyemu_pc87312.")):
            yield below


def test_every_device_has_its_page(devices):
    """Whoever adds a device adds its registers and its name to pages.toml."""
    listed = {pages.load(name) for name in CLASSES}
    on_boards = {type(device) for device in devices}
    left_out = {"via-host"}  # a configuration header and nothing else
    missing = {cls for cls in {*every_device(), *on_boards} - listed if ".testing" not in cls.__module__}
    assert {cls.type_name for cls in missing} <= left_out, missing
    silent = [cls for cls in listed if cls.bus_kind in ("isa", "pci") and not list(pages.tables(cls))]
    assert not silent, "declare no registers"

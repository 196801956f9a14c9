# SPDX-License-Identifier: MIT
"""The pages of the chips are current, and what they say holds for devices that were just reset."""

import pathlib
import tomllib

import pytest

from pyemu.device import PCIDevice, pages
from pyemu.testing.board import Board

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
    if not found:
        assert cls.bus_kind in ("usb", "smbus"), "not on any board"
        return
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

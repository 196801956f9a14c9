# SPDX-License-Identifier: MIT
"""The SMBus and the EEPROMs of memory modules."""

import pytest

from pyemu import ConfigError
from pyemu.chips.smbus import EEPROM, SMBus, memory_modules, modules, spd

MIB = 1 << 20


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(2, []), (8, [8]), (64, [64]), (96, [64, 32]), (1536, [1024, 512]), (4096, [1024] * 4), (8192, [1024] * 4)],
)
def test_memory_is_made_of_modules(memory, expected):
    assert modules(memory * MIB) == expected


@pytest.mark.parametrize("size", [8 << n for n in range(8)])
def test_a_description_says_the_size_in_two_ways_and_sums_up(size):
    data = spd(size)
    assert len(data) == 256
    assert data[63] == sum(data[:63]) & 0xFF
    rows, columns, ranks, width, banks = data[3], data[4], data[5], data[6], data[17]
    assert ranks * banks * (1 << rows + columns) * width // 8 == size * MIB
    assert data[31] * 4 * ranks == size
    assert 8 <= columns <= 12 and 11 <= rows <= 13


@pytest.mark.parametrize("size", [4, 12, 2048])
def test_impossible_modules_are_refused(size):
    with pytest.raises(ConfigError, match=f"module of {size} MiB"):
        spd(size)


def test_the_pointer_of_an_eeprom_wraps_and_its_contents_are_protected():
    eeprom = EEPROM()
    eeprom.contents[:] = bytes(range(256))
    assert eeprom.write_bytes(b"\xfe")
    assert eeprom.read_bytes(4) == b"\xfe\xff\x00\x01"
    assert not eeprom.write_bytes(b"\x10\x55")
    open_one = EEPROM(protect="off")
    assert open_one.write_bytes(b"\xff\x55\x66")
    assert (open_one.contents[255], open_one.contents[0]) == (0x55, 0x66)


def test_two_devices_at_one_address_are_refused():
    bus = SMBus()
    first, second = bus.plug(memory_modules(16 * MIB)[0]), EEPROM()
    with pytest.raises(ConfigError, match="0x50 of smbus.0 is taken by smbus-eeprom"):
        bus.plug(second)
    bus.unplug(first)
    assert bus.plug(second) is second

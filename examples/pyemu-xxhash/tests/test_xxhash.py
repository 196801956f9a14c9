# SPDX-License-Identifier: MIT
"""Run with the package installed: ``pytest examples/pyemu-xxhash``."""

import pathlib
import types

import pytest

import pyemu
from pyemu.testing.backend import BackendConformance


class TestOneStream(BackendConformance):
    capabilities = types.MappingProxyType({"xxhash": True})


class TestFixedPlaces(BackendConformance):
    capabilities = types.MappingProxyType({"xxhash": True, "mapped-ram": True})


class TestSeveralWriters(BackendConformance):
    capabilities = types.MappingProxyType({"xxhash": True, "mapped-ram": True, "multifd": True})


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "vm"
    with pyemu.Machine("none", memory="1M") as machine:
        machine.ram["ram"].array[0x5000:0x5004] = [1, 2, 3, 4]
        machine.migration.set_capabilities({"xxhash": True})
        machine.save(path, mapped_ram=True)
    return path


def test_one_bit_of_one_page_is_found(saved: pathlib.Path):
    data = bytearray(saved.read_bytes())
    at = data.index(bytes([1, 2, 3, 4]) + bytes(100))
    data[at + 2000] ^= 0x10
    saved.write_bytes(data)
    with pytest.raises(pyemu.MigrationError, match=r"block ram: page at 0x5000 has hash 0x\w{16}, saved was .*1 of 256 pages"):
        pyemu.restore(saved)


def test_hosts_without_it_refuse_the_file_by_name(saved: pathlib.Path):
    with pyemu.Machine("none", memory="1M", incoming=True) as machine:
        machine.migration.set_capabilities({"mapped-ram": True})
        with pytest.raises(pyemu.MigrationError, match="Capability xxhash is off, but received capability is on"):
            machine.migration.incoming(f"file:{saved}", blocking=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # The word, the number of blocks, then "ram" behind its length and 256 pages.
        ("0000000000000400 00000001", "0000000000000400 00000002", "hashes of 2 blocks, the stream has 1"),
        ("00000001 03 72616d 0000000000000100", "00000001 03 72616e 0000000000000100", "256 pages of a block 'ran' that"),
        ("00000001 03 72616d 0000000000000100", "00000001 03 72616d 0fffffffffffffff", r"hashes of \d+ pages of a block 'ram'"),
        ("0000000000000400 00000001", "0000000000000010 7e000000", "xxhash|Unknown|Mismatched"),
    ],
)
def test_hostile_hashes_are_refused(saved: pathlib.Path, old: str, new: str, message: str):
    data = saved.read_bytes()
    before = bytes.fromhex(old)
    at = data.rindex(before)
    saved.write_bytes(data[:at] + bytes.fromhex(new) + data[at + len(before) :])
    with pytest.raises(pyemu.MigrationError, match=message):
        pyemu.restore(saved)

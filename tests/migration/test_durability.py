# SPDX-License-Identifier: MIT
"""What a save promises about the disk, proved on its system calls: their order, each one failing, each one the last.

A kill alone proves little, for the page cache survives it; the order of the calls is what a power cut would see.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from migration import syscalls
from migration.conftest import KINDS

PROGRAM = "migration.savefaults"
TARGETS = ("new", "old", "offset", "link")
FORMATS = [kind for kind in KINDS if "dense" not in kind]
#: Descriptors that were handed over: a single one takes a stream from one end to the other.
EVERYWHERE = [(kind, target) for kind in FORMATS for target in (*TARGETS, "fdset")] + [("stream", "fd")]


@pytest.fixture(scope="session")
def recorder(tmp_path_factory):
    return syscalls.compile_recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def run(recorder, tmp_path):
    """Has each combination tried; returns how many saves, or calls, each had."""

    def start(mode, kinds, targets, *, pages=40, count=1):
        jobs = [f"{mode}:{kind}:{target}:{pages}:{count}" for kind in kinds for target in targets]
        return numbers(syscalls.run(recorder, PROGRAM, tmp_path, *jobs))

    return start


def numbers(lines):
    return [int(line.split()[-1]) for line in lines if not line.startswith("#")]


def test_the_order_of_calls_faults_and_kills(recorder, tmp_path):
    """A few of each, in one process; ``-m durability`` has all of them."""
    jobs = ["orders:mapped:offset:40:1", "faults:stream:old:40:2", "kills:stream:old:40:2", "kills:mapped:offset:40:25"]
    jobs.append("sectors:mapped-direct:old:200:65536")
    calls, faults, first, second, sectors = numbers(syscalls.run(recorder, PROGRAM, tmp_path, *jobs))
    assert calls >= 10 and faults >= 14 and first + second >= 10 and sectors >= 1


@pytest.mark.durability
@pytest.mark.parametrize(("kind", "target"), EVERYWHERE)
def test_data_is_on_the_disk_before_its_name_or_its_magic(run, kind, target):
    assert run("orders", [kind], [target], pages=4096)[0] >= 7


@pytest.mark.durability
@pytest.mark.parametrize(("kind", "target"), EVERYWHERE)
def test_each_fault_is_one_error_and_leaves_the_old_file(run, kind, target):
    assert run("faults", [kind], [target])[0] >= 28


@pytest.mark.durability
@pytest.mark.parametrize(("kind", "target"), EVERYWHERE)
def test_kills_at_each_call_leave_the_old_file_or_the_new_one(run, kind, target):
    assert run("kills", [kind], [target])[0] >= 21


@pytest.fixture
def block_device(tmp_path_factory, monkeypatch):
    if os.geteuid():
        pytest.skip("needs root: losetup makes a block device of a file")
    image = tmp_path_factory.mktemp("device") / "image"
    image.write_bytes(bytes(4 << 20))
    losetup = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    device = losetup.stdout.strip()
    monkeypatch.setenv("PYEMU_BLOCK_DEVICE", device)
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.durability
@pytest.mark.parametrize("kind", FORMATS)
def test_block_devices(run, block_device, kind):
    for mode in ("orders", "faults", "kills"):
        assert run(mode, [kind], ["block"], count=1 if mode == "orders" else 3)[0] >= 7


@pytest.mark.durability
def test_two_hundred_kills_at_random_times(run):
    """Each combination of format and target is killed 10 times while it writes 16 MiB."""
    assert sum(run("random", FORMATS, TARGETS, pages=4096, count=10)) == 200

# SPDX-License-Identifier: MIT
"""A guest that writes faster than can be sent, moved live: its processor is slowed down for real."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from pyemu import Machine

pytestmark = pytest.mark.live

PAGES, FIRST = 3000, 0x400000


def program(delay):
    """Flat 32-bit code: adds one to the first word of each page, *delay* turns of a loop apart, for ever."""
    start = b"\xbf" + struct.pack("<I", FIRST) + b"\xb9" + struct.pack("<I", PAGES)  # mov edi, FIRST / mov ecx, PAGES
    loop = b"\xff\x07\x81\xc7" + struct.pack("<I", 4096)  # l: inc dword [edi] / add edi, 4096
    loop += b"\xb8" + struct.pack("<I", delay) + b"\x48\x75\xfd\x49"  # mov eax, delay / d: dec eax / jnz d / dec ecx
    loop += b"\x0f\x85" + struct.pack("<i", -(len(loop) + 6))  # jnz l
    code = start + loop
    return code + b"\xe9" + struct.pack("<i", -(len(code) + 5))  # jmp start


def flat(machine):
    """The processor at 1 MiB in flat protected mode."""
    state = machine.engine.get_state()
    state.update({"rip": 0x100000, "rflags": 2, "cr0": 0x11})
    for name in ("es", "cs", "ss", "ds", "fs", "gs"):
        code = name == "cs"
        state.update({
            f"{name}_selector": 0x10 if code else 0x18, f"{name}_base": 0, f"{name}_limit": 0xFFFFFFFF,
            f"{name}_flags": 0xCF9B00 if code else 0xCF9300,
        })  # fmt: skip
    machine.engine.set_state(state)
    machine.set_a20(True)


def written(machine):
    """Pages that the guest has written so far, each as often as it was."""
    words = machine.ram["pc.ram"].array[FIRST : FIRST + PAGES * 4096].view("<u4")[::1024]
    return int(words.astype(np.uint64).sum())


@pytest.fixture
def busy():
    """A guest whose writes take some 8,000 pages a second: 32 MiB."""
    with Machine("isa-pc", memory="32M", cpu="unicorn") as machine:
        # As many turns between two pages as make that rate here, found out by trying.
        delay = 1000
        for _ in range(4):
            code = program(delay)
            machine.stop()
            machine.ram["pc.ram"].array[FIRST:] = 0
            machine.ram["pc.ram"].array[0x100000 : 0x100000 + len(code)] = np.frombuffer(code, np.uint8)
            machine.reset()
            machine.call(lambda: flat(machine))
            machine.cont()
            begin, before = time.monotonic(), written(machine)
            time.sleep(0.5)
            rate = (written(machine) - before) / (time.monotonic() - begin)
            delay = max(int(delay * rate / 8000), 1)
        yield machine


def test_a_guest_that_is_too_fast_converges(busy):
    shown = []
    with Machine("isa-pc", memory="32M", cpu="unicorn", incoming="tcp:127.0.0.1:0") as there:
        report = busy.migrate(
            there.migration.listening[0],
            max_bandwidth=8 << 20,
            downtime_ms=200,
            auto_converge=True,
            progress=lambda p: shown.append(busy.migration.query().get("cpu-throttle-percentage", 0)),
        )
        assert shown == sorted(shown) and shown[-1] >= 20
        assert busy.cpu_throttle == 0
        assert there.migration.wait(10) == "completed"
        assert report.dirty_syncs > 3
        # It goes on there, and nothing of what it wrote was lost: neighbours differ by one turn at most.
        before = written(there)
        time.sleep(0.2)
        there.stop()
        assert written(there) > before
        words = there.ram["pc.ram"].array[FIRST : FIRST + PAGES * 4096].view("<u4")[::1024].astype(int)
        steps = np.diff(words)
        assert np.count_nonzero(steps) <= 1 and set(steps) <= {0, -1}

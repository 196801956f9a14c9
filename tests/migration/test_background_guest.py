# SPDX-License-Identifier: MIT
"""A guest that counts in two pages is saved in the background, again and again, without being stopped for it."""

from __future__ import annotations

import numpy as np
import pytest

import pyemu
from pyemu.errors import MemoryMapError
from pyemu.memory import PageKeeper, RAMBlock
from pyemu.plugin import PluginManager

FIRST, SECOND = 0x2000, 0x9000
#: 16-bit code: xor ax,ax; mov ds,ax; again: inc dword [FIRST]; inc dword [SECOND]; jmp again
CODE = bytes.fromhex("31c0 8ed8 66ff060020 66ff060090 ebf4")
#: At the reset vector: jmp f000:0000
START = bytes.fromhex("ea000000f0")


@pytest.fixture
def machine(tmp_path):
    pytest.importorskip("unicorn", reason="needs unicorn")
    keeper = PageKeeper()
    try:
        keeper.start([RAMBlock("probe", 4096)])
    except MemoryMapError as error:
        pytest.skip(f"needs userfaultfd: {error}")
    keeper.stop()
    image = bytearray(64 << 10)
    image[: len(CODE)] = CODE
    image[0xFFF0 : 0xFFF0 + len(START)] = START
    (tmp_path / "bios").write_bytes(image)
    with pyemu.Machine("isa-pc", cpu="unicorn", memory="8M", bios=tmp_path / "bios", plugins=PluginManager()) as made:
        yield made


def counters(memory):
    return memory[FIRST : FIRST + 4].view(np.uint32)[0], memory[SECOND : SECOND + 4].view(np.uint32)[0]


@pytest.mark.parametrize("mapped", [False, True])
def test_counters_in_two_pages_agree_in_the_file(machine, tmp_path, mapped):
    memory = machine.ram["pc.ram"].array
    machine.cont()
    before = 0
    for _ in range(3):
        while counters(memory)[1] <= before:
            pass
        machine.save(tmp_path / "x", mapped_ram=mapped, background=True)
        assert machine.running
        with pyemu.restore(tmp_path / "x", host_files=True, plugins=machine.plugins) as back:
            first, second = counters(back.ram["pc.ram"].array)
            # Between the two instructions, or behind both.
            assert first - second in (0, 1) and second > before
            before = second
            # What was saved goes on from there.
            back.cont()
            while counters(back.ram["pc.ram"].array)[1] <= second:
                pass
            back.stop()
            first, second = counters(back.ram["pc.ram"].array)
            assert first - second in (0, 1)

# SPDX-License-Identifier: MIT
"""The C interface as a compiled plugin sees it: a small extension is compiled against the header and loaded."""

from __future__ import annotations

import gc
import importlib.util
import pathlib
import shlex
import subprocess
import sysconfig
import weakref

import pytest

from pyemu.capi import get_include
from pyemu.device._clock import Clock
from pyemu.device._cpuhost import make_cpu_host
from pyemu.errors import EngineError, MemoryMapError
from pyemu.memory import AddressSpace, IoHandler, MemoryRegion, PortioEntry, PortioList, PortSpace, RAMBlock

SOURCE = pathlib.Path(__file__).with_name("plugin.c")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capi")
    target = folder / f"plugin{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    includes = [f"-I{get_include()}", f"-I{sysconfig.get_path('include')}"]
    done = subprocess.run(
        [*compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-cast-function-type", *includes,
         str(SOURCE), "-o", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spec = importlib.util.spec_from_file_location("plugin", target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Board:
    def __init__(self, irq_ack=lambda: 8):
        self.ports = PortSpace()
        self.root = MemoryRegion.container("root", 1 << 32)
        self.memory = AddressSpace("memory", self.root)
        self.clock = Clock("step")
        self.host = make_cpu_host(self.ports, self.memory, self.clock, irq_ack)


def test_an_engine_reaches_ports_memory_and_the_clock(plugin):
    board = Board()
    PortioList("dev", [PortioEntry(0, 4, 1, lambda o, s: 0x40 + o, None)], "dev").add(board.ports, 0x80)
    block = RAMBlock("ram", 4096)
    board.root.add_subregion(0x1000, MemoryRegion.ram("ram", block))
    assert plugin.port_in(board.host, 0x81, 2) == 0x4241
    plugin.mmio_write(board.host, 0x1004, 8, 0x1122334455667788)
    assert block.read(4, 8) == bytes.fromhex("8877665544332211")
    assert plugin.mmio_read(board.host, 0x1004, 4) == 0x55667788
    assert plugin.mmio_read(board.host, 0x9000, 8) == (1 << 64) - 1
    board.clock.advance(1234)
    assert plugin.clock_ns(board.host) == 1234


def test_accesses_no_processor_makes_are_harmless(plugin):
    """What a broken engine might pass: odd sizes, ports beyond the space."""
    board = Board()
    for size in (0, 3, 8, 200):
        assert plugin.port_in(board.host, 0x80, size) == 0xFFFFFFFF
        plugin.port_out(board.host, 0x80, size, 1)
    assert plugin.port_in(board.host, 0x12345, 1) == 0xFF
    for size in (0, 9, 200):
        assert plugin.mmio_read(board.host, 0, size) == (1 << 64) - 1
        plugin.mmio_write(board.host, 0, size, 1)
    assert plugin.mmio_read(board.host, 0, 3) == 0xFFFFFF
    assert (board.ports.unassigned_reads, board.ports.unassigned_writes) == (5, 4)
    assert (board.memory.unassigned_reads, board.memory.unassigned_writes) == (4, 3)


def test_the_capsule_keeps_everything_alive(plugin):
    board = Board()
    entry = PortioEntry(0, 1, 1, lambda o, s: 0x5A)
    PortioList("dev", [entry], "dev").add(board.ports, 0)
    space = weakref.ref(board.memory)
    host = board.host
    del board, entry
    gc.collect()
    assert plugin.port_in(host, 0, 1) == 0x5A
    assert plugin.irq_ack(host) == 8
    assert space() is not None
    del host
    gc.collect()
    assert space() is None


def test_acknowledging_from_python(plugin):
    vectors = [0x20, 256, -1, "x"]
    board = Board(lambda: vectors.pop(0))
    assert plugin.irq_ack(board.host) == 0x20
    assert board.ports.take_fault() is None
    for words in ("interrupt vector 256 is not", "interrupt vector -1 is not", "TypeError"):
        assert plugin.irq_ack(board.host) == 0xFF
        fault = board.ports.take_fault()
        assert words in str(fault)
        assert fault.device == "interrupt controller"


def test_acknowledging_in_c(plugin):
    board = Board(plugin.ack(0x71))
    assert plugin.irq_ack(board.host) == 0x71


def test_tables_of_another_version_are_refused(plugin):
    with pytest.raises(EngineError, match="interface version 99"):
        Board(plugin.ack(0x71, 99))
    with pytest.raises(EngineError, match="neither a capsule pyemu.irq_ack nor callable"):
        Board(5)
    with pytest.raises(MemoryMapError, match="latch0: io handler has interface version 99"):
        IoHandler.from_capsule(plugin.latch(99), "latch0")
    with pytest.raises(MemoryMapError, match="and 8 bytes"):
        IoHandler.from_capsule(plugin.latch(1, 8), "latch0")
    for wrong in (plugin.ack(1), None, object()):
        with pytest.raises(MemoryMapError, match="is not a capsule pyemu.io_handler"):
            IoHandler.from_capsule(wrong, "latch0")


def test_a_compiled_device_behind_ports_and_memory(plugin):
    board = Board()
    handler = IoHandler.from_capsule(plugin.latch(), "latch0")
    assert not handler.is_python
    PortioList("latch0", [PortioEntry(0, 8, 1, handler=handler)], "latch0").add(board.ports, 0x100)
    board.root.add_subregion(0x1000, MemoryRegion.io("latch0", 8, handler=handler, max_access=1))
    del handler
    gc.collect()
    plugin.port_out(board.host, 0x103, 1, 0x15A)
    assert plugin.port_in(board.host, 0x103, 1) == 0x5A
    assert board.memory.load(0x1000, 4) == 0x5A000000
    # Its answers are wider than the access: the rest is cut off.
    assert plugin.port_in(board.host, 0x107, 1) == 0

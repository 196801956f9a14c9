# SPDX-License-Identifier: MIT
"""A machine as migration sees it: RAM, a clock, a run state, and a guest that is a thread."""

from __future__ import annotations

import threading

from pyemu.device import Clock
from pyemu.device.vmstate import VMState, buffer, uint8, uint16, uint32
from pyemu.memory import RAMBlock
from pyemu.migration import DeviceSection


class Chip:
    """A device with one field of each common kind."""

    vmstate = VMState(
        "chip",
        version=3,
        minimum_version=2,
        fields=(uint8("index"), uint16("count", limit=1000), uint32("regs", 4), buffer("fifo", 16), uint8("new", since=3)),
    )

    def __init__(self):
        self.index, self.count, self.new = 1, 2, 3
        self.regs = [1, 2, 3, 4]
        self.fifo = bytearray(b"0123456789abcdef")


class FakeSource:
    """A dirty source for guests that mark what they write themselves."""

    name = "fake"
    reason = "a test"

    def __init__(self):
        self.started = self.stopped = self.syncs = 0

    def start(self, blocks):
        self.started += 1

    def sync(self):
        self.syncs += 1
        return 0

    def stop(self):
        self.stopped += 1


class FakeHost:
    def __init__(self, blocks=(("ram", 1 << 20),), name="none", run_state="paused", devices=1, uuid=None):
        self.machine_name = name
        self.uuid = uuid
        self.run_state = run_state
        self.clock = Clock("host")
        self.blocks = [RAMBlock(n, s) for n, s in blocks]
        self.chips = [Chip() for _ in range(devices)]
        self.events = []
        self.ram_changes = 0
        self.failed = None
        self.lock = threading.RLock()
        if run_state == "running":
            self.clock.start()

    @property
    def ram(self):
        return {b.idstr: b for b in self.blocks}

    def ram_blocks(self):
        return self.blocks

    def sections(self):
        return [DeviceSection("chip", i, c.vmstate, c) for i, c in enumerate(self.chips)]

    def description(self):
        return {"board": self.machine_name, "memory": sum(b.used_length for b in self.blocks)}

    def call(self, function):
        with self.lock:
            return function()

    def vm_stop(self, state):
        if self.run_state == "running":
            self.emit("STOP", {})
        self.clock.stop()
        self.run_state = state

    def vm_start(self):
        self.run_state = "running"
        self.clock.start()
        self.emit("RESUME", {})

    def set_run_state(self, state):
        self.run_state = state

    def emit(self, event, data):
        self.events.append((event, dict(data)))

    def ram_changed(self):
        self.ram_changes += 1

    def incoming_failed(self, error):
        self.failed = error

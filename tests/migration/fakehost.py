# SPDX-License-Identifier: MIT
"""A machine as migration sees it: RAM, a clock, a run state, and a guest that is a thread."""

from __future__ import annotations

import concurrent.futures
import queue
import sys
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
        fields=(
            uint8("index"),
            uint16("count", limit=1000),
            uint32("regs", 4),
            buffer("fifo", 16),
            uint8("new", since=3),
        ),
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

    def data(self, block):
        return block.array

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
        self.throttles = []
        self.guest = None
        if run_state == "running":
            self.clock.start()

    @property
    def ram(self):
        return {b.idstr: b for b in self.blocks}

    def ram_blocks(self):
        return self.blocks

    def ram_addresses(self):
        return {b.idstr: n << 32 for n, b in enumerate(self.blocks)}

    def sections(self):
        return [DeviceSection("chip", i, c.vmstate, c) for i, c in enumerate(self.chips)]

    def description(self):
        return {"board": self.machine_name, "memory": sum(b.used_length for b in self.blocks)}

    def call(self, function):
        return function() if self.guest is None else self.guest.call(function)

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

    def set_cpu_throttle(self, percent):
        self.throttles.append(percent)

    def emit(self, event, data):
        self.events.append((event, dict(data)))

    def ram_changed(self):
        self.ram_changes += 1

    def incoming_failed(self, error):
        self.failed = error


class Guest(threading.Thread):
    """The machine thread of a host whose guest writes to RAM, a page at a time, while the machine runs.

    Args:
        host: whose RAM is written and whose calls are served.
        step: ``step(n)`` is one thing the guest does, for the *n*-th time.
    """

    def __init__(self, host, step):
        super().__init__(name="guest", daemon=True)
        self.host, self.step = host, step
        self.count = 0
        self.calls = queue.SimpleQueue()
        self.ended = False
        #: RAM at each stop of the machine.
        self.pictures = []

    def __enter__(self):
        # A guest of compiled code does not hold the interpreter; this one hands it over often instead.
        self.interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)
        self.host.guest = self
        self.stop, self.host.vm_stop = self.host.vm_stop, self.vm_stop
        self.start()
        return self

    def __exit__(self, *exc):
        try:
            self.call(lambda: setattr(self, "ended", True))
            self.join()
        finally:
            sys.setswitchinterval(self.interval)
        self.host.guest, self.host.vm_stop = None, self.stop

    def vm_stop(self, state):
        # A busy system may not have let this thread do anything since the save began.
        for _ in range(2 if self.host.run_state == "running" else 0):
            self.count += 1
            self.step(self.count)
        self.stop(state)
        self.pictures.append([block.array.tobytes() for block in self.host.blocks])

    def call(self, function):
        future = concurrent.futures.Future()
        self.calls.put((function, future))
        return future.result(30)

    def run(self):
        while not self.ended:
            running = self.host.run_state == "running"
            try:
                function, future = self.calls.get(not running)
            except queue.Empty:
                self.count += 1
                self.step(self.count)
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                future.set_exception(error)

# SPDX-License-Identifier: MIT
"""A guest that writes all the time moves over every kind of channel, and arrives as it was when it stopped."""

from __future__ import annotations

import os
import socket

import pytest
from migration.fakehost import FakeHost, FakeSource, Guest

BLOCKS = (("ram", 1 << 20), ("more", 64 << 10))


def ways(kind, folder, waiting, leaving):
    """The URIs of both sides; the destination's second, once it listens."""
    if kind == "fd":
        for (name, controller), sock in zip((("in", waiting), ("out", leaving)), socket.socketpair(), strict=True):
            controller.descriptors.put(name, sock.detach())
        return "fd:in", lambda: "fd:out"
    if kind == "pipe":
        for (name, controller), fd in zip((("in", waiting), ("out", leaving)), os.pipe(), strict=True):
            controller.descriptors.put(name, fd)
        return "fd:in", lambda: "fd:out"
    if kind == "exec":
        os.mkfifo(folder / "fifo")
        return f"exec:cat {folder}/fifo", lambda: f"exec:cat > {folder}/fifo"
    return ("tcp:127.0.0.1:0" if kind == "tcp" else f"unix:{folder}/sock"), lambda: waiting.listening[0]


@pytest.mark.parametrize(
    ("kind", "back"),
    [("tcp", False), ("tcp", True), ("unix", False), ("unix", True), ("fd", False), ("fd", True), ("pipe", False),
     ("exec", False)],
)  # fmt: skip
def test_a_guest_moves_while_it_writes(controller, filled, tmp_path, kind, back):
    source, target = filled(blocks=BLOCKS, run_state="running"), FakeHost(BLOCKS, run_state="inmigrate")
    waiting, leaving = controller(target), controller(source, **{"max-bandwidth": 60 << 20, "downtime-limit": 20})
    for made in (waiting, leaving):
        made.set_capabilities({"return-path": back})
    leaving.use_dirty_source(FakeSource())
    block = source.blocks[0]

    def step(n):
        block.write(n % block.pages * 4096, (n if n % 5 else 0).to_bytes(8, "little") * 512)

    here, there = ways(kind, tmp_path, waiting, leaving)
    waiting.incoming(here)
    with Guest(source, step) as guest:
        leaving.migrate(there())
        assert (leaving.wait(20), waiting.wait(20)) == ("completed", "completed")
    assert [b.array.tobytes() for b in target.blocks] == guest.pictures[0]
    assert (source.run_state, target.run_state) == ("postmigrate", "running")
    assert leaving.query()["ram"]["dirty-sync-count"] >= 3

# SPDX-License-Identifier: MIT
"""memtest86+ moved between processes again and again while it works: one wrong byte of RAM and it counts an error."""

from __future__ import annotations

import itertools
import re

import pytest
from guests.running import MEMTEST, Running, needs_memtest

from pyemu.cli.qmpclient import QMPConnection

pytestmark = [pytest.mark.guest, needs_memtest]

MACHINE = ("-M", "via-pc", "-m", "16M")
MOVES = 20
#: Transport, capabilities and parameters of each kind of move.
WAYS = {
    "file, stream": ("file", (), {}),
    "unix": ("unix", (), {}),
    "unix, multifd 2": ("unix", ("multifd",), {"multifd-channels": 2}),
    "file, mapped-ram": ("file", ("mapped-ram",), {}),
    "tcp": ("tcp", (), {}),
    "tcp, multifd 4, zlib": ("tcp", ("multifd",), {"multifd-channels": 4, "multifd-compression": "zlib"}),
    "file, mapped-ram, multifd 3": ("file", ("mapped-ram", "multifd"), {"multifd-channels": 3}),
}


def configure(qmp, capabilities, parameters):
    states = [{"capability": n, "state": n in capabilities} for n in ("mapped-ram", "multifd")]
    # First the parameters: with mapped-ram on, what is left of a compression could not be taken back.
    qmp.execute("migrate-set-parameters", **{"max-bandwidth": 0, "multifd-compression": "none", **parameters})
    qmp.execute("migrate-set-capabilities", capabilities=states)


def ended(running: Running, qmp: QMPConnection) -> bool:
    answer = qmp.execute("query-migrate")
    assert answer.get("status") not in ("failed", "cancelled"), answer
    return answer.get("status") == "completed"


def move(source: Running, target: Running, way: str, path) -> dict:
    """Moves the guest; returns what the source says of it."""
    transport, capabilities, parameters = WAYS[way]
    with QMPConnection(source.qmp_address) as there, QMPConnection(target.qmp_address) as here:
        configure(there, capabilities, parameters)
        configure(here, capabilities, parameters)
        uri = f"{transport}:{path}"
        if transport == "tcp":
            uri = "tcp:127.0.0.1:0"
        if transport != "file":
            here.execute("migrate-incoming", uri=uri)
        if transport == "tcp":
            port = here.execute("query-migrate")["socket-address"][0]["port"]
            uri = f"tcp:127.0.0.1:{port}"
        there.execute("migrate", uri=uri)
        source.wait(lambda: ended(source, there), f"the end of the move by {way}")
        if transport == "file":
            here.execute("migrate-incoming", uri=uri)
        target.wait(lambda: here.execute("query-status")["running"], "the guest at the destination")
        return there.execute("query-migrate")


def test_memtest_is_moved_live_twenty_times(start, tmp_path):
    running = start("0", *MACHINE, *MEMTEST)
    running.wait_for(r"#[1-9] ")
    seen = set()
    for number, way in zip(range(1, MOVES + 1), itertools.cycle(WAYS)):
        # The guest works while the next process starts, and draws its clock and its progress every second.
        target = start(str(number), *MACHINE, "--incoming", "defer")
        running.wait(lambda running=running: len(running.screen()) > 200, f"memtest86+ before the move by {way}")
        seen |= set(re.findall(r"#(\d+) ", running.screen()))
        answer = move(running, target, way, tmp_path / f"move{number}")
        assert answer["ram"]["dirty-sync-count"] >= 3, f"{way}: the guest did not run during the move"
        running.quit()
        running = target
    running.wait_for(r"Errors: \d+")
    assert running.errors() == 0
    assert len(seen) > 2, f"only tests {seen} were under way during the moves"

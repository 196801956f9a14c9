# SPDX-License-Identifier: MIT
"""Migrations over sockets, from one machine to another in the same process."""

from __future__ import annotations

import numpy as np
import pytest
from migration.fakehost import FakeHost


def uri_of(target):
    """Where a waiting machine listens, as a URI."""
    (address,) = target.query()["socket-address"][:1]
    if address["type"] == "unix":
        return f"unix:{address['path']}"
    host = f"[{address['host']}]" if ":" in address["host"] else address["host"]
    return f"tcp:{host}:{address['port']}"


@pytest.fixture(params=["tcp:127.0.0.1:0", "tcp:[::1]:0", "unix:PATH"])
def where(request, tmp_path):
    return request.param.replace("PATH", str(tmp_path / "sock"))


def test_a_machine_moves_over_a_socket(controller, filled, where, tmp_path):
    source, target = filled(blocks=(("ram", 1 << 20), ("more", 1 << 16))), FakeHost(
        (("ram", 1 << 20), ("more", 1 << 16)), run_state="inmigrate"
    )
    source.chips[0].count = 77
    waiting, leaving = controller(target), controller(source)
    waiting.incoming(where)
    assert waiting.query()["status"] == "setup"
    leaving.migrate(uri_of(waiting))
    assert leaving.wait(20) == "completed"
    assert waiting.wait(20) == "completed"
    assert "socket-address" not in waiting.query()
    for name, block in source.ram.items():
        assert np.array_equal(block.array, target.ram[name].array)
    assert target.chips[0].count == 77
    assert source.run_state == "postmigrate" and target.run_state == "paused"
    assert list(tmp_path.iterdir()) == []

# SPDX-License-Identifier: MIT
"""memtest86+, unmodified, from Debian's package: it fills and checks all of RAM, so a wrong page is found.

Runs for about a minute a board; part of ``pytest -m guest``.
"""

import pytest
from guests.running import MEMTEST, needs_memtest

from pyemu.cli.qmpclient import QMPConnection

pytestmark = [pytest.mark.guest, needs_memtest]

BOARDS = ["via-pc", "isa-pc,superio=pc87312,config=1"]


@pytest.mark.parametrize("board", BOARDS)
def test_memtest_is_saved_in_the_middle_of_a_test_and_goes_on_in_a_new_process(start, tmp_path, board):
    machine = ("-M", board, "-m", "32M")
    first = start("first", *machine, *MEMTEST)
    first.wait_for(r"#4 ")
    saved = tmp_path / "memtest.mapped"
    with QMPConnection(first.qmp_address) as qmp:
        qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        qmp.execute("migrate", uri=f"file:{saved}")
        first.wait(lambda: qmp.execute("query-migrate").get("status") in ("completed", "failed"), "the save")
        assert qmp.execute("query-migrate")["status"] == "completed"
        assert qmp.execute("query-status") == {"status": "postmigrate", "running": False}
    first.quit()

    second = start("second", *machine, "--incoming", "defer")
    with QMPConnection(second.qmp_address) as qmp:
        qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        qmp.execute("migrate-incoming", uri=f"file:{saved}")
        second.wait(lambda: qmp.execute("query-status")["running"], "the restored guest")
    second.wait_for(r"#(7|8|9|10) ")
    assert second.errors() == 0
    second.quit()

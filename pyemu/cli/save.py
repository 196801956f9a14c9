# SPDX-License-Identifier: MIT
"""``pyemu save``: saves a running machine through its QMP socket; the guest runs on afterwards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import MigrationError
from .qmpclient import QMPConnection
from .transfer import configured, file_channels, follow


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Saves a running machine to a file. The guest runs on, unless it was stopped before."
    parser.add_argument("--qmp", required=True, metavar="ADDR", help="the machine's socket: unix:PATH or tcp:HOST:PORT")
    parser.add_argument("file", type=Path)
    parser.add_argument("--stream", action="store_true", help="a plain stream instead of a mapped-ram file")
    parser.add_argument("--multifd", type=int, default=0, metavar="N", help="write with N channels")
    parser.add_argument("--direct-io", action="store_true", help="write pages past the page cache")
    parser.add_argument(
        "--background", action="store_true", help="save the machine as it is now, and let it run on while that is written"
    )
    parser.add_argument(
        "--external-disks", action="store_true", help="save although the guest writes drives in place; you keep copies of them"
    )
    parser.add_argument("--stop", action="store_true", help="leave the guest stopped")


def run(args: argparse.Namespace) -> int:
    capabilities = {
        "mapped-ram": not args.stream,
        "multifd": args.multifd > 0,
        "background-snapshot": args.background,
        "return-path": False,
    }
    parameters: dict[str, Any] = {"max_bandwidth": 0, "direct_io": args.direct_io}
    if args.multifd:
        parameters["multifd_channels"] = args.multifd
    target = args.file.absolute()
    with QMPConnection(args.qmp) as qmp:
        ran = qmp.execute("query-status")["running"]
        # During a background save the guest runs on; that it is stopped afterwards undoes nothing of what it wrote.
        if (args.background or not args.stop) and not args.external_disks:
            _check_drives(qmp)
        with configured(qmp, capabilities, parameters):
            qmp.execute("migrate", channels=file_channels(target))
            info = follow(qmp, f"saving {target.name}", f"{target} was not written")
        if args.background and args.stop:
            qmp.execute("stop")
        elif ran and not args.stop and not args.background:
            qmp.execute("cont")
    size = target.stat()
    print(
        f"{target}: {size.st_size} bytes, {size.st_blocks * 512} on disk, "
        f"{info['total-time']} ms, downtime {info['downtime']} ms"
    )
    return 0


def _check_drives(qmp: QMPConnection) -> None:
    """A guest that runs on would change its disks, and what is saved would not fit them any more.

    Raises:
        MigrationError: names the drives that are written in place.
    """
    inserted = [drive["inserted"] for drive in qmp.execute("query-block") if "inserted" in drive]
    written = [medium["file"] for medium in inserted if not medium["ro"] and not medium.get("overlay")]
    if written:
        raise MigrationError(
            f"the guest would go on writing {', '.join(written)} in place: --stop leaves it stopped, --external-disks says"
            " that you keep copies, a drive with snapshot=on keeps its writes with the saved machine"
        )

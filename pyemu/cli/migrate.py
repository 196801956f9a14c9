# SPDX-License-Identifier: MIT
"""``pyemu migrate``: moves a running machine to one that waits for it, through the QMP socket of the former."""

from __future__ import annotations

import argparse

from ..errors import MigrationError
from . import options
from .qmpclient import QMPConnection
from .transfer import configured, follow


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Moves a running machine to another process that was started with --incoming."
    parser.add_argument("--qmp", required=True, metavar="ADDR", help="the machine's socket: unix:PATH or tcp:HOST:PORT")
    parser.add_argument("uri", help="where the other one listens: tcp:HOST:PORT, unix:PATH, exec:COMMAND")
    parser.add_argument("--multifd", type=int, default=0, metavar="N", help="carry pages over N further connections")
    parser.add_argument("--compression", default="none", metavar="NAME", help="of those pages: zlib or zstd, with --multifd")
    parser.add_argument(
        "--max-bandwidth", type=options.size, default=0, metavar="SIZE", help="a second, e.g. 100M; unlimited by default"
    )
    parser.add_argument(
        "--auto-converge", action="store_true", help="slow the guest down if it writes faster than can be sent"
    )
    parser.add_argument("--downtime", type=int, default=300, metavar="MS", help="the guest may stand still that long")


def run(args: argparse.Namespace) -> int:
    if args.compression != "none" and not args.multifd:
        raise MigrationError(f"--compression {args.compression} needs --multifd")
    # Only over sockets can the destination say that it has everything.
    answers = args.uri.startswith(("tcp:", "unix:"))
    capabilities = {
        "mapped-ram": False,
        "background-snapshot": False,
        "multifd": args.multifd > 0,
        "return-path": answers,
        "auto-converge": args.auto_converge,
    }
    parameters = {"max_bandwidth": args.max_bandwidth, "downtime_limit": args.downtime}
    if args.multifd:
        parameters.update({"multifd_channels": args.multifd, "multifd_compression": args.compression})
    with QMPConnection(args.qmp) as qmp, configured(qmp, capabilities, parameters):
        qmp.execute("migrate", uri=args.uri)
        info = follow(qmp, f"moving to {args.uri}", "the machine was not moved")
    sent = info["ram"]["transferred"]
    print(f"{args.uri}: {sent} bytes in {info['total-time']} ms, downtime {info['downtime']} ms")
    return 0

# SPDX-License-Identifier: MIT
"""``pyemu restore``: loads a saved machine into one that waits for it (``pyemu run --incoming defer --qmp ADDR``)."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..migration import read_header
from .qmpclient import QMPConnection
from .transfer import configured, file_channels, follow


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Loads a saved machine into a process that was started with --incoming defer."
    parser.add_argument("--qmp", required=True, metavar="ADDR", help="the waiting machine's socket")
    parser.add_argument("--lazy", action="store_true", help="map RAM over the (mapped-ram) file, read pages as they are used")
    parser.add_argument("file", type=Path)


def run(args: argparse.Namespace) -> int:
    # What the file was saved with is in the file; the waiting side only has to be told.
    source = args.file.absolute()
    capabilities = dict.fromkeys(read_header(source).capabilities, True)
    with QMPConnection(args.qmp) as qmp, configured(qmp, capabilities, {"lazy_restore": args.lazy}):
        qmp.execute("migrate-incoming", channels=file_channels(source), exit_on_error=False)
        follow(qmp, f"loading {source.name}", f"{source} was not loaded", cancel=False)
        status = qmp.execute("query-status")["status"]
    print(f"{source}: loaded, the machine is {status}")
    return 0

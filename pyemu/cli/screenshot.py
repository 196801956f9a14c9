# SPDX-License-Identifier: MIT
"""``pyemu screenshot``: a picture of a running machine's screen, through its QMP socket."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ControlError
from .qmpclient import QMPConnection

FORMATS = {".png": "png", ".ppm": "ppm"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Writes a picture of the screen, as PNG or PPM by the file's suffix; prints its text without FILE."
    parser.add_argument("--qmp", required=True, metavar="ADDR", help="the machine's socket: unix:PATH or tcp:HOST:PORT")
    parser.add_argument("--device", metavar="ID", help="the display device, where there are several")
    parser.add_argument("file", type=Path, nargs="?", help="NAME.png or NAME.ppm")


def run(args: argparse.Namespace) -> int:
    device = {} if args.device is None else {"device": args.device}
    if args.file is not None and args.file.suffix.lower() not in FORMATS:
        raise ControlError(f"{args.file}: the suffix is not one of {', '.join(FORMATS)}")
    with QMPConnection(args.qmp) as qmp:
        if args.file is not None:
            kind = FORMATS[args.file.suffix.lower()]
            qmp.execute("screendump", filename=str(args.file.absolute()), format=kind, **device)
            return 0
        shown = qmp.execute("query-screen-text", **device)
    if shown["mode"] != "text":
        raise ControlError(f"qmp {args.qmp}: the screen shows no text")
    print("\n".join(line.rstrip() for line in shown["lines"]))
    return 0

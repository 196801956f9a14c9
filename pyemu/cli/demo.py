# SPDX-License-Identifier: MIT
"""``pyemu demo``: a tour in half a minute, with nothing to download."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Boots a small guest on board via-pc, lets it move its serial port, saves it twice while it runs, "
        "restores it in a fresh machine and checks that nothing was lost. Exit status 1 if something was."
    )
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="leave the saved files in FOLDER")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..demo.tour import run_tour

    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    return 0 if run_tour(Console(), args.keep) else 1

# SPDX-License-Identifier: MIT
"""``pyemu snapshot``: looks into saved machines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Looks into saved machines without building them."
    commands = parser.add_subparsers(dest="snapshot_command", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="blocks, sizes, pages present, device sections, capabilities")
    info.add_argument("file", help="a file that pyemu or QEMU saved a machine to")
    info.add_argument("--offset", type=_offset, default=0, help="where in the file the stream begins")
    info.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    from ..snapshot import open_snapshot

    with open_snapshot(args.file, offset=args.offset, plugins=getattr(args, "plugins", None)) as snapshot:
        info = snapshot.info()
    print(json.dumps(info, indent=2) if args.json else "\n".join(_lines(info)))
    return 0


def _offset(text: str) -> int:
    from ..device.properties import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _lines(info: dict[str, Any]) -> Iterator[str]:
    yield f"{info['path']}: machine {info['machine']}, layout {info['layout']}"
    yield f"  capabilities  {', '.join(info['capabilities']) or 'none'}"
    if info["uuid"]:
        yield f"  uuid          {info['uuid']}"
    yield f"  size          {info['size']} bytes, {info['allocated']} allocated"
    own = info["pyemu"]
    if own is None:
        yield "  written by    another program; pyemu restore needs a machine that matches"
    else:
        yield f"  written by    pyemu, board {own.get('board', '?')}"
    yield "  RAM blocks"
    width = max((len(b["name"]) for b in info["blocks"]), default=0)
    for block in info["blocks"]:
        share = 100 * block["pages-present"] / block["pages"]
        yield (
            f"    {block['name']:<{width}}  {block['size']:>14} bytes"
            f"  {block['pages-present']:>9} of {block['pages']} pages present ({share:.1f} %)"
        )
    yield "  device sections"
    width = max((len(s["name"]) for s in info["sections"]), default=0)
    for section in info["sections"]:
        yield (
            f"    {section['name']:<{width}}  instance {section['instance-id']}  version {section['version']}"
            f"  {section['size']} bytes"
        )

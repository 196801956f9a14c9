# SPDX-License-Identifier: MIT
"""``pyemu plugins``: what is installed, a skeleton for a new one, a check of an installed one."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from ..errors import PluginError
from ..plugin import PluginInfo, PluginManager
from ..plugin.check import check_plugin
from ..plugin.scaffold import KINDS, write_skeleton


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="every installed plugin and its state", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="a JSON list of objects")
    listing.set_defaults(action=_list)

    new = actions.add_parser("new", help="write the skeleton of a plugin package", allow_abbrev=False)
    new.add_argument("name", help="what users will write after --device, -M, ...: small letters, digits, hyphens")
    new.add_argument("--kind", choices=sorted(KINDS), default="device", help="what it provides (default: device)")
    new.add_argument("--directory", type=pathlib.Path, help="where to write it (default: ./pyemu-NAME)")
    new.set_defaults(action=_new)

    check = actions.add_parser(
        "check", help="load a plugin and everything it provides, and say what is wrong", allow_abbrev=False
    )
    check.add_argument("name", nargs="*", help="plugin names (default: all)")
    check.set_defaults(action=_check)


def run(args: argparse.Namespace) -> int:
    status: int = args.action(args)
    return status


def _list(args: argparse.Namespace) -> int:
    plugins: list[PluginInfo] = args.plugins.plugins
    if args.json:
        print(json.dumps([p.as_dict() for p in plugins], indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("plugin", "distribution", "API", "state", "provides"):
        table.add_column(column, overflow="fold")
    for plugin in plugins:
        table.add_row(
            plugin.name,
            f"{plugin.distribution} {plugin.version}",
            plugin.api,
            plugin.state,
            "\n".join([*plugin.provides, *([plugin.reason] if plugin.reason else [])]),
        )
    # A table cut at 80 columns is of no use to whoever reads it through a pipe.
    Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False).print(table)
    return 0


def _new(args: argparse.Namespace) -> int:
    directory = args.directory or pathlib.Path(f"pyemu-{args.name}")
    for path in write_skeleton(args.name, args.kind, directory):
        print(path)
    print(f"next: pip install -e {directory} && pytest {directory}", file=sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> int:
    manager: PluginManager = args.plugins
    plugins = {p.name: p for p in manager.plugins}
    for name in args.name:
        if name not in plugins:
            raise PluginError(f"no plugin {name} is installed; installed: {', '.join(plugins)}")
    wrong = 0
    for plugin in manager.plugins:
        if args.name and plugin.name not in args.name:
            continue
        problems = check_plugin(manager, plugin)
        wrong += len(problems)
        print(f"{plugin.title}: {'ok' if not problems else ''}".rstrip())
        for problem in problems:
            print(f"  {problem}")
    return 1 if wrong else 0

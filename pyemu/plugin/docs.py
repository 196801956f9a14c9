# SPDX-License-Identifier: MIT
"""Makes the reference page of the hooks from their specifications.

python -m pyemu.plugin.docs [--write FILE | --check FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import pathlib
import re
import sys
import textwrap

from . import hookspecs
from .manager import GROUP, HOOKS
from .records import API_VERSION, Record

_HEAD = f"""\
# Hooks

*This page is generated: change `pyemu/plugin/hookspecs.py` or `pyemu/plugin/records.py` and run*
`python -m pyemu.plugin.docs --write docs/reference/hooks.md`.

A plugin is a module (or any object) named by an entry point of the group `{GROUP}`. Its functions marked
`@pyemu.hookimpl` return or yield *records*: frozen descriptions with a name and a factory that is imported only when a
machine names the record. A plugin module therefore imports nothing heavy. Hooks are called once, when plugins
are loaded; never while a guest runs.

* Plugins are loaded one by one, in the order of their names. One that raises, yields something that is no
  record of the hook's type, states a plugin API this host does not have, or implements an unknown hook is listed as
  *failed* with the reason, and the others work. A machine that names something it would have
  provided is refused with that reason.
* Two distributions that provide the same name of the same kind make that name an error that names both; everything
  else of both works. `--block NAME` leaves one out. Names that the core itself provides cannot be taken.
* `--no-plugins` leaves out every plugin, those that come with pyemu included: only board `none` and the core's commands
  remain.
* `PYEMU_TRACE_HOOKS=1` prints each hook call with the records it gave. `pyemu plugins list` shows all plugins,
  `pyemu plugins check` loads everything they provide, `pyemu plugins new` writes the skeleton of one.

The version of the plugin interface is **{API_VERSION[0]}.{API_VERSION[1]}**. A record states in `api` which one it was
written for; the host takes it if the first number is its own and the second is not higher.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD, *(_hook_section(name) for name in HOOKS), "## Fields of all records\n", _table(Record)]
    return "\n".join(parts)


def _hook_section(name: str) -> str:
    function = getattr(hookspecs, name)
    record = HOOKS[name]
    text, example = split_example(inspect.getdoc(function) or "")
    own = [f for f in dataclasses.fields(record) if f.name not in {g.name for g in dataclasses.fields(Record)}]
    lines = [
        f"## `{name}`\n",
        f"```python\ndef {name}{inspect.signature(function)}\n```\n".replace("'", ""),
        _markdown(text) + "\n",
        f"```python\n{example}\n```\n",
        f"### `{record.__name__}`\n",
        _markdown(_summary(record)) + "\n",
    ]
    if own:
        lines.append(_table(record, only=[f.name for f in own]))
    return "\n".join(lines)


def split_example(docstring: str) -> tuple[str, str]:
    """The text of a hook's docstring and its example, which must be there."""
    text, mark, example = docstring.partition("\nExample:\n")
    if not mark:
        raise ValueError(f"no example in: {docstring!r}")
    return text.strip(), textwrap.dedent(example).strip()


def _summary(record: type[Record]) -> str:
    return (inspect.getdoc(record) or "").partition("\nArgs:")[0].strip()


def _table(record: type[Record], only: list[str] | None = None) -> str:
    described = _described(inspect.getdoc(record) or "")
    rows = ["| Field | Type | Default | Meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(record):
        if only is not None and field.name not in only:
            continue
        default = "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
        rows.append(f"| `{field.name}` | `{field.type}` | {default} | {_markdown(described[field.name])} |")
    return "\n".join(rows) + "\n"


def _described(docstring: str) -> dict[str, str]:
    """Field descriptions from the ``Args:`` part of a Google-style docstring."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Args:\n")[2].splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name:
            found[name] += " " + line.strip()
    return found


def _markdown(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def main() -> int:
    parser = argparse.ArgumentParser(description="The reference page of the hooks.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", metavar="FILE", type=pathlib.Path)
    action.add_argument("--check", metavar="FILE", type=pathlib.Path)
    args = parser.parse_args()
    text = page()
    if args.write is not None:
        args.write.write_text(text, encoding="utf-8")
    elif args.check is not None:
        if args.check.read_text(encoding="utf-8") != text:
            print(f"{args.check} is old; run: python -m pyemu.plugin.docs --write {args.check}", file=sys.stderr)
            return 1
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

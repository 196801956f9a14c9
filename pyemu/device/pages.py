# SPDX-License-Identifier: MIT
"""Makes reference pages of devices from what their classes declare: properties, state, registers.

    python -m pyemu.device.pages --write FOLDER | --check FOLDER

*FOLDER* holds ``pages.toml``: one table a page, whose name is that of the file, with a ``title`` and the
``classes`` as ``module:name``. Authors of other devices use it for theirs.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator

from .device import Device
from .pci_device import PCIDevice
from .properties import Property
from .registers import Register, RegisterTable

CATALOGUE = "pages.toml"


def pages(folder: pathlib.Path) -> dict[pathlib.Path, str]:
    """The text of each page that the catalogue in *folder* lists, and of an index.

    Raises:
        ValueError: the catalogue names something that is no device class.
    """
    catalogue = tomllib.loads((folder / CATALOGUE).read_text(encoding="utf-8"))
    found = {folder / f"{name}.md": page(str(entry["title"]), entry["classes"]) for name, entry in catalogue.items()}
    lines = [f"| [{entry['title']}]({name}.md) | {_types(entry['classes'])} |" for name, entry in sorted(catalogue.items())]
    head = f"# Chips\n\n{_NOTE}\n| Page | Devices |\n|---|---|\n"
    found[folder / "README.md"] = head + "\n".join(lines) + "\n"
    return found


_NOTE = """\
*These pages are generated from the classes:* `python -m pyemu.device.pages --write docs/reference/chips`.

Offsets count from where the device is; sizes are in bytes, several bytes are little-endian. *Writable* are the bits that keep
what is written, *clear* those that writing 1 clears. `Device.register_values()` and QMP's `query-registers` show the
same registers of a running machine; `PYEMU_TRACE_REGISTERS=1` logs each access to those that Python code serves as a block.
"""


def page(title: str, classes: list[str]) -> str:
    """One page about the classes, each named as ``module:name``."""
    parts = [f"# {title}\n", _NOTE]
    for name in classes:
        parts += _device(load(name))
    return "\n".join(parts)


def load(name: str) -> type[Device]:
    """The device class ``module:name``.

    Raises:
        ValueError: there is no such class.
    """
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(found, type) or not issubclass(found, Device):
        raise ValueError(f"{name} is no device class")
    return found


def _types(classes: list[str]) -> str:
    return ", ".join(f"`{load(name).type_name}`" for name in classes)


def _device(cls: type[Device]) -> Iterator[str]:
    yield f"## `{cls.type_name}`\n"
    yield _text(inspect.getdoc(cls) or "") + "\n"
    if cls.vmstate is not None:
        yield f"Section `{cls.vmstate.name}`, version {cls.vmstate.version}, in saved machines.\n"
    if cls.properties:
        yield from _properties(cls.properties)
    for table in tables(cls):
        yield from _table(table)


def tables(cls: type[Device]) -> Iterator[RegisterTable]:
    """The register tables of a class: those of its configuration space and of an index/data pair included."""
    if issubclass(cls, PCIDevice):
        yield cls().config_table()
    behind_index = getattr(cls, "table", None)
    if isinstance(behind_index, RegisterTable):
        yield behind_index
    yield from cls.register_tables


def _properties(properties: tuple[Property, ...]) -> Iterator[str]:
    yield "| Property | Kind | Default | Meaning |"
    yield "|---|---|---|---|"
    for p in properties:
        kind = ", ".join(p.choices) if p.choices else p.kind
        default = "" if p.default is None else f"`{p.default:#x}`" if type(p.default) is int else f"`{p.default}`"
        yield f"| `{p.name}` | {kind} | {default} | {p.help} |"
    yield ""


def _table(table: RegisterTable) -> Iterator[str]:
    yield f"### {table.name[0].upper()}{table.name[1:]}\n"
    yield "| Offset | Register | Size | Reset | Writable | Clear | Effects |"
    yield "|---|---|---|---|---|---|---|"
    for r in sorted(table, key=lambda r: r.offset):
        cells = (f"{r.offset:02X}", r.name, str(r.size), _bits(r, r.reset, True), _mask(r), _bits(r, r.clear), r.effect)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _bits(register: Register, value: int, always: bool = False) -> str:
    if register.size > 4 and not value:
        return "0" if always else ""
    return f"{value:0{2 * register.size}X}" if value or always else ""


def _mask(register: Register) -> str:
    every = (1 << 8 * register.size) - 1
    return "all" if register.mask == every else _bits(register, register.mask) or "none"


def _text(docstring: str) -> str:
    text = re.split(r"\n\n?(?:Args|Attributes|Class attributes|Raises):\n", docstring)[0].strip()
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def main() -> int:
    parser = argparse.ArgumentParser(description="Reference pages of devices.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", metavar="FOLDER", type=pathlib.Path)
    action.add_argument("--check", metavar="FOLDER", type=pathlib.Path)
    args = parser.parse_args()
    if args.write is not None:
        for path, text in pages(args.write).items():
            path.write_text(text, encoding="utf-8")
        return 0
    old = stale(args.check)
    for path in old:
        print(f"{path} is old; run: python -m pyemu.device.pages --write {args.check}", file=sys.stderr)
    return 1 if old else 0


def stale(folder: pathlib.Path) -> list[pathlib.Path]:
    """The pages that are not what the classes say now, or whose classes are gone from the catalogue."""
    wanted = pages(folder)
    old = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return old + [path for path in sorted(folder.glob("*.md")) if path not in wanted]


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""The rules of CONTRIBUTING.md that can be read off the sources."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PYEMU = ROOT / "pyemu"
PLUGINS = [*(ROOT / "plugins").iterdir(), *(ROOT / "examples").iterdir()]
#: What each part may import: itself, and the parts listed. Parts that are not listed may import everything.
BASE = {"errors", "plugin", "capi"}
LAYERS = {
    "errors": set(),
    "plugin": {"errors"},
    "memory": BASE,
    "device": BASE | {"memory"},
    "chips": BASE | {"memory", "device"},
    "cpu": BASE | {"memory", "device"},
    "migration": BASE | {"memory", "device"},
    "machine": BASE | {"memory", "device", "chips", "cpu", "migration"},
    "control": BASE | {"memory", "device", "cpu", "migration", "machine", "snapshot"},
    "snapshot": BASE | {"memory", "device", "cpu", "migration", "machine"},
}
#: Imports inside functions that look upwards, each with its reason.
EXCEPTIONS = {
    ("plugin", "device"): "pyemu plugins check looks at device classes",
    ("plugin", "builtin"): "the core's own records come through the hooks",
}
#: Files over 500 lines. The list may only become shorter.
LONGER = {"chips/ide.py"}


def sources(folder, *suffixes):
    skipped = {"build", ".venv", "__pycache__", ".tox"}
    return [p for s in suffixes for p in sorted(folder.rglob(f"*{s}")) if not skipped & set(p.relative_to(ROOT).parts)]


def imported(path):
    """The modules of pyemu that a source file imports, as absolute names; type-checking imports do not count."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        for match in re.finditer(r"^\s*(?:from\s+(\S+)\s+c?import\s+(.*)|c?import\s+(\S+))", text, re.MULTILINE):
            yield from _absolute(match[1] or match[3], package, re.findall(r"\w+", match[2] or ""))
        return
    tree = ast.parse(text)
    ignored = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Import):
            yield from (n.name for n in node.names if n.name.split(".")[0] == "pyemu")
        elif isinstance(node, ast.ImportFrom):
            yield from _absolute("." * node.level + (node.module or ""), package, [n.name for n in node.names])


def _absolute(module, package, names):
    dots = len(module) - len(module.lstrip("."))
    if dots:
        base = [*package[: len(package) - dots + 1], *filter(None, module.lstrip(".").split("."))]
        module = ".".join(base)
    if module == "pyemu":
        yield from (f"pyemu.{name}" for name in names)
    elif module.startswith("pyemu."):
        yield module


def part(name):
    return name.split(".")[1]


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_imports_go_one_way(layer):
    folder = PYEMU / layer
    wrong = set()
    for path in sources(folder, ".py", ".pyx", ".pxd") if folder.is_dir() else [folder.with_suffix(".py")]:
        for name in imported(path):
            target = part(name)
            known = (PYEMU / target).is_dir() or (PYEMU / f"{target}.py").exists()
            if known and target != layer and target not in LAYERS[layer] and (layer, target) not in EXCEPTIONS:
                wrong.add(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == set()


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_plugins_use_only_the_public_interface(plugin):
    wrong = set()
    for path in sources(plugin, ".py", ".pyx", ".pxd"):
        for name in imported(path):
            if any(word.startswith("_") for word in name.split(".")):
                wrong.add(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == set()


def test_the_reader_of_imports_sees_all_kinds():
    seen = set(imported(PYEMU / "machine" / "machine.py")) | set(imported(PYEMU / "memory" / "_ports.pyx"))
    assert {"pyemu.migration", "pyemu.device", "pyemu.plugin", "pyemu.memory._dispatch"} <= seen


def test_files_begin_with_their_licence_and_are_no_giants():
    paths = sources(PYEMU, ".py", ".pyx", ".pxd", ".h", ".S")
    lines = {str(p.relative_to(PYEMU)): p.read_text(encoding="utf-8").splitlines() for p in paths}
    assert [n for n, text in lines.items() if text and "SPDX-License-Identifier: MIT" not in text[0]] == []
    assert {n for n, text in lines.items() if len(text) > 500} <= LONGER


@pytest.mark.parametrize("folder", ["tests", "plugins", "examples", "benchmarks", ".ci"])
def test_other_sources_name_their_licence_too(folder):
    paths = sources(ROOT / folder, ".py", ".pyx", ".pxd", ".sh")
    assert paths
    assert [str(p.relative_to(ROOT)) for p in paths if "SPDX-License-Identifier" not in p.read_text()[:120]] == []

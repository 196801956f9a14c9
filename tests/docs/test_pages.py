# SPDX-License-Identifier: MIT
"""Generated pages are current, the code in the pages is code that runs, links lead somewhere."""

import importlib
import inspect
import pathlib
import re
import sys

import pytest

import pyemu
from pyemu.control.commands import Commands
from pyemu.plugin import PluginManager, docs, hookspecs
from pyemu.plugin.manager import HOOKS

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    p
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/*.md", "examples/*/*.md")
    for p in ROOT.glob(pattern)
    if "build" not in p.relative_to(ROOT).parts
)


def test_the_hooks_page_is_current():
    page = (ROOT / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
    assert page == docs.page(), "run: python -m pyemu.plugin.docs --write docs/reference/hooks.md"


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_the_example_of_a_hook_loads_and_provides_its_record(hook):
    _, example = docs.split_example(getattr(hookspecs, hook).__doc__.replace("\n    ", "\n"))
    names = {"pyemu": pyemu}
    exec(example, names)

    class EntryPoint:
        name, value, dist = "example", "example", None
        load = staticmethod(lambda: type("Plugin", (), {hook: staticmethod(names[hook])}))

    (plugin,) = [p for p in PluginManager([EntryPoint]).plugins if p.name == "example"]
    assert (plugin.state, plugin.reason) == ("loaded", "")
    assert plugin.kinds == (HOOKS[hook].kind,)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_the_index_lists_every_page():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / t).resolve() for t in re.findall(r"\]\(([^)\s]+)\)", index.read_text(encoding="utf-8"))}
    chips = ROOT / "docs" / "reference" / "chips"  # these have an index of their own
    pages = {p for p in (ROOT / "docs").rglob("*.md") if p.parent != chips} - {index} | {chips / "README.md"}
    assert pages <= linked, f"docs/README.md lacks {sorted(p.name for p in pages - linked)}"


def test_the_qmp_page_has_every_command_with_its_arguments():
    text = (ROOT / "docs" / "reference" / "qmp.md").read_text(encoding="utf-8")
    shown = {m[1]: m[2].strip() for m in re.finditer(r"^\| `([^`]+)` \|([^|]*)\|", text, flags=re.MULTILINE)}
    commands = Commands(None)
    assert list(shown) == [c["name"] for c in commands.query_commands()]
    spelled = {name.replace("_", "-"): name for name in shown}  # as methods are named
    for method_name, method in inspect.getmembers(commands, inspect.ismethod):
        if method_name.startswith("_") or method_name == "execute":
            continue
        given = [p for p in inspect.signature(method).parameters.values() if p.name != "take_fd"]
        if any(p.kind is p.VAR_KEYWORD for p in given):
            continue
        names = [f"`{p.name.replace('_', '-')}`" for p in given]
        expected = ", ".join(n if p.default is p.empty else f"[{n}]" for n, p in zip(names, given, strict=True))
        assert shown[spelled[method_name.replace("_", "-")]] == expected, method_name


def blocks(page, language):
    """The fenced blocks of *language*, each with the file name that the line before it gives in bold, or None."""
    pattern = rf"(?:\*\*`([^`]+)`\*\*[^\n]*\n\n)?```{language}\n(.*?)```"
    return [(m[1], m[2]) for m in re.finditer(pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL)]


def code(path):
    """A source file as the tutorial shows it: without the licence line."""
    return path.read_text(encoding="utf-8").removeprefix("# SPDX-License-Identifier: MIT\n").strip()


@pytest.mark.parametrize(
    ("page", "example", "module"),
    [("device.md", "pyemu-dice", "pyemu_dice/device.py"), ("backend.md", "pyemu-xxhash", "pyemu_xxhash/backend.py")],
)
def test_the_code_of_the_tutorials_is_the_examples(page, example, module):
    tutorial, folder = ROOT / "docs" / "tutorial" / page, ROOT / "examples" / example
    shown = [(n, t) for language in ("python", "toml") for n, t in blocks(tutorial, language) if n]
    package = module.partition("/")[0]
    (test,) = (folder / "tests").glob("test_*.py")
    assert {n for n, _ in shown} == {"pyproject.toml", f"{package}/__init__.py", module, f"tests/{test.name}"}
    for name, text in shown:
        pieces = [p.strip("\n") for p in text.split("\n...\n")]
        whole = code(folder / name)
        for piece in pieces:
            assert piece in whole, f"{name}: the tutorial shows what the example does not have:\n{piece}"
    whole = "\n".join(t for n, t in shown if n == module)
    for line in code(folder / module).splitlines():
        assert line in whole, f"the tutorial lacks this line of {module}: {line}"


def test_every_public_name_can_be_had():
    for name in pyemu.__all__:
        assert getattr(pyemu, name) is not None


def test_public_names_are_declared_for_type_checkers_too():
    source = pathlib.Path(pyemu.__file__).read_text(encoding="utf-8")
    declared = set(re.findall(r"^    from \S+ import (\w+) as \1$", source, flags=re.MULTILINE))
    assert declared - {"errors"} == set(pyemu.__all__) - {"__version__"}


def test_unknown_names_and_missing_parts_are_told_apart(monkeypatch):
    with pytest.raises(AttributeError, match="module 'pyemu' has no attribute 'Machin'"):
        _ = pyemu.Machin
    broken = ModuleNotFoundError("No module named 'pyemu.memory._dispatch'", name="pyemu.memory._dispatch")

    def fail(*_args):
        raise broken

    monkeypatch.delitem(vars(pyemu), "PortioList", raising=False)
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"pyemu.PortioList needs pyemu.memory._dispatch: .* compiled part"):
        _ = pyemu.PortioList


def test_a_missing_module_of_python_itself_is_not_to_be_installed():
    advice = str(pyemu._missing("Machine", ModuleNotFoundError("No module named 'fcntl'", name="fcntl")))
    assert "pip install" not in advice
    assert f"this Python on {sys.platform} does not have it; machines run on Linux" in advice
    assert "pip install numpy" in str(pyemu._missing("Machine", ModuleNotFoundError("", name="numpy.linalg")))

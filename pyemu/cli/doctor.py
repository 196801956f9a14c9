# SPDX-License-Identifier: MIT
"""``pyemu doctor``: what this system offers, what is missing and what that means."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal

from .. import __version__
from ..errors import PyemuError
from ..plugin import PluginManager
from ..plugin.check import check_plugin

Verdict = Literal["ok", "note", "missing"]
#: The packages whose compiled parts everything else stands on.
_COMPILED = ("pyemu.memory", "pyemu.device", "pyemu.chips", "pyemu.migration", "pyemu.machine")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: *missing* means that machines cannot run, *note* that something is slower or not there."""

    topic: str
    verdict: Verdict
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Says what this system offers. Exit status 1 if machines cannot run."
    parser.add_argument("--json", action="store_true", help="a JSON list of objects with topic, verdict and text")


def run(args: argparse.Namespace) -> int:
    found = list(findings(args.plugins))
    if args.json:
        print(json.dumps([asdict(f) for f in found], indent=2))
    else:
        width = max(len(f.topic) for f in found)
        for f in found:
            print(f"{f.verdict:8}{f.topic:{width}}  {f.text}")
    return 1 if any(f.verdict == "missing" for f in found) else 0


def findings(plugins: PluginManager) -> Iterator[Finding]:
    """Everything there is to say, most important first."""
    yield Finding("pyemu", "ok", f"{__version__} in {pathlib.Path(__file__).parents[1]}")
    yield Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")
    for name in ("numpy", "pluggy", "rich"):
        yield Finding(name, "ok", metadata.version(name))
    compiled = list(_compiled_parts())
    yield from compiled
    for plugin in plugins.plugins:
        if plugin.state == "loaded":
            problems = check_plugin(plugins, plugin)
            text = "; ".join(problems) if problems else f"{plugin.distribution} {plugin.version}"
            yield Finding(f"plugin {plugin.name}", "note" if problems else "ok", text)
        else:
            yield Finding(f"plugin {plugin.name}", "note", f"{plugin.state}: {plugin.reason}")
    if not plugins.engines():
        yield Finding("engine", "note", "no CPU engine is installed: only machines with --cpu none run")
    if all(f.verdict == "ok" for f in compiled):
        yield from _guarded("dirty source", _dirty_source)
    yield from _kernel()
    yield from _guarded("direct I/O", _direct_io)


def _compiled_parts() -> Iterator[Finding]:
    for name in _COMPILED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield Finding(name, "missing", f"{error}; reinstall with: pip install --force-reinstall pyemu-machine")
        else:
            yield Finding(name, "ok", "compiled parts load")


def _guarded(topic: str, look: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield look()
    except (OSError, PyemuError) as error:
        yield Finding(topic, "note", str(error))


def _dirty_source() -> Finding:
    from ..memory import select_dirty_source

    source = select_dirty_source()
    return Finding("dirty source", "ok", f"{source.name}: {source.reason}")


def _kernel() -> Iterator[Finding]:
    yield Finding("kernel", "ok", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("processors", "ok", f"{len(os.sched_getaffinity(0))} usable")
    kvm = pathlib.Path("/dev/kvm")
    if not kvm.exists():
        yield Finding("/dev/kvm", "note", "not there: the kvm engine cannot run here")
    elif not os.access(kvm, os.R_OK | os.W_OK):
        yield Finding("/dev/kvm", "note", "there, but not accessible for this user")
    else:
        yield Finding("/dev/kvm", "ok", "accessible")
    huge = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge.exists():
        mode = huge.read_text().partition("[")[2].partition("]")[0]
        text = "off: guest memory is slower to fill" if mode == "never" else mode
        yield Finding("huge pages", "note" if mode == "never" else "ok", text)
    else:
        yield Finding("huge pages", "note", "not offered by this kernel: guest memory is slower to fill")


def _direct_io() -> Finding:
    with tempfile.NamedTemporaryFile() as file:
        folder = str(pathlib.Path(file.name).parent)
        try:
            os.close(os.open(file.name, os.O_WRONLY | os.O_DIRECT))
        except OSError as error:
            return Finding("direct I/O", "note", f"not in {folder}: {error.strerror}")
    return Finding("direct I/O", "ok", f"works in {folder}")

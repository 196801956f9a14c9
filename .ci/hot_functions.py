# SPDX-License-Identifier: MIT
"""Checks that the functions on hot paths are plain C: no line of them may reach for the interpreter.

Cython's annotation gives each line a score of interpreter use. Listed functions must score 0 on every
line; ``with gil:`` belongs into a function of its own, which is not listed.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
HOT = {
    "pyemu/memory/_ports.pyx": (
        "c_in", "c_out", "link", "unlink", "_top", "_wide_in", "_wide_out", "_part_in", "_part_out", "_chunk_in", "_chunk_out",
    ),
    "pyemu/memory/_mmio.pyx": (
        "_find", "c_read", "c_write", "c_read_bytes", "c_write_bytes", "_fitting", "_read_io", "_write_io",
    ),
    "pyemu/memory/_dirty.pyx": (
        "_mask", "c_set", "c_test", "c_set_range", "c_clear_range", "c_count", "c_find", "c_merge", "c_take_run",
    ),
    "pyemu/memory/_uffd.pyx": ("_scan",),
    "pyemu/memory/_mapping.pyx": ("room", "cover", "populate", "_is_zero"),
    "pyemu/memory/_compare.pyx": ("compare",),
    "pyemu/migration/_records.pyx": ("_put", "_word", "_follow", "_scatter", "_work", "_read"),
    "pyemu/device/_cpuhost.pyx": ("_port_in", "_port_out", "_mmio_read", "_mmio_write", "_clock_ns"),
    "pyemu/device/_clock.pyx": ("_monotonic", "now"),
    "pyemu/chips/_uart16550.pyx": ("c_read", "c_write", "update", "_read", "_write"),
    "pyemu/chips/_i8254.pyx": ("value", "out", "c_read", "c_write", "_read", "_write"),
    "pyemu/chips/_vga.pyx": ("locate", "read_byte", "write_byte", "status", "_read_window", "_write_window"),
    "pyemu/chips/_i8259.pyx": ("set_line", "pending", "take", "end_of_interrupt", "c_read", "c_write"),
}  # fmt: skip
DEFINITION = re.compile(r"\s*(?:cdef|cpdef|def)\b[^=]*?\b(\w+)\(")
SCORED = re.compile(r'class="cython line score-(\d+)"[^>]*>[^<]*<span class="">(\d+)</span>')


def scores(path: pathlib.Path) -> dict[int, int]:
    """Interpreter use of each line of a module."""
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "module.c"
        options = ["-3", "--annotate", "-X", "boundscheck=False", "-X", "wraparound=False", "-X", "cdivision=True",
                   "-X", "initializedcheck=False"]  # fmt: skip
        subprocess.run(
            [sys.executable, "-m", "cython", *options, "-I", str(ROOT), "-o", str(made), str(path)], cwd=ROOT, check=True
        )
        html = made.with_suffix(".html").read_text()
    return {int(line): int(score) for score, line in SCORED.findall(html)}


def bodies(source: list[str]) -> dict[str, range]:
    """Lines of each function, counted from 1; of functions that share a name, the last."""
    found = {}
    for n, line in enumerate(source):
        match = DEFINITION.match(line)
        if match is None:
            continue
        depth = len(line) - len(line.lstrip())
        end = n + 1
        while end < len(source) and (
            not source[end].strip() or len(source[end]) - len(source[end].lstrip()) > depth or source[end].startswith(")")
        ):
            end += 1
        found[match.group(1)] = range(n + 1, end + 1)
    return found


def main() -> int:
    bad = 0
    for name, functions in HOT.items():
        path = ROOT / name
        score, source = scores(path), path.read_text().splitlines()
        if not score:
            sys.exit(f"{name}: Cython's annotation has no scores that this script can read")
        where = bodies(source)
        for function in functions:
            if function not in where:
                print(f"{name}: no function {function}")
                bad += 1
                continue
            for line in where[function]:
                if score.get(line):
                    print(f"{name}:{line}: {function}: score {score[line]}: {source[line - 1].strip()}")
                    bad += 1
    print(f"{sum(map(len, HOT.values()))} hot functions, {bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

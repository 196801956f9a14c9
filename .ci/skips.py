# SPDX-License-Identifier: MIT
"""Lists what a test run skipped and why; fails for a skip without a reason we know, or whose need is present.

A reason begins with ``needs NAME``, where NAME is in the table below. Conformance suites may also skip
what an engine or backend *does not claim*: that is up to its declaration, not to this system.
"""

from __future__ import annotations

import os
import pathlib
import platform
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable


def program(*names: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(name) for name in names)


def kernel(major: int, minor: int) -> bool:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return found is not None and (int(found[1]), int(found[2])) >= (major, minor)


def importable(name: str) -> Callable[[], bool]:
    import importlib.util

    return lambda: importlib.util.find_spec(name) is not None


#: What tests may need, and how to see whether this system has it.
NEEDS: dict[str, Callable[[], bool]] = {
    "as": program("as", "ld"),
    "cc": program("cc"),
    "checkout": lambda: pathlib.Path("setup.py").is_file(),
    "gdb": program("gdb"),
    "kvm": lambda: os.access("/dev/kvm", os.R_OK | os.W_OK),
    "memtest86+": lambda: pathlib.Path("/boot/memtest86+ia32.bin").exists(),
    "PAGEMAP_SCAN": lambda: kernel(6, 7),
    "pty": lambda: pathlib.Path("/dev/ptmx").exists(),
    "debootstrap": program("debootstrap"),
    "root": lambda: os.geteuid() == 0,
    "tmpfs": lambda: pathlib.Path("/dev/shm").is_dir(),
    "userfaultfd": lambda: kernel(6, 4),
    "unicorn": importable("unicorn"),
    "xxhash": importable("xxhash"),
    "zstd": importable("pyemu_zstd"),
}


def main(path: str) -> int:
    wrong = 0
    cases = list(ElementTree.parse(path).iter("testcase"))
    skips = [(case, skip) for case in cases for skip in case.iter("skipped")]
    print(f"{len(cases)} tests, {len(skips)} skipped")
    for case, skip in skips:
        reason = skip.get("message") or ""
        name = f"{case.get('classname')}.{case.get('name')}"
        need = re.match(r"needs ([\w+]+)", reason)
        if re.search(r"\bdoes not claim\b", reason):
            verdict = "ok"
        elif need is None or need[1] not in NEEDS:
            verdict = "FAILED: the reason does not say 'needs ...' of something in .ci/skips.py"
        elif NEEDS[need[1]]():
            verdict = f"FAILED: {need[1]} is here"
        else:
            verdict = "ok"
        wrong += verdict != "ok"
        print(f"  {name}: {reason} [{verdict}]")
    if not cases:
        print("FAILED: no tests ran")
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

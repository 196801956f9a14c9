# SPDX-License-Identifier: MIT
"""Fails unless the dirty source that pyemu chooses is the best one this kernel should have."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import sys

from pyemu.memory import select_dirty_source


def expected() -> str:
    """Worked out from the system alone, so that a probe that wrongly says no is noticed."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    new_enough = release is not None and (int(release[1]), int(release[2])) >= (6, 7)
    # A process of an ordinary user gets a userfaultfd for faults from user space without any setting.
    compiled_in = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd").exists()
    return "uffd" if new_enough and compiled_in else "compare"


def main() -> int:
    source = select_dirty_source()
    print(f"dirty source: {source.name} ({source.reason}); expected {expected()}; kernel {platform.release()}")
    wanted = os.environ.get("PYEMU_EXPECT_DIRTY_SOURCE", expected())
    return 0 if source.name == wanted else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""``pyemu demo``, as the README tells a newcomer to run it."""

import subprocess
import sys

import pytest


@pytest.mark.live
def test_the_demo_proves_everything_it_says():
    words = [sys.executable, "-P", "-m", "pyemu", "demo"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    proofs = [line for line in done.stdout.splitlines() if line.startswith("  proved")]
    assert len(proofs) >= 6, done.stdout

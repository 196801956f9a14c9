# SPDX-License-Identifier: MIT
"""The other end of :mod:`benchmarks.peers.worker`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .formats import Format

_ROOT = Path(__file__).parents[2]


class Ours:
    """A process that runs pyemu."""

    def __init__(self) -> None:
        words = [sys.executable, "-m", "benchmarks.peers.worker"]
        self.process = subprocess.Popen(words, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, what: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        for name, value in arguments.items():
            if isinstance(value, Format):
                arguments[name] = dataclasses.asdict(value)
            elif isinstance(value, Path):
                arguments[name] = str(value)
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"pyemu's process ended while told to {what}; what it says is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

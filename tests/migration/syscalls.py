# SPDX-License-Identifier: MIT
"""The preloaded recorder of system calls (``syscalls.c``): building it, starting programs with it, reading its log."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

SHORT, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER = -1, -2, -3, -4
SOURCE = pathlib.Path(__file__).with_name("syscalls.c")
WRITES = ("pwrite", "write", "writev", "pwritev")


class _Record(ctypes.Structure):
    _fields_ = [
        ("call", ctypes.c_char * 12),
        ("path", ctypes.c_char * 256),
        ("second", ctypes.c_char * 256),
        ("offset", ctypes.c_longlong),
        ("length", ctypes.c_longlong),
        ("result", ctypes.c_longlong),
        ("error", ctypes.c_int),
        ("direct", ctypes.c_int),
    ]


@dataclass(frozen=True)
class Call:
    name: str
    path: str
    second: str
    offset: int
    length: int
    result: int
    error: int
    direct: bool

    def __str__(self):
        where = f" {self.length} at {self.offset}" if self.length else ""
        return f"{self.name} {os.path.basename(self.path)}{where} = {errno.errorcode.get(self.error, self.result)}"


def compile_recorder(folder):
    """The recorder as a library to preload; skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs cc: the recorder of system calls is C")
    library = folder / "syscalls.so"
    options = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-ldl"], check=True)
    return library


def run(library, program, *arguments):
    """Runs a program of the tests, with the recorder in it unless it is None; returns what it printed, in lines."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    if library is not None:
        environment.update(LD_PRELOAD=str(library), RECORDER=str(library))
    tests = pathlib.Path(__file__).parents[1]
    script = f"import sys; sys.path.insert(0, {str(tests)!r}); import runpy; runpy.run_module({program!r}, run_name='__main__')"
    command = [sys.executable, "-P", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{program}: status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout.splitlines()


class Recorder:
    """The log, as seen from inside of the process that has the recorder preloaded."""

    def __init__(self):
        self._library = ctypes.CDLL(os.environ["RECORDER"])
        self._library.sc_record.restype = ctypes.POINTER(_Record)
        assert self._library.sc_record_size() == ctypes.sizeof(_Record)

    def begin(self, folder, number=-1, fault=0):
        """From now on calls below *folder* are written down, and *fault* happens to call *number*."""
        self._library.sc_begin(os.fsencode(folder), number, fault)

    def end(self):
        """Stops recording; returns the calls."""
        count = self._library.sc_end()
        assert count < 4096
        return [self._call(n) for n in range(count)]

    def align(self, size):
        """Direct reads and writes have to be multiples of *size* from now on; 0 for what the system wants."""
        self._library.sc_align(size)

    def _call(self, number):
        r = self._library.sc_record(number).contents
        text = [os.fsdecode(t) for t in (r.call, r.path, r.second)]
        return Call(*text, r.offset, r.length, r.result, r.error, bool(r.direct))

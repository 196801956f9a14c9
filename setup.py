# SPDX-License-Identifier: MIT
"""Extension modules and build switches; all metadata is in pyproject.toml.

Switches, read from the environment:
  PYEMU_CYTHON_CHECKS=1  bounds and overflow checks in every module
  PYEMU_CYTHON_TRACE=1   line tracing, for coverage runs
  PYEMU_CYTHON_ANNOTATE=1  write the annotated HTML beside each .pyx
"""

import os
import pathlib

from Cython.Build import cythonize
from setuptools import Extension, setup

CHECKS = os.environ.get("PYEMU_CYTHON_CHECKS") == "1"
TRACE = os.environ.get("PYEMU_CYTHON_TRACE") == "1"
ANNOTATE = os.environ.get("PYEMU_CYTHON_ANNOTATE") == "1"
JOBS = len(os.sched_getaffinity(0))
# Each variant builds in a folder of its own: objects are reused by their dates alone, so one
# folder for all would put release code into a build with checks. Coverage looks for the C files
# beside the sources, and so does whoever reads an annotated one.
VARIANT = ("checks" if CHECKS else "release") + ("-trace" if TRACE else "")
C_FILES = None if TRACE or ANNOTATE else f"build/{VARIANT}/cython"

directives = {
    "language_level": "3",
    "embedsignature": True,
    "boundscheck": CHECKS,
    "wraparound": CHECKS,
    # None checks need the GIL to raise, which hot code has not got; arguments say "not None" instead.
    "nonecheck": False,
    "overflowcheck": CHECKS,
    "initializedcheck": CHECKS,
    "cdivision": not CHECKS,
    "linetrace": TRACE,
}
# No -march: wheels run on any machine of the architecture, SIMD is chosen at run time.
flags = ["-O2", "-g0", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"]
extensions = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        include_dirs=["pyemu/capi"],
        depends=["pyemu/capi/pyemu.h"],
        define_macros=[("CYTHON_TRACE_NOGIL", "1")] if TRACE else [],
        extra_compile_args=flags,
    )
    for path in sorted(pathlib.Path("pyemu").rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives=directives,
        annotate=ANNOTATE,
        nthreads=JOBS,
        build_dir=C_FILES,
        force=TRACE or ANNOTATE,
    ),
    options={"build": {"build_base": f"build/{VARIANT}"}, "build_ext": {"parallel": JOBS}},
)

# SPDX-License-Identifier: MIT
"""Extension modules and build switches; all metadata is in pyproject.toml.

Switches, read from the environment:
  PYEMU_CYTHON_CHECKS=1  bounds, None and overflow checks in every module
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
JOBS = os.cpu_count() or 1

directives = {
    "language_level": "3",
    "embedsignature": True,
    "boundscheck": CHECKS,
    "wraparound": CHECKS,
    "nonecheck": CHECKS,
    "overflowcheck": CHECKS,
    "initializedcheck": CHECKS,
    "cdivision": not CHECKS,
    "linetrace": TRACE,
}
macros = [("CYTHON_TRACE_NOGIL", "1")] if TRACE else []
# Release assertions cost nothing here; what matters is no -march: SIMD is chosen at run time.
extensions = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        include_dirs=["pyemu/capi"],
        define_macros=macros,
        extra_compile_args=["-O2", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"],
    )
    for path in sorted(pathlib.Path("pyemu").rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(extensions, compiler_directives=directives, annotate=ANNOTATE, nthreads=JOBS),
    options={"build_ext": {"parallel": JOBS}},
)

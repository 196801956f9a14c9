# SPDX-License-Identifier: GPL-2.0-or-later
"""The one extension module. It needs no header and no library of Unicorn: see uc_api.h.

PYEMU_CYTHON_CHECKS=1 turns on bounds and None checks, as in the core. Overflow is not checked: guest and
host addresses are added modulo 2**64 by design.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

CHECKS = os.environ.get("PYEMU_CYTHON_CHECKS") == "1"

SOURCES = ("uc_api.h", "layout.h", "pyemu.h", "_core.pxi", "_deep.pxi", "_tlb.pxi", "_public.pxi", "_run.pxi")

setup(
    ext_modules=cythonize(
        [
            Extension(
                "pyemu_unicorn._engine",
                ["pyemu_unicorn/_engine.pyx"],
                include_dirs=["pyemu_unicorn"],
                depends=["pyemu_unicorn/" + name for name in SOURCES],
                extra_compile_args=["-O2", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"],
                libraries=["dl"],
            )
        ],
        compiler_directives={
            "language_level": "3",
            "embedsignature": True,
            "boundscheck": CHECKS,
            "wraparound": CHECKS,
            "nonecheck": CHECKS,
            "initializedcheck": CHECKS,
            "cdivision": not CHECKS,
        },
    )
)

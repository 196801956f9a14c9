# SPDX-License-Identifier: MIT
"""Lets tox find the interpreters that pyenv installed, whether or not they are on PATH."""

import os
import pathlib

found = sorted(pathlib.Path.home().glob(".pyenv/versions/3.*/bin/python"))
if found:
    # tox loads this file before it reads its options, and those from the environment.
    os.environ.setdefault("TOX_DISCOVER", os.pathsep.join(map(str, found)))

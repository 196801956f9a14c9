# SPDX-License-Identifier: MIT
"""The C interface for compiled plugins: where its header is."""

import pathlib


def get_include() -> str:
    """The folder that holds ``pyemu.h``, for a compiler's ``-I``."""
    return str(pathlib.Path(__file__).parent)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the installed Unicorn library is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pyemu.errors import EngineError

#: Names that the wheels of different systems use.
_NAMES = ("libunicorn.so.2", "libunicorn.2.dylib")


def find_library() -> Path:
    """The shared library inside the ``unicorn`` distribution, which is not imported.

    Raises:
        EngineError: it is not there; says where it was looked for.
    """
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("unicorn: the Python package unicorn is not installed")
    places = [Path(place) / "lib" for place in spec.submodule_search_locations]
    for place in places:
        for name in _NAMES:
            if (place / name).is_file():
                return place / name
    raise EngineError(f"unicorn: no {' or '.join(_NAMES)} in {', '.join(map(str, places))}")

# SPDX-License-Identifier: MIT
"""``python -m pyemu``: the same as the ``pyemu`` program."""

import sys

from .cli import main

sys.exit(main())

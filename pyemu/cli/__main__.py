# SPDX-License-Identifier: MIT
"""``python -m pyemu.cli``: the same as ``pyemu``."""

import sys

from . import main

sys.exit(main())

# SPDX-License-Identifier: MIT
"""The ``pyemu`` program: one module a subcommand, each with ``configure(parser)`` and ``run(args) -> int``.

Exit status: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted with Ctrl-C.
"""

from ._program import main

__all__ = ["main"]

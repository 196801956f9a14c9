# SPDX-License-Identifier: MIT
"""``python -m pyemu`` and the program ``pyemu``."""

import sys


def main() -> int:
    """Runs the program. Ctrl-C ends it quietly, also while Python is still importing it."""
    try:
        from .cli import main as program

        return program()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""A chardev that writes to a file."""

from __future__ import annotations

import os

from ...errors import ConfigError
from .capture import DEFAULT_CAPTURE
from .pump import FdChardev


class FileChardev(FdChardev):
    """``file:PATH[,append=on]``: output goes to the file, input never comes.

    Args:
        path: made, with mode 0644 less the umask, or emptied if it exists.
        append: add to what is there instead.

    Raises:
        ConfigError: the file cannot be opened for writing.
    """

    kind = "file"

    def __init__(
        self, path: str | os.PathLike[str], *, append: bool = False, name: str = "", capture: int = DEFAULT_CAPTURE
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            self._fd = os.open(path, flags | (os.O_APPEND if append else os.O_TRUNC), 0o644)
        except OSError as error:
            raise ConfigError(f"chardev file {os.fspath(path)}: {error.strerror}") from error
        super().__init__(name, capture=capture)
        self._writer = self._fd
        self._start()

    def _release(self) -> None:
        os.close(self._fd)

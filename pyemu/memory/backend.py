# SPDX-License-Identifier: MIT
"""Where a machine's RAM is to be, as users write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError

FORMS = "memfd, file:PATH,share=on or file:PATH,share=off"


@dataclass(frozen=True, slots=True)
class MemoryBackend:
    """Memory of a machine that is not its own.

    Attributes:
        backing: of the RAM block, see :class:`~pyemu.memory.RAMBlock`.
        path: of the file, or None.
    """

    backing: str
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> MemoryBackend:
        """``memfd[,share=on]``, or ``file:PATH[,share=on|off]``; a file is shared only if that is said.

        Raises:
            ConfigError: another text.
        """
        what, comma, share = text.rpartition(",share=")
        if not comma:
            what, share = text, "on" if text == "memfd" else "off"
        if what == "memfd" and share == "on":
            return cls("memfd")
        scheme, _, path = what.partition(":")
        if scheme == "file" and path and share in ("on", "off"):
            return cls("file-shared" if share == "on" else "file-private", path)
        raise ConfigError(f"memory backend {text!r} is none of {FORMS}")

    def options(self) -> dict[str, Any]:
        """For the constructor of the RAM block."""
        return {"backing": self.backing} if self.path is None else {"backing": self.backing, "path": self.path}

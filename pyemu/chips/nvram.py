# SPDX-License-Identifier: MIT
"""The file that stands for a battery: CMOS bytes that last from run to run."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..device import Device


class NVRAMFile:
    """Bytes in a file of at most *size* bytes; one that is missing or short counts as zeros.

    Args:
        path: made when the bytes are first stored.
        size: how many bytes it may hold.

    Raises:
        ConfigError: there is something at *path* that cannot be read or is larger.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path = pathlib.Path(path)
        self.size = size
        self.load()

    def load(self) -> bytes:
        """All *size* bytes.

        Raises:
            ConfigError: as above.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(self.size + 1)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise ConfigError(f"nvram={self.path}: {error.strerror}") from None
        if len(data) > self.size:
            raise ConfigError(f"nvram={self.path}: is larger than {self.size} bytes")
        return data.ljust(self.size, b"\0")

    def store(self, offset: int, data: bytes) -> None:
        """Puts *data* at *offset*; the file changes as a whole or not at all.

        Raises:
            ConfigError: the host could not write.
        """
        whole = bytearray(self.load())
        whole[offset : offset + len(data)] = data
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(whole)
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ConfigError(f"nvram={self.path}: {error.strerror}") from None

    def keep(self, owner: Device, offset: int, data: bytes) -> None:
        """As :meth:`store`, for a device that is taken apart: a failure is logged, and does not stop the rest."""
        try:
            self.store(offset, data)
        except ConfigError as error:
            owner.warn_once("nvram", "the CMOS memory is lost: %s", error)

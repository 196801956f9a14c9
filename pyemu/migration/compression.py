# SPDX-License-Identifier: MIT
"""Ways to compress what carriers of pages send, one plugin record each.

A compression makes one :class:`Compressor` for each channel and migration, and the other end one
:class:`Decompressor`. Both keep their state from one call to the next: a channel is one continuous
compressed stream, cut where the sender has pushed everything out.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod

from ..errors import MigrationError, PluginError
from .channel import Buffer, PluginSource
from .faults import load_fault


class Compressor(ABC):
    """Compresses for one channel; used by one thread at a time."""

    @abstractmethod
    def compress(self, data: Buffer) -> Buffer:
        """*data* compressed and flushed: with this, the other end can restore all of it. Releases the GIL.

        Nobody changes *data* meanwhile; carriers hand over a copy of guest memory.
        """


class Decompressor(ABC):
    """The mirror of :class:`Compressor`."""

    @abstractmethod
    def decompress(self, data: Buffer, size: int) -> Buffer:
        """What one call of :meth:`Compressor.compress` was given. Releases the GIL.

        Args:
            data: all that the call returned; comes from a stranger.
            size: bytes that have to come out. No more than that is allocated for them.

        Raises:
            MigrationError: the data is damaged, or more or fewer bytes come out.
        """


class CompressionMethod(ABC):
    """One method.

    Attributes:
        levels: lowest, highest and default level.
    """

    levels: tuple[int, int, int] = (0, 9, 1)

    @abstractmethod
    def compressor(self, level: int) -> Compressor:
        """A fresh one; *level* is within :attr:`levels`."""

    @abstractmethod
    def decompressor(self) -> Decompressor:
        """A fresh one."""


def find_compression(name: str, plugins: PluginSource) -> CompressionMethod:
    """The compression called *name*.

    Raises:
        MigrationError: no plugin provides it, or the one that does cannot be loaded; names what to install.
    """
    try:
        found: CompressionMethod = plugins.resolve(plugins.get("compression", name))()
    except PluginError as error:
        raise MigrationError(
            f"compression '{name}' is not available: {error}; its plugin is looked for as pyemu-{name}"
            f" (pip install pyemu-{name}, or plugins/{name} of the source tree)",
            desc=f"compression '{name}' is not available: install pyemu-{name}",
        ) from error
    return found


def inflated(name: str, found: int, size: int) -> MigrationError:
    """The fault of data that does not hold what it has to."""
    more = "more than " if found > size else f"{found} bytes instead of "
    return load_fault(f"{name}: compressed pages inflate to {more}{size} bytes")


class ZlibCompression(CompressionMethod):
    """zlib, of the standard library."""

    levels = (0, 9, 1)

    def compressor(self, level: int) -> Compressor:
        return _ZlibCompressor(level)

    def decompressor(self) -> Decompressor:
        return _ZlibDecompressor()


class _ZlibCompressor(Compressor):
    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level)

    def compress(self, data: Buffer) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)


class _ZlibDecompressor(Decompressor):
    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def decompress(self, data: Buffer, size: int) -> bytes:
        try:
            # One byte of room more than needed: too long output shows, and the mark of the flush gets read.
            out = self._stream.decompress(data, size + 1)
        except zlib.error as error:
            raise load_fault(f"zlib: {error}") from error
        if len(out) != size or self._stream.unconsumed_tail:
            raise inflated("zlib", len(out), size)
        return out

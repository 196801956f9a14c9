# SPDX-License-Identifier: MIT
"""One frame a channel, flushed behind each packet and never ended."""

from __future__ import annotations

import sys

from pyemu.migration import CompressionMethod, Compressor, Decompressor, inflated, load_fault

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Largest window that a frame may ask for, as a power of two: what level 20 uses, and zstd's own limit.
MAX_WINDOW_LOG = 27


class Zstandard(CompressionMethod):
    """Zstandard; level 0 is the library's default."""

    levels = (0, 20, 1)

    def compressor(self, level: int) -> Compressor:
        return _Compressor(level)

    def decompressor(self) -> Decompressor:
        return _Decompressor()


class _Compressor(Compressor):
    def __init__(self, level: int) -> None:
        self._stream = zstd.ZstdCompressor(level)

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        done: bytes = self._stream.compress(data, mode=zstd.ZstdCompressor.FLUSH_BLOCK)
        return done


class _Decompressor(Decompressor):
    def __init__(self) -> None:
        options = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
        self._stream = zstd.ZstdDecompressor(options=options)

    def decompress(self, data: bytes | bytearray | memoryview, size: int) -> bytes:
        if self._stream.eof:
            raise load_fault("zstd: the channel goes on behind the end of its frame")
        try:
            # One byte of room more than needed, so that too long output shows.
            out: bytes = self._stream.decompress(data, max_length=size + 1)
        except zstd.ZstdError as error:
            raise load_fault(f"zstd: {error}") from error
        if len(out) != size or not (self._stream.needs_input or self._stream.eof) or self._stream.unused_data:
            raise inflated("zstd", len(out), size)
        return out

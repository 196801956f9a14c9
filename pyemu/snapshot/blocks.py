# SPDX-License-Identifier: MIT
"""RAM blocks of a saved machine as arrays."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..errors import MigrationError
from ..migration import PageIndex
from ..migration.faults import load_fault, read_fault
from ..migration.pages import page_count

_BATCH = 1 << 20


class SnapshotBlock:
    """One RAM block of a saved machine.

    Attributes:
        idstr: the block's name.
        size: in bytes.
        page_size: of its pages.
    """

    def __init__(self, fd: int, index: PageIndex) -> None:
        self._fd = fd
        self._index = index
        self.idstr = index.block.idstr
        self.size = index.block.used_length
        self.page_size = index.block.page_size
        self._array: npt.NDArray[np.uint8] | None = None

    @property
    def pages(self) -> int:
        """Number of pages."""
        return page_count(self._index.block)

    @property
    def pages_present(self) -> int:
        """Pages whose bytes are in the file; all others are zero."""
        return int(self._index.rows[:, 1].sum())

    def present(self) -> npt.NDArray[np.bool_]:
        """For each page, whether its bytes are in the file."""
        mask = np.zeros(self.pages, dtype=np.bool_)
        for first, count, _ in self._index.rows.tolist():
            mask[first : first + count] = True
        return mask

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes, read from the file.

        Raises:
            MigrationError: they are not all in the block, or the file cannot be read.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise MigrationError(f"block {self.idstr}: {length} bytes at {offset:#x} are not inside its {self.size}")
        first = offset // self.page_size
        end = -(-(offset + length) // self.page_size)
        data = np.zeros((end - first) * self.page_size, dtype=np.uint8)
        self._fill(data, first, end)
        start = offset - first * self.page_size
        return data[start : start + length].tobytes()

    def array(self) -> npt.NDArray[np.uint8]:
        """The whole block, read-only; a second call returns the same array.

        Blocks with fixed places are mapped from the file and cost memory only for what is looked at.
        Others are read into memory.
        """
        if self._array is None:
            base = self._index.base
            if base is not None and base % mmap.ALLOCATIONGRANULARITY == 0:
                array = self._map(base)
            else:
                array = np.zeros(self.size, dtype=np.uint8)
                self._fill(array, 0, self.pages)
            array.flags.writeable = False
            self._array = array
        return self._array

    def _map(self, base: int) -> npt.NDArray[np.uint8]:
        try:
            # A private mapping: absent pages are cleared in memory, the file stays as it is.
            mapping = mmap.mmap(self._fd, self.size, access=mmap.ACCESS_COPY, offset=base)
        except (OSError, ValueError, OverflowError) as error:
            raise load_fault(f"block {self.idstr}: cannot map {self.size} bytes at {base:#x}: {error}") from error
        array = np.frombuffer(mapping, dtype=np.uint8)
        for start, end in self._stale(base):
            part = array[start:end]
            if part.any():
                part[:] = 0
        return array

    def _stale(self, base: int) -> Iterator[tuple[int, int]]:
        """Parts of the block that the file has bytes for but does not vouch for, page by page."""
        extents = _Extents(self._fd, base, base + self.size)
        position = 0
        rows = [*self._index.rows.tolist(), (self.pages, 0, 0)]
        for first, count, _ in rows:
            for start, end in extents.between(base + position, base + first * self.page_size):
                yield start - base, end - base
            position = (first + count) * self.page_size

    def _fill(self, data: npt.NDArray[np.uint8], first: int, end: int) -> None:
        """Reads the present ones of pages *first* to *end* into *data*, which begins at *first*."""
        stride, size = self._index.stride, self.page_size
        pages = data.reshape(-1, size)
        batch = max(_BATCH // stride, 1)
        rows = self._index.rows
        low = np.searchsorted(rows[:, 0] + rows[:, 1], first, side="right")
        high = np.searchsorted(rows[:, 0], end, side="left")
        for page, count, position in rows[low:high].tolist():
            skip = max(first - page, 0)
            page, count, position = page + skip, min(count - skip, end - page - skip), position + skip * stride
            while count > 0:
                take = min(count, batch)
                raw = self._read((take - 1) * stride + size, position)
                padded = np.zeros(take * stride, dtype=np.uint8)
                padded[: len(raw)] = np.frombuffer(raw, dtype=np.uint8)
                pages[page - first : page - first + take] = padded.reshape(take, stride)[:, :size]
                page, count, position = page + take, count - take, position + take * stride

    def _read(self, length: int, position: int) -> bytes:
        pieces = []
        while length:
            try:
                piece = os.pread(self._fd, length, position)
            except OSError as error:
                raise read_fault(error) from error
            if not piece:
                raise load_fault(f"block {self.idstr}: the file ends at {position:#x}", errno.EIO)
            pieces.append(piece)
            length, position = length - len(piece), position + len(piece)
        return b"".join(pieces)

    def __repr__(self) -> str:
        return f"<SnapshotBlock {self.idstr} {self.size} bytes, {self.pages_present} of {self.pages} pages>"


class _Extents:
    """The parts of a file that are not holes, found in ascending order."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd = fd
        self._end = end
        self._current = self._next(start)

    def _next(self, position: int) -> tuple[int, int] | None:
        if position >= self._end:
            return None
        try:
            start = os.lseek(self._fd, position, os.SEEK_DATA)
            return start, os.lseek(self._fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if error.errno == errno.EINVAL:
                # A file system that does not know its holes: everything may hold data.
                return position, self._end
            raise read_fault(error) from error

    def between(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Parts with data of one range; ranges must be asked for in ascending order."""
        while self._current is not None and start < end:
            data, hole = self._current
            if data >= end:
                return
            if hole > start:
                yield max(data, start), min(hole, end)
            if hole > end:
                return
            self._current = self._next(hole)

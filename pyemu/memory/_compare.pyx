# SPDX-License-Identifier: MIT
# cython: overflowcheck=False
# Words of bits and of data wrap and are cut by design; bounds stay checked in the checked build.
"""Finds the pages a guest wrote by comparing RAM with a copy: slow and large, but works anywhere.

A page that is changed and changed back between two comparisons is not found. That is why a reader
of dirty pages must read the copy (``data(block)``), not RAM: the copy changes only in ``sync()``, so
each state it ever showed was reported.
"""

cimport cython
from libc.stddef cimport size_t
from libc.string cimport memcmp, memcpy

import numpy

from pyemu.memory._dirty cimport DirtyBitmap
from pyemu.memory._mapping cimport Mapping
from pyemu.memory._ram cimport RAMBlock

from ..errors import MemoryMapError


@cython.final
cdef class _Watch:
    """A block with its copy and the pages found changed by the latest comparison."""
    cdef RAMBlock block
    cdef Mapping mapping
    cdef Mapping copy
    cdef DirtyBitmap changed

    cdef size_t compare(self) noexcept nogil:
        # Cannot fail: both mappings live as long as this object. A page that is being written while
        # it is copied differs from its copy, so the next comparison finds it again.
        cdef size_t page = self.block.page_size, pages = self.block.pages, n, found = 0
        cdef unsigned char *now = self.mapping.base
        cdef unsigned char *before = self.copy.base
        for n in range(pages):
            if memcmp(now + n * page, before + n * page, page) != 0:
                memcpy(before + n * page, now + n * page, page)
                self.changed.c_set(n)
                found += 1
        return found


@cython.final
cdef class CompareSource:
    """A dirty source without help from the kernel; takes as much memory again as the guest has in use.

    Attributes:
        name: ``"compare"``.
        reason: why this source was chosen.
    """
    cdef readonly str name
    cdef readonly str reason
    cdef list watched

    def __init__(self, str reason=""):
        self.name = "compare"
        self.reason = reason

    def start(self, blocks):
        """Begins to watch *blocks*: copies what is not zero in them.

        Raises:
            MemoryMapError: it runs already, or there is no memory for the copy.
        """
        cdef RAMBlock block
        cdef _Watch watch
        if self.watched is not None:
            raise MemoryMapError("dirty source compare is running already")
        watched = []
        for block in blocks:
            watch = _Watch()
            watch.block = block
            watch.mapping = block.memory()
            try:
                watch.copy = Mapping(block.idstr, watch.mapping.size, False)
            except OSError as error:
                raise MemoryMapError(f"RAM block {block.idstr}: no memory for a copy: {error.strerror}") from None
            watch.changed = DirtyBitmap(block.pages)
            # The copy begins as zeros, of which nothing is touched.
            with nogil:
                watch.compare()
            watch.changed.clear_all()
            watched.append(watch)
        self.watched = watched

    def stop(self):
        """Ends watching and gives the copies back. May be repeated."""
        self.watched = None

    def sync(self):
        """Marks the pages changed since the last call in all clients of each block; returns how many there were.

        Raises:
            MemoryMapError: it does not run.
        """
        cdef _Watch watch
        cdef size_t total = 0, found
        if self.watched is None:
            raise MemoryMapError("dirty source compare is not running")
        for watch in self.watched:
            with nogil:
                found = watch.compare()
            if found:
                watch.block.merge_dirty(watch.changed)
            total += found
        return total

    def data(self, RAMBlock block not None):
        """What a reader of dirty pages must read: the copy, as of the last :meth:`sync`.

        Raises:
            MemoryMapError: *block* is not watched.
        """
        cdef _Watch watch
        for watch in self.watched or ():
            if watch.block is block:
                return numpy.frombuffer(watch.copy, dtype=numpy.uint8)
        raise MemoryMapError(f"dirty source compare does not watch RAM block {block.idstr}")

    def __repr__(self):
        return f"<CompareSource {'running' if self.watched is not None else 'stopped'}>"

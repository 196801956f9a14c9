# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from pyemu_zstd import method

from pyemu.errors import MigrationError


def test_a_window_that_would_take_too_much_memory_is_refused():
    # Magic, descriptor without content size, window of 2 GiB, then one raw block of a byte.
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x08\x00\x00a"
    with pytest.raises(MigrationError, match="zstd: "):
        method.Zstandard().decompressor().decompress(frame, 4096)


def test_nothing_follows_the_end_of_a_frame():
    frame = method.zstd.compress(b"a" * 4096)
    decompressor = method.Zstandard().decompressor()
    assert decompressor.decompress(frame, 4096) == b"a" * 4096
    with pytest.raises(MigrationError, match="behind the end of its frame"):
        decompressor.decompress(frame, 4096)
    with pytest.raises(MigrationError, match="4096 bytes instead of"):
        method.Zstandard().decompressor().decompress(frame + b"x", 4097)

# SPDX-License-Identifier: MIT
"""What every compression promises, for all that the plugins provide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyemu.errors import MigrationError
from pyemu.migration import find_compression
from pyemu.plugin import PluginManager

PAGE = 4096
NAMES = sorted(PluginManager().compressions())
NOISE = np.random.default_rng(5).integers(0, 256, 8 * PAGE, dtype=np.uint8).tobytes()

contents = st.lists(st.sampled_from([NOISE[:PAGE], NOISE[PAGE:], bytes(PAGE), b"pyemu   " * 512]), min_size=1, max_size=20)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(data=st.data())
def test_a_channel_is_one_stream_cut_where_it_was_flushed(name, data, plugins):
    method = find_compression(name, plugins)
    lowest, highest, default = method.levels
    assert lowest <= default <= highest
    compressor = method.compressor(data.draw(st.sampled_from([lowest, default, highest // 2])))
    decompressor = method.decompressor()
    for pieces in data.draw(st.lists(contents, min_size=1, max_size=4)):
        plain = b"".join(pieces)
        packed = compressor.compress(plain)
        assert bytes(decompressor.decompress(packed, len(plain))) == plain


@pytest.mark.parametrize("name", NAMES)
def test_what_inflates_to_another_size_is_refused(name, plugins):
    method = find_compression(name, plugins)
    packed = method.compressor(1).compress(bytes(8 << 20))
    for size, text in ((PAGE, f"more than {PAGE} bytes"), ((8 << 20) - 1, "more than"), (9 << 20, f"{8 << 20} bytes instead")):
        with pytest.raises(MigrationError, match=text):
            method.decompressor().decompress(packed, size)
    first = method.compressor(1)
    pieces = [first.compress(NOISE), first.compress(NOISE[:PAGE])]
    with pytest.raises(MigrationError, match="instead of"):
        method.decompressor().decompress(pieces[0][: len(pieces[0]) // 2], len(NOISE))
    # The second piece is nothing without the first.
    with pytest.raises(MigrationError, match=name):
        method.decompressor().decompress(pieces[1], PAGE)


@pytest.mark.parametrize("name", NAMES)
@given(junk=st.binary(max_size=200), at=st.integers(0, 60))
def test_damage_ends_in_one_kind_of_error(name, junk, at, plugins):
    method = find_compression(name, plugins)
    packed = bytes(method.compressor(1).compress(b"pyemu   " * 512))
    spoilt = packed[:at] + junk + packed[at + len(junk) :]
    try:
        assert len(method.decompressor().decompress(spoilt, PAGE)) == PAGE
    except MigrationError as error:
        assert name in str(error)


def test_a_missing_compression_says_what_to_install(plugins):
    with pytest.raises(MigrationError) as caught:
        find_compression("squeeze", plugins)
    assert "pip install pyemu-squeeze" in str(caught.value)
    assert caught.value.desc == "compression 'squeeze' is not available: install pyemu-squeeze"

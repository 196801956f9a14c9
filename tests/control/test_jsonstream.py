# SPDX-License-Identifier: MIT
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.control.jsonstream import MAX_DEPTH, JSONStream

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(), values, max_size=4)


@given(st.lists(objects, max_size=5), st.sampled_from(["", "\n", "\r\n", "  "]), st.data())
def test_any_cut_of_the_stream_gives_the_same_objects(messages, separator, data):
    stream = separator.join(json.dumps(m) for m in messages).encode() + separator.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, seen = JSONStream(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += reader.feed(stream[start:end])
    assert seen == messages


@pytest.mark.parametrize("bad", [b"nonsense\n", b'{"a": }', b"]", b"12 34\n", b'{"a": 1,}'])
def test_a_bad_message_is_reported_and_the_next_one_is_read(bad):
    seen = list(JSONStream().feed(bad + b'{"execute": "stop"}'))
    assert isinstance(seen[0], ValueError)
    assert seen[-1] == {"execute": "stop"}


def test_braces_and_quotes_inside_strings_do_not_count():
    text = b'{"a": "}{\\"]["}'
    assert list(JSONStream().feed(text)) == [{"a": '}{"]['}]


def test_absurd_nesting_is_thrown_away_without_being_parsed():
    reader = JSONStream()
    (error,) = reader.feed(b"[" * (MAX_DEPTH + 1))
    assert isinstance(error, ValueError) and "nested" in str(error)
    assert list(reader.feed(b"[[[\n" + b'{"ok": 1}')) == [{"ok": 1}]

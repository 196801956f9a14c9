# SPDX-License-Identifier: MIT
"""Whatever stands in a URI or a channel list, it is an address or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.errors import MigrationError
from pyemu.migration.uri import find_destination

PIECES = st.sampled_from(
    ["tcp", "unix", "fd", "exec", "file", ":", ",", "=", "[", "]", "::1", "h", "0", "65536", "to", "ipv4", "on", "off", "offset",
     "/dev/fdset/", "/x", "\0", "é", "\ud800", " ", "-1", "1k"]
)  # fmt: skip
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.text(max_size=3), st.just([]), st.just({}))
NAMES = st.sampled_from(
    ["host", "port", "to", "ipv4", "ipv6", "numeric", "keep-alive", "path", "str", "args", "filename", "offset", "zz"]
)
ADDRESSES = st.one_of(
    VALUES,
    st.builds(
        lambda transport, kind, rest: {"transport": transport, "type": kind, **rest},
        st.sampled_from(["socket", "file", "exec", "rdma"]) | VALUES,
        st.sampled_from(["inet", "unix", "fd", "vsock"]) | VALUES,
        st.dictionaries(NAMES, VALUES | st.lists(st.text(max_size=2), max_size=2), max_size=4),
    ),
)
LISTS = st.lists(
    VALUES | st.fixed_dictionaries({"channel-type": st.just("main") | VALUES, "addr": ADDRESSES}) | VALUES, max_size=2
)


@given(st.one_of(st.lists(PIECES, max_size=8).map("".join), LISTS))
def test_any_destination_is_an_address_or_a_refusal(plugins, where):
    try:
        found = find_destination(where, plugins)
    except MigrationError as error:
        assert str(error) and error.desc
    else:
        assert found.address and "\0" not in repr(found.address) and "\\x00" not in repr(found.address)
        assert "\\ud" not in repr(found.address)


@pytest.mark.parametrize(
    ("uri", "listed"),
    [
        ("tcp:[::1]:44,ipv6=on", {"transport": "socket", "type": "inet", "host": "::1", "port": "44", "ipv6": True}),
        ("unix:/x", {"transport": "socket", "type": "unix", "path": "/x"}),
        ("fd:x", {"transport": "socket", "type": "fd", "str": "x"}),
        ("exec:a b", {"transport": "exec", "args": ["/bin/sh", "-c", "a b"]}),
        ("file:/x,offset=1k", {"transport": "file", "filename": "/x", "offset": 1024}),
    ],
)
def test_both_ways_to_say_it_are_the_same(plugins, uri, listed):
    one, other = find_destination(uri, plugins), find_destination([{"channel-type": "main", "addr": listed}], plugins)
    assert type(one.channel) is type(other.channel) and one.address == other.address

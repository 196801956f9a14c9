# SPDX-License-Identifier: MIT
import io
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.device import Clock, VMState, vmstate
from pyemu.errors import MigrationError

PART = VMState("part", fields=(vmstate.uint16("x"),))
WHOLE = VMState(
    "whole",
    version=3,
    minimum_version=2,
    fields=(
        vmstate.boolean("flag"),
        vmstate.int32("signed"),
        vmstate.uint8("list", 3),
        vmstate.buffer("raw", 4),
        vmstate.uint64("late", since=3),
        vmstate.uint16("odd", when=lambda obj: obj.flag),
        vmstate.timer("alarm"),
        vmstate.nested("part", PART),
        vmstate.nested("parts", PART, count=2),
    ),
    subsections=(
        VMState("whole/extra", fields=(vmstate.uint32("extra"),), needed=lambda obj: obj.extra != 0),
    ),
)


def sample(**changes):
    clock = Clock("step")
    values = {
        "flag": True, "signed": -2, "list": [1, 2, 3], "raw": bytearray(b"abcd"), "late": 1 << 40, "odd": 0xBEEF,
        "alarm": clock.timer(lambda: None), "part": SimpleNamespace(x=7),
        "parts": [SimpleNamespace(x=8), SimpleNamespace(x=9)], "extra": 0,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def load(state, obj, data, version=None):
    stream = io.BytesIO(data)

    def read(n):
        got = stream.read(n)
        if len(got) < n:
            raise MigrationError("short")
        return got

    def peek(n):
        at = stream.tell()
        got = stream.read(n)
        stream.seek(at)
        return got

    state.decode(obj, read, version if version is not None else state.version, peek)
    return stream.read()


def test_the_bytes_are_big_endian_and_back_to_back():
    assert WHOLE.encode(sample()) == bytes.fromhex(
        "01 fffffffe 010203 61626364 0000010000000000 beef ffffffffffffffff 0007 0008 0009"
    )


def test_a_subsection_is_there_when_it_is_needed():
    data = WHOLE.encode(sample(extra=5))
    assert data.endswith(b"\x05\x0bwhole/extra" + bytes.fromhex("00000001 00000005"))
    target = sample()
    assert load(WHOLE, target, data + b"rest") == b"rest"
    assert target.extra == 5


def test_old_sections_leave_newer_fields_alone():
    target = sample(late=99)
    data = bytes.fromhex("00 00000001 040506 65666768 ffffffffffffffff 0001 0002 0003")
    assert load(WHOLE, target, data, version=2) == b""
    assert (target.late, target.odd, target.signed, target.list) == (99, 0xBEEF, 1, [4, 5, 6])


@pytest.mark.parametrize(("version", "words"), [(4, "newer"), (1, "older")])
def test_versions_out_of_range_are_refused(version, words):
    with pytest.raises(MigrationError, match=words):
        load(WHOLE, sample(), b"", version=version)


def test_an_unknown_subsection_is_refused_and_another_objects_is_left():
    with pytest.raises(MigrationError, match="whole/secret"):
        load(WHOLE, sample(), WHOLE.encode(sample()) + b"\x05\x0cwhole/secret" + bytes(8))
    assert load(WHOLE, sample(), WHOLE.encode(sample()) + b"\x05\x05other") == b"\x05\x05other"


def test_limits_hold_for_every_element():
    state = VMState("s", fields=(vmstate.uint8("list", 3, limit=9),))
    with pytest.raises(MigrationError, match=r"list.*200.*9"):
        load(state, sample(), bytes((1, 200, 2)))


def test_what_does_not_fit_is_named_when_saving():
    with pytest.raises(MigrationError, match="whole.*signed"):
        WHOLE.encode(sample(signed=1 << 40))
    with pytest.raises(MigrationError, match="raw"):
        WHOLE.encode(sample(raw=b"abc"))


def test_the_description_adds_up_to_the_payload():
    def length(entry):
        fields = sum(f["size"] * f.get("array_len", 1) for f in entry["fields"])
        return fields + sum(1 + 1 + len(s["vmsd_name"]) + 4 + length(s) for s in entry.get("subsections", []))

    for obj in (sample(), sample(extra=1), sample(flag=False)):
        assert length(WHOLE.describe(obj)) == len(WHOLE.encode(obj))


@given(
    st.booleans(), st.integers(-(2**31), 2**31 - 1), st.lists(st.integers(0, 255), min_size=3, max_size=3),
    st.binary(min_size=4, max_size=4), st.integers(0, 2**63), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_saved_loaded_and_saved_again_is_the_same(flag, signed, items, raw, deadline, extra):
    source = sample(flag=flag, signed=signed, list=items, raw=bytearray(raw), extra=extra)
    source.alarm.arm(deadline % 2**62)
    data = WHOLE.encode(source)
    target = sample()
    assert load(WHOLE, target, data) == b""
    assert WHOLE.encode(target) == data

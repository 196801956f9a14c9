# SPDX-License-Identifier: MIT
import pytest

from pyemu.device import Property, parse_properties, parse_size
from pyemu.errors import ConfigError

DECLARED = (
    Property("base", "int", 0x3F8, minimum=0, maximum=0xFFFF),
    Property("fast", "bool", False),
    Property("reset-style", "choice", "hardware", choices=("hardware", "qemu")),
    Property("window", "size", "64k"),
    Property("label", "str"),
)


def test_defaults_and_given_values():
    values = parse_properties("dev", DECLARED, {"base": "0x2e8", "fast": "on", "reset_style": "qemu", "window": "2M"})
    assert values == {"base": 0x2E8, "fast": True, "reset-style": "qemu", "window": 2 << 20, "label": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speed": 1}, r"dev: unknown property speed=1; it has: base, fast, label, reset-style, window"),
        ({"base": "far"}, r"dev: property base='far' is not a number"),
        ({"base": 0x10000}, r"base=65536 is not between 0 and 65535"),
        ({"fast": "maybe"}, r"fast='maybe' is not on or off"),
        ({"reset-style": "soft"}, r"reset-style='soft' is not one of hardware, qemu"),
        ({"window": "2 apples"}, r"window='2 apples' is not a number"),
    ],
)
def test_bad_values_are_named_with_what_is_accepted(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_properties("dev", DECLARED, given)


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("64k", 65536), ("1M", 1 << 20), ("2G", 2 << 30), ("0x1000", 4096), (7, 7)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "64X", "0x"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)

# SPDX-License-Identifier: MIT
import struct

import pytest

from pyemu.demo.tour import GUEST
from pyemu.errors import ConfigError
from pyemu.machine.linuxboot import COMMAND_LINE, GDT, ZERO_PAGE, LinuxImage

RAM = [(0, 0x9FC00), (0x100000, 31 << 20)]


def test_our_guest_is_an_image():
    image = LinuxImage.read(GUEST)
    assert image.entry == image.load_address == 0x100000
    assert len(image.setup) == 0x400


def test_layout_puts_header_command_line_and_memory_map_where_the_protocol_says():
    image = LinuxImage.read(GUEST)
    parts = {s.gpa: s.data for s in image.layout("console=ttyS0", RAM)}
    zero = parts[ZERO_PAGE]
    assert zero[0x202:0x206] == b"HdrS"
    assert struct.unpack_from("<I", zero, 0x228) == (COMMAND_LINE,)
    assert parts[COMMAND_LINE] == b"console=ttyS0\0"
    assert zero[0x1E8] == 2
    assert struct.unpack_from("<QQI", zero, 0x2D0 + 20) == (0x100000, 31 << 20, 1)
    assert parts[0x100000] == image.code
    assert len(parts[GDT]) == 32


def test_the_initrd_lies_page_aligned_at_the_top_of_memory():
    image = LinuxImage.read(GUEST)
    parts = {s.gpa: s.data for s in image.layout("", RAM, initrd=b"x" * 5000)}
    at, length = struct.unpack_from("<II", parts[ZERO_PAGE], 0x218)
    assert length == 5000 and at % 4096 == 0
    assert parts[at] == b"x" * 5000
    assert at + 5000 <= 32 << 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:100], "no Linux boot header"),
        (lambda b: b[:0x202] + b"NOPE" + b[0x206:], "no Linux boot header"),
        (lambda b: b[:0x206] + b"\x01\x02" + b[0x208:], "boot protocol 2.01"),
        (lambda b: b[:0x211] + b"\0" + b[0x212:], "zImage"),
        (lambda b: b[:0x1F1] + b"\x40" + b[0x1F2:], "64 setup sectors"),
    ],
)
def test_what_is_no_image_is_refused_with_its_name(tmp_path, change, message):
    path = tmp_path / "kernel"
    path.write_bytes(change(GUEST.read_bytes()))
    with pytest.raises(ConfigError, match=message) as info:
        LinuxImage.read(path)
    assert str(path) in str(info.value)


def test_what_does_not_fit_is_refused_with_the_numbers():
    image = LinuxImage.read(GUEST)
    with pytest.raises(ConfigError, match="0x100000"):
        image.layout("", [(0, 0x80000)])
    with pytest.raises(ConfigError, match="limit 255"):
        image.layout("x" * 300, RAM)
    with pytest.raises(ConfigError, match="initrd of"):
        image.layout("", RAM, initrd=b"x" * (31 << 20))

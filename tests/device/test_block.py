# SPDX-License-Identifier: MIT
import pytest

from pyemu.device import open_drive
from pyemu.device.block import assign_indexes
from pyemu.errors import ConfigError


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk, with comma.img"
    path.write_bytes(bytes(range(256)) * 8)
    return path


def spec(path, options=""):
    return f"file={str(path).replace(',', ',,')}{options}"


def test_writes_go_through_to_the_file(image):
    with open_drive(spec(image)) as drive:
        assert (drive.size, drive.sectors) == (2048, 4)
        assert drive.read(254, 4) == b"\xfe\xff\x00\x01"
        drive.write_sectors(1, b"\xaa" * 512)
        assert image.read_bytes()[512:1024] == b"\xaa" * 512


def test_a_snapshot_never_touches_the_file(image):
    before = image.read_bytes()
    with open_drive(spec(image, ",snapshot=on")) as drive:
        drive.write(100, b"new")
        assert drive.read(99, 5) == before[99:100] + b"new" + before[103:104]
    assert image.read_bytes() == before


def test_read_only_refuses_writes(image):
    with open_drive(spec(image, ",readonly=on")) as drive:
        assert drive.read_only
        with pytest.raises(OSError, match="Read-only"):
            drive.write(0, b"x")
    assert image.read_bytes()[0] == 0


def test_a_file_that_somebody_writes_cannot_be_opened_again(image):
    with open_drive(spec(image)), pytest.raises(ConfigError, match="disk"):
        open_drive(spec(image))
    with open_drive(spec(image, ",readonly=on")), open_drive(spec(image, ",readonly=on")):
        pass


def test_the_last_sector_is_filled_up_with_zeros(tmp_path):
    path = tmp_path / "odd"
    path.write_bytes(b"x" * 700)
    with open_drive(spec(path)) as drive:
        assert drive.size == 1024
        assert drive.read(0, 1024) == b"x" * 700 + bytes(324)


@pytest.mark.parametrize("options", ["", ",snapshot=on"])
def test_a_buffer_is_filled_like_a_read(tmp_path, options):
    path = tmp_path / "odd"
    path.write_bytes(bytes(range(1, 251)) * 3)
    with open_drive(spec(path, options)) as drive:
        drive.write(100, b"new")
        buffer = bytearray(b"?" * 1000)
        drive.read_into(20, memoryview(buffer)[10:990])
        assert buffer == b"?" * 10 + drive.read(20, 980) + b"?" * 10
        with pytest.raises(ValueError, match="not inside"):
            drive.read_into(1000, memoryview(buffer)[:25])


def test_its_spec_opens_it_again(image):
    with open_drive(spec(image, ",if=floppy,index=1,readonly=on")) as drive:
        text = drive.spec
    with open_drive(text) as again:
        assert (again.interface, again.index, again.read_only) == ("floppy", 1, True)


def test_drives_without_an_index_get_the_first_free_one(image, tmp_path):
    paths = [tmp_path / f"{n}.img" for n in range(3)]
    for path in paths:
        path.write_bytes(bytes(512))
    drives = [open_drive(spec(paths[0])), open_drive(spec(paths[1], ",index=0")), open_drive(spec(paths[2]))]
    assign_indexes(drives)
    assert [d.index for d in drives] == [1, 0, 2]
    drives[0].index = 0
    with pytest.raises(ConfigError, match=r"1\.img.*0\.img|0\.img.*1\.img"):
        assign_indexes(drives)
    for d in drives:
        d.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("if=ide", "file=PATH"),
        ("file=/nowhere/disk", "/nowhere/disk"),
        ("file=/", "/"),
        ("file=x,if=tape", "tape"),
        ("file=x,index=-1", "-1"),
        ("file=x,colour=red", "colour"),
        ("file=x,media=cloud", "cloud"),
    ],
)
def test_what_cannot_be_opened_is_named(text, message):
    with pytest.raises(ConfigError, match=message):
        open_drive(text)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (2048, 1), (2000, 49)])
def test_accesses_outside_are_refused(image, offset, length):
    with open_drive(spec(image)) as drive, pytest.raises(ValueError, match="2048"):
        drive.read(offset, length)

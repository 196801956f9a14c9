# SPDX-License-Identifier: MIT
"""The VGA as software sees it, and the screen as a user sees it."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from chips.model_vga import Planes
from hypothesis import given, settings
from hypothesis import strategies as st

from pyemu.chips.vga import ISAVGA, PCIVGA, read_rom, rom_for
from pyemu.chips.vga_setup import FONT_SIZE, font_of, set_text_mode
from pyemu.device import Picture
from pyemu.errors import ConfigError, MigrationError
from pyemu.testing import ISAFixture, PCIFixture

SEQ, GFX, CRTC, ATTR, STATUS = 0x3C4, 0x3CE, 0x3D4, 0x3C0, 0x3DA
TEXT, WINDOW = 0xB8000, 0xA0000
_SHAPES = random.Random(7).randbytes(FONT_SIZE)
FONT = bytes(16) + bytes.fromhex("00007e81a58181bd9981817e00000000") + _SHAPES[32:512] + bytes(16) + _SHAPES[528:]


class VGA:
    """A card in mode 3, and its bus."""

    def __init__(self, mode=True):
        self.fixture = ISAFixture()
        self.card = self.fixture.plug(ISAVGA())
        self.card.reset()
        self.read, self.write = self.fixture.read, self.fixture.write
        if mode:
            set_text_mode(self.fixture.ports, self.fixture.memory, FONT)
            self.put(CRTC, 0x11, 0x0E)  # the timing can be changed

    def put(self, port, index, value):
        self.write(port, index)
        self.write(port + 1, value)

    def get(self, port, index):
        self.write(port, index)
        return self.read(port + 1)

    def attribute(self, index, value):
        self.read(STATUS)
        self.write(ATTR, index)
        self.write(ATTR, value)
        self.write(ATTR, 0x20)

    def graphics(self, *values):
        """Registers of a graphics mode, and empty memory."""
        for port, index, value in values:
            self.put(port, index, value)
        self.card.vram[:] = bytes(len(self.card.vram))

    def show(self, text, row=0, column=0, attribute=7):
        data = b"".join(bytes((code, attribute)) for code in text)
        self.fixture.memory.write(TEXT + 2 * (80 * row + column), data)


@pytest.fixture
def vga():
    return VGA()


# -- registers -----------------------------------------------------------------------------------


def test_after_a_reset_it_answers_at_the_monochrome_ports():
    vga = VGA(mode=False)
    vga.put(0x3B4, 0x0E, 0x12)
    assert (vga.get(0x3B4, 0x0E), vga.read(0x3D5)) == (0x12, 0xFF)
    vga.write(0x3C2, 0x01)
    assert (vga.read(0x3CC), vga.get(0x3D4, 0x0E), vga.read(0x3B5)) == (0x01, 0x12, 0xFF)
    assert vga.card.text() is None
    assert not vga.card.picture().pixels.any()


def test_an_index_and_its_value_in_one_word(vga):
    vga.write(CRTC, 0x5A0E, 2)
    assert (vga.get(CRTC, 0x0E), vga.read(CRTC, 2)) == (0x5A, 0x5A0E)


def test_timing_registers_are_protected(vga):
    vga.put(CRTC, 0x11, 0x8E)
    vga.put(CRTC, 0, 0x11)
    vga.put(CRTC, 7, 0x00)
    assert (vga.get(CRTC, 0), vga.get(CRTC, 7)) == (0x5F, 0x1F & ~0x10), "all but the line compare bit"


def test_the_attribute_port_takes_index_and_data_in_turn(vga):
    vga.read(STATUS)
    vga.write(ATTR, 0x03)
    vga.write(ATTR, 0x2A)
    vga.write(ATTR, 0x03)
    assert vga.read(0x3C1) == 0x2A
    vga.read(STATUS)
    vga.write(ATTR, 0x23)
    vga.write(ATTR, 0x15)
    assert vga.read(0x3C1) == 0x2A, "the palette is in use"


def test_the_palette_counts_on(vga):
    vga.write(0x3C8, 254)
    for value in (1, 2, 3, 4, 5, 0xFF, 7, 8, 9):
        vga.write(0x3C9, value)
    assert vga.read(0x3C7) == 0
    vga.write(0x3C7, 255)
    assert vga.read(0x3C7) == 3
    assert [vga.read(0x3C9) for _ in range(6)] == [4, 5, 0x3F, 7, 8, 9]
    assert vga.read(0x3C8) == 1


def test_retrace_follows_the_clock(vga):
    line, lines = vga.card.timing()
    assert (line, lines) == (900 * 10**9 // 28322000, 449)
    # Registers 10 and 11: from line 412 to 414, two of 449, at 70 frames a second.
    vga.fixture.clock.set_ns(411 * line + 1)
    assert vga.read(STATUS) & 9 == 1, "the border below the picture"
    vga.fixture.clock.advance(line)
    assert vga.read(STATUS) & 9 == 9
    vga.fixture.clock.advance(2 * line)
    assert vga.read(STATUS) & 9 == 1
    vga.fixture.clock.set_ns(line * lines * 70)
    assert vga.read(STATUS) & 9 == 0, "the first line of a frame"
    vga.fixture.clock.advance(line * 95 // 100)
    assert vga.read(STATUS) & 9 == 1, "the border beside it"


def test_a_mode_of_the_interface_at_1ce(vga):
    def put(index, value):
        vga.write(0x1CE, index, 2)
        vga.write(0x1CF, value, 2)

    def get(index):
        vga.write(0x1CE, index, 2)
        return vga.read(0x1CF, 2)

    put(0, 0xB0C0)
    assert (get(0), get(10)) == (0xB0C0, 4)
    for index, value in ((1, 1024), (2, 768), (3, 8), (4, 1)):
        put(index, value)
    assert get(4) & 1 == 0, "786432 bytes do not fit"
    for index, value in ((1, 640), (2, 400), (4, 1), (5, 3)):
        put(index, value)
    assert (get(4) & 1, get(6), get(7)) == (1, 640, 0x40000 // 640)
    vga.put(GFX, 6, 5)
    vga.fixture.memory.write(WINDOW, b"\x3c")
    put(6, 0)
    picture = vga.card.picture()
    assert (picture.width, picture.height) == (640, 400)
    y, x = divmod(3 << 16, 640)
    assert picture.pixels[y, x].tolist() == [255, 85, 85]
    assert np.count_nonzero(picture.pixels.any(axis=2)) == 1
    put(4, 0)
    vga.put(GFX, 6, 0x0E)
    assert vga.card.text() is not None


# -- memory --------------------------------------------------------------------------------------

BYTE = st.integers(0, 255)
OFFSET = st.one_of(st.integers(0, 0x1FFFF), st.sampled_from([n * 0x8000 + d for n in range(4) for d in (0, 1, 5)]))
STEP = st.one_of(
    st.tuples(st.just("read"), OFFSET),
    st.tuples(st.just("write"), OFFSET, BYTE),
    st.tuples(st.just("seq"), st.sampled_from([2, 4]), BYTE),
    st.tuples(st.just("gfx"), st.integers(0, 8), BYTE),
)


@given(st.lists(STEP, max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_window_is_the_models(steps):
    vga, model = VGA(mode=False), Planes()
    vga.write(0x3C2, 0x03)
    masks = {"seq": [3, 0x3D, 0x0F, 0x3F, 0x0E], "gfx": [15, 15, 15, 0x1F, 3, 0x7B, 15, 15, 0xFF]}
    for kind, at, *value in steps:
        if kind == "read":
            assert vga.fixture.memory.load(WINDOW + at, 1) == model.read(at)
        elif kind == "write":
            vga.fixture.memory.store(WINDOW + at, 1, value[0])
            model.write(at, value[0])
        else:
            vga.put(SEQ if kind == "seq" else GFX, at, value[0])
            getattr(model, kind)[at] = value[0] & masks[kind][at]
    planes = np.frombuffer(bytes(vga.card.vram), np.uint8).reshape(-1, 4)
    for n in range(4):
        assert planes[:, n].tobytes() == model.planes[n]


def test_wide_accesses_are_as_many_bytes(vga):
    vga.fixture.memory.store(TEXT, 4, 0x07420741)
    assert vga.fixture.memory.load(TEXT, 2) == 0x0741
    assert vga.card.text().lines[0].startswith("AB ")


def test_without_memory_enabled_the_window_is_empty(vga):
    vga.write(0x3C2, 0x65)
    vga.fixture.memory.store(TEXT, 1, 0x41)
    assert vga.fixture.memory.load(TEXT, 1) == 0xFF


# -- the screen ----------------------------------------------------------------------------------


def test_text_with_its_colours_and_cursor(vga):
    vga.show(b"C:\\>", row=3, column=2, attribute=0x1E)
    for index, value in ((0x0E, 0), (0x0F, 3 * 80 + 6)):
        vga.put(CRTC, index, value)
    text = vga.card.text()
    assert (text.columns, len(text.lines)) == (80, 25)
    assert text.lines[3] == "  C:\\>".ljust(80)
    assert str(text).split("\n")[3] == "  C:\\>"
    assert text.attributes[3 * 80 + 2] == 0x1E
    assert (text.colours[1], text.colours[14]) == ((0, 0, 170), (255, 255, 85))
    assert text.cursor == (3, 6)
    vga.put(CRTC, 0x0A, 0x20)
    assert vga.card.text().cursor is None


def test_blinking_is_not_a_colour_while_it_is_on(vga):
    vga.show(b"x", attribute=0x87)
    assert vga.card.text().attributes[0] == 0x07
    vga.attribute(0x10, 0x04)
    assert vga.card.text().attributes[0] == 0x87
    assert vga.card.picture().pixels[15, 8].tolist() == [85, 85, 85]


def test_the_picture_is_made_of_the_font_in_plane_2(vga):
    vga.put(CRTC, 0x0A, 0x20)
    vga.show(b"\x01\x02", row=1, column=1, attribute=0x4F)
    pixels = vga.card.picture().pixels
    assert pixels.shape == (400, 720, 3)
    red, white = [170, 0, 0], [255, 255, 255]
    for n, code in enumerate((1, 2)):
        cell = pixels[16:32, 9 * (n + 1) : 9 * (n + 2)]
        bits = np.unpackbits(np.frombuffer(FONT[16 * code : 16 * code + 16], np.uint8)).reshape(16, 8)
        for line in range(16):
            assert cell[line].tolist() == [white if bit else red for bit in bits[line]] + [red]
    assert not pixels[:16].any() and not pixels[32:].any()


@pytest.mark.parametrize(("code", "joined"), [(0xC4, True), (0xDF, True), (0xE0, False), (0xBF, False)])
def test_the_ninth_column_joins_line_drawing_characters(vga, code, joined):
    vga.put(CRTC, 0x0A, 0x20)
    vga.show(bytes((code,)))
    cell = vga.card.picture().pixels[:16, :9].any(axis=2)
    assert cell[:, 8].tolist() == (cell[:, 7].tolist() if joined else [False] * 16)
    assert cell[:, 7].any()


def test_a_cursor_of_two_lines(vga):
    vga.show(b" ", attribute=0x02)
    vga.put(CRTC, 0x0E, 0)
    vga.put(CRTC, 0x0F, 0)
    cell = vga.card.picture().pixels[:16, :9]
    assert cell[13:15].reshape(-1, 3).tolist() == [[0, 170, 0]] * 18
    assert not cell[:13].any() and not cell[15:].any()


def test_eight_columns_and_fifty_rows(vga):
    vga.put(SEQ, 1, 0x01)
    vga.put(CRTC, 9, 0x47)
    assert vga.card.picture().pixels.shape == (400, 640, 3)
    assert len(vga.card.text().lines) == 50


def test_forty_columns(vga):
    vga.put(SEQ, 1, 0x08)
    vga.put(CRTC, 1, 39)
    vga.put(CRTC, 0x13, 0x14)
    vga.fixture.memory.write(TEXT + 80, b"2\x07")
    text = vga.card.text()
    assert (text.columns, text.lines[1][0]) == (40, "2")
    assert vga.card.timing()[0] == 1800 * 10**9 // 28322000


def test_the_start_address_scrolls(vga):
    vga.show(b"first", row=0)
    vga.show(b"second", row=1)
    vga.put(CRTC, 0x0D, 80)
    assert vga.card.text().lines[0].rstrip() == "second"


def test_a_character_set_of_512(vga):
    vga.put(CRTC, 0x0A, 0x20)
    vga.card.vram[4 * (0x2000 + 32 * 0x41) + 2] = 0x18
    vga.put(SEQ, 3, 0x20)
    vga.show(b"A", attribute=0x0F)
    vga.show(b"A", column=1, attribute=0x07)
    pixels = vga.card.picture().pixels
    assert pixels[0, 3].any() and not pixels[1:16, :9].any()
    assert pixels[1:16, 9:18].any()


@pytest.mark.parametrize(
    "off", [lambda v: v.put(SEQ, 1, 0x20), lambda v: v.put(CRTC, 0x17, 0x23), lambda v: (v.read(STATUS), v.write(ATTR, 0))]
)
def test_a_screen_that_is_off_is_black(vga, off):
    vga.show(b"hidden")
    off(vga)
    assert vga.card.text() is None
    assert not vga.card.picture().pixels.any()


def test_256_colours(vga):
    vga.graphics(
        (SEQ, 4, 0x0E), (SEQ, 2, 0x0F), (GFX, 5, 0x40), (GFX, 6, 0x05), (CRTC, 9, 0x41), (CRTC, 1, 79), (CRTC, 0x13, 0x28),
    )  # fmt: skip
    vga.fixture.memory.write(WINDOW + 320 * 7 + 5, b"\x3c")
    picture = vga.card.picture()
    assert (picture.width, picture.height) == (320, 200)
    assert picture.pixels[7, 5].tolist() == [255, 85, 85]
    assert np.count_nonzero(picture.pixels.any(axis=2)) == 1


def test_sixteen_colours_in_planes(vga):
    vga.graphics(
        (SEQ, 1, 0x01), (SEQ, 4, 0x06), (GFX, 5, 0x00), (GFX, 6, 0x05), (CRTC, 9, 0x40), (CRTC, 0x17, 0xE3), (CRTC, 7, 0x3E),
        (CRTC, 0x12, 0xDF), (SEQ, 2, 0x0C),
    )  # fmt: skip
    vga.fixture.memory.write(WINDOW + 80 * 479 + 79, b"\x01")
    picture = vga.card.picture()
    assert (picture.width, picture.height) == (640, 480)
    assert picture.pixels[479, 639].tolist() == [255, 85, 85]


def test_four_colours_in_interleaved_lines(vga):
    vga.graphics(
        (SEQ, 1, 0x09), (SEQ, 4, 0x02), (GFX, 5, 0x30), (GFX, 6, 0x0F), (CRTC, 9, 0xC1), (CRTC, 1, 39), (CRTC, 0x13, 0x14),
        (CRTC, 0x17, 0xA2),
    )  # fmt: skip
    vga.fixture.memory.write(TEXT + 0x2000 + 80 * 2 + 3, b"\x02")
    picture = vga.card.picture()
    assert (picture.width, picture.height) == (320, 200)
    assert picture.pixels[5, 15].tolist() == [0, 170, 0]
    assert np.count_nonzero(picture.pixels.any(axis=2)) == 1


def test_pictures_as_files():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    png, at, chunks = Picture(pixels).png(), 8, {}
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + data),)
        chunks[kind] = data
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[b"IHDR"] == struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0" + pixels[0].tobytes() + b"\0" + pixels[1].tobytes()
    assert Picture(pixels).ppm() == b"P6\n3 2\n255\n" + pixels.tobytes()


# -- cards ---------------------------------------------------------------------------------------


def rom(extra=b""):
    image = bytearray(b"\x55\xaa\x0a" + bytes(100) + FONT)
    return bytes((image + extra).ljust(10 * 512, b"\0"))


def test_the_pci_card_answers_when_it_is_told_to(tmp_path):
    path = tmp_path / "vga.rom"
    path.write_bytes(rom())
    fixture = PCIFixture()
    card = fixture.plug(PCIVGA(romfile=str(path)))
    card.reset()
    assert fixture.read(0x3CC) == 0xFF
    fixture.config_write(card, 4, 3, 2)
    set_text_mode(fixture.ports, fixture.memory, font_of(rom()))
    fixture.memory.write(TEXT, b"!\x07")
    assert card.text().lines[0].rstrip() == "!"
    fixture.config_write(card, 4, 1, 2)
    assert fixture.memory.load(TEXT, 1) == 0, "what the bus has below"
    fixture.config_write(card, 4, 0, 2)
    assert fixture.read(0x3CC) == 0xFF
    card.unrealize()


def test_the_video_bios_appears_where_its_register_says(tmp_path):
    path = tmp_path / "vga.rom"
    path.write_bytes(rom())
    fixture = PCIFixture()
    card = fixture.plug(PCIVGA(romfile=str(path)))
    fixture.config_write(card, 4, 3, 2)
    fixture.config_write(card, 0x30, 0xFFFFFFFE)
    assert fixture.config_read(card, 0x30) == 0xFFFFE000
    fixture.config_write(card, 0x30, 0xC0000000)
    assert fixture.memory.load(0xC0000000, 2) == 0xFFFF
    fixture.config_write(card, 0x30, 0xC0000001)
    image = fixture.memory.read(0xC0000000, 8192)
    assert image[: 10 * 512][3:0x18] == rom()[3:0x18]
    (at,) = struct.unpack_from("<H", image, 0x18)
    assert struct.unpack_from("<4sHH", image, at) == (b"PCIR", PCIVGA.vendor_id, PCIVGA.device_id)
    assert sum(image[: image[2] * 512]) & 0xFF == 0
    card.unrealize()


def test_a_rom_for_pci_is_left_as_it_is():
    image = bytearray(rom())
    struct.pack_into("<H", image, 0x18, 0x40)
    image[0x40:0x44] = b"PCIR"
    assert rom_for(bytes(image), 1, 2) == bytes(image)


@pytest.mark.parametrize(
    "content", [b"", b"\x55\xaa", b"no" * 512, b"\x55\xaa\x10" + bytes(600), b"\x55\xaa\x01" + bytes(1 << 17)]
)
def test_a_file_that_is_no_rom_is_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="vgabios .*file"):
        read_rom(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_rom(tmp_path / "missing")
    with pytest.raises(ConfigError, match="no font"):
        font_of(content)


def test_a_state_that_cannot_be_is_refused(vga):
    for name, value in (("dac_component", 3), ("attribute_index", 0x40), ("graphics_index", 16)):
        before = getattr(vga.card, name)
        setattr(vga.card, name, value)
        data = vga.card.vmstate.encode(vga.card)
        setattr(vga.card, name, before)
        stream = io.BytesIO(data)
        with pytest.raises(MigrationError, match=name):
            vga.card.vmstate.decode(vga.card, stream.read, 1, lambda n: b"")

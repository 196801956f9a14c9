# SPDX-License-Identifier: MIT
"""Function 5: codec access, playback into a WAV file, the MIDI port and the game port."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest

from pyemu import ConfigError, Machine
from pyemu.chips.ac97 import at_wav_rate, frames_of
from pyemu.testing.board import Board

BAR, TABLE, SAMPLES = 0xE000, 0x10000, 0x20000
END, FLAG = 1 << 31, 1 << 30


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.wav"


@pytest.fixture
def board(path):
    with Board("via-pc", wav=path) as board:
        set_up(board)
        yield board


def set_up(board):
    board.set_cfg(5, 0x10, BAR, 4)
    board.set_cfg(5, 0x3C, 11)
    board.set_cfg(5, 0x04, 0x0005, 2)
    board.outb(0x4D1, 0xDE)
    board.init_pic()
    for register in (0x02, 0x18):
        codec(board, register, 0x0000 if register == 0x02 else 0x0808)


def codec(board, register, value):
    board.outb(BAR + 0x80, register << 16 | value, 4)


def get_codec(board, register):
    board.outb(BAR + 0x80, 1 << 23 | register << 16, 4)
    value = board.inb(BAR + 0x80, 4)
    assert value >> 25 & 1, "valid"
    return value & 0xFFFF


def play(board, *segments, kind=0x33):
    """Puts ``(bytes, flags)`` into memory and starts."""
    at = SAMPLES
    for n, (data, flags) in enumerate(segments):
        board.call(lambda at=at, data=data: board.machine.memory.write(at, data))
        entry = struct.pack("<II", at, len(data) | flags)
        board.call(lambda n=n, entry=entry: board.machine.memory.write(TABLE + 8 * n, entry))
        at += len(data)
    board.outb(BAR + 0x04, TABLE, 4)
    board.outb(BAR + 0x02, kind)
    board.outb(BAR + 0x01, 0x80)


def samples(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 48000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def test_the_codecs_registers_are_reached_through_one_port(board):
    assert (get_codec(board, 0x7C), get_codec(board, 0x7E)) == (0x8384, 0x7600)
    codec(board, 0x02, 0xFFFF)
    assert get_codec(board, 0x02) == 0x9F1F
    codec(board, 0x2C, 22050)
    assert get_codec(board, 0x2C) == 48000, "without variable rate there is one"
    codec(board, 0x2A, 1)
    codec(board, 0x2C, 22050)
    assert get_codec(board, 0x2C) == 22050
    codec(board, 0x00, 0)
    assert get_codec(board, 0x02) == 0x8000
    board.outb(BAR + 0x80, 1 << 30 | 1 << 23, 4)
    assert not board.inb(BAR + 0x80, 4) >> 25 & 1, "there is no second codec"


def test_what_is_played_arrives_sample_by_sample(board, path):
    ramp = np.arange(9600, dtype="<i2").reshape(-1, 2)
    play(board, (ramp[:2400].tobytes(), 0), (ramp[2400:].tobytes(), END))
    board.step(60_000_000)
    assert board.inb(BAR) & 0x80
    assert board.inb(BAR + 0x0C, 4) == 1920 * 4, "of the second segment's 2400 frames"
    board.step(50_000_000)
    assert np.array_equal(samples(path), ramp)
    assert board.inb(BAR) == 0x06, "stopped at the end"
    assert board.requests() == {11}
    board.outb(BAR, 0x06)
    assert (board.requests(), board.inb(BAR)) == (set(), 0)


def test_flags_interrupt_and_a_list_starts_again(board, path):
    data = np.full((480, 2), 7, "<i2").tobytes()
    play(board, (data, FLAG), (data, END), kind=0xB3)
    board.step(11_000_000)
    assert (board.inb(BAR), board.requests()) == (0x81, {11})
    assert board.inb(BAR + 0x84, 4) == 0x1001
    board.outb(BAR, 0x01)
    board.step(100_000_000)
    assert board.inb(BAR) & 0x83 == 0x83
    assert len(samples(path)) > 4000
    board.outb(BAR + 0x01, 0x40)
    played = len(samples(path))
    board.step(100_000_000)
    assert (board.inb(BAR) & 0x80, len(samples(path))) == (0, played)


def test_pausing_holds_the_position(board, path):
    play(board, (bytes(48_000), END))
    board.step(20_000_000)
    board.outb(BAR + 0x01, 0x08)
    left = board.inb(BAR + 0x0C, 4)
    board.step(500_000_000)
    assert (board.inb(BAR), board.inb(BAR + 0x0C, 4)) == (0xC0, left)
    board.outb(BAR + 0x01, 0x00)
    board.step(20_000_000)
    assert left - board.inb(BAR + 0x0C, 4) == 960 * 4


def test_a_muted_codec_plays_silence_and_attenuation_counts(board, path):
    loud = np.full((480, 2), 10_000, "<i2").tobytes()
    codec(board, 0x18, 0x0E08)  # left six steps of 1.5 dB down
    play(board, (loud, END))
    board.step(20_000_000)
    left, right = samples(path)[0]
    assert (abs(left - 10_000 * 10 ** (-9 / 20)) < 1, right) == (True, 10_000)
    codec(board, 0x02, 0x8000)
    play(board, (loud, END))
    board.step(20_000_000)
    assert not samples(path)[480:].any()


def test_a_table_of_empty_segments_ends_nothing(board):
    play(board, *[(b"", 0)] * 1, kind=0x80)
    board.call(lambda: board.machine.memory.write(TABLE, struct.pack("<II", 0, END) * 64))
    board.step(50_000_000)
    assert board.inb(BAR) & 0x80
    board.outb(BAR + 0x04, 0xFFFFFFF8, 4)
    board.outb(BAR + 0x01, 0x40)
    board.outb(BAR + 0x01, 0x80)
    board.step(50_000_000)


def test_a_saved_machine_plays_on_and_names_no_file(tmp_path, board, path):
    ramp = np.arange(9600, dtype="<i2").reshape(-1, 2)
    play(board, (ramp.tobytes(), END))
    board.step(50_000_000)
    first = samples(path)
    assert "wav" not in board.machine.description()["properties"]
    sections = {(s.name, s.instance_id): s for s in board.machine.sections()}
    with Board("via-pc", wav=tmp_path / "rest.wav") as other:

        def load():
            other.machine.clock.set_ns(board.machine.clock.now_ns)
            other.machine.memory.write(TABLE, board.machine.memory.read(TABLE, 0x20000))
            for section in other.machine.sections():
                source = sections[section.name, section.instance_id]
                stream = io.BytesIO(source.state.encode(source.obj))
                section.state.decode(section.obj, stream.read, section.state.version)
                if section.post_load is not None:
                    section.post_load(section.state.version)

        other.call(load)
        other.step(60_000_000)
        rest = samples(tmp_path / "rest.wav")
    assert np.array_equal(np.concatenate([first, rest]), ramp)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"wav=.*missing/out.wav"):
        Machine("via-pc", cpu="none", memory="2M", properties={"wav": str(tmp_path / "missing" / "out.wav")})


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 44100, 48000])
def test_each_output_frame_is_the_input_frame_of_its_time_in_pieces_of_any_size(rate):
    frames = np.arange(rate // 10 * 2, dtype=np.int16).reshape(-1, 2)
    whole = b""
    phase = 0
    for piece in np.array_split(frames, 7):
        data, phase = at_wav_rate(piece, rate, phase, (1.0, 1.0))
        whole += data
    expected = frames[np.arange(-(-len(frames) * 48000 // rate)) * rate // 48000]
    assert np.array_equal(np.frombuffer(whole, "<i2").reshape(-1, 2), expected)


def test_guests_formats():
    assert frames_of(b"\x00\x80\xff", wide=False, stereo=False).tolist() == [[-32768] * 2, [0, 0], [32512] * 2]
    assert frames_of(struct.pack("<4h", 1, 2, 3, 4), wide=True, stereo=True).tolist() == [[1, 2], [3, 4]]


def test_the_midi_port_is_where_the_legacy_register_or_the_base_register_says(tmp_path):
    with Board("via-pc", midi=f"file:{tmp_path / 'midi'}") as board:
        board.set_cfg(5, 0x42, 0x02)
        assert board.inb(0x331) == 0x80
        board.outb(0x331, 0x3F)
        assert (board.inb(0x331), board.inb(0x330), board.inb(0x331)) == (0x00, 0xFE, 0x80)
        board.outb(0x330, 0x90)
        board.set_cfg(5, 0x43, 0x10)
        assert board.inb(0x331) == 0xFF
        board.outb(0x300, 0x3C)
        board.set_cfg(5, 0x18, 0xE100, 4)
        board.set_cfg(5, 0x04, 0x01)
        board.set_cfg(5, 0x42, 0x82)
        assert board.inb(0x301) == 0xFF
        board.outb(0xE100, 0x40)
        board.set_cfg(5, 0x42, 0x00)
        board.outb(0xE100, 0x41)
    assert (tmp_path / "midi").read_bytes() == b"\x90\x3c\x40"


def test_the_midi_port_interrupts_on_its_own_line():
    with Board("via-pc") as board:
        board.init_pic()
        board.set_cfg(5, 0x43, 0xDC)
        board.set_cfg(5, 0x42, 0x02)
        board.outb(0x331, 0xFF)
        assert board.requests() == {10}
        board.inb(0x330)
        assert board.requests() == set()


def test_the_game_port_times_its_axes():
    with Board("via-pc") as board:
        board.set_cfg(5, 0x4A, 0x200, 2)
        assert board.inb(0x201) == 0xFF
        board.set_cfg(5, 0x42, 0x08)
        game = board.machine.devices["isa-gameport"]
        game.axes[:2] = [0, 50_000]
        game.buttons = 0x2
        assert board.inb(0x201) == 0xD0
        board.outb(0x201, 0)
        assert board.inb(0x201) == 0xDF
        board.step(100_000)
        assert board.inb(0x201) == 0xDE
        board.step(500_000)
        assert board.inb(0x201) == 0xDC, "nothing is connected to the other two"

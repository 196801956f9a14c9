# SPDX-License-Identifier: MIT
"""The screen in a terminal and in a file, keys, screenshots, POST codes."""

import fcntl
import os
import pty
import struct
import termios
import threading

import pytest

from pyemu import ConfigError, ControlError, Machine
from pyemu.chips.i8042 import KeyboardController
from pyemu.chips.vga_setup import set_text_mode
from pyemu.cli import display, post
from pyemu.cli.run import machine_arguments
from pyemu.control import QMPServer
from pyemu.control.commands import Commands
from pyemu.device import Text
from pyemu.device.keys import KEYS, chord, keys_for

DOSBOX_BLUE = 0x1F


def write(machine, text, attribute=7):
    data = b"".join(bytes((code, attribute)) for code in text)
    machine.call(lambda: machine.memory.write(0xB8000, data))


@pytest.fixture
def machine():
    with Machine("isa-pc", cpu="none", memory="1M", properties={"vga": True}) as machine:
        machine.call(lambda: set_text_mode(machine.ports, machine.memory, None))
        write(machine, b"ready", DOSBOX_BLUE)
        yield machine


# -- keys ----------------------------------------------------------------------------------------


def test_every_printable_character_has_its_keys():
    typed = {c: keys_for(c) for c in map(chr, range(32, 127))}
    assert all(typed.values())
    assert len(set(typed.values())) == 95
    assert (typed["a"], typed["A"], typed["!"], keys_for("\x03")) == (("a",), ("shift", "a"), ("shift", "1"), ("ctrl", "c"))
    assert keys_for("é") == keys_for("") == ()
    assert len(set(KEYS.values())) == len(KEYS)


def test_a_chord_is_released_in_the_opposite_order():
    assert chord(("shift", "a")).hex() == "121cf01cf012"
    assert chord(("up",)).hex() == "e075e0f075"


@pytest.mark.parametrize(
    ("text", "chords"),
    [
        ("aB", [("a",), ("shift", "b")]),
        ("\x1b", [("esc",)]),
        ("\x1b[A\x1bOP\x1b[24~x", [("up",), ("f1",), ("f12",), ("x",)]),
        ("\x1bx", [("alt", "x")]),
        ("\x1b[999~\x1b[", []),
        ("\x7f\r\t", [("backspace",), ("ret",), ("tab",)]),
        ("é\N{SNOWMAN}", []),
    ],
)
def test_a_terminals_input_as_keys(text, chords):
    assert display.decode(text) == chords


# -- files and QMP -------------------------------------------------------------------------------


def test_a_board_gets_its_vga_by_asking_for_a_display(pyemu, tmp_path):
    assert display.parse("png:a:b")[0] == "png"
    for text in ("png:", "png", "terminal:x", "window"):
        with pytest.raises(ConfigError, match="is not terminal, png:FILE or none"):
            display.parse(text)
    status, _, err = pyemu(f"run -M none --display png:{tmp_path}/x.png")
    assert (status, err) == (1, f"pyemu: display png:{tmp_path}/x.png: board none has no screen\n")


def test_the_file_holds_the_last_picture(machine, tmp_path):
    path = tmp_path / "screen.png"
    with display.shown(machine, f"png:{path}", keyboard=False):
        assert path.read_bytes() == machine.displays[0].picture().png()
        write(machine, b"later")
    assert path.read_bytes() == machine.displays[0].picture().png()
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_cannot_be_written_is_named(machine, tmp_path):
    with pytest.raises(ControlError, match=r"missing/x\.png: No such file"), \
            display.shown(machine, f"png:{tmp_path}/missing/x.png", keyboard=False):  # fmt: skip
        pass


def test_screenshots_through_qmp(machine, tmp_path, pyemu):
    server = QMPServer(machine, f"unix:{tmp_path}/qmp")
    try:
        line = f"screenshot --qmp unix:{tmp_path}/qmp"
        assert pyemu(f"{line} {tmp_path}/a.png")[0] == 0
        assert (tmp_path / "a.png").read_bytes() == machine.displays[0].picture().png()
        assert pyemu(f"{line} {tmp_path}/a.ppm --device isa-vga")[0] == 0
        assert (tmp_path / "a.ppm").read_bytes().startswith(b"P6\n720 400\n255\n")
        assert pyemu(line) == (0, "ready" + "\n" * 25, "")
        for rest, message in (
            (f"{tmp_path}/a.gif", "suffix is not one of .png, .ppm"),
            (f"{tmp_path}/a.png --device i8042", "device i8042 has no screen"),
            (f"{tmp_path}/a.png --device x", "Device 'x' not found"),
            (f"{tmp_path}/no/a.png", "No such file or directory"),
        ):
            status, _, err = pyemu(f"{line} {rest}")
            assert (status, message in err) == (1, True), err
    finally:
        server.close()


def test_a_board_without_a_screen_has_no_picture(tmp_path, pyemu):
    with Machine("none", memory="1M") as machine:
        server = QMPServer(machine, f"unix:{tmp_path}/qmp")
        try:
            assert "There is no console to take a screendump from" in pyemu(f"screenshot --qmp unix:{tmp_path}/qmp x.png")[2]
        finally:
            server.close()


def test_post_codes_are_printed_when_they_change(machine, capsys):
    post.watch(machine)
    for value in (0x12, 0x12, 0xAB):
        machine.call(lambda value=value: machine.ports.write(0x80, 1, value))
    assert capsys.readouterr().err == "POST 12\nPOST AB\n"


def test_send_key_types_a_chord(machine):
    commands = Commands(machine)
    keyboard = next(d for d in machine.devices.values() if isinstance(d, KeyboardController))
    machine.call(lambda: machine.ports.write(0x64, 1, 0x20))  # no byte of the keyboard is taken meanwhile
    keys = [{"type": "qcode", "data": name} for name in ("shift", "f1")]
    commands.execute("send-key", {"keys": keys})
    assert bytes(keyboard.keyboard.queue[: keyboard.keyboard.count]) == chord(("shift", "f1"))[-keyboard.keyboard.count :]
    for wrong in ([], ["a"], [{"type": "qcode", "data": "nokey"}], [{"type": "number", "data": 3}], keys * 3):
        with pytest.raises(ControlError, match="send-key"):
            commands.execute("send-key", {"keys": wrong})


# -- a terminal ----------------------------------------------------------------------------------


def test_rendered_rows_are_cut_to_the_terminal():
    text = Text(("ab", "cd"), bytes((0x1F, 0x1F, 7, 0x1F)), tuple((n, n, n) for n in range(16)), None)
    assert display.render(text, 80, 24) == [
        "\x1b[38;2;15;15;15;48;2;1;1;1mab",
        "\x1b[38;2;7;7;7;48;2;0;0;0mc\x1b[38;2;15;15;15;48;2;1;1;1md",
    ]
    assert display.render(text, 1, 1) == ["\x1b[38;2;15;15;15;48;2;1;1;1ma"]


class Tty:
    """The user's side of a terminal that standard input and output are."""

    def __init__(self, monkeypatch):
        self.user, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.stream = os.fdopen(self.slave, "r+b", buffering=0)
        for name in ("stdin", "stdout"):
            monkeypatch.setattr(display.sys, name, self.stream)
        self.seen = b""

    def until(self, text):
        while text not in self.seen:
            self.seen += os.read(self.user, 65536)

    def close(self):
        self.stream.close()
        os.close(self.user)


def test_the_terminal_shows_the_screen_and_types_and_is_left_as_it_was(machine, monkeypatch):
    tty = Tty(monkeypatch)
    pressed, typed = [], threading.Event()
    keyboard = next(d for d in machine.devices.values() if isinstance(d, KeyboardController))
    press = KeyboardController.press

    def record(self, codes):
        taken = press(self, codes)
        self.keyboard.count = 0  # a guest that reads at once
        pressed.append(codes)
        if len(pressed) == 2:
            typed.set()
        return taken

    monkeypatch.setattr(KeyboardController, "press", record)
    before = termios.tcgetattr(tty.slave)
    with display.shown(machine, "terminal", keyboard=True):
        assert termios.tcgetattr(tty.slave)[3] & termios.ICANON == 0
        tty.until(b"ready")
        assert b"\x1b[?1049h" in tty.seen and b"\x1b[38;2;255;255;255;48;2;0;0;170mready" in tty.seen
        write(machine, b"steady", DOSBOX_BLUE)
        tty.until(b"steady")
        os.write(tty.user, b"a\x1b[A")
        assert typed.wait(20)
        assert pressed == [chord(("a",)), chord(("up",))]
        os.write(tty.user, display.QUIT)
        assert machine.exited.wait(20)
    assert machine.shutdown_reason == "host-ui"
    tty.until(b"\x1b[?1049l")
    assert termios.tcgetattr(tty.slave) == before
    assert keyboard.keyboard.scanning
    tty.close()


def test_no_terminal_no_display(machine):
    with pytest.raises(ConfigError, match="are not a terminal"), display.shown(machine, "terminal", keyboard=True):
        pass


def test_what_the_command_line_says(tmp_path):
    import argparse

    from pyemu.cli import run
    from pyemu.plugin import default_manager

    parser = argparse.ArgumentParser()
    run.configure(parser)
    args = parser.parse_args(["-M", "isa-pc", "--display", "png:x.png", "--cdrom", "a,b.iso"])
    args.plugins = default_manager()
    found = machine_arguments(args)
    assert found["properties"] == {"vga": True}
    assert found["drives"] == ["file=a,,b.iso,media=cdrom"]

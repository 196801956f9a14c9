# SPDX-License-Identifier: MIT
"""The keyboard controller and the keyboard, byte by byte."""

from __future__ import annotations

import pytest

from pyemu.chips.i8042 import KeyboardController
from pyemu.device import IRQLine
from pyemu.errors import MigrationError
from pyemu.testing import ISAFixture

DATA, STATUS, COMMAND = 0x60, 0x64, 0x64
FULL, AUX, TIMEOUT = 0x01, 0x20, 0x40
IRQ1, IRQ12, SYSTEM, OFF, AUX_OFF, TRANSLATE = 0x01, 0x02, 0x04, 0x10, 0x20, 0x40
ACK, RESEND = 0xFA, 0xFE
KEY_A = b"\x1c"


class Keyboard:
    """A controller with its keyboard, and what a driver does with it."""

    def __init__(self, **properties):
        self.fixture = ISAFixture()
        self.chip = self.fixture.plug(KeyboardController(**properties))
        self.a20 = []
        self.chip.a20_out.connect(IRQLine("a20", 0, lambda n, level: self.a20.append(level)))

    @property
    def status(self):
        return self.fixture.read(STATUS)

    @property
    def irqs(self):
        return self.fixture.lines[1].level, self.fixture.lines[12].level

    def command(self, *values):
        """A controller command and its arguments."""
        self.fixture.write(COMMAND, values[0])
        for value in values[1:]:
            self.fixture.write(DATA, value)

    def send(self, *values):
        for value in values:
            self.fixture.write(DATA, value)

    def take(self):
        """Everything that waits to be read."""
        found = []
        while self.status & FULL:
            found.append(self.fixture.read(DATA))
        return found

    def ask(self, *values):
        self.command(*values)
        return self.take()


@pytest.fixture
def kbd():
    return Keyboard()


# -- the controller ------------------------------------------------------------------------------


def test_as_a_bios_leaves_it(kbd):
    assert (kbd.status, kbd.ask(0x20)) == (0x14, [IRQ1 | SYSTEM | AUX_OFF | TRANSLATE])


def test_as_after_power_on():
    kbd = Keyboard(firmware_setup="off")
    assert (kbd.status, kbd.ask(0x20)) == (0x10, [OFF | AUX_OFF])


def test_self_test_turns_everything_off(kbd):
    assert kbd.ask(0xAA) == [0x55]
    assert kbd.ask(0x20) == [SYSTEM | OFF | AUX_OFF | TRANSLATE]


@pytest.mark.parametrize(("command", "answer"), [(0xA9, 0), (0xAB, 0), (0xC0, 0xA0), (0xE0, 0), (0xD0, 0xC3)])
def test_commands_with_one_answer(kbd, command, answer):
    assert kbd.ask(command) == [answer]


def test_the_command_byte(kbd):
    kbd.command(0x60, 0x00)
    assert (kbd.ask(0x20), kbd.status & 0x04) == ([0x00], 0)
    kbd.command(0xAD)
    kbd.command(0xA7)
    assert kbd.ask(0x20) == [OFF | AUX_OFF]
    kbd.command(0xAE)
    kbd.command(0xA8)
    assert kbd.ask(0x20) == [0x00]


def test_its_memory(kbd):
    kbd.command(0x7F, 0x5A)
    assert kbd.ask(0x3F) == [0x5A]


def test_status_tells_which_port_was_written_last(kbd):
    kbd.command(0xAE)
    assert kbd.status & 0x08
    kbd.send(0xEE)
    assert not kbd.status & 0x08


def test_bytes_put_into_the_output_buffer(kbd):
    kbd.command(0x60, IRQ1 | IRQ12)
    kbd.command(0xD2, 0x12)
    assert (kbd.status & (FULL | AUX), kbd.irqs, kbd.take()) == (FULL, (1, 0), [0x12])
    kbd.command(0xD3, 0x34)
    assert (kbd.status & (FULL | AUX), kbd.irqs, kbd.take()) == (FULL | AUX, (0, 1), [0x34])
    assert kbd.irqs == (0, 0)


def test_nothing_answers_on_a_second_port_without_a_mouse():
    kbd = Keyboard(mouse_port="off")
    kbd.command(0xD4, 0xFF)
    assert kbd.status & (FULL | AUX | TIMEOUT) == FULL | AUX | TIMEOUT
    assert kbd.take() == [0xFE]
    assert kbd.status & (FULL | AUX | TIMEOUT) == 0


def test_address_line_20(kbd):
    kbd.command(0xDD)
    kbd.command(0xDF)
    kbd.command(0xD1, 0xDD)
    kbd.command(0xD1, 0xDF)
    assert kbd.a20 == [1, 0, 1, 0, 1]


def test_the_reset_line(kbd):
    resets = []
    kbd.chip.on_reset = lambda: resets.append(1)
    kbd.command(0xFF)
    assert resets == []
    kbd.command(0xFE)
    assert resets == [1]
    kbd.command(0xD1, 0xDE)
    assert resets == [1, 1]
    assert kbd.ask(0xD0)[0] & 1, "a pulse: the line is back up"


@pytest.mark.parametrize("command", [0x00, 0x1F, 0x80, 0xB0, 0xEF])
def test_unknown_commands_do_nothing(kbd, command):
    assert kbd.ask(command) == []
    kbd.send(0xEE)
    assert kbd.take() == [0xEE], "nor do they wait for an argument"


# -- the keyboard --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ([0xEE], [0xEE]),
        ([0xF2], [ACK, 0xAB, 0x41]),
        ([0xFF], [ACK, 0xAA]),
        ([0xF5], [ACK]),
        ([0xF4], [ACK]),
        ([0xED, 7], [ACK]),
        ([0x01], [RESEND]),
        ([0xEF], [RESEND]),
    ],
    ids=lambda value: bytes(value).hex(),
)
def test_commands_to_the_keyboard(kbd, sent, answer):
    kbd.send(sent[0])
    assert kbd.take() == answer
    for value in sent[1:]:
        kbd.send(value)
        assert kbd.take() == [ACK]


def test_lamps(kbd):
    kbd.send(0xED)
    kbd.take()
    kbd.send(0x05)
    assert kbd.chip.keyboard.leds == 5


def test_scan_sets(kbd):
    kbd.command(0x60, IRQ1)
    kbd.send(0xF0)
    kbd.take()
    kbd.send(0)
    assert kbd.take() == [ACK, 2]
    for number, answer in ((1, ACK), (4, RESEND)):
        kbd.send(0xF0)
        kbd.take()
        kbd.send(number)
        assert kbd.take() == [answer]
    assert kbd.chip.keyboard.scan_set == 1


def test_the_last_byte_again(kbd):
    kbd.send(0xEE)
    assert kbd.take() == [0xEE]
    kbd.send(0xFE)
    assert kbd.take() == [0xEE]


# -- keys ----------------------------------------------------------------------------------------


def test_a_key_is_translated_and_interrupts_byte_by_byte(kbd):
    kbd.chip.press(KEY_A)
    kbd.chip.press(b"\xf0" + KEY_A)
    assert kbd.irqs == (1, 0)
    kbd.fixture.edges.clear()
    assert kbd.take() == [0x1E, 0x9E]
    assert kbd.fixture.edges == [(1, 0), (1, 1), (1, 0)]


def test_a_key_untranslated(kbd):
    kbd.command(0x60, IRQ1)
    kbd.chip.press(b"\xf0" + KEY_A)
    assert kbd.take() == [0xF0, 0x1C]


def test_no_interrupt_unless_enabled(kbd):
    kbd.command(0x60, 0)
    kbd.chip.press(KEY_A)
    assert (kbd.status & FULL, kbd.irqs) == (FULL, (0, 0))
    kbd.command(0x60, IRQ1)
    assert kbd.irqs == (1, 0)


def test_keys_wait_while_the_interface_is_off(kbd):
    kbd.command(0xAD)
    kbd.chip.press(KEY_A)
    assert kbd.take() == []
    kbd.command(0xAE)
    assert kbd.take() == [0x1E]


def test_keys_are_lost_while_scanning_is_off(kbd):
    kbd.send(0xF5)
    kbd.take()
    assert not kbd.chip.press(KEY_A)
    kbd.send(0xF4)
    kbd.take()
    assert kbd.chip.press(KEY_A)


def test_more_keys_than_fit_end_in_an_overrun(kbd):
    kbd.command(0x60, IRQ1)
    kbd.command(0xAD)
    taken = sum(kbd.chip.press(KEY_A) for _ in range(40))
    kbd.command(0xAE)
    assert kbd.take() == [0x1C] * taken + [0x00]
    assert taken == 15


def test_an_answer_of_the_controller_goes_before_keys(kbd):
    kbd.chip.press(KEY_A)
    kbd.chip.press(KEY_A)
    kbd.command(0x20)
    assert kbd.take() == [0x1E, IRQ1 | SYSTEM | AUX_OFF | TRANSLATE, 0x1E]


def test_a_processor_held_in_reset_cannot_be_loaded(kbd):
    kbd.chip.output_port = 0x02
    with pytest.raises(MigrationError, match="holds the processor in reset"):
        kbd.chip.post_load(1)


# -- the mouse -----------------------------------------------------------------------------------


def mouse(kbd, *values):
    """Sends bytes to the mouse; everything it answers."""
    found = []
    for value in values:
        kbd.command(0xD4, value)
        while kbd.status & FULL:
            assert kbd.status & AUX
            found.append(kbd.fixture.read(DATA))
    return found


def test_the_mouse_tells_what_it_is(kbd):
    assert mouse(kbd, 0xFF) == [ACK, 0xAA, 0x00]
    assert mouse(kbd, 0xF2) == [ACK, 0x00]
    assert mouse(kbd, 0xE9) == [ACK, 0x00, 2, 100]
    assert mouse(kbd, 0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2) == [ACK] * 6 + [ACK, 3]
    assert mouse(kbd, 0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF2) == [ACK] * 6 + [ACK, 4]
    assert mouse(kbd, 0xF3, 33) == [ACK, RESEND]


def test_movements_come_as_packets_with_an_interrupt_a_byte(kbd):
    kbd.chip.move_mouse(5, 6)
    assert kbd.status & FULL == 0, "not before it is enabled"
    mouse(kbd, 0xF6, 0xF4)
    kbd.command(0x60, IRQ1 | IRQ12 | SYSTEM | TRANSLATE)
    kbd.chip.move_mouse(5, -6, buttons=1)
    assert kbd.irqs == (0, 1)
    assert kbd.take() == [0x29, 5, 0xFA]
    assert kbd.irqs == (0, 0)
    kbd.chip.move_mouse(300, 0)
    assert kbd.take() == [0x09, 255, 0, 0x09, 45, 0]


def test_movements_add_up_while_nobody_reads(kbd):
    mouse(kbd, 0xF4)
    for _ in range(500):
        kbd.chip.move_mouse(1, 0)
    packets = kbd.take()
    assert sum(packets[1::3]) == 500
    assert len(packets) < 40


def test_a_wheel_and_more_buttons(kbd):
    mouse(kbd, 0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF4)
    kbd.chip.move_mouse(wheel=-1, buttons=0x12)
    assert kbd.take() == [0x0A, 0, 0, 0x2F]


def test_remote_mode_tells_when_asked_and_wrap_mode_echoes(kbd):
    mouse(kbd, 0xF0)
    kbd.chip.move_mouse(3, 4)
    assert kbd.status & FULL == 0
    assert mouse(kbd, 0xEB) == [ACK, 0x08, 3, 4]
    assert mouse(kbd, 0xEE, 0x55, 0xF4, 0xEC) == [ACK, 0x55, 0xF4, ACK]


def test_scaling_leaves_short_movements_fine(kbd):
    mouse(kbd, 0xE7, 0xF4)
    for distance, told in ((1, 1), (4, 6), (10, 20)):
        kbd.chip.move_mouse(-distance, 0)
        assert kbd.take() == [0x18, 256 - told, 0]


def test_the_keyboard_goes_first_and_the_mouse_waits_while_it_is_off(kbd):
    mouse(kbd, 0xF4)
    kbd.command(0xA7)
    kbd.chip.move_mouse(1, 1)
    kbd.chip.press(b"\x1c")
    assert kbd.take() == [0x1E]
    kbd.command(0xA8)
    assert kbd.take() == [0x08, 1, 1]

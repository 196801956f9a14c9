# SPDX-License-Identifier: MIT
"""The transcript replayer: what it reads, what it refuses, that it notices wrong answers."""

from __future__ import annotations

import pytest

from pyemu.errors import ConfigError
from pyemu.testing.transcript import main, parse, replay


class FakeTarget:
    """Ports that remember what was written, and configuration space of an ISA bridge in slot 3."""

    def __init__(self, options):
        self.options = dict(options)
        self.ports = {}
        self.config = {(3, 0, 0x0A): 0x01, (3, 0, 0x0B): 0x06}
        self.address = 0
        self.log = []

    def io_read(self, port, size):
        if 0xCFC <= port <= 0xCFF:
            slot, function, register = self.address >> 11 & 31, self.address >> 8 & 7, self.address & 0xFC | port & 3
            return sum(self.config.get((slot, function, register + n), 0xFF) << 8 * n for n in range(size))
        return sum(self.ports.get(port + n, 0xFF) << 8 * n for n in range(size))

    def io_write(self, port, size, value):
        if port == 0xCF8:
            self.address = value
        elif 0xCFC <= port <= 0xCFF:
            slot, function, register = self.address >> 11 & 31, self.address >> 8 & 7, self.address & 0xFC | port & 3
            for n in range(size):
                self.config[slot, function, register + n] = value >> 8 * n & 0xFF
        else:
            for n in range(size):
                self.ports[port + n] = value >> 8 * n & 0xFF

    def reset(self):
        self.ports.clear()

    def step(self, delta_ns):
        self.log.append(delta_ns)

    def together(self, function):
        return function()

    def close(self):
        self.log.append("closed")


def run(text, answers="any"):
    targets = []

    def factory(options):
        targets.append(FakeTarget(options))
        return targets[-1]

    return [str(m) for m in replay(parse(text), factory, answers=answers)], targets


def test_reads_compare_all_bits_or_those_of_the_mask():
    wrong, _ = run("powerup\noutb 0x80 0x5a\ninb 0x80 -> 0x5a\ninb 0x80 & 0x0f -> 0x0a\ninw 0x80 -> 0xff5a\n")
    assert wrong == []


def test_a_wrong_answer_names_file_line_expected_and_got():
    wrong, _ = run("# comment\npowerup\n\ninb 0x80 -> 0x12 ~ 0x34\n")
    assert wrong == ["transcript:4: inb 0x80 -> 0x12 ~ 0x34: expected 0x12 or 0x34, got 0xff"]


def test_masked_bits_are_compared_and_shown_alone():
    wrong, _ = run("powerup\ninb 0x80 & 0x0f -> 0x0e\n")
    assert wrong == ["transcript:2: inb 0x80 & 0x0f -> 0x0e: expected 0xe, got 0xf"]


@pytest.mark.parametrize(("answers", "right"), [("any", {"0x01", "0x02"}), ("first", {"0x01"}), ("second", {"0x02"})])
def test_which_of_two_answers_count(answers, right):
    for value in ("0x01", "0x02", "0x03"):
        wrong, _ = run(f"powerup\noutb 0x80 {value}\ninb 0x80 -> 0x01 ~ 0x02\n", answers)
        assert (wrong == []) == (value in right)


def test_a_star_accepts_everything_unless_only_the_first_counts():
    text = "powerup\ninb 0x80 -> 0x01 ~ *\n"
    assert run(text)[0] == run(text, "second")[0] == []
    assert len(run(text, "first")[0]) == 1


def test_configuration_accesses_find_the_bridge_and_keep_their_size():
    wrong, [target] = run(
        "powerup\npci_write16 2 0x42 0xbeef\npci_read8 2 0x43 -> 0xbe\npci_read32 0 0x08 -> 0x0601ffff\n"
    )
    assert wrong == []
    assert target.config[3, 2, 0x42] == 0xEF


def test_powerup_makes_a_new_machine_with_its_options_and_closes_the_old():
    wrong, targets = run("powerup config=4\noutb 0x80 0x01\npowerup config=5\ninb 0x80 -> 0xff\n")
    assert wrong == []
    assert [target.options for target in targets] == [{"config": "4"}, {"config": "5"}]
    assert all(target.log[-1] == "closed" for target in targets)


def test_reset_keeps_the_machine():
    wrong, targets = run("powerup\noutb 0x80 0x01\nreset\ninb 0x80 -> 0xff\n")
    assert (wrong, len(targets)) == ([], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inb 0x80 -> 0x00", "first operation is not powerup"),
        ("", "first operation is not powerup"),
        ("powerup\ninb 0x80", "transcript:2: 'inb 0x80' does not have 1 numbers and an answer"),
        ("powerup\noutb 0x80 0x1 -> 0x0", "transcript:2"),
        ("powerup\noutb 0x80 0x100", "0x100 does not fit 1 bytes"),
        ("powerup\ninx 0x80 -> 0x0", "unknown operation"),
        ("powerup\npci_read24 0 0x0 -> 0x0", "unknown operation"),
        ("powerup\ninb eighty -> 0x0", "'eighty' is not a hexadecimal number"),
        ("powerup\ninb -0x1 -> 0x0", "is not a hexadecimal number"),
    ],
)
def test_what_is_not_a_transcript_is_refused(text, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        parse(text)


def test_the_command_reports_bad_files_and_boards_without_a_traceback(tmp_path, capsys):
    good = tmp_path / "good.txt"
    good.write_text("powerup\n")
    assert main(["none", str(tmp_path / "missing.txt")]) == 1
    assert "missing.txt: cannot read the transcript" in capsys.readouterr().err
    assert main(["no-such-board", str(good)]) == 1
    assert "no-such-board" in capsys.readouterr().err


def test_the_commands_status_says_whether_all_answers_were_right(tmp_path, capsys):
    file = tmp_path / "t.txt"
    file.write_text("powerup\ninb 0x80 -> 0xff\n")
    assert main(["none", str(file)]) == 0
    file.write_text("powerup\ninb 0x80 -> 0x00\n")
    assert main(["none", str(file)]) == 1
    assert f"{file}:2: inb 0x80 -> 0x00: expected 0x0, got 0xff" in capsys.readouterr().out

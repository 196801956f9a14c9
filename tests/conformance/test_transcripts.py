# SPDX-License-Identifier: MIT
"""Every recorded transcript, replayed on our boards."""

from __future__ import annotations

import pathlib

import pytest

from pyemu.testing.transcript import machine_factory, replay_file

FOLDER = pathlib.Path(__file__).parent / "transcripts"
FILES = sorted(FOLDER.glob("*.txt"))
BOARDS = {
    "vt82c686b": ("via-pc", {"southbridge": "vt82c686b"}),
    "vt8231": ("via-pc", {"southbridge": "vt8231"}),
    "pc87312": ("isa-pc", {"superio": "pc87312"}),
}


def wrong_answers(file: pathlib.Path, answers: str, **properties: str) -> list[str]:
    board, own = BOARDS[file.name.split("-")[0]]
    factory = machine_factory(board, {**own, **properties})
    return [str(mismatch) for mismatch in replay_file(file, factory, answers=answers)]


def test_all_transcripts_are_there():
    chips = [file.name.split("-")[0] for file in FILES]
    assert {chip: chips.count(chip) for chip in BOARDS} == {"vt82c686b": 15, "vt8231": 7, "pc87312": 6}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_hardwares_answers(file):
    assert wrong_answers(file, "second") == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_any_accepted_answer_with_wide_accesses_as_in_qemu(file):
    assert wrong_answers(file, "any", wide_access="qemu") == []


@pytest.mark.parametrize("file", [file for file in FILES if file.name.startswith("vt")], ids=lambda file: file.stem)
def test_any_accepted_answer_with_the_reset_values_of_qemu(file):
    assert wrong_answers(file, "any", reset_style="qemu") == []


def test_the_reset_values_of_qemu_are_those_recorded():
    """In the reset transcripts what our reset style changes gives the recorded answer, not the second."""
    wrong = wrong_answers(FOLDER / "vt82c686b-01-reset.txt", "first", reset_style="qemu")
    assert wrong == []

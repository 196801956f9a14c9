# SPDX-License-Identifier: MIT
"""docs/reference/boards.md names every board, property and choice there is, defaults first."""

from __future__ import annotations

import pathlib

import pyemu_pc87312.plugin
import pyemu_via.plugin
import pytest

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "reference" / "boards.md").read_text(encoding="utf-8")
BOARDS = [*pyemu_via.plugin.pyemu_boards(), *pyemu_pc87312.plugin.pyemu_boards()]


def rows(board):
    """Property name -> the column of its values."""
    section = PAGE.split(f"\n## {board.name}\n")[1].split("\n## ")[0]
    cells = (line.split("|") for line in section.splitlines() if line.startswith("| `"))
    return {row[1].strip(" `"): row[2].strip() for row in cells}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_property_is_described(board):
    table = rows(board)
    assert set(table) == {p.name for p in board.properties}
    for p in board.properties:
        if p.kind in ("choice", "bool"):
            choices = p.choices if p.kind == "choice" else ("off", "on")
            default = p.default if p.kind == "choice" else choices[p.default]
            listed = table[p.name].replace("`", "").split(", ")
            assert (set(listed), listed[0]) == (set(choices), default)

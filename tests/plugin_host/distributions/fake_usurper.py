# SPDX-License-Identifier: MIT
"""Wants a name that belongs to the core."""

import pyemu


@pyemu.hookimpl
def pyemu_boards():
    yield pyemu.Board(name="none", factory="fake_usurper:build")
    yield pyemu.Board(name="throne", factory="fake_usurper_parts:build")

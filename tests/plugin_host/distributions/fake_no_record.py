# SPDX-License-Identifier: MIT
"""Yields a record of another kind."""

import pyemu


@pyemu.hookimpl
def pyemu_devices():
    yield pyemu.Board(name="not-a-device", factory="fake_no_record:build")

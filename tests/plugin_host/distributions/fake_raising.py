# SPDX-License-Identifier: MIT
"""Its second hook raises after it has yielded something."""

import pyemu


@pyemu.hookimpl
def pyemu_boards():
    yield pyemu.Board(name="half-board", factory="fake_raising:build")


@pyemu.hookimpl
def pyemu_devices():
    yield pyemu.DeviceType(name="half-device", factory="fake_raising:Half")
    raise LookupError("the table is\nempty")

# SPDX-License-Identifier: MIT
"""One hook is right, the other one nobody would ever call."""

import pyemu


@pyemu.hookimpl
def pyemu_devices():
    yield pyemu.DeviceType(name="spelt", factory="fake_misspelt:Spelt")


@pyemu.hookimpl
def pyemu_bords():
    yield pyemu.Board(name="lost", factory="fake_misspelt:build")

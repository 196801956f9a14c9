# SPDX-License-Identifier: MIT
"""A plugin as it should be: a device, a board and a command, none of them imported yet."""

import pyemu


@pyemu.hookimpl
def pyemu_devices():
    yield pyemu.DeviceType(name="widget", factory="fake_good_parts:Widget", api=(1, 0), help="a widget")


@pyemu.hookimpl
def pyemu_boards():
    return [pyemu.Board(name="tray", factory="fake_good_parts:build", api=(1, 0), help="a board")]


@pyemu.hookimpl
def pyemu_commands():
    yield pyemu.Command(name="greet", factory="fake_good_parts", api=(1, 0), help="says hello")

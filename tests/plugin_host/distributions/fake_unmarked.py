# SPDX-License-Identifier: MIT
"""Forgot the mark on its hook."""

import pyemu


def pyemu_devices():
    yield pyemu.DeviceType(name="unseen", factory="fake_unmarked:Unseen")

# SPDX-License-Identifier: MIT
"""One of two distributions that provide the device twin."""

import pyemu


@pyemu.hookimpl
def pyemu_devices():
    yield pyemu.DeviceType(name="twin", factory="fake_twin_two:Twin")
    yield pyemu.DeviceType(name="only-two", factory="fake_twin_two:Only")


class Only:
    pass

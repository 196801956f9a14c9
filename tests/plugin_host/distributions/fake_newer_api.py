# SPDX-License-Identifier: MIT
"""Written for an interface that this host does not have yet."""

import pyemu


@pyemu.hookimpl
def pyemu_devices():
    yield pyemu.DeviceType(name="gadget", factory="fake_newer_api:Gadget", api=(1, 99))


@pyemu.hookimpl
def pyemu_engines():
    yield pyemu.Engine(name="warp", factory="fake_newer_api:create", api=(2, 0))

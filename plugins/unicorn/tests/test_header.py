# SPDX-License-Identifier: GPL-2.0-or-later
"""The copy of the core's C interface is a copy."""

from importlib.resources import files


def test_header_is_the_cores():
    ours = files("pyemu_unicorn").joinpath("pyemu.h").read_text()
    cores = files("pyemu.capi").joinpath("pyemu.h").read_text()
    assert ours == cores

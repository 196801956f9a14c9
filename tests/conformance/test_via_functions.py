# SPDX-License-Identifier: MIT
"""The PCI functions of the VIA bridges keep what a device promises, each on a bus of its own."""

from pyemu_via.ac97 import ViaAudio
from pyemu_via.pm import ViaPower
from pyemu_via.uhci import ViaUSB

from pyemu.testing import DeviceConformance


class TestUSB(DeviceConformance):
    device_class = ViaUSB
    accesses = 80


class TestPower(DeviceConformance):
    device_class = ViaPower
    accesses = 80


class TestAudio(DeviceConformance):
    device_class = ViaAudio
    accesses = 80

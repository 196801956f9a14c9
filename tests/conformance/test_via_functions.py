# SPDX-License-Identifier: MIT
"""The PCI functions of the VIA bridges keep what a device promises, each on a bus of its own."""

from pyemu_via.ac97 import ViaAudio
from pyemu_via.functions import ViaModem
from pyemu_via.hostbridge import ViaHostBridge
from pyemu_via.pm import ViaPower
from pyemu_via.uhci import ViaUSB

from pyemu.testing import DeviceConformance


class TestHostBridge(DeviceConformance):
    device_class = ViaHostBridge
    accesses = 100


class TestUSB(DeviceConformance):
    device_class = ViaUSB
    accesses = 200


class TestPower(DeviceConformance):
    device_class = ViaPower
    accesses = 200


class TestAudio(DeviceConformance):
    device_class = ViaAudio
    accesses = 200


class TestModem(DeviceConformance):
    device_class = ViaModem
    accesses = 100

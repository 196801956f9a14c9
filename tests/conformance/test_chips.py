# SPDX-License-Identifier: MIT
"""Every chip of the core keeps what a device promises."""

import pathlib
import random
from collections.abc import Iterator
from typing import ClassVar, Literal

import pytest

from pyemu.chips.cf9 import ResetControl
from pyemu.chips.fdc import FloppyController
from pyemu.chips.fwcfg import FirmwareConfig
from pyemu.chips.i8042 import KeyboardController
from pyemu.chips.i8237 import DMAController
from pyemu.chips.i8254 import PIT
from pyemu.chips.i8259 import PICPair
from pyemu.chips.ide import IDEChannel
from pyemu.chips.mc146818 import RTC
from pyemu.chips.mpu401 import MPU401, GamePort
from pyemu.chips.parallel import ParallelPort
from pyemu.chips.port92 import SystemControlA
from pyemu.chips.uart16550 import UART16550
from pyemu.chips.vga import ISAVGA, PCIVGA
from pyemu.device import BlockBackend, Device
from pyemu.testing import DeviceConformance


class TestUART(DeviceConformance):
    device_class = UART16550


class TestUARTPaced(DeviceConformance):
    device_class = UART16550
    properties = {"pacing": "on"}


class TestParallel(DeviceConformance):
    device_class = ParallelPort


class TestParallelECP(DeviceConformance):
    device_class = ParallelPort
    properties = {"mode": "ecp+epp"}
    accesses = 120


class TestFloppy(DeviceConformance):
    device_class = FloppyController


class TestIDE(DeviceConformance):
    device_class = IDEChannel


class DriveConformance(DeviceConformance):
    """A chip with a medium, smaller than what its registers can address. The devices of a test share it."""

    kind: ClassVar[str]
    size: ClassVar[int]
    media: ClassVar[Literal["disk", "cdrom"]] = "disk"
    image: BlockBackend

    @pytest.fixture(autouse=True)
    def _open(self, tmp_path: pathlib.Path) -> Iterator[None]:
        path = tmp_path / "image"
        path.write_bytes(random.Random(1).randbytes(self.size))
        with BlockBackend(path, interface=self.kind, media=self.media) as self.image:
            yield

    def make(self) -> Device:
        return self.device_class(**self.properties, drive0=self.image)


class TestIDEWithDisk(DriveConformance):
    device_class = IDEChannel
    kind, size = "ide", 1 << 16


class TestIDEWithCDROM(DriveConformance):
    device_class = IDEChannel
    kind, size, media = "ide", 1 << 16, "cdrom"


class TestFloppyWithMedium(DriveConformance):
    device_class = FloppyController
    kind, size = "floppy", 163840


class TestDMA(DeviceConformance):
    device_class = DMAController


class TestPIC(DeviceConformance):
    device_class = PICPair


class TestPIT(DeviceConformance):
    device_class = PIT
    live_registers = True


class TestRTC(DeviceConformance):
    device_class = RTC
    properties = {"base": "2026-01-31T12:00:00"}
    live_registers = True

    def test_reset_brings_the_power_on_state_back(self) -> None:
        # Time and memory are on a battery; what a reset clears are the interrupts.
        fixture, device = self._plugged()
        self._exercise(fixture, seed=3)
        device.reset()
        assert device.read(0x0B) & 0x70 == 0 and device.read(0x0C) == 0
        assert not fixture.lines[8].level


class TestKeyboard(DeviceConformance):
    device_class = KeyboardController


class TestSystemControlA(DeviceConformance):
    device_class = SystemControlA


class TestResetControl(DeviceConformance):
    device_class = ResetControl


class TestFirmwareConfig(DeviceConformance):
    device_class = FirmwareConfig


class TestISAVGA(DeviceConformance):
    device_class = ISAVGA


class TestPCIVGA(DeviceConformance):
    device_class = PCIVGA


class TestMPU401(DeviceConformance):
    device_class = MPU401
    accesses = 80


class TestGamePort(DeviceConformance):
    device_class = GamePort
    accesses = 60

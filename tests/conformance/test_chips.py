# SPDX-License-Identifier: MIT
"""Every chip of the core keeps what a device promises."""

from pyemu.chips.cf9 import ResetControl
from pyemu.chips.fdc import FloppyController
from pyemu.chips.i8042 import KeyboardController
from pyemu.chips.i8237 import DMAController
from pyemu.chips.i8254 import PIT
from pyemu.chips.i8259 import PICPair
from pyemu.chips.ide import IDEChannel
from pyemu.chips.mc146818 import RTC
from pyemu.chips.parallel import ParallelPort
from pyemu.chips.port92 import SystemControlA
from pyemu.chips.uart16550 import UART16550
from pyemu.testing import DeviceConformance


class TestUART(DeviceConformance):
    device_class = UART16550


class TestUARTPaced(DeviceConformance):
    device_class = UART16550
    properties = {"pacing": "on"}


class TestParallel(DeviceConformance):
    device_class = ParallelPort


class TestFloppy(DeviceConformance):
    device_class = FloppyController


class TestIDE(DeviceConformance):
    device_class = IDEChannel


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

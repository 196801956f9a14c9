# SPDX-License-Identifier: MIT
"""The conformance suite passes a right device and catches each kind of wrong one."""

import pytest

import pyemu
from pyemu import vmstate
from pyemu.testing import DeviceConformance, ISAFixture


class Register(pyemu.ISAFunction):
    """A right device: a latch whose top bit drives its interrupt."""

    type_name = "register"
    properties = (
        pyemu.Property("iobase", "int", 0x100, "first port"),
        pyemu.Property("irq", "int", 5, "interrupt line"),
    )
    vmstate = pyemu.VMState("register", fields=(vmstate.uint8("value"), vmstate.uint8("count")))

    def __init__(self, **properties):
        super().__init__(**properties)
        self.value = self.count = 0

    def reset(self):
        self.value = self.count = 0
        self.irq_out.set_level(0)

    def post_load(self, version):
        self.irq_out.set_level(self.value >> 7)

    def table(self):
        return [pyemu.PortioEntry(0, 2, 1, read=self.read, write=self.write)]

    def read(self, offset, size):
        return self.count if offset else self.value

    def write(self, offset, size, value):
        if not offset:
            self.value = value
            self.count = self.count + 1 & 0xFF
            self.irq_out.set_level(value >> 7)


class TestRegister(DeviceConformance):
    device_class = Register


class Forgetful(Register):
    """Has state that it does not declare."""

    def write(self, offset, size, value):
        super().write(offset, size, value)
        self.hidden = value


class Raising(Register):
    def read(self, offset, size):
        return [1, 2, 3][self.value]


class Unreset(Register):
    def reset(self):
        self.value = 0
        self.irq_out.set_level(0)


class Silent(Register):
    """Does not raise its interrupt again after a load."""

    def post_load(self, version):
        pass


class Misread(Register):
    """What it answers does not follow from its declared state."""

    volatile = frozenset({"shadow"})
    shadow = 0

    def write(self, offset, size, value):
        super().write(offset, size, value)
        self.shadow = value

    def read(self, offset, size):
        return self.shadow


class Trusting(Register):
    """Uses a loaded value as an index."""

    def write(self, offset, size, value):
        pass

    def read(self, offset, size):
        return bytes(200)[self.value]


class Greedy(Register):
    """Keeps its ports when it is unplugged."""

    def unrealize(self):
        pass


class Nameless(Register):
    type_name = ""


class Stateless(Register):
    vmstate = None


@pytest.mark.parametrize(
    ("device", "test"),
    [
        (Nameless, "test_it_declares_its_name_and_state"),
        (Stateless, "test_it_declares_its_name_and_state"),
        (Forgetful, "test_an_attribute_that_changes_is_declared"),
        (Raising, "test_no_access_raises"),
        (Unreset, "test_reset_brings_the_power_on_state_back"),
        (Silent, "test_saved_and_loaded_it_is_the_same"),
        (Misread, "test_saved_and_loaded_it_is_the_same"),
        (Trusting, "test_state_from_a_hostile_file_is_refused_or_harmless"),
        (Greedy, "test_unplugged_it_leaves_nothing_behind"),
    ],
)
def test_a_wrong_device_is_caught(device, test):
    suite = DeviceConformance()
    suite.device_class = device
    with pytest.raises((AssertionError, pyemu.DeviceError)):
        getattr(suite, test)()


def test_a_forgotten_attribute_is_named():
    suite = DeviceConformance()
    suite.device_class = Forgetful
    with pytest.raises(AssertionError, match="register: neither in vmstate nor in volatile: hidden"):
        suite.test_an_attribute_that_changes_is_declared()


def test_the_fixture_records_interrupt_edges():
    fixture = ISAFixture()
    fixture.plug(Register())
    fixture.write(0x100, 0x80)
    fixture.write(0x100, 0x00)
    assert fixture.edges == [(5, 1), (5, 0)]

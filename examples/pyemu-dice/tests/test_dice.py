# SPDX-License-Identifier: MIT
"""Run with the package installed: ``pytest examples/pyemu-dice``."""

from pyemu_dice.device import Dice

import pyemu
from pyemu.testing import DeviceConformance


class TestConformance(DeviceConformance):
    """Everything a device promises: it can be moved, hidden, saved, loaded, and forgets nothing."""

    device_class = Dice


def rolls(seed: int, count: int) -> list[int]:
    dice = Dice(seed=seed)
    return [dice.roll() for _ in range(count)]


def test_rolls_stay_on_the_dice_and_use_every_side():
    assert set(rolls(1, 200)) == {1, 2, 3, 4, 5, 6}


def test_a_seed_gives_one_sequence():
    assert rolls(7, 20) == rolls(7, 20) != rolls(8, 20)


def test_the_guest_reaches_it_through_its_ports():
    with pyemu.Machine("none", cpu="none", devices=[("dice", {"iobase": "0x300"})]) as machine:
        ports = machine.ports
        assert ports.read(0x303, 1) == 0xD1
        ports.write(0x301, 1, 1)
        assert ports.read(0x300, 1) == 1  # a dice with one side
        assert ports.read(0x302, 1) == 1

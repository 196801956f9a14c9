# SPDX-License-Identifier: MIT
"""Run with the package installed: ``pytest examples/pyemu-dice``."""

from pyemu_dice.device import Dice

import pyemu
from pyemu.testing import DeviceConformance, ISAFixture


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
    fixture = ISAFixture()
    fixture.plug(Dice(iobase="0x300"))
    assert fixture.read(0x303) == 0xD1
    fixture.write(0x301, 1)
    assert fixture.read(0x300) == 1  # a dice with one side
    assert fixture.read(0x302) == 1


def test_a_restored_dice_goes_on_where_it_was(tmp_path):
    with pyemu.Machine("isa-pc", cpu="none", devices=["dice,seed=7"]) as machine:
        roll = lambda: machine.call(lambda: machine.ports.read(0x2A0, 1))  # noqa: E731
        before = [roll() for _ in range(5)]
        machine.save(tmp_path / "saved")
        after = [roll() for _ in range(5)]
    with pyemu.restore(tmp_path / "saved") as machine:
        assert [machine.call(lambda: machine.ports.read(0x2A0, 1)) for _ in range(5)] == after
    assert before + after == rolls(7, 10)

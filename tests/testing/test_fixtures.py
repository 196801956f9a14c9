# SPDX-License-Identifier: MIT
"""The fixtures of the public plugin do what they say."""

from pyemu.chips.uart16550 import UART16550
from pyemu.device import IRQOut


def test_a_chip_talks_over_the_fixtures(isa, chardev):
    isa.plug(UART16550(chardev=chardev))
    isa.write(0x3F8, ord("A"))
    assert chardev.capture.data() == b"A"
    isa.write(0x3F9, 1)
    isa.write(0x3FC, 8)
    assert chardev.feed(b"z") == 1
    assert isa.edges == [(4, 1)] and isa.read(0x3F8) == ord("z")


def test_a_line_records_its_changes(irq_line):
    pin = IRQOut("pin", irq_line)
    pin.pulse()
    pin.set_level(1)
    assert irq_line.levels == [1, 0, 1]


def test_the_clock_stands_still(step_clock):
    fired = []
    step_clock.timer(lambda: fired.append(step_clock.now_ns)).arm(5)
    assert step_clock.now_ns == 0
    step_clock.advance(7)
    assert (fired, step_clock.now_ns) == ([5], 7)


def test_an_empty_pci_bus_answers_with_ones(pci):
    assert pci.mapped() == [] and pci.bus.config_read(0, 0, 4) == 0xFFFFFFFF

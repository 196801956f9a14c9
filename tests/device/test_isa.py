# SPDX-License-Identifier: MIT
import pytest

from pyemu.device import DMARequest, ISADevice, ISAFunction, Property
from pyemu.errors import ConfigError, MemoryMapError
from pyemu.memory import PortioEntry, PortioList
from pyemu.testing import ISAFixture


class Latch(ISAFunction):
    """Two latches with a hole of four ports between them."""

    type_name = "latch"
    properties = (
        Property("iobase", "int", 0x300),
        Property("irq", "int", 5),
        Property("dma", "int", None),
        Property("fails", "bool", False),
    )

    def __init__(self, **properties):
        super().__init__(**properties)
        self.values = [0] * 6
        self.unrealized = 0

    def realize(self):
        super().realize()
        if self.fails:
            raise MemoryMapError("no luck")

    def unrealize(self):
        self.unrealized += 1
        super().unrealize()

    def table(self):
        return [PortioEntry(0, 1, 1, self.read, self.write), PortioEntry(5, 1, 1, self.read, self.write)]

    def read(self, offset, size):
        return self.values[offset]

    def write(self, offset, size, value):
        self.values[offset] = value


class Controller:
    """A DMA controller that notes what it is told."""

    channels = 8

    def __init__(self):
        self.log = []

    def attach(self, channel, client):
        self.log.append(("attach", channel))

    def detach(self, channel, client):
        self.log.append(("detach", channel))

    def set_request(self, channel, client, level):
        self.log.append((level, channel))


class DMALatch(Latch):
    type_name = "dma-latch"

    def dma_read(self, length):
        return b""

    def dma_write(self, data):
        return 0

    def dma_verify(self, length):
        return 0

    def dma_terminal_count(self):
        pass


# -- the bus --------------------------------------------------------------------------------------


def test_ids_are_made_up_and_never_shared(isa):
    first = isa.plug(Latch())
    second = isa.bus.plug(Latch(iobase=0x310))
    assert (first.id, second.id) == ("latch", "latch-2")
    with pytest.raises(ConfigError, match="'latch'.*taken"):
        isa.bus.plug(Latch(iobase=0x320), "latch")
    assert isa.bus.find("latch-2") is second
    with pytest.raises(ConfigError, match="nosuch.*latch, latch-2"):
        isa.bus.find("nosuch")


def test_a_device_sits_in_one_place(isa):
    device = isa.plug(Latch())
    with pytest.raises(ConfigError, match="plugged into isa.0 already"):
        ISAFixture().plug(device)
    isa.bus.unplug(device)
    with pytest.raises(ConfigError, match="not plugged"):
        isa.bus.unplug(device)
    other = ISAFixture()
    other.plug(device)
    assert other.mapped() == [0x300, 0x305] and isa.mapped() == []


def test_a_failed_realize_gives_everything_back(isa):
    device = Latch(fails=True)
    device.irq_out.set_level(1)
    with pytest.raises(MemoryMapError, match="no luck"):
        isa.plug(device)
    assert (isa.mapped(), isa.bus.devices, device.bus, device.unrealized) == ([], [], None, 1)
    assert isa.lines[5].level == 0
    device.fails = False
    isa.plug(device)
    assert isa.mapped() == [0x300, 0x305] and isa.lines[5].level == 1


def test_a_bus_refuses_devices_of_another_kind(isa):
    class Card(ISADevice):
        type_name, bus_kind = "card", "pci"

    with pytest.raises(ConfigError, match="card: needs a bus of kind pci, isa.0 is isa"):
        isa.plug(Card())


def test_plugging_never_uses_up_the_pins_of_a_line(isa):
    for _ in range(100):
        isa.bus.unplug(isa.plug(Latch()))
    isa.plug(Latch()).irq_out.set_level(1)
    assert isa.lines[5].level == 1


def test_lines_that_do_not_exist_are_named(isa):
    assert isa.bus.irq_line(0) is None and isa.bus.irq_line(None) is None
    with pytest.raises(ConfigError, match="interrupt line 16"):
        isa.plug(Latch(irq=16))
    assert isa.mapped() == []


# -- overlaps -------------------------------------------------------------------------------------


def test_an_overlap_names_both_owners_and_both_ranges(isa):
    isa.plug(Latch())
    with pytest.raises(MemoryMapError) as info:
        isa.plug(Latch(iobase=0x2FB))
    assert str(info.value) == "latch-2: ports 0x300-0x300 overlap latch at 0x300-0x300"
    assert isa.mapped() == [0x300, 0x305]


def test_ports_that_somebody_else_mapped_count_too(isa):
    PortioList("board", [PortioEntry(0, 16, 1, lambda o, s: 0)], "glue").add(isa.ports, 0x300)
    with pytest.raises(MemoryMapError, match="latch: .* overlap board at 0x300-0x30f"):
        isa.plug(Latch())


def test_neighbours_may_live_in_each_others_holes(isa):
    isa.plug(Latch())
    isa.plug(Latch(iobase=0x301))
    assert isa.mapped() == [0x300, 0x301, 0x305, 0x306]


def test_what_a_chip_places_may_overlap_and_comes_back_unharmed(isa):
    first = isa.plug(Latch())
    second = Latch()
    second.placed_by = first
    isa.plug(second)
    isa.write(0x300, 7)
    assert (first.values[0], second.values[0]) == (0, 7)
    second.set_enabled(False)
    assert isa.read(0x300) == 0
    second.set_enabled(True)
    assert isa.read(0x300) == 7


def test_a_hidden_function_is_in_nobodys_way(isa):
    hidden = Latch()
    hidden.set_enabled(False)
    isa.plug(hidden)
    isa.plug(Latch())


# -- placement ------------------------------------------------------------------------------------


def test_a_base_written_while_hidden_counts_once_shown(isa):
    device = isa.plug(Latch())
    isa.write(0x305, 0x77)
    device.set_enabled(False)
    device.set_base(0x200)
    device.set_irq(3)
    assert isa.mapped() == []
    device.irq_out.set_level(1)
    assert not any(line.level for line in isa.lines)
    device.set_enabled(True)
    assert isa.mapped() == [0x200, 0x205] and isa.read(0x205) == 0x77
    assert [line.n for line in isa.lines if line.level] == [3]


def test_a_line_moved_while_high_drops_before_the_other_rises(isa):
    device = isa.plug(Latch())
    device.irq_out.set_level(1)
    device.set_irq(9)
    device.set_irq(0)
    assert isa.edges == [(5, 1), (5, 0), (9, 1), (9, 0)]
    assert device.irq_out.level == 1


def test_a_placement_that_does_not_fit_changes_nothing(isa):
    device = isa.plug(Latch())
    with pytest.raises(MemoryMapError):
        device.set_base(0xFFFB)
    with pytest.raises(ConfigError):
        device.set_irq(99)
    assert (isa.mapped(), device.iobase, device.irq) == ([0x300, 0x305], 0x300, 5)


def test_the_dma_request_follows_its_channel(isa):
    isa.bus.dma = controller = Controller()
    device = isa.plug(DMALatch(dma=2))
    device.dma_request.set_level(1)
    device.dma_request.set_level(1)
    device.set_dma(3)
    device.set_enabled(False)
    device.set_enabled(True)
    with pytest.raises(ConfigError, match="channel 8"):
        device.set_dma(8)
    assert device.dma == 3
    isa.bus.unplug(device)
    assert controller.log == [
        ("attach", 2), (1, 2),
        (0, 2), ("detach", 2), ("attach", 3), (1, 3),
        (0, 3), ("detach", 3), ("attach", 3), (1, 3),
        (0, 3), ("detach", 3),
    ]  # fmt: skip


def test_only_clients_have_a_dma_pin():
    assert Latch().dma_request is None
    assert isinstance(DMALatch().dma_request, DMARequest)


def test_windows_are_mapped_and_given_back(isa):
    from pyemu.memory import MemoryRegion, RAMBlock

    class Card(ISADevice):
        type_name = "card"

        def realize(self):
            self.rom = RAMBlock("rom", 4096)
            self.rom.write(0, b"\x55\xaa")
            self.add_memory(MemoryRegion.rom("card.rom", self.rom), 0xC8000)

    card = isa.plug(Card())
    assert isa.memory.read(0xC8000, 2) == b"\x55\xaa"
    isa.bus.unplug(card)
    assert isa.memory.read(0xC8000, 2) == b"\0\0"  # the RAM below

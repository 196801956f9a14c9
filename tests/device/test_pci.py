# SPDX-License-Identifier: MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyemu.device import PCIDevice, pci_state
from pyemu.device.pci import parse_address
from pyemu.device.vmstate import VMState, uint8
from pyemu.errors import ConfigError, MigrationError
from pyemu.memory import MemoryRegion, PortioEntry
from pyemu.testing import DeviceConformance, PCIFixture

IO, MEMORY, INTX_OFF = 1, 2, 0x400


class Card(PCIDevice):
    """A latch behind an I/O and a memory base register; its top bit drives INTA."""

    type_name = "card"
    vendor_id, device_id, revision = 0x1234, 0x5678, 9
    class_code = 0x040102
    subsystem_vendor_id, subsystem_id = 0xAAAA, 0xBBBB
    interrupt_pin = 1
    vmstate = pci_state("card", uint8("latch"))

    def __init__(self, **properties):
        super().__init__(**properties)
        self.latch = 0
        self.register_bar(0, [PortioEntry(0, 32, 1, self.read, self.write)], 32, "io")
        self.register_bar(2, MemoryRegion.io("card.regs", 4096, read=self.read, write=self.write, owner=self), 4096)
        self.define(0x40, 2, 0x1122, wmask=0x0F0F, w1c=0x1000)

    def read(self, offset, size):
        return self.latch

    def write(self, offset, size, value):
        self.latch = value & 0xFF
        self.intx.set_level(self.latch >> 7)

    def reset(self):
        super().reset()
        self.latch = 0

    def post_load(self, version):
        super().post_load(version)
        self.intx.set_level(self.latch >> 7)


class Multi(Card):
    type_name = "multi"
    multifunction = True


class TestCard(DeviceConformance):
    device_class = Card


@pytest.fixture
def card(pci):
    return pci.plug(Card(addr="7"))


def all_ones(size):
    return (1 << 8 * size) - 1


# -- mechanism #1 -----------------------------------------------------------------------------------


def test_identification_is_where_the_header_says(pci, card):
    assert pci.config_read(card, 0x00) == 0x56781234
    assert pci.config_read(card, 0x08) == 0x04010209
    assert pci.config_read(card, 0x2C) == 0xBBBBAAAA
    assert pci.config_read(card, 0x3D, 1) == 1
    assert pci.config_read(card, 0x0E, 1) == 0


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_lane_reaches_its_register(pci, card, size):
    card.config[0x80:0x84] = b"\x11\x22\x33\x44"
    for offset in range(0, 4, size):
        expected = int.from_bytes(card.config[0x80 + offset : 0x80 + offset + size], "little")
        assert pci.config_read(card, 0x80 + offset, size) == expected


def test_absent_devices_and_functions_read_all_ones(pci, card):
    for address in (0x80000000 | 6 << 11, 0x80000000 | 7 << 11 | 1 << 8, 0x80010000 | 7 << 11, 7 << 11):
        pci.write(0xCF8, address, 4)
        for size in (1, 2, 4):
            assert pci.read(0xCFC, size) == all_ones(size)
        pci.write(0xCFC, 0, 4)
    assert pci.config_read(card, 0) == 0x56781234


def test_only_a_dword_reaches_the_address_register(pci):
    pci.write(0xCF8, 0x80001234, 4)
    for size in (1, 2):
        pci.write(0xCF8, 0, size)
        pci.write(0xCFA, 0, size)
    assert pci.read(0xCF8, 4) == 0x80001234
    assert (pci.read(0xCF8, 1), pci.read(0xCF8, 2)) == (0xFF, 0xFFFF)


def test_bits_that_are_wired_to_zero_read_zero(pci):
    pci.write(0xCF8, 0xFFFFFFFF, 4)
    assert pci.read(0xCF8, 4) == 0x80FFFFFC


def test_the_reset_port_among_the_address_ports_stays_free(pci, card):
    from pyemu.memory import PortioList

    seen = []
    PortioList("reset", [PortioEntry(0, 1, 1, lambda o, s: 0x42, lambda o, s, v: seen.append(v))], "cf9").add(pci.ports, 0xCF9)
    pci.write(0xCF9, 6, 1)
    assert (seen, pci.read(0xCF9, 1)) == ([6], 0x42)
    assert pci.config_read(card, 0) == 0x56781234


def test_the_address_is_declared_state(pci):
    pci.write(0xCF8, 0x80001234, 4)
    assert pci.config.vmstate.encode(pci.config) == bytes.fromhex("80001234")


# -- registers --------------------------------------------------------------------------------------


def test_only_writable_bits_are_written_and_ones_clear(pci, card):
    pci.config_write(card, 0x40, 0xFFFF, 2)
    assert pci.config_read(card, 0x40, 2) == 0x0F2F
    pci.config_write(card, 0x00, 0, 4)
    assert pci.config_read(card, 0x00) == 0x56781234


@given(st.lists(st.tuples(st.integers(0, 63), st.sampled_from([1, 2, 4]), st.integers(0, 0xFFFFFFFF)), max_size=30))
def test_read_only_bits_never_change(writes):
    fixture = PCIFixture()
    device = fixture.plug(Card())
    mutable = bytes(a | b for a, b in zip(device.wmask, device.w1c, strict=True))
    for dword, size, value in writes:
        fixture.config_write(device, dword * 4, value, size)
    for at in range(256):
        assert (device.config[at] ^ device.config_reset[at]) & ~mutable[at] & 0xFF == 0


def test_reset_brings_the_configuration_back_and_unmaps(pci, card):
    pci.config_write(card, 0x10, 0xE000)
    pci.config_write(card, 0x04, IO, 2)
    card.write(0, 1, 0x80)
    assert pci.mapped() and pci.lines[3].level
    pci.bus.reset()
    assert card.config == card.config_reset
    assert pci.mapped() == [] and pci.lines[3].level == 0


# -- base registers ---------------------------------------------------------------------------------


def test_sizing_reads_back_the_mask_and_maps_nothing(pci, card):
    pci.config_write(card, 0x04, IO | MEMORY, 2)
    for register, expected in ((0x10, 0xFFFFFFE1), (0x18, 0xFFFFF000), (0x14, 0)):
        pci.config_write(card, register, 0xFFFFFFFF)
        assert pci.config_read(card, register) == expected
    assert card.bars == ((0, "io", 32, None), (2, "mem32", 4096, None))


def test_an_io_range_answers_where_it_is_put_if_the_command_says_so(pci, card):
    pci.config_write(card, 0x10, 0xE000)
    assert pci.mapped() == []
    pci.config_write(card, 0x04, IO, 2)
    pci.write(0xE005, 0x5A)
    assert pci.mapped() == list(range(0xE000, 0xE020)) and pci.read(0xE01F) == 0x5A
    pci.config_write(card, 0x10, 0xD040)
    assert pci.mapped() == list(range(0xD040, 0xD060)) and pci.read(0xD040) == 0x5A
    pci.config_write(card, 0x04, 0, 1)
    assert pci.mapped() == [] and card.latch == 0x5A


def test_a_base_written_byte_by_byte_ends_at_the_whole(pci, card):
    pci.config_write(card, 0x04, IO, 2)
    for n, byte in enumerate((0x40, 0xC1, 0, 0)):
        pci.config_write(card, 0x10 + n, byte, 1)
    assert card.bar_address(0) == 0xC140


def test_a_memory_range_lies_under_ram(pci, card):
    pci.config_write(card, 0x04, MEMORY, 2)
    pci.config_write(card, 0x18, 0xF0000000)
    pci.memory.store(0xF0000123, 1, 0x33)
    assert pci.memory.load(0xF0000FFF, 1) == 0x33
    pci.config_write(card, 0x18, 0x1000)
    pci.memory.store(0x1123, 1, 0x44)
    assert card.latch == 0x33 and pci.ram.read(0x1123, 1) == b"\x44"
    pci.config_write(card, 0x18, 0xF0000000)
    assert pci.memory.load(0xF0000000, 1) == 0x33


@pytest.mark.parametrize("base", [0, 0x10000, 0xFFFF0000])
def test_ports_beyond_the_space_are_not_mapped(pci, card, base):
    pci.config_write(card, 0x04, IO, 2)
    pci.config_write(card, 0x10, base)
    assert pci.mapped() == [] and pci.config_read(card, 0x10) == base | 1


def test_a_handler_may_move_its_own_ports(pci):
    class Mover(Card):
        type_name = "mover"

        def write(self, offset, size, value):
            self.config_write(0x10, 4, 0xD000)

    mover = pci.plug(Mover())
    pci.config_write(mover, 0x04, IO, 2)
    pci.config_write(mover, 0x10, 0xE000)
    pci.write(0xE000, 1, 4)
    assert mover.bar_address(0) == 0xD000 and pci.mapped()[0] == 0xD000


@pytest.mark.parametrize(
    ("number", "size", "kind"), [(6, 32, "io"), (0, 32, "io"), (1, 33, "io"), (1, 2, "io"), (1, 8, "mem32"), (1, 64, "rom")]
)
def test_base_registers_that_cannot_be_are_refused(number, size, kind):
    with pytest.raises(ConfigError, match=f"card: base register {number}"):
        Card().register_bar(number, [PortioEntry(0, 1, 1, lambda o, s: 0)], size, kind)


# -- interrupts -------------------------------------------------------------------------------------


def test_pins_are_swizzled_by_slot_and_shared(pci):
    cards = [pci.bus.plug(Card(), devfn=slot << 3) for slot in (1, 2, 5)]
    for each in cards:
        each.intx.set_level(1)
    assert [line.level for line in pci.lines] == [0, 1, 1, 0]
    cards[0].intx.set_level(0)
    assert pci.lines[1].level == 1
    cards[2].intx.set_level(0)
    assert pci.edges == [(1, 1), (2, 1), (1, 0)]


def test_the_command_register_cuts_the_pin_off(pci, card):
    card.intx.set_level(1)
    assert pci.lines[3].level == 1 and pci.config_read(card, 0x06, 2) & 8
    pci.config_write(card, 0x04, INTX_OFF, 2)
    assert pci.lines[3].level == 0 and pci.config_read(card, 0x06, 2) & 8
    pci.config_write(card, 0x04, 0, 2)
    assert pci.lines[3].level == 1


def test_a_south_bridge_that_comes_later_learns_the_levels(pci, card):
    card.intx.set_level(1)
    seen = []
    pci.bus.route_irqs(lambda n, level: seen.append((n, level)))
    assert (3, 1) in seen
    seen.clear()
    pci.bus.route_irqs(lambda n, level: seen.append((n, level)), lambda device, pin: 0)
    assert pci.lines[0].level == 1 and pci.lines[3].level == 0
    assert dict(seen) == {0: 1, 1: 0, 2: 0, 3: 0}


# -- plugging ---------------------------------------------------------------------------------------


def test_slots_are_given_out_in_order_and_named(pci):
    assert [pci.plug(Card()).devfn for _ in range(2)] == [0, 8]
    assert pci.plug(Card(addr="1f.0")).section_name == "0000:00:1f.0/card"


def test_a_place_is_given_once(pci, card):
    with pytest.raises(ConfigError, match="7.0 of pci.0 is taken by card"):
        pci.plug(Card(addr="7"))
    assert pci.bus.by_devfn == {0x38: card}
    pci.bus.unplug(card)
    pci.plug(Card(addr="7"))


def test_functions_need_a_function_0_that_says_so(pci):
    pci.plug(Card(addr="3"))
    with pytest.raises(ConfigError, match="single function"):
        pci.plug(Card(addr="3.1"))
    pci.plug(Card(addr="4.1"))
    with pytest.raises(ConfigError, match="multi-function"):
        pci.plug(Card(addr="4.0"))
    whole = pci.plug(Multi(addr="4.0"))
    assert pci.config_read(whole, 0x0E, 1) == 0x80


def test_a_full_bus_says_so(pci):
    for _ in range(32):
        pci.plug(Card())
    with pytest.raises(ConfigError, match="all 32 slots"):
        pci.plug(Card())


def test_unplugged_ports_memory_and_pin_are_free(pci, card):
    pci.config_write(card, 0x04, IO | MEMORY, 2)
    pci.config_write(card, 0x10, 0xE000)
    pci.config_write(card, 0x18, 0xF0000000)
    card.intx.set_level(1)
    pci.bus.unplug(card)
    assert pci.mapped() == [] and not any(line.level for line in pci.lines)
    assert pci.memory.load(0xF0000000, 1) == 0xFF
    pci.plug(card)


@pytest.mark.parametrize(("text", "devfn"), [("0", 0), ("7.1", 0x39), ("1f.7", 0xFF), ("0x1f", 0xF8)])
def test_addresses(text, devfn):
    assert parse_address(text) == devfn


@pytest.mark.parametrize("text", ["", "20", "7.8", "7.", "-1", "7.1.1", "slot"])
def test_addresses_that_are_none(text):
    with pytest.raises(ConfigError, match="SLOT"):
        parse_address(text)


# -- state ------------------------------------------------------------------------------------------


def test_loading_maps_what_the_configuration_says(pci, card):
    pci.config_write(card, 0x10, 0xE000)
    pci.config_write(card, 0x04, IO, 2)
    card.write(0, 1, 0x99)
    data = card.vmstate.encode(card)
    other = PCIFixture()
    twin = other.plug(Card(addr="7"))
    load(twin, data)
    assert other.mapped() == list(range(0xE000, 0xE020)) and other.read(0xE000) == 0x99
    assert other.lines[3].level == 1


@pytest.mark.parametrize("register", [0x00, 0x02, 0x0B, 0x0E, 0x3D])
def test_a_file_of_another_device_is_refused_by_register(card, register):
    data = bytearray(card.vmstate.encode(card))
    data[register] ^= 1
    with pytest.raises(MigrationError, match=f"card: configuration register {register:#04x} is"):
        load(card, bytes(data))


def test_a_state_without_the_configuration_is_a_mistake_of_the_author():
    with pytest.raises(TypeError, match="Bad.*config"):

        class Bad(PCIDevice):
            type_name = "bad"
            vmstate = VMState("bad", fields=(uint8("x"),))


def test_capabilities_form_a_list(pci):
    class Capable(PCIDevice):
        type_name = "capable"

        def __init__(self, **properties):
            super().__init__(**properties)
            self.add_capability(0x01, 8, 0xC0)
            self.add_capability(0x05, 16, 0x80)

    device = pci.plug(Capable())
    assert pci.config_read(device, 0x06, 2) & 0x10
    assert pci.config_read(device, 0x34, 1) == 0xC0
    assert pci.config_read(device, 0xC0, 2) == 0x8001
    assert pci.config_read(device, 0x80, 2) == 0x0005
    for offset in (0x3C, 0x41, 0xFE):
        with pytest.raises(ConfigError):
            device.add_capability(1, 8, offset)


def load(device, data):
    import io

    device.vmstate.decode(device, io.BytesIO(data).read, device.vmstate.version)
    device.post_load(device.vmstate.version)

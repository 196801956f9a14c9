# SPDX-License-Identifier: MIT
"""UHCI, the USB keyboard and the USB disk, driven through schedules in memory."""

import io
import pathlib
import random
import struct

import pytest
from chips.usb_driver import ACTIVE, BASE, BUFFERS, DESCRIPTORS, END, LIST, QUEUE, Driver

from pyemu import ConfigError
from pyemu.chips import uhci
from pyemu.chips.usb import PID_IN, PID_OUT, USBBus
from pyemu.chips.usb_keyboard import REPORT_DESCRIPTOR, USBKeyboard
from pyemu.chips.usb_storage import USBStorage
from pyemu.device import BlockBackend


@pytest.fixture
def keyboard():
    return USBKeyboard()


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(random.Random(1).randbytes(64 * 512))
    with BlockBackend(path) as backend:
        yield backend


def port(driver, n=0):
    return driver.read(BASE + uhci.PORTS[n], 2)


def test_a_port_tells_what_is_plugged_in_and_is_enabled_after_a_reset(keyboard):
    driver = Driver()
    assert (port(driver), port(driver, 1)) == (0x80, 0x80)
    driver.usb.plug(keyboard)
    assert port(driver) == 0x80 | 0x100 | 0x20 | 0x02 | 0x01
    driver.enable_port()
    assert port(driver) == 0x80 | 0x100 | 0x20 | 0x04 | 0x01
    driver.usb.unplug(keyboard)
    assert port(driver) == 0x80 | 0x02 | 0x08
    driver.enable_port(1)
    assert not port(driver, 1) & 0x04, "an empty port cannot be enabled"


def test_a_keyboard_is_enumerated_and_types(keyboard):
    driver = Driver(keyboard)
    driver.configure()
    device = driver.control(0x80, 6, 0x0100, length=64)
    assert device == keyboard.device_descriptor and len(device) == 18
    configuration = driver.control(0x80, 6, 0x0200, length=255)
    assert len(configuration) == int.from_bytes(configuration[2:4], "little")
    assert driver.control(0x81, 6, 0x2200, length=255) == REPORT_DESCRIPTOR
    assert driver.control(0x80, 6, 0x0302, length=255)[2:].decode("utf-16-le") == "keyboard"
    assert driver.control(0x80, 6, 0x0309, length=255) is None, "no such string"
    assert driver.control(0x21, 9, 0x0200, data=b"\x02") == b""
    assert keyboard.leds == 2
    # Nothing typed: the transaction stays active. Then a key goes down and up.
    (status,) = driver.transfer((PID_IN, 1, b"", 8))
    assert status & ACTIVE and status & uhci.TD_NAK
    assert keyboard.press([4], modifiers=2)
    driver.frames(2)
    assert driver.result(0) == bytes([2, 0, 4, 0, 0, 0, 0, 0])
    driver.transfer((PID_IN, 1, b"", 8))
    assert driver.result(0) == bytes(8)
    assert [keyboard.press([5]) for _ in range(9)] == [True] * 8 + [False]


def command(length, block, to_host=True, tag=7):
    return struct.pack("<IIIBBB16s", 0x43425355, tag, length, 0x80 if to_host else 0, 0, len(block), block)


def scsi(driver, length, block, data=None):
    """A command with its data stage: what came, residue and result."""
    driver.bulk_out(command(length, block, data is None))
    answer = driver.bulk_in(length) if data is None and length else b""
    if data is not None:
        driver.bulk_out(data)
    signature, tag, residue, result = struct.unpack("<IIIB", driver.bulk_in(13))
    assert (signature, tag) == (0x53425355, 7)
    return answer, residue, result


def read_10(block, count):
    return struct.pack(">BBIBHB", 0x28, 0, block, 0, count, 0)


def test_a_disk_answers_and_reads_and_writes_through(disk):
    driver = Driver(USBStorage(drive=disk))
    driver.configure()
    assert driver.control(0xA1, 0xFE, length=1) == b"\0"
    answer, residue, result = scsi(driver, 36, b"\x12\0\0\0\x24\0")
    assert (answer[8:13], len(answer), residue, result) == (b"pyemu", 36, 0, 0)
    assert scsi(driver, 8, b"\x25" + bytes(9)) == (struct.pack(">II", 63, 512), 0, 0)
    contents = pathlib.Path(disk.path).read_bytes()
    assert scsi(driver, 1024, read_10(5, 2)) == (contents[5 * 512 : 7 * 512], 0, 0)
    data = bytes(range(256)) * 4
    assert scsi(driver, 1024, struct.pack(">BBIBHB", 0x2A, 0, 9, 0, 2, 0), data) == (b"", 0, 0)
    assert pathlib.Path(disk.path).read_bytes() == contents[: 9 * 512] + data + contents[11 * 512 :]


def test_what_a_disk_cannot_do_has_a_reason(disk):
    driver = Driver(USBStorage(drive=disk))
    driver.configure()
    assert scsi(driver, 512, read_10(64, 1)) == (b"", 512, 1)
    assert scsi(driver, 18, b"\x03\0\0\0\x12\0")[0][2:13:10] == bytes((5, 0x21)), "block out of range"
    assert scsi(driver, 0, b"\xfe")[2] == 1
    assert scsi(driver, 18, b"\x03\0\0\0\x12\0")[0][2:13:10] == bytes((5, 0x20)), "unknown command"
    assert scsi(driver, 1024, read_10(0, 1))[1:] == (512, 0), "less than the host expected"
    assert scsi(driver, 512, read_10(0, 2))[2] == 2, "more than it expected"


def test_a_transfer_goes_on_in_another_machine(disk):
    driver, other = Driver(USBStorage(drive=disk)), Driver(USBStorage(drive=disk))
    driver.configure()
    other.configure()
    driver.bulk_out(command(1024, read_10(3, 2)))
    first = driver.bulk_in(300)  # in packets of 64 bytes and one of 44
    state, source, target = USBStorage.vmstate, driver.usb.ports[0], other.usb.ports[0]
    state.decode(target, io.BytesIO(state.encode(source)).read, 1)
    target.post_load(1)
    rest = other.bulk_in(1024 - 300)
    contents = pathlib.Path(disk.path).read_bytes()[3 * 512 : 5 * 512]
    assert (first, rest) == (contents[:300], contents[300:])


def test_nonsense_for_a_command_needs_a_reset_of_the_transport(disk):
    driver = Driver(USBStorage(drive=disk))
    driver.configure()
    (status,) = driver.bulk_out(b"nonsense")
    assert status & uhci.TD_STALLED
    (status,) = driver.bulk_out(command(0, b"\0" * 6))
    assert status & uhci.TD_STALLED
    assert driver.control(0x21, 0xFF) == b""
    assert scsi(driver, 0, b"\0" * 6)[2] == 0


def test_a_read_only_image_is_protected(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    with BlockBackend(path, read_only=True) as backend:
        driver = Driver(USBStorage(drive=backend))
        driver.configure()
        assert scsi(driver, 512, struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 1, 0), b"x" * 512)[2] == 1
    assert path.read_bytes() == bytes(4096)


def test_completion_interrupts_and_short_packets_stop_a_queue(keyboard):
    driver = Driver(keyboard)
    driver.configure()
    driver.write(BASE + uhci.STATUS, 0x1F, 2)
    driver.level.clear()
    keyboard.press([4])
    first, second = driver.transfer((PID_IN, 1, b"", 64), (PID_IN, 1, b"", 64), flags=1 << 29)
    assert not first & ACTIVE and second & ACTIVE
    assert driver.level == [1]
    driver.write(BASE + uhci.STATUS, 0x01, 2)
    assert driver.level == [1, 0]


def test_nobody_at_an_address_uses_up_the_errors():
    driver = Driver()
    driver.start()
    driver.transfer((PID_IN, 1, b"", 8), address=9)
    driver.frames(2)
    assert driver.status(0) & (uhci.TD_STALLED | uhci.TD_TIMEOUT | ACTIVE | 3 << 27) == uhci.TD_STALLED | uhci.TD_TIMEOUT
    assert driver.read(BASE + uhci.STATUS) & uhci.STATUS_ERROR
    assert driver.level[-1] == 1


@pytest.mark.parametrize("token", [0x00, 0x69 | 0x600 << 21])
def test_a_descriptor_that_no_controller_accepts_halts_it(token):
    driver = Driver()
    driver.start()
    driver.memory.write(DESCRIPTORS, struct.pack("<4I", END, ACTIVE, token, BUFFERS))
    driver.queue(DESCRIPTORS)
    driver.frames(2)
    assert driver.read(BASE + uhci.STATUS) & 0x30 == 0x30
    assert driver.level == [1]
    driver.write(BASE + uhci.COMMAND, 0x02, 2)
    assert driver.level == [1, 0]


def count_reads(driver):
    """How many descriptors and queues one frame looks at."""
    seen = []
    memory = driver.memory

    class Counting:
        load, store, write = memory.load, memory.store, memory.write

        def read(self, at, length):
            seen.append(at)
            return memory.read(at, length)

    driver.controller.memory = Counting()
    driver.frames(1)
    return len(seen)


def test_lists_without_end_end():
    driver = Driver()
    driver.start()
    # A queue that points at itself, a descriptor that does, and a long chain.
    driver.memory.write(QUEUE, struct.pack("<2I", QUEUE | uhci.LINK_QUEUE, END))
    assert count_reads(driver) == 1
    driver.memory.write(DESCRIPTORS, struct.pack("<4I", DESCRIPTORS, 0, 0, 0))
    driver.memory.write(QUEUE, struct.pack("<2I", DESCRIPTORS, END))
    assert 1 < count_reads(driver) <= uhci.MAX_VISITS
    for n in range(1000):
        driver.memory.write(0x40000 + 16 * n, struct.pack("<2I", 0x40010 + 16 * n | uhci.LINK_QUEUE, END))
    driver.memory.write(QUEUE, struct.pack("<2I", 0x40000 | uhci.LINK_QUEUE, END))
    assert count_reads(driver) <= uhci.MAX_VISITS


@pytest.mark.parametrize("seed", range(2))
def test_random_schedules_neither_raise_nor_hang(seed, keyboard, disk):
    chance = random.Random(seed)
    driver = Driver(keyboard, USBStorage(drive=disk))
    driver.enable_port(0)
    driver.enable_port(1)
    pids = (PID_IN, PID_OUT, 0x2D, 0x2D, 0x11)
    for _ in range(8):
        driver.start()
        for at in range(0, 0x1000, 16):
            link = chance.choice((END, chance.getrandbits(32), 0x50000 + chance.randrange(0, 0x1000, 16) | chance.randrange(8)))
            token = chance.choice(pids) | chance.randrange(3) << 8 | chance.randrange(4) << 15 | chance.randrange(70) << 21
            driver.memory.write(0x50000 + at, struct.pack("<4I", link, chance.getrandbits(32), token, chance.getrandbits(20)))
        for n in range(1024):
            driver.memory.store(LIST + 4 * n, 4, 0x50000 + chance.randrange(0, 0x1000, 16) | chance.randrange(4))
        driver.frames(5)
    assert keyboard.count <= 16


def test_ports_that_are_taken_or_missing_are_refused(keyboard):
    bus = USBBus(1)
    bus.plug(keyboard)
    with pytest.raises(ConfigError, match="every port of usb.0 is taken"):
        bus.plug(USBKeyboard())
    with pytest.raises(ConfigError, match="port 2 of usb.0"):
        USBBus(1).plug(USBKeyboard(port=2))
    with pytest.raises(ConfigError, match="drive="):
        USBBus(1).plug(USBStorage())

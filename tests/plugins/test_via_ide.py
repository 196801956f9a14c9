# SPDX-License-Identifier: MIT
"""Function 1 of the VIA chips with disks: DMA as Linux's pata_via does it, in legacy and in native mode."""

import struct

import pytest

from pyemu import Machine
from pyemu.testing.board import Board

MASTER, TABLE, MEMORY = 0xC000, 0x1000, 0x10000
CONTENT = bytes(range(256)) * 8192
IDE, COMMAND, ENABLE, INTERFACE = 1, 0x04, 0x40, 0x09


@pytest.fixture
def board(tmp_path):
    disk, cd = tmp_path / "disk.img", tmp_path / "cd.iso"
    disk.write_bytes(CONTENT)
    cd.write_bytes(CONTENT[::-1])
    drives = [f"file={disk},snapshot=on", f"file={cd},media=cdrom,index=2"]
    with Machine("via-pc", cpu="none", clock="step", memory="2M", drives=drives) as machine:
        board = Board(machine=machine)
        board.init_pic()
        board.set_cfg(IDE, ENABLE, 0x03)
        board.set_cfg(IDE, 0x20, MASTER, 4)
        board.set_cfg(IDE, COMMAND, 0x05)
        yield board


def regions(board, *parts):
    """A descriptor table in the guest's memory, as 32-bit numbers."""
    table = b"".join(
        struct.pack("<IHH", at, length & 0xFFFF, 0x8000 * (n == len(parts) - 1)) for n, (at, length) in enumerate(parts)
    )
    board.call(lambda: board.machine.memory.write(TABLE, table))


def read_dma(board, base, master, sector, count):
    """READ DMA of disk 0, up to the interrupt."""
    for offset, value in ((6, 0xE0), (2, count), (3, sector & 0xFF), (4, sector >> 8), (5, 0)):
        board.outb(base + offset, value)
    board.outb(master + 4, TABLE, 4)
    board.outb(master, 0x08)
    board.outb(master + 2, board.inb(master + 2) | 6)
    board.outb(base + 7, 0xC8)
    board.outb(master, 0x09)


def memory(board, length):
    return board.call(lambda: board.machine.memory.read(MEMORY, length))


def test_a_disk_in_legacy_mode(board):
    regions(board, (MEMORY, 1024), (MEMORY + 1024, 1024))
    read_dma(board, 0x1F0, MASTER, 9, 4)
    assert (board.inb(MASTER + 2), board.requests()) == (4, {14})
    assert (board.cfg(IDE, 0x70), board.cfg(IDE, 0x78), board.cfg(IDE, 0x70, 4) & 0xFF) == (0x80, 0, 0x80)
    assert board.inb(0x1F7) == 0x50
    assert (board.requests(), board.cfg(IDE, 0x70)) == (set(), 0)
    assert memory(board, 2048) == CONTENT[9 * 512 : 13 * 512]


def test_a_disk_in_native_mode(board):
    board.set_cfg(IDE, INTERFACE, 0x8F)
    for register, value in ((0x10, 0xE000), (0x14, 0xE010), (0x18, 0xE020), (0x1C, 0xE030)):
        board.set_cfg(IDE, register, value, 4)
    regions(board, (MEMORY, 512))
    read_dma(board, 0xE000, MASTER, 1, 1)
    assert (board.inb(MASTER + 2), board.requests()) == (4, {14}), "register 3C is wired to 0E"
    assert memory(board, 512) == CONTENT[512:1024]


def test_a_cd_on_the_second_channel(board):
    regions(board, (MEMORY, 2048))
    for packet in (bytes(12), struct.pack(">BBIxHxxx", 0x28, 0, 3, 1)):
        board.outb(0x176, 0xA0)
        board.outb(0x171, 1)
        board.outb(MASTER + 12, TABLE, 4)
        board.outb(MASTER + 8, 0x08)
        board.outb(0x177, 0xA0)
        for at in range(0, 12, 2):
            board.outb(0x170, int.from_bytes(packet[at : at + 2], "little"), 2)
        board.outb(MASTER + 8, 0x09)
        status = board.inb(0x177)
        board.outb(MASTER + 8, 0x00)
    assert (status, board.inb(MASTER + 10)) == (0x50, 4)
    assert memory(board, 2048) == CONTENT[::-1][3 * 2048 : 4 * 2048]


def test_without_the_right_to_master_the_bus_it_waits_for_it(board):
    board.set_cfg(IDE, COMMAND, 0x01)
    regions(board, (MEMORY, 512))
    read_dma(board, 0x1F0, MASTER, 0, 1)
    assert (board.inb(MASTER + 2), board.requests(), memory(board, 512)) == (1, set(), bytes(512))
    board.set_cfg(IDE, COMMAND, 0x05)
    assert (board.inb(MASTER + 2), board.requests()) == (4, {14})


def test_timing_registers_hold_what_pata_via_writes(board):
    for register, value in ((0x4B, 0x20), (0x4A, 0x31), (0x49, 0x99), (0x48, 0xA8), (0x4C, 0xFF), (0x4F, 0x20), (0x4E, 0xA8)):
        board.set_cfg(IDE, register, value)
        assert board.cfg(IDE, register) == value
    for register, value in ((0x53, 0xE0), (0x52, 0xE1), (0x51, 0xE2), (0x50, 0x07)):
        board.set_cfg(IDE, register, value)
        assert board.cfg(IDE, register) == value & 0xD7, "bits 5 and 3 of the UDMA timing are not there"


def test_the_capable_bits_are_the_drivers(board):
    board.outb(MASTER + 2, 0x60)
    assert board.inb(MASTER + 2) == 0x60
    board.outb(MASTER + 4, 0x12345677, 4)
    assert board.inb(MASTER + 4, 4) == 0x12345674


def test_a_machine_saved_in_the_middle_of_a_transfer_ends_it(board, tmp_path):
    from pyemu import restore

    regions(board, *[(MEMORY + 0x10000 * n, 0) for n in range(6)])
    for value in (3, 0):
        board.outb(0x1F2, value)
    for offset in (3, 3, 4, 4, 5, 5):
        board.outb(0x1F0 + offset, 0)
    board.outb(0x1F6, 0x40)
    board.outb(MASTER + 4, TABLE, 4)
    board.outb(0x1F7, 0x25)
    board.outb(MASTER, 0x09)
    assert (board.inb(MASTER + 2), board.requests()) == (1, set())
    board.machine.save(tmp_path / "saved")
    with restore(tmp_path / "saved", host_files=True) as machine:
        other = Board(machine=machine)
        assert other.inb(MASTER + 2) == 1
        machine.cont()
        machine.run(until=lambda: other.inb(MASTER + 2) == 4, timeout=20)
        assert other.requests() == {14}
        machine.stop()
        assert memory(other, 6 << 16) == CONTENT[: 6 << 16]

# SPDX-License-Identifier: MIT
"""Data between floppy images and memory: by DMA, through the FIFO, and in the middle of a migration."""

import io

import pytest
from chips.fdc_driver import DOR, FIFO, MFM, MSR, MT, SIZES, Rig, pattern

READ, WRITE, FORMAT, VERIFY, READ_TRACK = MFM | 0x06, MFM | 0x05, MFM | 0x0D, MFM | 0x16, MFM | 0x02
SPT = {"160K": 8, "360K": 9, "720K": 9, "1.2M": 15, "1.44M": 18, "2.88M": 36}


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    rig.start()
    yield rig
    rig.close()


@pytest.fixture
def fifo(tmp_path):
    """A controller that moves data without DMA."""
    rig = Rig(tmp_path)
    rig.start(dma=False)
    yield rig
    rig.close()


def block(n, count=1):
    return pattern(1440 * 1024)[n * 512 : (n + count) * 512]


@pytest.mark.parametrize("media", SIZES)
def test_every_format_reads_to_its_last_sector(tmp_path, media):
    rig = Rig(tmp_path, media)
    rig.start()
    heads, tracks, last = (1 if media == "160K" else 2), (40 if SIZES[media] <= 360 else 80), SPT[media]
    rig.seek(tracks - 1)
    rig.program_dma(512, to_memory=True)
    side = heads - 1
    got = rig.command(READ, side << 2, tracks - 1, side, last, 2, last, 0x1B, 0xFF)
    assert got == [side << 2, 0, 0, tracks, side, 1, 2]
    assert rig.memory(512) == rig.image()[-512:]
    rig.close()


def test_a_track_of_both_sides_in_one_command(rig):
    rig.program_dma(36 * 512, to_memory=True)
    assert rig.command(MT | READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF) == [0x04, 0, 0, 1, 0, 1, 2]
    assert rig.memory(36 * 512) == block(0, 36)
    assert rig.edges() == 1


def test_dma_marks_the_pages_it_writes(rig):
    bitmap = rig.fixture.ram.dirty_client("test")
    bitmap.clear_all()
    rig.program_dma(9 * 512, to_memory=True)
    rig.command(READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)
    assert [page for page in range(256) if bitmap.test(page)] == [0x20, 0x21]


def test_the_result_names_the_sector_after_the_last(rig):
    rig.program_dma(3 * 512, to_memory=True)
    assert rig.command(READ, 0, 0, 0, 4, 2, 18, 0x1B, 0xFF) == [0, 0, 0, 0, 0, 7, 2]


def test_without_terminal_count_the_end_of_the_track_is_an_error(rig):
    rig.program_dma(4 * 512, to_memory=True)
    assert rig.command(READ, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF) == [0x40, 0x80, 0, 1, 0, 1, 2]
    assert rig.memory(4 * 512) == block(16, 2) + bytes(1024)


def test_writing_reaches_the_file(rig):
    data = bytes(range(256)) * 4
    rig.fixture.ram.write(0x20000, data)
    rig.program_dma(1024, to_memory=False)
    assert rig.command(WRITE, 4, 0, 1, 18, 2, 18, 0x1B, 0xFF) == [0x44, 0x80, 0, 1, 1, 1, 2]
    assert rig.image()[35 * 512 : 37 * 512] == data[:512] + block(36)
    rig.seek(1)
    rig.program_dma(1024, to_memory=False)
    assert rig.command(WRITE, 0, 1, 0, 1, 2, 18, 0x1B, 0xFF) == [0, 0, 0, 1, 0, 3, 2]
    assert rig.image()[36 * 512 : 38 * 512] == data


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ((0, 1, 0, 1, 2, 18), [0x40, 0x04, 0x10]),  # another cylinder than the head is on
        ((0, 255, 0, 1, 2, 18), [0x40, 0x04, 0x12]),
        ((0, 0, 1, 1, 2, 18), [0x40, 0x04, 0x00]),  # a head number that is not in the address marks
        ((0, 0, 0, 0, 2, 18), [0x40, 0x04, 0x00]),
        ((0, 0, 0, 19, 2, 19), [0x40, 0x04, 0x00]),
        ((0, 0, 0, 1, 3, 18), [0x40, 0x04, 0x00]),  # 1024-byte sectors
        ((1, 0, 0, 1, 2, 18), [0x41, 0x01, 0x00]),  # no such drive
    ],
)
def test_sectors_that_cannot_be_found(rig, parameters, status):
    rig.program_dma(512, to_memory=True)
    assert rig.command(READ, *parameters, 0x1B, 0xFF)[:3] == status
    assert rig.memory(512) == bytes(512)
    assert rig.edges() == 1


def test_formatting_what_an_image_cannot_hold_is_an_error(rig):
    ids = bytes((0, 0, 1, 2)) + bytes((0, 0, 19, 2)) + bytes((0, 0, 2, 3))
    rig.fixture.ram.write(0x20000, ids)
    rig.program_dma(len(ids), to_memory=False)
    assert rig.command(FORMAT, 0, 2, 3, 0x54, 0xE5)[:3] == [0x40, 0x04, 0]
    assert rig.image()[:1024] == b"\xe5" * 512 + block(1)


def test_verify_moves_nothing(rig):
    assert rig.command(VERIFY, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF) == [0, 0, 0, 1, 0, 1, 2]
    assert rig.command(VERIFY, 0x80, 0, 0, 3, 2, 18, 0x1B, 2) == [0, 0, 0, 0, 0, 5, 2]
    assert rig.command(VERIFY, 0x80, 0, 0, 18, 2, 18, 0x1B, 2)[:3] == [0x40, 0x80, 0]
    assert rig.command(VERIFY, 0, 0, 0, 1, 2, 20, 0x1B, 0xFF)[:3] == [0x40, 0x04, 0]


def test_read_track_begins_at_the_first_sector(rig):
    rig.program_dma(2 * 512, to_memory=True)
    assert rig.command(READ_TRACK, 0, 0, 0, 9, 2, 18, 0x1B, 0xFF)[:3] == [0, 0, 0]
    assert rig.memory(1024) == block(0, 2)


def test_read_deleted_meets_normal_data(rig):
    rig.program_dma(4 * 512, to_memory=True)
    assert rig.command(MFM | 0x0C, 0, 0, 0, 3, 2, 18, 0x1B, 0xFF) == [0, 0, 0x40, 0, 0, 4, 2]
    assert rig.memory(1024) == block(2) + bytes(512)
    rig.program_dma(512, to_memory=True)
    assert rig.command(MFM | 0x2C, 0, 0, 0, 3, 2, 18, 0x1B, 0xFF)[:2] == [0x40, 0x80]


@pytest.mark.parametrize(
    ("op", "record", "host", "st2"),
    [
        (0x11, 1, b"\0" * 512, 0x08),
        (0x11, 1, b"\xff" * 512, 0x08),  # FF matches anything
        (0x11, 1, b"\1" * 512, 0x04),
        (0x19, 1, b"\1" * 512, 0x00),  # the disk is lower than the host's data
        (0x1D, 1, b"\1" * 512, 0x04),
        (0x1D, 2, b"\0" * 512, 0x00),
        (0x19, 2, b"\0" * 512, 0x04),
    ],
)
def test_scans_compare_the_disk_with_the_host(rig, op, record, host, st2):
    # Sector 1 holds zeros, sector 2 the word 00000001 over and over.
    rig.fixture.ram.write(0x20000, host)
    rig.program_dma(512, to_memory=False)
    assert rig.command(MFM | op, 0, 0, 0, record, 2, record, 0x1B, 1)[:3] == [0, 0, st2]


def test_a_scan_goes_on_to_the_sector_that_matches(rig):
    rig.fixture.ram.write(0x20000, block(2) * 3)
    rig.program_dma(3 * 512, to_memory=False)
    assert rig.command(MFM | 0x11, 0, 0, 0, 1, 2, 18, 0x1B, 1) == [0, 0, 0x08, 0, 0, 3, 2]


def test_implied_seek_goes_where_the_command_says(rig):
    rig.command(0x13, 0, 0x40, 0)
    rig.program_dma(512, to_memory=True)
    assert rig.command(READ, 0, 50, 0, 1, 2, 18, 0x1B, 0xFF)[:3] == [0, 0, 0]
    assert rig.memory(512) == block(50 * 36)


def test_sectors_beyond_a_short_image_are_not_found(tmp_path):
    rig = Rig(tmp_path, data=b"\x11" * 512)
    rig.start()
    rig.program_dma(1024, to_memory=True)
    assert rig.command(READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)[:4] == [0x40, 0x04, 0, 0]
    assert rig.memory(1024) == b"\x11" * 512 + bytes(512)
    rig.close()


# -- through the FIFO ---------------------------------------------------------------------------------


def test_reading_byte_by_byte_interrupts_for_each(fifo):
    fifo.send(READ, 0, 0, 0, 18, 2, 18, 0x1B, 0xFF)
    data = bytearray()
    while fifo.inb(MSR) == 0xF0:
        assert fifo.irq
        data.append(fifo.inb(FIFO))
    assert data == block(17)
    assert fifo.edges() == 513, "512 bytes and the result"
    assert fifo.result() == [0x40, 0x80, 0, 1, 0, 1, 2], "without DMA there is no terminal count"


def test_a_reset_ends_a_transfer(fifo):
    fifo.send(READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)
    fifo.inb(FIFO)
    fifo.outb(DOR, 0x38)
    assert (fifo.inb(MSR), fifo.irq) == (0, 0)
    fifo.outb(DOR, 0x3C)
    assert fifo.inb(MSR) == 0x80
    assert fifo.command(0x08) == [0xC0, 0]


# -- state --------------------------------------------------------------------------------------------


def copy_state(source, target):
    stream = io.BytesIO(source.vmstate.encode(source))
    source_size = len(stream.getvalue())
    target.vmstate.decode(target, stream.read, target.vmstate.version)
    assert stream.tell() == source_size
    target.post_load(target.vmstate.version)


@pytest.mark.parametrize("moved", [0, 1, 511, 512, 700])
def test_saved_in_the_middle_of_a_read_it_goes_on_elsewhere(tmp_path, moved):
    here, there = Rig(tmp_path), None
    here.start(dma=False)
    here.send(READ, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF)
    data = bytearray(here.inb(FIFO) for _ in range(moved))
    here.close()
    there = Rig(tmp_path)
    copy_state(here.fdc, there.fdc)
    assert there.irq == here.irq
    while there.inb(MSR) == 0xF0:
        data.append(there.inb(FIFO))
    assert data == block(16, 2)
    assert there.result()[:2] == [0x40, 0x80]
    there.close()


def test_saved_while_its_dma_channel_is_masked_the_request_comes_back(tmp_path):
    here = Rig(tmp_path)
    here.start()
    here.program_dma(1024, to_memory=True, masked=True)
    here.send(READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)
    here.close()
    there = Rig(tmp_path)
    copy_state(here.fdc, there.fdc)
    copy_state(here.dma, there.dma)
    assert there.memory(1024) == bytes(1024)
    there.outb(0x0A, 0x02)
    assert there.result() == [0, 0, 0, 0, 0, 3, 2]
    assert there.memory(1024) == block(0, 2)
    there.close()


def test_hidden_in_the_middle_of_a_transfer_it_goes_on_when_shown(rig):
    rig.program_dma(1024, to_memory=True, masked=True)
    rig.send(READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)
    rig.fdc.set_enabled(False)
    rig.outb(0x0A, 0x02)
    assert rig.memory(1024) == bytes(1024)
    rig.fdc.set_enabled(True)
    assert rig.memory(1024) == block(0, 2)
    assert rig.result() == [0, 0, 0, 0, 0, 3, 2]

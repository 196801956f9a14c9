# SPDX-License-Identifier: MIT
"""A picture of RAM is kept while it is being written, whoever writes it and however fast."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pyemu.errors import MemoryMapError
from pyemu.memory import PageKeeper, RAMBlock
from pyemu.memory._uffd import UserfaultSource
from pyemu.memory.dirty import probe_uffd
from pyemu.migration.pages import take_runs

PAGE = 4096


@pytest.fixture
def keeper():
    made = PageKeeper()
    try:
        made.start([RAMBlock("probe", PAGE)])
    except MemoryMapError as error:
        pytest.skip(f"needs userfaultfd: {error}")
    made.stop()
    made = PageKeeper(limit=8 * PAGE, reserve=4 * PAGE)
    yield made
    made.stop()


@pytest.fixture(params=["anon", "memfd"])
def block(request):
    block = RAMBlock("ram", 200 * PAGE, backing=request.param)
    pages = block.array.reshape(-1, PAGE)
    pages[1::2, 100] = np.arange(1, 101)
    return block


class Writer:
    """Writes a block's picture into an array, as a backend would into a file."""

    def __init__(self, keeper, block):
        self.keeper, self.block = keeper, block
        self.picture = np.full(block.used_length, 0xEE, dtype=np.uint8)
        self.at = 0

    def copies(self):
        runs, _ = take_runs(self.keeper.aside(self.block).words, self.block.pages, 0, 1 << 20)
        self.take(runs, self.keeper.copies(self.block))
        if len(runs):
            self.keeper.returned(self.block, runs)
        return len(runs)

    def pages(self, limit):
        runs, self.at = take_runs(self.keeper.pending(self.block).words, self.block.pages, self.at, limit)
        self.take(runs, self.block.array)
        if len(runs):
            self.keeper.done(self.block, runs)
        return len(runs)

    def take(self, runs, memory):
        for first, count in runs.tolist():
            self.picture[first * PAGE : (first + count) * PAGE] = memory[first * PAGE : (first + count) * PAGE]

    def all(self):
        while self.copies() or self.pages(7):
            pass
        self.keeper.stop()
        self.copies()
        return self.picture


def test_the_picture_is_that_of_the_moment(keeper, block):
    keeper = PageKeeper()
    before = block.array.copy()
    keeper.start([block])
    block.array[PAGE] = 99
    before[PAGE] = 99  # not protected yet
    keeper.protect()
    writer = Writer(keeper, block)
    ended = threading.Event()
    written = threading.Event()

    def guest():
        rng = np.random.default_rng(1)
        while not ended.is_set():
            block.array[int(rng.integers(0, 200)) * PAGE + int(rng.integers(0, PAGE))] ^= 0x55
            written.set()

    thread = threading.Thread(target=guest)
    thread.start()
    written.wait()
    picture = writer.all()
    ended.set()
    thread.join()
    keeper.check()
    assert np.array_equal(picture, before)
    assert keeper.statistics["copied"] > 0
    assert not np.array_equal(block.array, before)


def test_a_page_that_was_handed_over_is_written_without_a_fault(keeper, block):
    keeper.start([block])
    keeper.protect()
    keeper.done(block, np.array([[0, 200]]))
    block.array[::PAGE] = 1
    assert keeper.statistics["faults"] == 0


def test_a_write_waits_for_room_and_the_writer_makes_it(keeper, block):
    before = block.array.copy()
    keeper.start([block])
    keeper.protect()

    def guest():
        for page in range(100):
            block.write(page * PAGE, b"x" * PAGE)

    thread = threading.Thread(target=guest)
    thread.start()
    writer = Writer(keeper, block)
    while thread.is_alive():
        writer.copies()
        thread.join(0.001)
    assert np.array_equal(writer.all(), before)
    assert keeper.statistics["peak"] <= 8 * PAGE
    assert keeper.statistics["waits"] > 0


def test_a_writer_that_is_away_is_not_waited_for(keeper, block):
    keeper.start([block])
    keeper.protect()
    keeper.away(True)
    block.array[: 10 * PAGE : PAGE] = 1
    keeper.check()
    block.array[: 20 * PAGE : PAGE] = 1  # beyond the reserve
    with pytest.raises(MemoryMapError, match=r"picture of RAM was lost: the limit of 0 MiB .* writes RAM"):
        keeper.check()
    assert keeper.statistics["peak"] <= 12 * PAGE
    block.array[::PAGE] = 2


def test_a_store_that_holds_pythons_lock_does_not_wait_for_ever(keeper, block):
    keeper.start([block])
    keeper.protect()
    memory = memoryview(block.array)
    # One step of the interpreter, which lets go of its lock nowhere: nobody else can make room.
    memory[: 9 * PAGE] = bytes(9 * PAGE)
    keeper.check()
    assert 8 * PAGE < keeper.statistics["peak"] <= 12 * PAGE


def test_the_kernel_may_write_what_was_prepared(keeper, block, tmp_path):
    before = block.array.copy()
    (tmp_path / "x").write_bytes(b"y" * 3 * PAGE)
    keeper.start([block])
    keeper.protect()
    block.prepare_write(5 * PAGE + 1, 2 * PAGE)
    with open(tmp_path / "x", "rb", buffering=0) as file:
        assert file.readinto(block.array[5 * PAGE + 1 : 7 * PAGE + 1].data) == 2 * PAGE
    assert keeper.statistics["faults"] == 0
    assert np.array_equal(Writer(keeper, block).all(), before)


def test_a_dirty_source_lets_go_and_comes_back(keeper, block):
    if (trouble := probe_uffd()) is not None:
        pytest.skip(f"needs PAGEMAP_SCAN: {trouble}")
    client = block.dirty_client("migration")
    source = UserfaultSource()
    source.start([block])
    block.array[3 * PAGE] = 1
    keeper.start([block])
    assert client.count() == 1
    keeper.protect()
    block.array[4 * PAGE] = 1
    assert source.sync() == 0
    keeper.stop()
    client.clear_all()
    # Nobody saw what was written meanwhile.
    assert source.sync() == 200
    client.clear_all()
    block.array[4 * PAGE] = 2
    assert (source.sync(), client.test(4)) == (1, True)
    source.stop()


def test_what_cannot_be_protected_is_named(keeper, block, tmp_path):
    (tmp_path / "x").write_bytes(bytes(4 * PAGE))
    over = RAMBlock("over", 4 * PAGE, backing="file-private", path=tmp_path / "x")
    with pytest.raises(MemoryMapError, match=r"RAM block over: backing file-private cannot .* settle\(\) it first"):
        keeper.start([block, over])
    block.array[0] = 1  # of which nothing is left
    over.settle()
    keeper.start([block, over])
    with pytest.raises(MemoryMapError, match="being kept already"):
        keeper.start([block])
    with pytest.raises(MemoryMapError, match="not in this picture"):
        keeper.pending(RAMBlock("other", PAGE))
    with pytest.raises(MemoryMapError, match="no pages 199 to 200"):
        keeper.done(block, np.array([[199, 2]]))


def test_the_end_lets_everybody_go_on(keeper, block):
    keeper.start([block])
    keeper.protect()
    thread = threading.Thread(target=lambda: block.write(0, b"z" * 20 * PAGE))
    thread.start()
    while not keeper.statistics["waits"]:
        thread.join(0.001)
    keeper.stop()
    thread.join()
    assert block.read(0, 20 * PAGE) == b"z" * 20 * PAGE
    keeper.stop()

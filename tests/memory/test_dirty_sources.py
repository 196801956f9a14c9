# SPDX-License-Identifier: MIT
"""Every dirty source passes the same tests; the kernel's is there wherever the kernel has it."""

from __future__ import annotations

import errno
import os
import random
import threading

import pytest

from pyemu.errors import ConfigError, MemoryMapError
from pyemu.memory import RAMBlock, dirty, select_dirty_source
from pyemu.memory._compare import CompareSource
from pyemu.memory._uffd import UserfaultSource

PAGE = 4096


@pytest.fixture(params=["uffd", "compare"])
def source(request):
    if request.param == "uffd" and (trouble := dirty.probe_uffd()) is not None:
        pytest.skip(f"this kernel cannot track writes: {trouble}")
    source = UserfaultSource() if request.param == "uffd" else CompareSource()
    yield source
    source.stop()


@pytest.fixture(params=["anon", "memfd", "file-shared", "file-private"])
def block(request, tmp_path):
    if not request.param.startswith("file"):
        return RAMBlock("ram", 600 * PAGE, backing=request.param)
    (tmp_path / "ram").write_bytes(bytes(600 * PAGE))
    return RAMBlock("ram", 600 * PAGE, backing=request.param, path=tmp_path / "ram")


def pages(bitmap):
    return [first + n for first, count in bitmap.runs() for n in range(count)]


def touch(block, *numbers):
    for page in numbers:
        block.array[page * PAGE + page % PAGE] += 1


def test_writes_since_the_last_sync_are_found_once(source, block):
    client = block.dirty_client("migration")
    touch(block, 0, 5)
    source.start([block])
    assert (source.sync(), pages(client)) == (0, [])
    touch(block, 5, 6, 599)
    assert (source.sync(), pages(client)) == (3, [5, 6, 599])
    assert source.sync() == 0
    client.clear_all()
    touch(block, 5)
    assert (source.sync(), pages(client)) == (1, [5])


def test_bits_that_are_set_stay_set(source, block):
    client = block.dirty_client("migration")
    source.start([block])
    block.mark_dirty(7 * PAGE, 1)
    touch(block, 8)
    source.sync()
    assert pages(client) == [7, 8]


def test_all_clients_of_all_blocks_learn_of_it(source, block):
    other = RAMBlock("vga.vram", 8 * PAGE)
    clients = [block.dirty_client("migration"), block.dirty_client("display")]
    third = other.dirty_client("display")
    RAMBlock("idle", PAGE)
    source.start([block, other])
    touch(block, 3)
    touch(other, 4)
    assert source.sync() == 2
    assert [pages(c) for c in clients] == [[3], [3]]
    assert pages(third) == [4]
    late = block.dirty_client("late")
    touch(block, 9)
    source.sync()
    assert pages(late) == [9]


def test_system_calls_that_write_are_seen(source, block):
    client = block.dirty_client("migration")
    source.start([block])
    source.sync()
    read_end, write_end = os.pipe()
    os.write(write_end, b"x" * 100)
    assert os.readv(read_end, [memoryview(block.array)[2 * PAGE - 50 : 2 * PAGE + 50]]) == 100
    os.close(read_end)
    os.close(write_end)
    source.sync()
    assert pages(client) == [1, 2]


def test_reading_is_no_writing(source, block):
    client = block.dirty_client("migration")
    touch(block, 1)
    source.start([block])
    assert int(block.array.sum()) == 1
    block.read(0, 600 * PAGE)
    source.sync()
    assert pages(client) == []


def test_any_pattern_is_found_exactly(source, block):
    client = block.dirty_client("migration")
    rng = random.Random(1)
    source.start([block])
    for share in (0, 1, 50, 300, 600):
        wanted = sorted(rng.sample(range(600), share))
        touch(block, *wanted)
        assert source.sync() == share
        assert pages(client) == wanted
        client.clear_all()


def test_more_runs_than_the_kernel_reports_at_once(source):
    block = RAMBlock("ram", 8400 * PAGE)
    client = block.dirty_client("migration")
    source.start([block])
    block.array[:: 2 * PAGE] = 1
    assert source.sync() == 4200
    assert pages(client) == list(range(0, 8400, 2))
    assert source.sync() == 0


def test_huge_pages_are_tracked_by_small_ones(source):
    block = RAMBlock("ram", 4 << 20)
    block.array[:] = 1  # filled before tracking begins: the host may have used huge pages
    client = block.dirty_client("migration")
    source.start([block])
    touch(block, 700)
    source.sync()
    assert pages(client) == [700]


def test_pages_larger_than_the_host_s_count_once(source):
    block = RAMBlock("ram", 8 * 65536, page_size=65536)
    client = block.dirty_client("migration")
    source.start([block])
    block.array[65536 + 100] = 1
    block.array[65536 + 3 * PAGE] = 1
    block.array[2 * 65536 - 1] = 1
    block.array[2 * 65536] = 1
    assert source.sync() == 2
    assert pages(client) == [1, 2]


def test_nothing_is_lost_while_the_guest_writes(source, block):
    """A collector copies reported pages while a writer goes on; after a last sync its copy is whole."""
    client = block.dirty_client("migration")
    array, copy = block.array, bytearray(600 * PAGE)
    source.start([block])
    stop = threading.Event()

    def write():
        rng = random.Random(2)
        while not stop.is_set():
            at = rng.randrange(600 * PAGE)
            array[at] = (int(array[at]) + 1) & 3  # comes back to the same values all the time

    writer = threading.Thread(target=write)
    writer.start()

    def collect():
        source.sync()
        data = source.data(block)
        for first, count in list(client.runs()):
            client.clear_range(first, count)
            copy[first * PAGE : (first + count) * PAGE] = data[first * PAGE : (first + count) * PAGE].tobytes()

    for _ in range(30):
        collect()
    stop.set()
    writer.join()
    collect()
    assert copy == block.read(0, 600 * PAGE)


def test_a_page_changed_and_changed_back_between_syncs_does_no_harm(source, block):
    """What was copied in between came from ``data()``, and that either did not change or is reported again."""
    client = block.dirty_client("migration")
    source.start([block])
    client.set_all()
    block.array[100] = 1
    copy = source.data(block).tobytes()
    client.clear_all()
    block.array[100] = 0
    source.sync()
    for page in pages(client):
        copy = copy[: page * PAGE] + source.data(block)[page * PAGE : (page + 1) * PAGE].tobytes() + copy[(page + 1) * PAGE :]
    assert copy == block.read(0, 600 * PAGE)


def test_stopping_frees_the_block_for_another_source(source, block):
    client = block.dirty_client("migration")
    source.start([block])
    source.stop()
    source.stop()
    touch(block, 1)
    assert client.count() == 0
    with pytest.raises(MemoryMapError, match=f"dirty source {source.name} is not running"):
        source.sync()
    source.start([block])
    touch(block, 2)
    assert (source.sync(), pages(client)) == (1, [2])


def test_starting_twice_is_refused(source, block):
    source.start([block])
    with pytest.raises(MemoryMapError, match=f"dirty source {source.name} is running already"):
        source.start([block])


def test_a_failed_start_watches_nothing(source, block):
    closed = RAMBlock("gone", PAGE)
    closed.close()
    with pytest.raises(MemoryMapError, match="RAM block gone is closed"):
        source.start([block, closed])
    source.start([block])
    assert source.sync() == 0


def test_watched_memory_may_be_closed(source, block):
    array = block.array
    block.dirty_client("migration")
    source.start([block])
    block.close()
    array[0] = 1
    assert source.sync() == 1


# -- the choice -------------------------------------------------------------------------------------


def test_the_choice_says_why():
    source = select_dirty_source()
    trouble = dirty.probe_uffd()
    assert source.name == ("uffd" if trouble is None else "compare")
    assert source.reason == (
        "the kernel's write tracking was tried and works"
        if trouble is None
        else f"the kernel's write tracking does not work here: {trouble}"
    )


def test_the_fallback_is_taken_where_the_kernel_refuses(monkeypatch):
    monkeypatch.setattr(dirty, "UserfaultSource", refusing(errno.EPERM))
    source = select_dirty_source()
    assert (source.name, source.reason) == (
        "compare", "the kernel's write tracking does not work here: userfaultfd: Operation not permitted",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="dirty source uffd does not work here: userfaultfd: Operation not permitted"):
        select_dirty_source("uffd")


def test_the_fallback_is_taken_where_the_kernel_reports_nonsense(monkeypatch):
    class Silent:
        def start(self, blocks): ...
        def stop(self): ...
        def sync(self):
            return 0

    monkeypatch.setattr(dirty, "UserfaultSource", Silent)
    assert select_dirty_source().reason.endswith("write tracking reports pages [] where [0, 5] were written")


def refusing(number):
    class Refusing:
        def start(self, blocks):
            raise MemoryMapError(f"userfaultfd: {os.strerror(number)}")

        def stop(self): ...

    return Refusing


def test_asking_by_name():
    assert select_dirty_source("compare").reason == "asked for"
    with pytest.raises(ConfigError, match="dirty source 'magic' is not one of uffd, compare"):
        select_dirty_source("magic")

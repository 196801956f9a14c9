# SPDX-License-Identifier: MIT
"""Where the bytes of a RAM block are: memory, descriptors, files, and a file that memory takes leave of."""

from __future__ import annotations

import fcntl
import os

import numpy as np
import pytest

from pyemu.errors import ConfigError, MemoryMapError
from pyemu.memory import MemoryBackend, RAMBlock, dirty

PAGE = 4096
PAGES = 2100  # more than the 8 MiB that settle at a time


@pytest.fixture
def file(tmp_path):
    """A file with data in every third page, from its second page on."""
    content = np.zeros((PAGES, PAGE), dtype=np.uint8)
    content[::3, :8] = np.arange(1, PAGES // 3 + 1, dtype=np.uint64)[:, None].view(np.uint8)
    path = tmp_path / "ram"
    path.write_bytes(bytes(PAGE) + content.tobytes())
    return path, content.reshape(-1)


@pytest.fixture
def mapped(file):
    path, content = file
    block = RAMBlock("ram", PAGES * PAGE)
    block.array[:PAGE] = 7
    fd = os.open(path, os.O_RDONLY)
    block.map_file(fd, PAGE, present())
    os.close(fd)
    return block, content, path


def present():
    words = np.zeros((PAGES + 63) // 64, dtype=np.uint64)
    for page in range(0, PAGES, 3):
        words[page // 64] |= np.uint64(1 << page % 64)
    return words


def test_memory_over_a_file_is_copied_on_write(mapped):
    block, content, path = mapped
    pointer = block.pointer
    assert block.backing == "file-private" and not block.shared
    assert np.array_equal(block.array, content)
    block.array[5] = block.array[PAGE + 5] = 1
    block.populate(np.array([[0, 3], [PAGES - 1, 1]]))
    assert np.array_equal(np.fromfile(path, dtype=np.uint8)[PAGE:], content)
    assert (block.pointer, block.array[5], block.array[PAGE + 5]) == (pointer, 1, 1)


def test_settling_goes_in_steps_and_keeps_everything(mapped):
    block, content, path = mapped
    block.array[5] = block.array[PAGE + 5] = 1
    want = content.copy()
    want[5] = want[PAGE + 5] = 1
    left = block.settle(1)
    assert 0 < left < PAGES * PAGE and block.backing == "file-private"
    assert np.array_equal(block.array, want)
    assert block.settle() == 0 and block.settle() == 0
    assert block.backing == "anon" and block.fd == -1
    os.truncate(path, 0)
    assert np.array_equal(block.array, want)


def test_a_file_can_be_taken_away(mapped):
    block, _, path = mapped
    block.discard_file()
    assert block.backing == "anon" and not block.array.any()
    os.truncate(path, 0)
    block.array[-1] = 1


def test_a_file_that_somebody_maps_is_locked(mapped):
    block, _, path = mapped
    fd = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    block.settle()
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other, again = RAMBlock("ram", PAGE), os.open(path, os.O_RDONLY)
    with pytest.raises(MemoryMapError, match="being written in place"):
        other.map_file(again, PAGE, np.ones(1, dtype=np.uint64))
    os.close(again)
    os.close(fd)


def test_what_cannot_be_mapped_is_refused(file):
    path, _ = file
    block = RAMBlock("ram", PAGES * PAGE)
    fd = os.open(path, os.O_RDONLY)
    for offset in (0x800, 2 * PAGE, -PAGE):
        with pytest.raises(MemoryMapError, match="cannot be mapped in pages of"):
            block.map_file(fd, offset, present())
    with pytest.raises(MemoryMapError, match="bitmap of 1 words for 2100 pages"):
        block.map_file(fd, PAGE, np.zeros(1, dtype=np.uint64))
    with pytest.raises(MemoryMapError, match="a memfd block cannot be mapped"):
        RAMBlock("other", PAGE, backing="memfd").map_file(fd, 0, np.zeros(1, dtype=np.uint64))
    source = dirty.CompareSource()
    source.start([block])
    block.map_file(fd, PAGE, present())
    source.stop()
    os.close(fd)
    with pytest.raises(MemoryMapError, match="not inside"):
        block.populate(np.array([[PAGES, 1]]))


def test_a_file_that_shrank_is_an_error_to_whoever_reads_ahead(mapped):
    block, _, path = mapped
    os.truncate(path, 2 * PAGE)
    block.populate(np.array([[0, 1]]))
    with pytest.raises(MemoryMapError, match="RAM block ram: file not read at 0x3000"):
        block.populate(np.array([[3, 1]]))


def test_a_shared_file_is_written_through(tmp_path):
    path = tmp_path / "ram"
    one = RAMBlock("ram", 4 * PAGE, backing="file-shared", path=path)
    two = RAMBlock("ram", 4 * PAGE, backing="file-shared", path=path)
    private = RAMBlock("ram", 4 * PAGE, backing="file-private", path=path)
    one.array[PAGE] = 5
    private.array[0] = 6
    assert (one.shared, two.array[PAGE], path.read_bytes()[PAGE], two.array[0]) == (True, 5, 5, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    fd = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    assert private.settle() == 0 and (private.backing, private.array[0], private.array[PAGE]) == ("anon", 6, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backing": "file-shared"}, "backing file-shared needs a path"),
        ({"path": "x"}, "backing anon has no path"),
        ({"backing": "file-private", "path": "missing"}, r"file-private memory in missing: No such file"),
        ({"backing": "file-shared", "path": "short"}, "the file has only 3"),
        ({"backing": "file-shared", "path": "/dev/null"}, "not a regular file"),
    ],
)
def test_files_that_cannot_be_ram(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(ConfigError, match=message):
        RAMBlock("ram", PAGE, **options)


class Refusing:
    """A kernel that cannot track the memory of these blocks."""

    name, reason = "uffd", ""

    def __init__(self, reason):
        pass

    def start(self, blocks):
        raise MemoryMapError("RAM block ram: backing file-private cannot be watched: Invalid argument")


def test_live_tracking_falls_back_visibly(file, monkeypatch):
    path, _ = file
    block = RAMBlock("ram", PAGES * PAGE, backing="file-private", path=path)
    monkeypatch.setattr(dirty, "UserfaultSource", Refusing)
    client = block.dirty_client("migration")
    source = dirty.AutomaticSource("a test")
    source.start([block])
    assert source.name == "compare"
    assert source.reason.endswith("RAM block ram: backing file-private cannot be watched: Invalid argument")
    block.array[PAGE] ^= 1
    assert (source.sync(), client.count(), client.test(1)) == (1, 1, True)
    assert source.data(block)[PAGE] == block.array[PAGE]
    source.stop()


def test_memory_backends_as_users_write_them():
    assert MemoryBackend.parse("memfd") == MemoryBackend.parse("memfd,share=on") == MemoryBackend("memfd")
    assert MemoryBackend.parse("file:/a,b,share=on") == MemoryBackend("file-shared", "/a,b")
    assert MemoryBackend.parse("file:x,share=off") == MemoryBackend.parse("file:x") == MemoryBackend("file-private", "x")
    for text in ("", "anon", "memfd,share=off", "file:", "file:x,share=maybe"):
        with pytest.raises(ConfigError, match="is none of memfd, file:PATH,share=on"):
            MemoryBackend.parse(text)

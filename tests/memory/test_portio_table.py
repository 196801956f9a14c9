# SPDX-License-Identifier: MIT
import pytest

from pyemu.errors import MemoryMapError
from pyemu.memory import IoHandler, PortioEntry, PortioList


def read(offset, size):
    return 0


def entries(*rows):
    return [PortioEntry(*row, read) for row in rows]


@pytest.mark.parametrize(
    ("rows", "chunks"),
    [
        ([(1, 5, 1), (7, 1, 1)], ((1, 5), (7, 1))),  # floppy: holes at 0 and 6
        ([(0, 8, 1)], ((0, 8),)),  # serial, parallel
        ([(0, 8, 1), (4, 1, 2), (4, 1, 4), (0x400, 8, 1)], ((0, 8), (0x400, 8))),  # parallel with EPP and ECP
        ([(0, 8, 1), (0, 1, 2), (0, 1, 4)], ((0, 8),)),  # IDE
        ([(0, 2, 1), (2, 2, 1)], ((0, 4),)),  # neighbours join
        ([(0, 2, 1), (3, 1, 1)], ((0, 2), (3, 1))),  # a gap of one port
        ([(0, 8, 1), (2, 1, 2), (8, 1, 1)], ((0, 9),)),  # measured from all that was gathered, not the last entry
    ],
)
def test_only_gaps_end_a_chunk(rows, chunks):
    assert PortioList("dev", entries(*rows), "dev").chunks == chunks


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "uart1: table com has no entries"),
        (entries((4, 1, 1), (0, 1, 1)), r"uart1: table com is not sorted: \+0x0 follows \+0x4"),
        (
            entries((0, 4, 1), (3, 2, 1)),
            r"uart1: table com: \+0x3..\+0x4 of 1 bytes overlaps uart1 at \+0x0..\+0x3 of 1 bytes",
        ),
        (entries((0, 1, 3)), r"access size 3 at \+0x0 is not 1, 2 or 4"),
        (entries((0, 0, 1)), r"0 ports at \+0x0 do not fit"),
        (entries((-1, 2, 1)), r"2 ports at \+-0x1 do not fit"),
        (entries((0xFFFF, 2, 1)), r"2 ports at \+0xffff do not fit"),
        ([PortioEntry(0, 1, 1)], "needs either a handler or read and write"),
        ([PortioEntry(0, 1, 1, read, None, IoHandler.python(read))], "needs either a handler or read and write"),
    ],
)
def test_unsound_tables_are_refused_by_name(table, message):
    with pytest.raises(MemoryMapError, match=message):
        PortioList("uart1", table, "com")


def test_entries_of_different_size_may_overlap():
    assert PortioList("ide", entries((0, 8, 1), (0, 1, 2), (0, 1, 4)), "ide").chunks == ((0, 8),)


def test_a_later_overlap_hidden_behind_another_size_is_found():
    with pytest.raises(MemoryMapError, match="overlaps"):
        PortioList("dev", entries((0, 4, 1), (1, 1, 2), (3, 1, 1)), "dev")


def test_handlers_must_be_callable():
    with pytest.raises(MemoryMapError, match="dev: handler 5 cannot be called"):
        IoHandler.python(5, None, "dev")
    with pytest.raises(MemoryMapError, match="needs read or write"):
        IoHandler.python(owner="dev")

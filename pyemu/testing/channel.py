# SPDX-License-Identifier: MIT
"""What every migration channel must keep to, as tests to inherit::

    class TestCarrier(ChannelConformance):
        channel = Carrier

        def receiving(self, folder, context):
            return "name"

The suite opens both ends in one process. Bytes go from one to the other at once, or rest in between (``rests``).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from ..errors import MigrationError
from ..migration import (
    Buffer,
    Cancelled,
    ChannelContext,
    ChannelType,
    Descriptors,
    InputChannel,
    Interrupt,
    Listener,
    OutputChannel,
)

MAGIC = b"QEVM"
#: More than anything between two ends is likely to hold.
_FLOOD = 64 << 20
#: Seconds after which something hangs; everything here takes milliseconds.
_PATIENCE = 30.0


class ChannelConformance:
    """Tests of one channel type.

    Class attributes:
        channel: the type.
        rests: what is written is there for a reader who comes later, as in a file. Without it, both ends are
            open at the same time.
    """

    channel: ClassVar[type[ChannelType]]
    rests: ClassVar[bool] = False

    def receiving(self, folder: pathlib.Path, context: ChannelContext) -> str:
        """What stands behind the scheme in the URI of the receiving side.

        Args:
            folder: an empty folder for this test.
            context: where descriptors can be put.
        """
        raise NotImplementedError

    def sending(self, receiving: str, folder: pathlib.Path) -> str:
        """The same of the sending side; by default the same text."""
        return receiving

    # -- helpers ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ends(self, folder: pathlib.Path, further: int = 0) -> Iterator[_Ends]:
        """Both ends, and a check that nothing of them is left behind."""
        before = _held()
        descriptors = Descriptors()
        ends = _Ends(self, folder, descriptors, further)
        try:
            yield ends
        finally:
            ends.close()
            descriptors.close()
        assert _held() == before, "descriptors or threads are left behind"

    # -- tests ------------------------------------------------------------------------------------

    def test_bytes_arrive_as_they_were_written(self, tmp_path: pathlib.Path) -> None:
        pieces: list[Buffer] = [MAGIC, b"", bytearray(b"abc"), memoryview(bytes(range(256)) * 4000), b"end" * 1000]
        wanted = b"".join(bytes(piece) for piece in pieces)
        with self._ends(tmp_path) as ends, ThreadPoolExecutor() as pool:
            out = ends.output()
            assert out.multiple == self.channel.multiple and out.seekable == self.channel.seekable
            read = None if self.rests else pool.submit(_read, ends.input(), len(wanted))
            start = out.position
            out.write(pieces[0])
            out.writev(pieces[1:])
            assert out.position == start + len(wanted)
            out.finish()
            out.commit()
            into = ends.input()
            assert (read.result(_PATIENCE) if read is not None else _read(into, len(wanted))) == wanted
            assert into.seekable == self.channel.seekable
            for _ in range(2):
                assert into.readinto(memoryview(bytearray(10))) == 0
            into.finish()

    def test_many_small_pieces(self, tmp_path: pathlib.Path) -> None:
        """More than one system call takes."""
        pieces = [MAGIC, *(bytes([n % 256]) * (n * 7 % 300) for n in range(3000))]
        with self._ends(tmp_path) as ends, ThreadPoolExecutor() as pool:
            out = ends.output()
            wanted = b"".join(pieces)
            read = None if self.rests else pool.submit(_read, ends.input(), len(wanted))
            out.writev(pieces)
            out.finish()
            out.commit()
            assert (read.result(_PATIENCE) if read is not None else _read(ends.input(), len(wanted))) == wanted

    def test_what_was_aborted_is_no_migration(self, tmp_path: pathlib.Path) -> None:
        with self._ends(tmp_path) as ends:
            out = ends.output()
            out.write(MAGIC)
            out.write(b"x" * 100)
            if not self.rests:
                # Both sides have found each other; before that there is nothing that could end at the other one.
                assert _read(ends.input(), 4) == MAGIC
            out.abort()
            out.abort()
            if self.rests:
                with contextlib.suppress(MigrationError):
                    assert _read(ends.input(), 4) != MAGIC
            else:
                with contextlib.suppress(MigrationError):
                    while ends.input().readinto(memoryview(bytearray(1000))):
                        pass

    def test_an_interrupt_ends_a_write_that_nobody_reads(self, tmp_path: pathlib.Path) -> None:
        with self._ends(tmp_path) as ends, ThreadPoolExecutor() as pool:
            out = ends.output()
            if self.rests:
                return
            ends.input()
            written = threading.Event()

            def flood() -> None:
                out.write(MAGIC)
                written.set()
                piece = bytes(1 << 20)
                for _ in range(_FLOOD >> 20):
                    out.write(piece)

            flooding = pool.submit(flood)
            assert written.wait(_PATIENCE)
            ends.interrupt.set(Cancelled("enough"))
            assert isinstance(flooding.exception(_PATIENCE), Cancelled)

    def test_waiting_readers_are_let_go(self, tmp_path: pathlib.Path) -> None:
        """By an interrupt, and by closing from another thread."""

        def interrupt(ends: _Ends) -> None:
            ends.interrupt.set(Cancelled("enough"))

        def close(ends: _Ends) -> None:
            ends.input().close()

        for number, end in enumerate((interrupt, close)):
            folder = tmp_path / str(number)
            folder.mkdir()
            with self._ends(folder) as ends, ThreadPoolExecutor() as pool:
                out = ends.output()
                if self.rests:
                    return
                out.write(MAGIC)
                into = ends.input()
                assert _read(into, 4) == MAGIC
                reading = pool.submit(into.readinto, memoryview(bytearray(10)))
                end(ends)
                assert isinstance(reading.exception(_PATIENCE), MigrationError)

    def test_the_way_back(self, tmp_path: pathlib.Path) -> None:
        with self._ends(tmp_path) as ends:
            out = ends.output()
            answers = out.reply()
            if answers is None:
                return
            out.write(MAGIC)
            back = ends.input().reply()
            assert back is not None, "the sending side can hear, but the receiving side cannot answer"
            back.write(b"well")
            assert _read(answers, 4) == b"well"
            answers.close()
            out.write(b"still here")
            assert _read(ends.input(), 14) == MAGIC + b"still here"

    def test_further_connections(self, tmp_path: pathlib.Path) -> None:
        """They may come before the main one, and in any order."""
        with self._ends(tmp_path, further=2) as ends:
            out = ends.output()
            if not self.channel.multiple:
                for refused in (out.open_more, ends.input().more if not self.rests else out.open_more):
                    _refused(refused)
                return
            one, other = out.open_more(), out.open_more()
            one.write(b"one!")
            other.write(b"other")
            out.write(MAGIC + b"main")
            into = ends.input()
            more = [into.more(), into.more()]
            for channel in (one, other, out):
                channel.finish()
                channel.commit()
            assert _read(into, 8) == MAGIC + b"main"
            assert sorted(_read(channel, 100) for channel in more) == [b"one!", b"other"]

    def test_addresses_that_make_no_sense(self) -> None:
        channel = self.channel()
        for address in ({"zz": 1}, {}, {"host": 1, "path": 2, "str": 3, "args": 4, "filename": 5}):
            _refused(lambda address=address: channel.parse_object(address))  # type: ignore[misc]
        _refused(lambda: channel.parse(""))


class _Ends:
    """Both ends of a channel, opened when they are asked for."""

    def __init__(self, suite: ChannelConformance, folder: pathlib.Path, descriptors: Descriptors, further: int) -> None:
        self.interrupt = Interrupt()
        self._context = ChannelContext(self.interrupt, descriptors, further)
        self._channel = suite.channel()
        self._text = suite.receiving(folder, self._context)
        self._close: list[Callable[[], object]] = []
        self._input: InputChannel | None = None
        self._listener: Listener | None = None if suite.rests else self._listen()
        uris = self._listener.uris if self._listener is not None else ()
        self._target = uris[0].partition(":")[2] if uris else suite.sending(self._text, folder)

    def _listen(self) -> Listener:
        made = self._channel.listen(self._channel.parse(self._text), self._context)
        self._close.append(made.close)
        return made

    def output(self) -> OutputChannel:
        made = self._channel.open_output(self._channel.parse(self._target), self._context)
        self._close.append(made.abort)
        return made

    def input(self) -> InputChannel:
        if self._input is None:
            self._input = (self._listener or self._listen()).accept()
            self._close.append(self._input.close)
        return self._input

    def close(self) -> None:
        for close in reversed(self._close):
            close()


def _read(channel: InputChannel, length: int) -> bytes:
    """Up to *length* bytes; fewer only at the end."""
    data, view = bytearray(), memoryview(bytearray(1 << 16))
    while len(data) < length and (done := channel.readinto(view[: length - len(data)])):
        data += view[:done]
    return bytes(data)


def _refused(function: Callable[[], object]) -> None:
    try:
        function()
    except MigrationError:
        return
    raise AssertionError(f"{function} was not refused")


def _held() -> tuple[list[str], int]:
    """What descriptors lead to, and threads of this process."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(found), sum(thread.name.startswith("migration") for thread in threading.enumerate())

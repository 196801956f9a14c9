# SPDX-License-Identifier: MIT
"""The destination's end of the channels: packets become pages in guest memory.

Each channel has a thread, and all the channels that the source has are taken, whatever is set here. The packets' numbers tell
whether one is missing: they run through all channels without a gap, so at a synchronisation point as many
packets have come as the highest number says, or a channel of the source has not been heard yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pyemu.migration import CompressionMethod, Decompressor, InputChannel, LoadContext, PageSource, load_fault, truncated
from pyemu.migration import pages as page_io
from pyemu.migration.pages import BlockLike, Memory
from pyemu.migration.records import Numbers, clear_touched, scatter_pages, slices, touch

from . import packets

FLUSH = 0x200
#: Seconds that are waited for a channel that is known to be missing while all others wait, too.
PATIENCE = 10.0
#: Up to so many pieces of memory, data is received right into them; more are cheaper to fill from one buffer.
PIECES = 8


class PacketSource(PageSource):
    """Receives pages over further connections.

    Args:
        below: the layout, which reads the records of the main stream.
        context: of the migration.
        method: how page data is compressed, with the flags that say so; None for not at all.
    """

    def __init__(
        self, below: PageSource, context: LoadContext, method: tuple[CompressionMethod, int] | None
    ) -> None:
        self._below = below
        self._channel = context.stream.channel
        self._identity = context.uuid
        self._statistics = context.statistics
        self._method = method
        self._blocks: dict[str, Memory] = {}
        self._page_size = 4096
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = False
        self._threads: list[threading.Thread] = []
        #: Of each channel: sync packets so far, and whether pages came since.
        self._synced: dict[int, int] = {}
        self._loose: set[int] = set()
        self._flushes = 0
        self._packets = 0
        self._highest = -1

    # -- the loader's thread ----------------------------------------------------------------------

    def block_header(self, block: BlockLike) -> None:
        memory: Any = block
        self._blocks[block.idstr] = memory
        self._below.block_header(block)

    def ignored_block(self, block: BlockLike) -> None:
        self._below.ignored_block(block)

    def list_end(self) -> None:
        self._page_size = packets.page_size_of(self._blocks)
        self._below.list_end()
        self._spawn("multifd-accept", self._accept)

    def record(self, value: int, flags: int) -> None:
        if flags == FLUSH:
            self._flush()
        else:
            self._below.record(value, flags)

    def _flush(self) -> None:
        """Waits until every channel has come to its next sync packet, then lets all go on."""
        with self._changed:
            while not self._all_synced():
                # While packets come there is no hurry; when everybody stands, somebody is missing.
                seen = self._packets
                if not self._changed.wait(PATIENCE) and self._packets == seen and self._standing():
                    raise load_fault(
                        f"multifd: {self._highest + 1 - self._packets} of {self._highest + 1} packets are missing"
                        f" after {PATIENCE:g} seconds: a channel of the source did not connect"
                        f" ({len(self._synced)} did)"
                    )
            self._flushes += 1
            self._changed.notify_all()

    def _standing(self) -> bool:
        return all(count > self._flushes for count in self._synced.values())

    def _all_synced(self) -> bool:
        self._check()
        return bool(self._synced) and self._standing() and self._packets == self._highest + 1

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def fault(self) -> BaseException | None:
        with self._changed:
            return self._error

    def finish(self) -> None:
        self._below.finish()
        with self._changed:
            self._check()
            unmatched = [n for n, count in self._synced.items() if count != self._flushes or n in self._loose]
            self._ended = True
            self._changed.notify_all()
        if unmatched:
            raise load_fault(
                f"multifd: channels {unmatched} and the main stream do not end at the same synchronisation point"
                " (multifd-flush-after-each-section of the source must be off)"
            )

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._threads:
            # Ends waiting for connections and for packets.
            self._channel.close()
        for thread in self._threads:
            thread.join()
        self._below.close()

    # -- the channels' threads --------------------------------------------------------------------

    def _spawn(self, name: str, body: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                body()
            # Raised in the loader's thread, whatever it is; after the end, being closed is no error.
            except BaseException as error:  # noqa: BLE001
                with self._changed:
                    if self._ended:
                        return
                    self._error = self._error or error
                    self._changed.notify_all()
                # The loader may be reading a stream that does not go on, because its source waits for this channel.
                self._channel.close()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        for at in range(packets.MAX_CHANNELS):
            channel = self._channel.more()
            with self._changed:
                if self._ended:
                    return
            # One that connects and then says nothing keeps no other waiting.
            self._spawn(f"multifd-recv-{at}", lambda channel=channel: self._serve(channel))  # type: ignore[misc]

    def _serve(self, channel: InputChannel) -> None:
        data = bytearray(packets.INITIAL.size)
        if not _read(channel, memoryview(data)):
            raise truncated("a multifd channel's initial packet")
        number = packets.decode_initial(bytes(data), self._identity)
        self._statistics.loaded(size=len(data))
        with self._changed:
            if number in self._synced:
                raise load_fault(f"multifd: received id '{number}' already setup'")
            self._synced[number] = 0
        self._receive(channel, number)

    def _receive(self, channel: InputChannel, number: int) -> None:
        decompressor = self._method[0].decompressor() if self._method is not None else None
        flags = self._method[1] if self._method is not None else packets.COMPRESSIONS["none"]
        head = memoryview(bytearray(packets.packet_size(self._page_size)))
        while _read(channel, head):
            packet = packets.decode(head, flags, number, self._blocks, self._page_size)
            if packet.block is None:
                self._statistics.loaded(size=len(head))
                if not self._wait_for_flush(number, packet.number):
                    return
                continue
            with self._changed:
                if self._ended:
                    raise load_fault(f"multifd {number}: pages behind the last synchronisation point")
                self._loose.add(number)
            self._take(channel, packet, packet.block, decompressor)
            self._statistics.loaded(len(packet.data), len(packet.zero), len(head) + packet.size)
            with self._changed:
                self._note(packet.number)

    def _note(self, packet: int) -> None:
        self._packets += 1
        self._highest = max(self._highest, packet)

    def _wait_for_flush(self, number: int, packet: int) -> bool:
        """False when there is none to come."""
        with self._changed:
            self._note(packet)
            self._loose.discard(number)
            self._synced[number] += 1
            self._changed.notify_all()
            while self._synced[number] > self._flushes and not self._ended and self._error is None:
                self._changed.wait()
            return not self._ended and self._error is None

    def _take(
        self, channel: InputChannel, packet: packets.Packet, block: Memory, decompressor: Decompressor | None
    ) -> None:
        touched = self._below.touched.get(block.idstr)
        if touched is not None:
            touch(block, packet.data, touched)
        if packet.size:
            if decompressor is not None:
                raw = memoryview(bytearray(packet.size))
                _fill(channel, raw)
                scatter_pages(block, packet.data, decompressor.decompress(raw, len(packet.data) * block.page_size))
            else:
                _receive_pages(channel, block, packet.data)
        if not len(packet.zero):
            return
        if touched is not None:
            clear_touched(block, packet.zero, touched)
        else:
            for page in packet.zero.tolist():
                page_io.clear(block, page_io.as_runs([(page, 1)]))


def _receive_pages(channel: InputChannel, block: Memory, numbers: Numbers) -> None:
    pieces = slices(block, numbers)
    if len(pieces) <= PIECES:
        for piece in pieces:
            _fill(channel, piece)
        return
    data = memoryview(bytearray(len(numbers) * block.page_size))
    _fill(channel, data)
    scatter_pages(block, numbers, data)


def _read(channel: InputChannel, view: memoryview) -> bool:
    """Fills *view*; false if the channel ends before its first byte."""
    have = 0
    while have < len(view):
        done = channel.readinto(view[have:])
        if not done:
            if have:
                raise load_fault("multifd: unexpected EOF after packet header", 5)
            return False
        have += done
    return True


def _fill(channel: InputChannel, view: memoryview) -> None:
    if not _read(channel, view):
        raise load_fault("multifd: unexpected EOF after packet header", 5)

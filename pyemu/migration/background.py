# SPDX-License-Identifier: MIT
"""Background snapshots: the machine as it was at the moment of the command, written while the guest runs on.

The guest stands still only while its devices are asked for their state and RAM is write-protected. From then
on a page is written to the stream, or copied aside before the guest's first write to it, see
:class:`~pyemu.memory.PageKeeper`. The stream has no END section; its last PART ends the pages.
"""

from __future__ import annotations

import time

from ..errors import MemoryMapError, MigrationError
from ..memory import PageKeeper
from . import wire
from .backend import PageSink, SaveContext
from .control import OutgoingControl
from .description import write_description
from .framing import StreamWriter
from .host import MigrationHost
from .lazy import settle
from .outgoing import UNLIMITED_BELOW, WINDOW, OutgoingRequest
from .pages import Memory, MemoryView, Runs, new_bits, page_count, take_runs
from .ram import RamWriter
from .sections import EncodedSection, encode_sections, write_sections
from .shared import SharedRAM, shared_ram
from .statistics import Progress, Statistics

#: Pages that are read and then given free to the guest in one go.
BATCH = 1024
#: Longest PART, in seconds.
PART = 0.05
#: Seconds between two looks at the room for copies while the bandwidth is limited.
_STEP = 0.01


class BackgroundSnapshot:
    """One background snapshot. :meth:`run` does all of it in the calling thread; arguments as for ``Outgoing``.

    Attributes:
        pause: seconds that the guest stood still.
    """

    def __init__(
        self, host: MigrationHost, request: OutgoingRequest, control: OutgoingControl, statistics: Statistics
    ) -> None:
        self._host = host
        self._request = request
        self._control = control
        self.statistics = statistics
        self._stream = StreamWriter(request.channel)
        self._sink: PageSink | None = None
        self._ram: RamWriter
        self._shared = SharedRAM()
        self._keeper = PageKeeper()
        self._views: dict[str, tuple[Memory, Memory]] = {}
        self._sections: list[EncodedSection] = []
        self._started = time.monotonic()
        self._next_progress = 0.0
        self.pause = 0.0

    def run(self) -> None:
        """Takes the snapshot.

        Raises:
            MigrationError: it failed; the channel is aborted, and the guest runs on, unprotected.
        """
        try:
            self._setup()
            self._host.call(self._take)
            self._write()
            self._finish()
        except BaseException as error:
            self._release()
            self._request.channel.abort()
            if isinstance(error, MemoryMapError):
                raise MigrationError(f"background-snapshot: {error}") from error
            raise
        self._release()

    def _release(self) -> None:
        self._keeper.stop()
        if self._sink is not None:
            self._sink.close()

    # -- the moment -------------------------------------------------------------------------------

    def _setup(self) -> None:
        request, host = self._request, self._host
        context = SaveContext(self._stream, request.parameters, host.uuid or bytes(16))
        for backend in request.backends:
            self._sink = backend.sink(context, self._sink)
        assert self._sink is not None
        blocks = list(host.ram_blocks())
        # Memory over a private file cannot be protected.
        settle(host, self._control.check)
        self._shared = shared_ram(host, self._control.capabilities, blocks)
        blocks = [block for block in blocks if block.idstr not in self._shared.blocks]
        self._keeper.start(blocks)
        for block in blocks:
            self._views[block.idstr] = (block, MemoryView(block, self._keeper.copies(block)))
        bitmaps = [(block, self._keeper.pending(block).words) for block in blocks]
        bitmaps += [(block, new_bits(page_count(block))) for block in self._shared.blocks.values()]
        self._ram = RamWriter(self._stream, self._sink, bitmaps, shared=self._shared, taken=self._taken)
        self.statistics.total = self.statistics.remaining = self._ram.total
        request.configuration.write(self._stream)
        self._ram.start()
        self._stream.flush()
        self.statistics.dirty_sync_count = 1
        self.statistics.setup_ms = self._elapsed_ms()
        self._control.enter("active")

    def _take(self) -> None:
        """Machine thread: what the machine is at this moment is what will be in the file."""
        host = self._host
        self._description = host.description()
        state = host.run_state
        begin = time.monotonic()
        if state == "running":
            host.vm_stop("paused")
        try:
            self._sections = encode_sections(host, state)
            self._keeper.protect()
        finally:
            if state == "running":
                host.vm_start()
                self.pause = time.monotonic() - begin
                self.statistics.downtime_ms = round(self.pause * 1000)

    # -- pages ------------------------------------------------------------------------------------

    def _taken(self, block: Memory, runs: Runs) -> None:
        """Called after pages were given to the sink: from here on the guest may write them."""
        assert self._sink is not None
        self._sink.sync()
        self._keeper.done(self._views[block.idstr][0], runs)  # type: ignore[arg-type]

    def _write(self) -> None:
        while self._ram.pending():
            begin, sent = time.monotonic(), self._sent()
            limit = self._limit()

            def go_on(begin: float = begin, sent: int = sent, limit: float | None = limit) -> int:
                # First of all, for writes of the guest may be waiting for the room.
                self._write_copies()
                self._control.check()
                self._keeper.check()
                self._account()
                if time.monotonic() - begin >= PART:
                    return 0
                return BATCH if limit is None or self._sent() - sent < limit else 0

            self._ram.part(go_on)
            self._account()
            if limit is not None and self._sent() - sent >= limit:
                self._rest(begin + WINDOW)
        # Each page has been read or copied: nothing is protected any more, nothing is added any more.
        self._keeper.stop()
        self._keeper.check()
        self._ram.last_part(self._write_copies)

    def _write_copies(self) -> None:
        """Writes the pages that were copied aside. They replace what the stream may have of these pages."""
        assert self._sink is not None
        for block, copies in self._views.values():
            bits = self._keeper.aside(block).words  # type: ignore[arg-type]
            while True:
                runs, _ = take_runs(bits, page_count(block), 0, BATCH)
                if not len(runs):
                    break
                self._control.check()
                self._sink.submit(copies, runs)
                self._sink.sync()
                self._keeper.returned(block, runs)  # type: ignore[arg-type]

    def _limit(self) -> float | None:
        """Bytes that may be sent in one window, None for any number."""
        rate: int = self._control.parameter("max-bandwidth")
        return None if rate < UNLIMITED_BELOW else rate * WINDOW

    def _rest(self, until: float) -> None:
        """Waits, because of the limit of bandwidth; but the guest must not wait for room because of that."""
        self._stream.flush()
        while (left := until - time.monotonic()) > 0 and not self._keeper.pressed:
            self._control.pause(min(left, _STEP))

    # -- the end ----------------------------------------------------------------------------------

    def _finish(self) -> None:
        assert self._sink is not None
        control, request, statistics = self._control, self._request, self.statistics
        write_sections(self._stream, self._sections)
        migration = {"capabilities": list(request.configuration.capabilities), **self._sink.describe(), **self._shared.describe()}
        write_description(self._stream, request.configuration, self._sections, self._description, migration)
        self._stream.flush()
        self._account(force=True)
        control.point_of_no_return()
        request.channel.commit()
        statistics.total_ms = self._elapsed_ms()
        statistics.remaining = 0
        seconds = max(time.monotonic() - self._started, 1e-3)
        statistics.mbps = self._sent() * 8 / seconds / 1e6
        statistics.pages_per_second = int(statistics.normal / seconds)
        control.enter("completed")

    # -- numbers ----------------------------------------------------------------------------------

    def _sent(self) -> int:
        return self._stream.transferred + (self._sink.count.size if self._sink is not None else 0)

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._started) * 1000)

    def _account(self, force: bool = False) -> None:
        assert self._sink is not None
        s = self.statistics
        s.transferred = s.precopy_bytes = self._sent()
        s.normal, s.duplicate = self._sink.count.normal, self._sink.count.zero
        s.remaining = self._ram.pending() * wire.PAGE_SIZE
        callback = self._request.progress
        now = time.monotonic()
        if callback is None or (now < self._next_progress and not force):
            return
        self._next_progress = now + PART
        elapsed = max(now - self._started, 1e-3)
        progress = Progress(
            status="active",
            pass_=1,
            done_bytes=s.total - s.remaining,
            total_bytes=s.total,
            transferred_bytes=s.transferred,
            rate=s.transferred / elapsed,
            dirty_syncs=1,
            elapsed=elapsed,
        )
        # It may write RAM, or wait for the machine, which may be waiting for room for a copy.
        self._keeper.away(True)
        try:
            callback(progress)
        finally:
            self._keeper.away(False)

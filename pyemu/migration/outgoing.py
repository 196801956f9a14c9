# SPDX-License-Identifier: MIT
"""The source's half of a migration: setup, precopy passes, switchover."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MemoryMapError, MigrationError
from ..memory import DirtySource, RAMBlock
from . import wire
from .backend import MigrationBackend, PageSink, SaveContext
from .channel import OutputChannel
from .configuration import Configuration
from .control import OutgoingControl
from .converge import AutoConverge
from .description import write_description
from .framing import StreamWriter
from .host import MigrationHost
from .interrupt import Cancelled
from .pages import MemoryView
from .ram import RamWriter
from .returnpath import ReturnPath
from .sections import encode_sections, write_sections
from .shared import SharedRAM, shared_ram
from .statistics import PROGRESS_INTERVAL, Progress, ProgressCallback, Statistics

#: Name of the dirty bitmap of each block that belongs to migration.
DIRTY_CLIENT = "migration"
#: Seconds over which bandwidth is measured and limited.
WINDOW = 0.1
#: Longest PART, in seconds.
PART = 0.05
#: Pages between two looks at the clock while the bandwidth is limited.
LIMITED_STEP = 64
#: How many times over RAM is sent at most before a save with a limit of passes stops the guest.
MAXIMUM_FACTOR = 3
#: Bandwidths below this many bytes a second mean no limit.
UNLIMITED_BELOW = 10
#: The refusal of a return path where the destination cannot answer.
ONE_WAY = "Return path requires a transport that goes both ways (e.g. tcp)"


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """What to do.

    Attributes:
        channel: where the stream goes; the migration commits or aborts it.
        backends: layout, then carriers.
        configuration: the stream's head.
        parameters: values at the start, for the backends.
        resume_after: let the guest run on afterwards, and restore the run state.
        maximum_passes: stop the guest after this many passes even if it dirties pages faster than
            they are written; 0 for never.
        progress: called now and then on the migration's thread.
    """

    channel: OutputChannel
    backends: Sequence[MigrationBackend]
    configuration: Configuration
    parameters: Mapping[str, Any]
    resume_after: bool = False
    maximum_passes: int = 0
    progress: ProgressCallback | None = None


class Outgoing:
    """One outgoing migration. :meth:`run` does all of it in the calling thread."""

    def __init__(
        self, host: MigrationHost, request: OutgoingRequest, control: OutgoingControl, statistics: Statistics
    ) -> None:
        self._host = host
        self._request = request
        self._control = control
        self.statistics = statistics
        self._stream = StreamWriter(request.channel)
        self._sink: PageSink | None = None
        self._source: DirtySource | None = None
        self._ram: RamWriter
        self._shared = SharedRAM()
        self._blocks: list[RAMBlock] = []
        self._stopped_from: str | None = None
        self._guest_ns = 0
        self._started = time.monotonic()
        self._stop_time = 0.0
        self._last_sync = self._started
        self._window_start = 0.0
        self._window_bytes = 0
        self._window_taken = 0.0
        self._bandwidth = 0.0
        self._next_progress = 0.0
        self._converge: AutoConverge | None = None
        self._return_path: ReturnPath | None = None

    # -- the whole --------------------------------------------------------------------------------

    def run(self) -> None:
        """Migrates.

        Raises:
            MigrationError: it failed; the channel is aborted and the machine in the run state it had.
        """
        try:
            self._setup()
            self._precopy()
            self._switchover()
        except BaseException as error:
            reason = self._reason(error)
            self._release()
            self._request.channel.abort()
            self._put_back()
            if reason is error:
                raise
            raise reason from error
        self._release()

    def _reason(self, error: BaseException) -> BaseException:
        """What to report: a connection that broke may only be the trace of what the destination has to say."""
        if self._return_path is None or not isinstance(error, MigrationError) or isinstance(error, Cancelled):
            return error
        return self._return_path.reason(error, wait=not self._control.interrupt.is_set)

    def _release(self) -> None:
        if self._return_path is not None:
            self._return_path.close()
        if self._converge is not None:
            self._converge.stop()
            self.statistics.cpu_throttle = 0
        if self._sink is not None:
            self._sink.close()
        if self._source is not None:
            self._source.stop()
            self._source = None
        for block in self._blocks:
            block.drop_dirty_client(DIRTY_CLIENT)
        self._blocks = []

    def _put_back(self) -> None:
        """Gives the machine the run state back that it had before the switchover."""
        state, self._stopped_from = self._stopped_from, None
        if state == "running":
            self._host.call(self._host.vm_start)
        elif state is not None:
            self._host.call(lambda: self._host.set_run_state(state))

    # -- setup ------------------------------------------------------------------------------------

    def _setup(self) -> None:
        request = self._request
        context = SaveContext(self._stream, request.parameters, self._host.uuid or bytes(16))
        for backend in request.backends:
            self._sink = backend.sink(context, self._sink)
        assert self._sink is not None
        blocks = list(self._host.ram_blocks())
        self._shared = shared_ram(self._host, self._control.capabilities, blocks)
        bitmaps = []
        for block in blocks:
            bitmaps.append(block.dirty_client(DIRTY_CLIENT))
            self._blocks.append(block)
        dirty = [(b, d.words) for b, d in zip(blocks, bitmaps, strict=True)]
        self._ram = RamWriter(self._stream, self._sink, dirty, shared=self._shared)
        self.statistics.total = self.statistics.remaining = self._ram.total
        self.statistics.expected_downtime_ms = self._control.parameter("downtime-limit")
        self._host.call(self._begin_tracking)
        self._synced()
        request.configuration.write(self._stream)
        if "return-path" in self._control.capabilities:
            self._open_return_path()
        self._ram.start()
        self._stream.flush()
        self.statistics.setup_ms = self._elapsed_ms()
        self._control.enter("active")
        self._window_start = time.monotonic()
        self._window_bytes, self._window_taken = self._sent(), self._taken()
        self._account()
        if "auto-converge" in self._control.capabilities:
            self._converge = AutoConverge(self._control.parameter, self._throttle, time.monotonic())

    def _open_return_path(self) -> None:
        back = self._request.channel.reply()
        if back is None:
            raise MigrationError(ONE_WAY)
        self._return_path = ReturnPath(back, self._control.fail)
        self._control.on_interrupt(self._return_path.wake)
        self._stream.command(wire.CMD_OPEN_RETURN_PATH)
        self._stream.command(wire.CMD_PING, struct.pack(">I", 1))

    def _throttle(self, percent: int) -> None:
        self._control.throttle(percent)
        self.statistics.cpu_throttle = percent

    def _begin_tracking(self) -> None:
        """Machine thread: everything is dirty, and from now on what the guest writes."""
        self._guest_ns = self._host.clock.now_ns
        if self._host.run_state == "running":
            self._track()
        else:
            self._all_dirty()

    def _track(self) -> None:
        source = self._control.dirty_source()
        sent = [block for block in self._blocks if block.idstr not in self._shared.blocks]
        try:
            source.start(sent)
        except MemoryMapError as error:
            raise MigrationError(f"cannot find out what the guest writes: {error}") from error
        self._source = source
        # A source that compares RAM with a copy must have the copy sent: what it shows is what it reported.
        pointers = {block.idstr: block.pointer for block in sent}
        views = {block.idstr: MemoryView(block, source.data(block)) for block in sent}
        self._ram.read_from({name: view for name, view in views.items() if view.pointer != pointers[name]})
        # After the source has begun: a page sent from here on is known to be dirtied again.
        self._all_dirty()

    def _all_dirty(self) -> None:
        for block in self._blocks:
            block.dirty_client(DIRTY_CLIENT).set_all()

    def _guest_moved(self) -> bool:
        return self._host.clock.now_ns != self._guest_ns

    # -- precopy ----------------------------------------------------------------------------------

    def _precopy(self) -> None:
        while True:
            self._control.check()
            if self._source is None and (self._host.run_state == "running" or self._guest_moved()):
                # Somebody let the guest run meanwhile; nothing sent so far can be relied on.
                self._host.call(self._track)
            pending = self._ram.pending() * wire.PAGE_SIZE
            if self._may_finish(pending):
                if self._waits_for_acknowledgement():
                    self._control.pause(PART)
                    continue
                if self._source is None:
                    return
                self._sync()
                pending = self._ram.pending() * wire.PAGE_SIZE
                if self._may_finish(pending) or self._passes_exhausted():
                    return
                continue
            self._send_part()
            if self._source is not None and self._ram.rounds and self._sync_due():
                self._sync()

    def _sync_due(self) -> bool:
        return self._converge is not None and self._converge.sync_due(time.monotonic())

    def _may_finish(self, pending: int) -> bool:
        if self._ram.rounds == 0 and pending:
            # The first pass always runs to its end: what is sent now need not be sent while the guest stands.
            return False
        return pending == 0 or pending < self._threshold()

    def _waits_for_acknowledgement(self) -> bool:
        """A running guest is stopped only when the destination agrees, where that was asked for."""
        if self._source is None or self._return_path is None or "switchover-ack" not in self._control.capabilities:
            return False
        return not self._return_path.acknowledged

    def _passes_exhausted(self) -> bool:
        """The guest dirties pages as fast as they are written, and somebody waits for the end."""
        limit = self._request.maximum_passes
        sent = (self.statistics.normal + self.statistics.duplicate) * wire.PAGE_SIZE
        return bool(limit) and (
            self.statistics.dirty_sync_count >= limit or sent >= MAXIMUM_FACTOR * self.statistics.total
        )

    def _threshold(self) -> float:
        """Bytes that can be sent within the permitted downtime."""
        rate: float = self._control.parameter("avail-switchover-bandwidth")
        if not rate:
            rate = self._bandwidth or self._sent() / max(time.monotonic() - self._started, 1e-3)
        limit_ms: int = self._control.parameter("downtime-limit")
        return rate * limit_ms / 1000

    def _sync(self) -> None:
        assert self._source is not None
        before = self._ram.pending()
        self._source.sync()
        now = time.monotonic()
        found = self._ram.pending() - before
        self.statistics.dirty_pages_rate = round(found / max(now - self._last_sync, 1e-3))
        self._last_sync = now
        self._synced()
        if self._converge is not None and self._stopped_from is None:
            self._converge.synced(now, found * wire.PAGE_SIZE, self._sent())

    def _synced(self) -> None:
        self.statistics.dirty_sync_count += 1
        self._control.dirty_sync(self.statistics.dirty_sync_count)

    def _send_part(self) -> None:
        deadline = time.monotonic() + PART
        limit = self._window_limit()

        def go_on() -> int:
            self._control.check()
            self._account()
            now = time.monotonic()
            if now >= deadline:
                return 0
            if limit is None:
                return 1 << 62
            left = limit - (self._taken() - self._window_taken)
            return min(math.ceil(left / wire.PAGE_SIZE), LIMITED_STEP)

        self._ram.part(go_on)
        self._account()
        self._end_window(limit)

    def _window_limit(self) -> float | None:
        """Bytes that may be sent in one window, None for any number."""
        rate: int = self._control.parameter("max-bandwidth")
        return None if rate < UNLIMITED_BELOW else rate * WINDOW

    def _end_window(self, limit: float | None) -> None:
        now = time.monotonic()
        taken = self._taken() - self._window_taken
        if limit is not None and taken >= limit and now < self._window_start + WINDOW:
            self._stream.flush()
            self._control.pause(self._window_start + WINDOW - now)
            now = time.monotonic()
        sent = self._sent() - self._window_bytes
        elapsed = now - self._window_start
        if elapsed >= WINDOW:
            self._bandwidth = sent / elapsed
            self.statistics.mbps = self._bandwidth * 8 / 1e6
            self.statistics.pages_per_second = int(self._bandwidth / wire.PAGE_SIZE)
            if self._bandwidth:
                self.statistics.expected_downtime_ms = int(self.statistics.remaining / self._bandwidth * 1000)
            self._window_start = now
            self._window_bytes += sent
            # What was sent beyond the limit, a page or what a pass of many channels had in hand, is owed to the next window.
            owed = 0.0 if limit is None else max(taken - limit * elapsed / WINDOW, 0.0)
            self._window_taken = self._taken() - owed

    # -- switchover -------------------------------------------------------------------------------

    def _switchover(self) -> None:
        control, host = self._control, self._host
        assert self._sink is not None
        host.call(self._stop_guest)
        self._account()
        control.before_switchover()
        control.enter("device")
        self._stream.command(wire.CMD_SWITCHOVER_START)
        if self._source is not None:
            self._sync()
        else:
            self._synced()
        self._ram.end(self._check_and_account)
        self._account()
        sections = host.call(lambda: encode_sections(host, self._stopped_from or host.run_state))
        write_sections(self._stream, sections)
        named = list(self._request.configuration.capabilities)
        migration = {"capabilities": named, **self._sink.describe(), **self._shared.describe()}
        if self._return_path is not None:
            self._return_path.complete = True
        write_description(self._stream, self._request.configuration, sections, host.description(), migration)
        self._stream.flush()
        self._account()
        if self._request.resume_after:
            # All of the guest has been copied; making the file durable needs it no longer.
            control.check()
            self._note_downtime()
            self._put_back()
        self._report_progress(force=True)
        self._request.channel.finish()
        if self._return_path is not None:
            self._return_path.wait()
        control.point_of_no_return()
        self._request.channel.commit()
        if not self._request.resume_after:
            host.call(lambda: host.set_run_state("postmigrate"))
            self._note_downtime()
            self._stopped_from = None
        self.statistics.total_ms = self._elapsed_ms()
        self.statistics.remaining = 0
        self.statistics.dirty_pages_rate = 0
        seconds = max(time.monotonic() - self._started, 1e-3)
        self.statistics.mbps = self._sent() * 8 / seconds / 1e6
        self.statistics.pages_per_second = int(self.statistics.normal / seconds)
        control.enter("completed")

    def _stop_guest(self) -> None:
        """Machine thread: the last moment at which the guest may have run."""
        self._stop_time = time.monotonic()
        if self._source is None and self._guest_moved():
            self._all_dirty()
        state = self._host.run_state
        self._host.vm_stop("finish-migrate")
        self._stopped_from = state

    def _note_downtime(self) -> None:
        if self._stopped_from != "running":
            return
        self.statistics.downtime_ms = round((time.monotonic() - self._stop_time) * 1000)

    def _check_and_account(self) -> None:
        self._control.check()
        self._account()

    # -- numbers ----------------------------------------------------------------------------------

    def _sent(self) -> int:
        """Bytes written so far, on all channels."""
        return self._stream.transferred + (self._sink.count.size if self._sink is not None else 0)

    def _taken(self) -> int:
        """What the bandwidth limit counts: also what threads have been given and not sent yet."""
        return self._sent() + (self._sink.in_flight if self._sink is not None else 0)

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._started) * 1000)

    def _account(self) -> None:
        assert self._sink is not None
        statistics = self.statistics
        count, beside = self._sink.count, self._sink.channel_bytes
        sent = self._sent()
        grown = sent - beside - (statistics.transferred - statistics.multifd_bytes)
        # What is sent while the guest does not run counts as sent during downtime, however long that is.
        if self._source is not None and self._stopped_from is None:
            statistics.precopy_bytes += grown
        else:
            statistics.downtime_bytes += grown
        statistics.transferred = sent
        statistics.multifd_bytes = beside
        statistics.normal = count.normal
        statistics.duplicate = count.zero
        statistics.remaining = self._ram.pending() * wire.PAGE_SIZE
        self._report_progress()

    def _report_progress(self, force: bool = False) -> None:
        callback: Callable[[Progress], object] | None = self._request.progress
        now = time.monotonic()
        if callback is None or (now < self._next_progress and not force):
            return
        self._next_progress = now + PROGRESS_INTERVAL
        s = self.statistics
        elapsed = now - self._started
        callback(
            Progress(
                status="active" if self._stopped_from is None else "device",
                pass_=s.dirty_sync_count,
                done_bytes=s.total - s.remaining,
                total_bytes=s.total,
                transferred_bytes=s.transferred,
                rate=self._bandwidth or s.transferred / max(elapsed, 1e-3),
                dirty_syncs=s.dirty_sync_count,
                elapsed=elapsed,
            )
        )

# SPDX-License-Identifier: MIT
"""The destination's half of a migration: a stream is read into a machine that does not run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MigrationError
from . import pages, wire
from .backend import LoadContext, MigrationBackend, PageSource
from .channel import InputChannel
from .configuration import check_configuration, read_configuration
from .description import absent_is_zero, find_description, read_tail
from .faults import load_fault
from .framing import StreamReader
from .host import MigrationHost
from .lazy import LazyRestore
from .parameters import LAZY
from .ram import RamReader
from .returnpath import Replies
from .sections import SectionHeader, SectionTable, read_footer, read_header
from .shared import SharedRAM, shared_ram
from .statistics import LoadStatistics


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """What to load.

    Attributes:
        channel: where the stream comes from; closed by the load.
        backends: layout, then carriers.
        capabilities: that are on here.
        named: capabilities that a stream names when they are on.
        parameters: values at the start.
        statistics: to fill.
    """

    channel: InputChannel
    backends: Sequence[MigrationBackend]
    capabilities: frozenset[str]
    named: Sequence[str]
    parameters: Mapping[str, Any]
    statistics: LoadStatistics


class Incoming:
    """One incoming migration. :meth:`run` does all of it in the calling thread."""

    def __init__(self, host: MigrationHost, request: IncomingRequest) -> None:
        self._host = host
        self._request = request
        self._stream = StreamReader(request.channel)
        self._blocks = {block.idstr: block for block in host.ram_blocks()}
        self._source: PageSource | None = None
        self._open: dict[int, str] = {}
        self._return_path = False
        self._replies: Replies | None = None
        self._shared = SharedRAM()
        #: What holds RAM after a lazy restore.
        self.lazy: LazyRestore | None = None

    def run(self) -> str:
        """Loads everything.

        Returns:
            The run state that the machine was saved in; ``running`` if the stream does not say.

        Raises:
            MigrationError: the stream is not acceptable. RAM is then zero; devices may hold some of the
                stream's state, so the machine must not run before a reset.
        """
        try:
            return self._load()
        except BaseException as error:
            cause = self._source.fault() if self._source is not None else None
            if self._replies is not None:
                # The source sees the connection end in any case; whether this reaches it tells nothing.
                with contextlib.suppress(MigrationError):
                    self._replies.shut(1)
            # Nothing may bring pages any more when RAM is cleared.
            self._close()
            if self.lazy is not None:
                self.lazy.drop()
            self._clear_ram()
            if cause is not None and cause is not error:
                raise cause from error
            raise
        finally:
            self._close()

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()
        self._request.channel.close()

    def _clear_ram(self) -> None:
        for name, block in self._blocks.items():
            if name in self._shared.blocks:
                # The source has it, too, and goes on.
                continue
            pages.clear(block, pages.as_runs([(0, pages.page_count(block))]))
        self._host.call(self._host.ram_changed)

    def _prepare_lazy(self) -> LazyRestore | None:
        """What the blocks are mapped with, where that was asked for. The stream has not been read from yet."""
        request = self._request
        if not request.parameters[LAZY]:
            return None
        for backend in request.backends:
            if not backend.maps_files:
                name = type(backend).__name__
                raise MigrationError(f"{LAZY}: {name} reads pages itself; only files with mapped-ram can be mapped")
        start = request.channel.position
        description = find_description(request.channel)
        request.channel.seek(start)
        return LazyRestore(absent_is_zero(description))

    def _load(self) -> str:
        request, host = self._request, self._host
        self.lazy = self._prepare_lazy()
        request.statistics.total = sum(block.used_length for block in self._blocks.values())
        request.statistics.stream_bytes = lambda: self._stream.transferred
        request.statistics.begin()
        configuration = read_configuration(self._stream)
        check_configuration(
            configuration, host.machine_name, host.uuid, request.capabilities, request.named
        )
        context = LoadContext(
            self._stream,
            request.parameters,
            uuid=host.uuid or bytes(16),
            lazy=self.lazy,
            statistics=request.statistics,
        )
        for backend in request.backends:
            self._source = backend.source(context, self._source)
        assert self._source is not None
        self._shared = shared_ram(host, request.capabilities, list(self._blocks.values()))
        self._ram = RamReader(self._stream, self._source, self._blocks, shared=self._shared)
        self._table = host.call(lambda: SectionTable(host))
        while self._section():
            pass
        self._source.finish()
        self._shared.check(read_tail(self._stream))
        request.channel.finish()
        host.call(host.ram_changed)
        request.statistics.end()
        if self._replies is not None:
            # Before the guest runs: a source that cannot be told has taken its own guest up again, or will.
            self._replies.shut(0)
        return self._table.global_state.name if self._table.has_global_state else "running"

    def _section(self) -> bool:
        """Reads one section or command; false at the end of the stream."""
        kind = self._stream.u8("a section header")
        if kind == wire.END_OF_STREAM:
            return False
        if kind in (wire.SECTION_START, wire.SECTION_FULL):
            self._named_section(read_header(self._stream))
        elif kind in (wire.SECTION_PART, wire.SECTION_END):
            section_id = self._stream.u32("a section header")
            name = self._open.get(section_id)
            if name is None:
                raise load_fault(f"Unknown savevm section {section_id}")
            if name != wire.RAM_SECTION:
                raise load_fault(f"section {section_id} ({name}) comes in one piece, not in parts")
            self._ram.payload()
            read_footer(self._stream, name, section_id)
        elif kind == wire.COMMAND:
            self._command()
        else:
            raise load_fault(f"Unknown savevm section type {kind}")
        return True

    def _named_section(self, header: SectionHeader) -> None:
        if header.name == wire.RAM_SECTION and header.instance_id == 0:
            self._ram.check_version(header.version)
            self._ram.payload()
        else:
            self._host.call(lambda: self._table.load(self._stream, header))
        self._open[header.section_id] = header.name
        read_footer(self._stream, header.name, header.section_id)

    def _command(self) -> None:
        number = self._stream.u16("a command")
        length = self._stream.u16("a command")
        name, lengths = wire.COMMANDS.get(number, ("", ()))
        if not lengths:
            raise load_fault(f"MIG_CMD {number:#x} unknown (len {length:#x})")
        if length not in lengths:
            raise load_fault(f"{name} received with bad length - expecting {lengths[0]}, got {length}")
        data = self._stream.read(length, "a command")
        if number == wire.CMD_OPEN_RETURN_PATH:
            self._open_return_path()
        elif number == wire.CMD_PING:
            token = int.from_bytes(data, "big")
            if not self._return_path:
                raise load_fault(f"CMD_PING ({token:#x}) received with no return path")
            if self._replies is not None:
                self._replies.pong(token)

    def _open_return_path(self) -> None:
        if self._return_path:
            raise load_fault("OPEN_RETURN_PATH comes a second time")
        self._return_path = True
        back = self._request.channel.reply()
        # A stream that was kept in a file may ask as well; nobody waits for an answer then.
        if back is not None:
            self._replies = Replies(back)
            if "switchover-ack" in self._request.capabilities:
                self._replies.acknowledge_switchover()

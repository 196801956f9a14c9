# SPDX-License-Identifier: MIT
"""The migration state machine of one machine: capabilities, parameters, status, threads."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import MigrationError, PyemuError
from ..memory import DirtySource, select_dirty_source
from .backend import MigrationBackend
from .background import BackgroundSnapshot
from .channel import ChannelContext, ChannelType, Listener, OutputChannel, PluginSource
from .channels import FileChannel, FileOutput
from .configuration import Configuration
from .control import OutgoingControl
from .descriptors import Descriptors
from .host import MigrationHost
from .incoming import Incoming, IncomingRequest
from .interrupt import Cancelled, Interrupt
from .lazy import LazyRestore
from .outgoing import ONE_WAY, Outgoing, OutgoingRequest
from .sections import settled
from .settings import MigrationSettings
from .statistics import LoadStatistics, ProgressCallback, Statistics
from .status import StatusBoard
from .uri import find_destination

#: Passes after which a save that lets the guest run on stops waiting for the guest to calm down.
MAXIMUM_PASSES = 30


class MigrationController(MigrationSettings):
    """Migration of one machine, in the words of QEMU's control protocol.

    All methods may be called from any thread. An outgoing or incoming migration runs in a thread of
    its own, or in the caller's when asked to block.

    Args:
        host: the machine.
        plugins: where backends and channels come from.
    """

    def __init__(self, host: MigrationHost, plugins: PluginSource) -> None:
        self._board = StatusBoard(self._emit)
        super().__init__(plugins, self._board.lock)
        self._host = host
        self._outgoing = True
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._statistics = Statistics()
        self._loaded = LoadStatistics()
        self._started = 0.0
        self._control: OutgoingControl | None = None
        self._interrupt = Interrupt()
        self._listener: Listener | None = None
        self._incoming_started = False
        #: Whether a loaded guest that ran when it was saved runs on; may be changed until then.
        self.autostart = True
        #: What ``getfd`` and ``add-fd`` brought, for ``fd:NAME`` and ``file:/dev/fdset/N``.
        self.descriptors = Descriptors()
        self._dirty_source: DirtySource | None = None
        self._tracked_by: DirtySource | None = None
        #: What RAM is mapped over since a lazy restore; None for all others.
        self.lazy: LazyRestore | None = None

    # -- status -----------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """``none``, ``setup``, ``active``, ``pre-switchover``, ``device``, ``completed``, ``failed``, ..."""
        return self._board.status

    @property
    def error(self) -> BaseException | None:
        """Why the last migration failed."""
        return self._error

    @property
    def dirty_source_name(self) -> str:
        """What found the pages that the guest wrote during the last migration; ``none`` if it did not run."""
        return self._tracked_by.name if self._tracked_by is not None else "none"

    def dirty_source(self) -> DirtySource:
        """The dirty source in use; the first call probes what this system offers."""
        with self._lock:
            if self._dirty_source is None:
                self._dirty_source = select_dirty_source()
            return self._dirty_source

    def use_dirty_source(self, source: DirtySource) -> None:
        """Uses another dirty source than the best one of this system."""
        with self._lock:
            self._refuse_while_active()
            self._dirty_source = source

    def query(self) -> dict[str, Any]:
        """The answer to ``query-migrate``."""
        with self._lock:
            error = None
            if isinstance(self._error, MigrationError):
                error = self._error.desc
            elif self._error is not None:
                error = f"{type(self._error).__name__}: {self._error}"
            if not self._outgoing:
                answer: dict[str, Any] = {"status": self.status, **self._loaded.as_dict(self.status)}
                if self._listener is not None and self._listener.addresses:
                    answer["socket-address"] = [dict(address) for address in self._listener.addresses]
                return answer if error is None else {**answer, "error-desc": error}
            now_ms = round((time.monotonic() - self._started) * 1000)
            return self._statistics.as_dict(self.status, error, now_ms)

    @property
    def listening(self) -> list[str]:
        """URIs at which this machine waits for its source to connect; port 0 has become a real one in them."""
        listener = self._listener
        return [] if listener is None else list(listener.uris)

    def wait(self, timeout: float | None = None) -> str:
        """Waits for the end of a migration under way.

        Returns:
            The status at the end; ``completed``, ``failed`` or ``cancelled`` unless time ran out.
        """
        return self._board.wait(timeout)

    @property
    def _has_listened(self) -> bool:
        """It waits for its source, or what came was no good; a machine that has arrived may leave in any way."""
        return self._incoming_started and self._host.run_state == "inmigrate"

    @property
    def _waits_for_source(self) -> bool:
        return not self._outgoing and self.status == "setup"

    def _refuse_while_active(self) -> None:
        if self._board.under_way:
            raise MigrationError("There's a migration process in progress")

    def _emit(self, name: str, data: dict[str, Any]) -> None:
        if "events" in self._enabled:
            self._host.emit(name, data)

    # -- outgoing ---------------------------------------------------------------------------------

    def migrate(
        self,
        uri: str | list[Any],
        *,
        blocking: bool = False,
        resume_after: bool = False,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Begins an outgoing migration.

        Args:
            uri: ``scheme:address``, or a control protocol's list of channels.
            blocking: return at the end, in the meantime working in the calling thread.
            resume_after: put the run state back at the end: a guest that ran runs on. Without it the
                machine ends in run state ``postmigrate``.
            progress: called now and then with a :class:`Progress`; what it raises ends the migration.

        Raises:
            MigrationError: it cannot begin; with *blocking* also: it failed.
        """
        found = find_destination(uri, self._plugins)

        def open_output(context: ChannelContext) -> OutputChannel:
            return found.channel.open_output(found.address, context)

        self._begin_outgoing(found.channel, open_output, blocking, resume_after, progress)

    def answers(self, where: str | Sequence[Any]) -> bool:
        """Whether a destination there can surely answer, as a return path needs: it is reached over a socket.

        Raises:
            MigrationError: *where* is malformed.
        """
        channel = find_destination(where, self._plugins).channel
        return channel.connects and not channel.one_way

    def migrate_file(
        self,
        path: str | os.PathLike[str],
        *,
        resume_after: bool = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Saves to a file, blocking; as :meth:`migrate`, but any path can be named."""
        name = os.fspath(path)
        self._begin_outgoing(FileChannel(), lambda context: FileOutput(name, None), True, resume_after, progress)

    def _begin_outgoing(
        self,
        channel_type: ChannelType,
        open_channel: Callable[[ChannelContext], OutputChannel],
        blocking: bool,
        resume_after: bool,
        progress: ProgressCallback | None,
    ) -> None:
        with self._lock:
            backends = self._select(channel_type)
            if "return-path" in self._enabled and channel_type.one_way:
                raise MigrationError(ONE_WAY)
            state = self._host.run_state
            if state == "inmigrate":
                raise MigrationError("Guest is waiting for an incoming migration")
            self._refuse_while_active()
            if state == "postmigrate":
                raise MigrationError("Can't migrate the vm that was paused due to previous migration")
            self._outgoing = True
            self._error = None
            self._interrupt = Interrupt()
            control = OutgoingControl(
                self._host, self._board, self._interrupt, self._enabled, lambda n: self._parameters[n], self._use_source
            )
            self._control = control
            self._statistics = Statistics()
            self._tracked_by = None
            self._started = time.monotonic()
            self._thread = None
            self._board.note("setup")
            configuration = self._configuration()
            parameters = self._parameters.as_dict()
            context = self._channel_context(backends)
        self._board.announce()

        def run(channel: OutputChannel) -> None:
            request = OutgoingRequest(
                channel=channel,
                backends=backends,
                configuration=configuration,
                parameters=parameters,
                resume_after=resume_after,
                maximum_passes=MAXIMUM_PASSES if resume_after else 0,
                progress=progress,
            )
            kind = BackgroundSnapshot if "background-snapshot" in control.capabilities else Outgoing
            kind(self._host, request, control, self._statistics).run()

        if blocking:
            self._run(lambda: run(open_channel(context)))
        elif channel_type.connects:
            self._spawn("migration", lambda: run(open_channel(context)))
        else:
            try:
                channel = open_channel(context)
            except BaseException as error:
                self._fail(error)
                raise
            self._spawn("migration", lambda: run(channel))

    def _channel_context(self, backends: list[MigrationBackend]) -> ChannelContext:
        """For one migration: whatever waits on its behalf ends with it."""
        parameters = self._parameters.as_dict()
        further = max(backend.connections(backends[0], parameters) for backend in backends)
        return ChannelContext(self._interrupt, self.descriptors, further)

    def _select(self, channel_type: ChannelType) -> list[MigrationBackend]:
        backends = self._backends.active(self._enabled)
        parameters = self._parameters.as_dict()
        for backend in backends:
            backend.check_channel(channel_type, backends[0])
        for backend in backends:
            backend.check_start(self._enabled, parameters)
        if parameters["tls-creds"]:
            raise MigrationError("TLS is not supported")
        if parameters["mode"] != "normal":
            raise MigrationError(f"migration mode '{parameters['mode']}' is not supported")
        return backends

    def _configuration(self) -> Configuration:
        named = tuple(n for n in self._backends.in_configuration() if n in self._enabled)
        identity = self._host.uuid if "validate-uuid" in self._enabled else None
        return Configuration(self._host.machine_name, named, identity)

    def _spawn(self, name: str, function: Callable[[], None]) -> None:
        def body() -> None:
            # A refusal has been recorded for query() and wait(); anything else is a bug and goes on
            # to the thread's exception hook.
            with contextlib.suppress(PyemuError):
                self._run(function)

        self._thread = threading.Thread(target=body, name=name, daemon=True)
        self._thread.start()

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            cancelled = isinstance(error, Cancelled) or self.status == "cancelling"
            if not isinstance(error, Cancelled):
                self._error = error
        self._board.set("cancelled" if cancelled else "failed")

    def cancel(self) -> None:
        """Cancels an outgoing migration: the machine goes on, no file is left. Harmless if there is none."""
        if self._control is not None:
            self._control.cancel()

    def continue_(self, state: str) -> None:
        """Lets a migration go on that waits in *state*, which is ``pre-switchover``.

        Raises:
            MigrationError: it is in another state.
        """
        if self._control is None:
            raise MigrationError(f"Migration not in expected state: {self.status}")
        self._control.continue_(state)

    def _use_source(self) -> DirtySource:
        source = self.dirty_source()
        self._tracked_by = source
        return source

    def close(self) -> None:
        """Cancels what is under way in either direction and waits for its thread; for the machine's end."""
        self.cancel()
        self._interrupt.set(Cancelled("the machine ended"))
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        if self.lazy is not None:
            self.lazy.stop()
        self.descriptors.close()

    # -- incoming ---------------------------------------------------------------------------------

    def incoming(
        self,
        uri: str | list[Any],
        *,
        blocking: bool = False,
        autostart: bool | None = None,
        exit_on_error: bool = False,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Loads a migration into a machine that waits for one.

        Args:
            uri: as for :meth:`migrate`.
            blocking: return at the end, in the meantime working in the calling thread.
            autostart: let the guest run if it ran when it was saved; otherwise leave it paused. None for what
                :attr:`autostart` says when everything is loaded.
            exit_on_error: a failed load ends the machine.
            progress: called now and then with a :class:`Progress`; what it raises ends the load.

        Raises:
            MigrationError: it cannot begin; with *blocking* also: it failed.
        """
        found = find_destination(uri, self._plugins)
        with self._lock:
            if self._host.run_state != "inmigrate":
                self._refuse_while_active()
                raise MigrationError("'-incoming' was not specified on the command line")
            if self._incoming_started:
                raise MigrationError("The incoming migration has already been started")
            backends = self._select(found.channel)
            self._outgoing = False
            self._error = None
            self._thread = None
            self._interrupt = Interrupt()
            listener = found.channel.listen(found.address, self._channel_context(backends))
            self._incoming_started = True
            self._loaded = LoadStatistics(progress)
            self._listener = listener
            self._board.note("setup")
        self._board.announce()

        def load() -> None:
            self._load(listener, backends, autostart, exit_on_error)

        if blocking:
            self._run(load)
        else:
            self._spawn("migration-incoming", load)

    def _load(
        self, listener: Listener, backends: list[MigrationBackend], autostart: bool | None, exit_on_error: bool
    ) -> None:
        host = self._host
        try:
            channel = listener.accept()
            request = IncomingRequest(
                channel=channel,
                backends=backends,
                capabilities=self._enabled,
                named=self._backends.in_configuration(),
                parameters=self._parameters.as_dict(),
                statistics=self._loaded,
            )
            self._listener = None
            self._board.set("active")
            task = Incoming(host, request)
            saved = task.run()
        except MigrationError as error:
            if exit_on_error and not isinstance(error, Cancelled):
                host.incoming_failed(error)
            raise
        finally:
            self._listener = None
            listener.close()

        self.lazy = task.lazy

        def settle() -> None:
            if saved == "running" and (self.autostart if autostart is None else autostart):
                host.vm_start()
            else:
                host.set_run_state("paused" if saved == "running" else settled(saved))

        host.call(settle)
        self._board.set("completed")
        if self.lazy is not None:
            # Last, for it wants all processors.
            self.lazy.start()

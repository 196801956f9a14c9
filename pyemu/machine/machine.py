# SPDX-License-Identifier: MIT
"""The machine: what a board assembles and what everything else drives."""

from __future__ import annotations

import os
import uuid as uuid_module
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..device import BlockBackend, Chardev
from ..errors import ConfigError, MigrationError
from ..migration import MigrationController
from ..migration.host import DeviceSection
from ..migration.lazy import settle
from ..plugin import PluginManager
from .boot import BootImages
from .life import Life
from .move import MoveReport, move
from .save import SaveReport, save
from .sections import cpu_sections, device_sections


class Machine(Life):
    """A board with its devices, memory and processor, on a thread of its own.

    A machine is assembled in the constructor and then waits, paused; :meth:`cont` lets it run.
    Everything that touches devices happens on the machine's thread: :meth:`call` gets a function
    there. A machine is a context manager; leaving it closes the machine.

    Args:
        board: name of a board that a plugin provides.
        memory: RAM size in bytes, or text such as ``"64M"``; None for the board's default.
        cpu: name of a CPU engine, ``"none"`` for a board without a processor, None for the board's default.
        properties: options of the board.
        devices: further devices, each ``"name"``, ``"name,k=v"`` or ``(name, {k: v})``.
        serial: character backends of the serial ports, e.g. ``["stdio"]``.
        drives: block backends, e.g. ``["file=disk.img,if=ide,index=0"]``.
        kernel, append, initrd: an image to start by the 32-bit Linux boot protocol.
        bios: a firmware image for boards that have a place for one.
        loaders: ``(file, address)`` pairs of raw files copied into RAM at each reset.
        uuid: of the machine, as text.
        clock: ``"host"``, or ``"step"`` for a clock that moves only by ``clock_step``.
        memory_backend: where RAM is: ``"memfd"``, ``"file:PATH,share=on"`` or ``"file:PATH,share=off"``; by default memory
            of the machine's own.
        incoming: wait for a migration instead of starting: where to receive it, a URI or a channel list, or True to
            be told later (``machine.migration.incoming()``). The guest runs on if it ran when it left.
        plugins: the plugin manager to use; the process's own by default.

    Raises:
        ConfigError: something in the description does not exist or does not fit; nothing is left behind.
        PluginError: a plugin that the description names is missing, broken or ambiguous.
    """

    def __init__(
        self,
        board: str,
        *,
        memory: int | str | None = None,
        cpu: str | None = None,
        properties: Mapping[str, Any] | None = None,
        devices: Sequence[str | tuple[str, Mapping[str, Any]]] = (),
        serial: Sequence[str | Chardev] = (),
        drives: Sequence[str | BlockBackend] = (),
        kernel: str | os.PathLike[str] | None = None,
        append: str = "",
        initrd: str | os.PathLike[str] | None = None,
        bios: str | os.PathLike[str] | None = None,
        loaders: Sequence[tuple[str | os.PathLike[str], int]] = (),
        uuid: str | None = None,
        clock: str = "host",
        memory_backend: str | None = None,
        incoming: bool | str | Sequence[Any] = False,
        plugins: PluginManager | None = None,
    ) -> None:
        waits = incoming is not False
        images = BootImages(kernel=kernel, append=append, initrd=initrd, bios=bios, loaders=loaders)
        super().__init__(
            board,
            images,
            waits=waits,
            memory=memory,
            cpu=cpu,
            properties=properties,
            devices=devices,
            serial=serial,
            clock=clock,
            memory_backend=memory_backend,
            plugins=plugins,
        )
        self.name: str = self.board
        self.kernel, self.append, self.initrd = images.kernel, images.append, images.initrd
        self.bios, self.loaders = images.bios, images.loaders
        self._uuid = _parse_uuid(uuid)

        try:
            self._assemble(drives)
            images.check(self.cpu_name, incoming=waits)
            self._loop.engine = self.engine
            self._reset_all()
        except BaseException:
            self._release()
            raise
        self.migration = MigrationController(self, self.plugins)
        self.ports.set_fault_listener(self._kick_engine)
        self.memory.set_fault_listener(self._kick_engine)
        self._loop.start()
        if not isinstance(incoming, bool):
            try:
                self.migration.incoming(incoming if isinstance(incoming, str) else list(incoming))
            except BaseException:
                self.close()
                raise

    # -- description ------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """What :func:`pyemu.restore` rebuilds the machine from; it travels in the stream's JSON description."""
        return {
            "format": 1,
            "board": self.board,
            "properties": self.portable_properties(),
            "memory": self.memory_size,
            "cpu": self.cpu_name,
            "devices": self.portable_devices(),
            "drives": list(self._drive_specs),
            "serial": len(self.serial),
            "kernel": str(self.kernel) if self.kernel else None,
            "append": self.append,
            "initrd": str(self.initrd) if self.initrd else None,
            "bios": str(self.bios) if self.bios else None,
            "uuid": str(uuid_module.UUID(bytes=self._uuid)) if self._uuid else None,
        }

    # -- end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stops the guest, ends the machine thread, closes backends. The machine cannot be used afterwards."""
        if self._closed:
            return
        self._closed = True
        if self.migration is not None:
            self.migration.close()
        self._loop.running = False
        self._loop.stop()
        self._release()
        self.exited.set()

    def _release(self) -> None:
        self._closed = True
        self._loop.engine = None
        super()._release()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Machine {self.board} {self.memory_size >> 20} MiB {self._state}>"

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        mapped_ram: bool = False,
        multifd: int = 0,
        direct_io: bool = False,
        background: bool = False,
        external_disks: bool = False,
        progress: Callable[[Any], None] | None = None,
    ) -> SaveReport:
        """Saves the machine to a file; a running guest runs on, except for the last few milliseconds.

        The file is written under a temporary name, made durable and then renamed: *path* always holds
        either the old file or the whole new one.

        Args:
            path: the file.
            mapped_ram: give each page a fixed place, which bounds the file's size whatever the guest rewrites.
            multifd: number of writer threads, 0 for none beside the migration thread's.
            direct_io: write pages past the page cache.
            background: save the machine as it is at this moment, and let it run on while that is written: it
                stands still for milliseconds at the beginning, and no page is written twice. Not with *multifd*.
            external_disks: save although the guest writes a drive in place: you see to it that the disk's content fits
                when the machine comes back. A drive with ``snapshot=on`` needs no such care, its writes are saved too.
            progress: called with a :class:`~pyemu.migration.Progress` now and then, on the migration thread.

        Raises:
            MigrationError: what failed, with the file's name; the guest goes on as before.
        """
        return save(
            self,
            path,
            mapped_ram=mapped_ram,
            multifd=multifd,
            direct_io=direct_io,
            background=background,
            external_disks=external_disks,
            progress=progress,
        )

    def migrate(
        self,
        where: str | Sequence[Any],
        *,
        multifd: int = 0,
        compression: str = "none",
        max_bandwidth: int = 0,
        downtime_ms: int = 300,
        auto_converge: bool = False,
        progress: Callable[[Any], None] | None = None,
    ) -> MoveReport:
        """Moves the machine to one that waits for it; the guest runs on here until its last pages go over.

        Returns when all has arrived, or, where the other side cannot answer, has been sent; the machine is then in run
        state ``postmigrate``. To let it happen in the background, or to cancel it, see :attr:`migration`.

        Args:
            where: ``tcp:HOST:PORT``, ``unix:PATH``, ``fd:N``, ``exec:COMMAND``, ..., or a list of channels.
            multifd: connections that carry pages beside the main one; the other side needs capability ``multifd``,
                and takes as many as come.
            compression: of those pages, ``none``, ``zlib`` or ``zstd``; the other side needs the same.
            max_bandwidth: bytes a second until the guest is stopped, 0 for as many as go.
            downtime_ms: how long the guest may stand still in the end, as far as that can be estimated.
            auto_converge: slow the guest down, step by step, if it writes memory faster than that can be sent.
            progress: called with a :class:`~pyemu.migration.Progress` now and then.

        Raises:
            MigrationError: it failed or was cancelled; the guest goes on here as before.
        """
        return move(
            self,
            where,
            multifd=multifd,
            compression=compression,
            max_bandwidth=max_bandwidth,
            downtime_ms=downtime_ms,
            auto_converge=auto_converge,
            progress=progress,
        )

    def settle(self) -> None:
        """Makes RAM independent of the file that the machine was restored from lazily; the guest runs meanwhile.

        It stands still for a few milliseconds for each 8 MiB. A machine restored otherwise is left as it is.

        Raises:
            MemoryMapError: RAM is being watched by a save, or there is no memory; what is settled stays so.
        """
        if self.migration.lazy is not None:
            self.migration.lazy.stop()
        settle(self, lambda: None)

    # -- migration host ---------------------------------------------------------------------------

    @property
    def machine_name(self) -> str:
        return self.name

    @property
    def uuid(self) -> bytes | None:
        return self._uuid

    def incoming_failed(self, error: MigrationError) -> None:
        """A load failed that was to end the program then; any thread."""
        self.fault = error
        self.request_shutdown("host-error", guest=False)

    def ram_addresses(self) -> Mapping[str, int]:
        """Where each RAM block is in the region that it is part of, as far as it is part of one."""
        return {
            region.block.idstr: region.address
            for region in self.system_memory.walk()
            if region.block is not None and region.offset == 0
        }

    def ram_changed(self) -> None:
        if self._engine_memory is not None:
            self._engine_memory.invalidate_all()

    def sections(self) -> Sequence[DeviceSection]:
        """One section a device with state, then the processor."""
        return [*device_sections(self.devices.values()), *cpu_sections(self.engine)]


def _parse_uuid(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return uuid_module.UUID(text).bytes
    except ValueError:
        raise ConfigError(f"uuid {text!r} is not of the form 8-4-4-4-12 hexadecimal digits") from None

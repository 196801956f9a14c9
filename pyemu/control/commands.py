# SPDX-License-Identifier: MIT
"""The QMP commands: each a thin translation to :class:`~pyemu.Machine`."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ControlError
from . import screen
from .arguments import TAKES_FD, TakeFD, checked, file_name
from .migration import MigrationCommands
from .qmp import version_info

if TYPE_CHECKING:
    from ..machine import Machine
    from ..memory import FlatRange

_CHUNK = 1 << 20


class Commands(MigrationCommands):
    """The command table of one machine.

    A public method ``query_status`` is the command ``query-status``; its keyword parameters are the
    arguments, their annotations the JSON types. ``execute`` returns the value for the client and
    what to do after it was sent.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._table: dict[str, Callable[..., Any]] = {}
        for name, method in inspect.getmembers(self, inspect.ismethod):
            if not name.startswith("_") and name != "execute":
                self._table[_SPELLING.get(name, name.replace("_", "-"))] = method

    def execute(
        self, name: str, arguments: dict[str, Any], take_fd: TakeFD = lambda: None
    ) -> tuple[Any, Callable[[], None] | None]:
        """Runs one command; called on the client's thread.

        Args:
            name: as clients spell it.
            arguments: likewise.
            take_fd: gives a descriptor that the client has sent along, None if there is none.

        Raises:
            ControlError: no such command, or its arguments do not fit.
        """
        method = self._table.get(name)
        if method is None:
            raise ControlError(f"The command {name} has not been found", error_class="CommandNotFound")
        signature = inspect.signature(method)
        values = checked(signature, arguments)
        if TAKES_FD in signature.parameters:
            values[TAKES_FD] = take_fd
        value = method(**values)
        if isinstance(value, _Then):
            return value.value, value.action
        return ({} if value is None else value), None

    # -- machine ----------------------------------------------------------------------------------

    def query_status(self) -> dict[str, Any]:
        m = self._machine
        return m.call(lambda: {"status": m.run_state, "running": m.running})

    def query_version(self) -> dict[str, Any]:
        return version_info()

    def query_commands(self) -> list[dict[str, str]]:
        return [{"name": name} for name in sorted([*self._table, "qmp_capabilities"])]

    def query_uuid(self) -> dict[str, str]:
        raw = self._machine.uuid or bytes(16)
        text = raw.hex()
        return {"UUID": "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))}

    def query_dirty_source(self) -> dict[str, str]:
        """What finds the pages the guest writes, and why that source was chosen (not a QEMU command)."""
        source = self._machine.migration.dirty_source()
        return {"name": source.name, "reason": source.reason}

    def query_registers(self, *, device: str) -> list[dict[str, Any]]:
        """The registers that a device declares, with their values; reading them has no side effects (not a QEMU command)."""
        m = self._machine

        def read() -> list[dict[str, Any]]:
            if device not in m.devices:
                raise ControlError(f"Device '{device}' not found", error_class="DeviceNotFound")
            return [value._asdict() for value in m.devices[device].register_values()]

        return m.call(read)

    def stop(self) -> None:
        """Pauses the guest; of a machine that waits for a migration: it will not start its guest by itself."""
        if self._machine.run_state == "inmigrate":
            self._machine.migration.autostart = False
        self._machine.stop()

    def cont(self) -> None:
        """Lets the guest run; of a machine that waits for a migration: as soon as it has come."""
        if self._machine.run_state == "inmigrate":
            self._machine.migration.autostart = True
        else:
            self._machine.cont()

    def system_reset(self) -> None:
        self._machine.reset()

    def quit(self) -> _Then:
        return _Then({}, lambda: self._machine.request_shutdown("host-qmp-quit", guest=False))

    def pmemsave(self, *, val: int, size: int, filename: str) -> None:
        """Copies guest-physical memory to a file, which appears whole or not at all.

        Where there is neither RAM nor ROM the file has zeros, as holes: devices are not read for it.
        """
        m = self._machine
        path = file_name("pmemsave", filename)
        if val < 0 or size < 0 or val + size > m.system_memory.size:
            raise ControlError(f"pmemsave: val={val} size={size} is not a range of guest memory")

        def copy() -> None:
            try:
                fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            except OSError as error:
                raise ControlError(f"Could not open '{path}': {error.strerror}") from None
            try:
                with os.fdopen(fd, "wb") as out:
                    out.truncate(size)
                    for gpa, length in _pieces(m.memory.flat_view(), val, size):
                        out.seek(gpa - val)
                        out.write(m.memory.read(gpa, length))
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise

        m.call(copy)

    def query_block(self) -> list[dict[str, Any]]:
        """The drives; ``overlay`` (not QEMU's) says that what is written is kept with the machine."""
        m = self._machine
        return [
            {
                "device": name,
                "type": "unknown",
                "removable": drive.media == "cdrom" or drive.interface == "floppy",
                "locked": False,
                "inserted": {"file": drive.path, "drv": "raw", "ro": drive.read_only, "overlay": drive.snapshot},
            }
            for name, drive in m.call(m.block_backends).items()
        ]

    def eject(self, *, device: str | None = None, id: str | None = None, force: bool = False) -> None:
        """Opens the tray of a CD-ROM drive."""
        m, name = self._machine, _drive_name(device, id)
        m.call(lambda: m.change_medium(name, None, force))

    def blockdev_change_medium(
        self, *, filename: str, device: str | None = None, id: str | None = None, format: str = "raw", force: bool = False
    ) -> None:
        """Puts another image into a CD-ROM drive."""
        if format != "raw":
            raise ControlError(f"blockdev-change-medium: format {format!r} is not raw")
        m, name, path = self._machine, _drive_name(device, id), file_name("blockdev-change-medium", filename)
        m.call(lambda: m.change_medium(name, path, force))

    # -- screen and keyboard ----------------------------------------------------------------------

    def screendump(self, *, filename: str, format: str = "ppm", device: str | None = None, head: int = 0) -> None:
        """Writes a picture of the screen; the file appears whole or not at all."""
        screen.dump(self._machine, file_name("screendump", filename), format, device, head)

    def query_screen_text(self, *, device: str | None = None) -> dict[str, Any]:
        """The characters on the screen, none while it shows graphics (not a QEMU command)."""
        return screen.text(self._machine, device)

    def send_key(self, *, keys: list[Any], hold_time: int | None = None) -> None:
        """Presses keys together and lets them go."""
        screen.send_key(self._machine, keys)


def _pieces(view: Iterable[FlatRange], start: int, size: int) -> Iterator[tuple[int, int]]:
    """RAM and ROM between *start* and *start* + *size* as (address, length), no more than a chunk each."""
    for part in view:
        if part.kind == "io":
            continue
        at, end = max(part.start, start), min(part.end, start + size)
        while at < end:
            length = min(_CHUNK, end - at)
            yield at, length
            at += length


class _Then:
    """A return value with something to do once the client has been answered."""

    def __init__(self, value: Any, action: Callable[[], None]) -> None:
        self.value = value
        self.action = action


_SPELLING = {"system_reset": "system_reset", "migrate_cancel": "migrate_cancel"}


def _drive_name(device: str | None, id: str | None) -> str:
    name = device if device is not None else id
    if name is None:
        raise ControlError("exactly one of 'device' and 'id' is needed")
    return name

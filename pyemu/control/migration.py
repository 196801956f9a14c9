# SPDX-License-Identifier: MIT
"""The QMP commands for migration and for the descriptors that clients hand over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ControlError
from .arguments import TakeFD, file_name

if TYPE_CHECKING:
    from ..machine import Machine

#: The statuses that QEMU knows; we are never in those of postcopy, COLO and hot-unplugging.
_STATUSES = (
    "none",
    "setup",
    "cancelling",
    "cancelled",
    "active",
    "postcopy-active",
    "postcopy-paused",
    "postcopy-recover-setup",
    "postcopy-recover",
    "completed",
    "failed",
    "colo",
    "pre-switchover",
    "device",
    "wait-unplug",
)


class MigrationCommands:
    """A part of the command table; see :class:`~pyemu.control.commands.Commands`."""

    _machine: Machine

    def migrate(
        self,
        *,
        uri: str | None = None,
        channels: list[Any] | None = None,
        detach: bool = True,
        resume: bool = False,
    ) -> None:
        """Begins a migration. ``detach`` changes nothing: the command never waits for the end."""
        if resume:
            raise ControlError("Cannot resume if there is no paused migration")
        self._machine.migration.migrate(_destination(uri, channels))

    def migrate_incoming(
        self, *, uri: str | None = None, channels: list[Any] | None = None, exit_on_error: bool = True
    ) -> None:
        self._machine.migration.incoming(_destination(uri, channels), exit_on_error=exit_on_error)

    def migrate_cancel(self) -> None:
        self._machine.migration.cancel()

    def migrate_continue(self, *, state: str) -> None:
        if state not in _STATUSES:
            raise ControlError(f"Parameter 'state' does not accept value '{state}'")
        self._machine.migration.continue_(state)

    def migrate_pause(self) -> None:
        """Stops a postcopy migration at a broken connection; there is none here."""
        raise ControlError(
            "migrate-pause is currently only supported during postcopy-active or postcopy-recover state"
        )

    def migrate_set_capabilities(self, *, capabilities: list[Any]) -> None:
        wanted: dict[str, bool] = {}
        for entry in capabilities:
            if not isinstance(entry, dict) or set(entry) != {"capability", "state"}:
                raise ControlError("capabilities must be objects with members 'capability' and 'state'")
            if not isinstance(entry["state"], bool) or not isinstance(entry["capability"], str):
                raise ControlError(f"capability {entry['capability']!r}: 'state' must be true or false")
            wanted[entry["capability"]] = entry["state"]
        self._machine.migration.set_capabilities(wanted)

    def migrate_set_parameters(self, **parameters: Any) -> None:
        self._machine.migration.set_parameters(parameters)

    def query_migrate(self) -> dict[str, Any]:
        return self._machine.migration.query()

    def query_migrate_capabilities(self) -> list[dict[str, Any]]:
        return [{"capability": n, "state": s} for n, s in self._machine.migration.capabilities.items()]

    def query_migrate_parameters(self) -> dict[str, Any]:
        return dict(self._machine.migration.parameters)

    def getfd(self, *, fdname: str, take_fd: TakeFD) -> None:
        self._machine.migration.descriptors.put(fdname, _received(take_fd))

    def closefd(self, *, fdname: str) -> None:
        self._machine.migration.descriptors.close_named(fdname)

    def add_fd(self, *, fdset_id: int | None = None, opaque: str | None = None, take_fd: TakeFD) -> dict[str, int]:
        return self._machine.migration.descriptors.add(_received(take_fd), fdset_id, opaque)

    def remove_fd(self, *, fdset_id: int, fd: int | None = None) -> None:
        self._machine.migration.descriptors.remove(fdset_id, fd)

    def query_fdsets(self) -> list[dict[str, Any]]:
        return self._machine.migration.descriptors.query()


def _received(take_fd: TakeFD) -> int:
    fd = take_fd()
    if fd is None:
        raise ControlError("No file descriptor supplied via SCM_RIGHTS")
    return fd


def _destination(uri: str | None, channels: list[Any] | None) -> Any:
    if (uri is None) == (channels is None) or channels == []:
        raise ControlError("need either 'uri' or 'channels' argument")
    if uri is not None:
        file_name("migration", uri)
        return uri
    for text in _strings(channels):
        file_name("migration", text)
    return channels


def _strings(value: Any) -> Iterator[str]:
    """All non-empty strings in a JSON value, however deep."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, str) and item:
            yield item

# SPDX-License-Identifier: MIT
"""The QMP commands: each a thin translation to :class:`~pyemu.Machine`."""

from __future__ import annotations

import inspect
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ControlError
from . import screen
from .qmp import version_info

if TYPE_CHECKING:
    from ..machine import Machine

_CHUNK = 1 << 20
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


TakeFD = Callable[[], int | None]
#: The parameter through which a command gets at descriptors; no client can set it.
_TAKES_FD = "take_fd"


class Commands:
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
        values = _checked(name, signature, arguments)
        if _TAKES_FD in signature.parameters:
            values[_TAKES_FD] = take_fd
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
        self._machine.stop()

    def cont(self) -> None:
        self._machine.cont()

    def system_reset(self) -> None:
        self._machine.reset()

    def quit(self) -> _Then:
        return _Then({}, lambda: self._machine.request_shutdown("host-qmp-quit", guest=False))

    def pmemsave(self, *, val: int, size: int, filename: str) -> None:
        """Copies guest-physical memory to a file; the file appears whole or not at all."""
        m = self._machine
        path = _file_name("pmemsave", filename)
        if val < 0 or size <= 0:
            raise ControlError(f"pmemsave: val={val} size={size} is not a range of guest memory")

        def copy() -> None:
            ranges = m.ram_ranges()
            if not any(start <= val and val + size <= start + length for start, length in ranges):
                raise ConfigError(f"pmemsave: {val:#x}-{val + size - 1:#x} is not RAM of this machine")
            try:
                fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            except OSError as error:
                raise ControlError(f"pmemsave: {path}: {error.strerror}") from None
            try:
                with os.fdopen(fd, "wb") as out:
                    for offset in range(0, size, _CHUNK):
                        out.write(m.memory.read(val + offset, min(_CHUNK, size - offset)))
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise

        m.call(copy)

    # -- screen and keyboard ----------------------------------------------------------------------

    def screendump(self, *, filename: str, format: str = "ppm", device: str | None = None, head: int = 0) -> None:
        """Writes a picture of the screen; the file appears whole or not at all."""
        screen.dump(self._machine, _file_name("screendump", filename), format, device, head)

    def query_screen_text(self, *, device: str | None = None) -> dict[str, Any]:
        """The characters on the screen, none while it shows graphics (not a QEMU command)."""
        return screen.text(self._machine, device)

    def send_key(self, *, keys: list[Any], hold_time: int | None = None) -> None:
        """Presses keys together and lets them go."""
        screen.send_key(self._machine, keys)

    # -- migration --------------------------------------------------------------------------------

    def migrate(
        self,
        *,
        uri: str | None = None,
        channels: list[Any] | None = None,
        detach: bool | None = None,
        resume: bool = False,
    ) -> None:
        if resume:
            raise ControlError("migrate: resume is for postcopy, which this machine has not got")
        self._machine.migration.migrate(_migration_uri(uri, channels))

    def migrate_incoming(
        self, *, uri: str | None = None, channels: list[Any] | None = None, exit_on_error: bool = True
    ) -> None:
        self._machine.migration.incoming(_migration_uri(uri, channels), exit_on_error=exit_on_error)

    def migrate_cancel(self) -> None:
        self._machine.migration.cancel()

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


    # -- descriptors that clients hand over -------------------------------------------------------

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


class _Then:
    """A return value with something to do once the client has been answered."""

    def __init__(self, value: Any, action: Callable[[], None]) -> None:
        self.value = value
        self.action = action


_SPELLING = {"system_reset": "system_reset", "migrate_cancel": "migrate_cancel"}


def _received(take_fd: TakeFD) -> int:
    fd = take_fd()
    if fd is None:
        raise ControlError("No file descriptor supplied via SCM_RIGHTS")
    return fd


def _file_name(command: str, text: str) -> Path:
    """A name that the system can take: no zero bytes, nothing that has no bytes in its encoding."""
    try:
        if "\0" not in text and text:
            os.fsencode(text)
            return Path(text)
    except UnicodeEncodeError:
        pass  # a lone surrogate: refused below
    raise ControlError(f"{command}: {text!r} is no file name")


def _migration_uri(uri: str | None, channels: list[Any] | None) -> Any:
    if (uri is None) == (channels is None):
        raise ControlError("need either 'uri' or 'channels' argument")
    if uri is not None:
        _file_name("migration", uri)
        return uri
    if not channels:
        raise ControlError("need either 'uri' or 'channels' argument")
    for text in _strings(channels):
        _file_name("migration", text)
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


def _checked(name: str, signature: inspect.Signature, arguments: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    parameters = signature.parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in arguments.items():
        attribute = key.replace("-", "_")
        if free:
            values[key] = value
            continue
        parameter = parameters.get(attribute)
        if parameter is None or attribute == _TAKES_FD:
            raise ControlError(f"Parameter '{key}' is unexpected")
        wanted = re.match(r"\w+", str(parameter.annotation))
        types = _JSON_TYPES.get(wanted[0] if wanted else "", (object,))
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and object not in types):
            raise ControlError(f"Parameter '{key}' of {name} must be of type {types[0].__name__}, got {value!r}")
        values[attribute] = value
    for attribute, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if needed and attribute not in (*values, _TAKES_FD):
            raise ControlError(f"Parameter '{attribute.replace('_', '-')}' is missing")
    return values

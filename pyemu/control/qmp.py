# SPDX-License-Identifier: MIT
"""The QMP server: QEMU's machine protocol, so that its public client drives a pyemu machine.

Greeting, negotiation, commands and events are those of the QMP specification; out-of-band
execution is not offered. The commands themselves are in :mod:`pyemu.control.commands`.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ..errors import ControlError, MigrationError, PyemuError
from .jsonstream import JSONStream
from .server import Address, Client, Server

if TYPE_CHECKING:
    from ..machine import Event, Machine

_log = logging.getLogger("pyemu.control")

#: The QEMU release whose command names, arguments and statuses we follow.
FOLLOWED_QEMU = {"major": 10, "minor": 0, "micro": 0}


def package_version() -> str:
    try:
        return f"pyemu-machine {version('pyemu-machine')}"
    except PackageNotFoundError:  # a source tree that was never installed
        return "pyemu-machine (not installed)"


def version_info() -> dict[str, Any]:
    return {"qemu": dict(FOLLOWED_QEMU), "package": package_version()}


class QMPServer(Server):
    """QMP for *machine* on *address*; every client has its own session and sees all events."""

    def __init__(self, machine: Machine, address: str) -> None:
        from .commands import Commands

        commands = Commands(machine)
        super().__init__(Address.parse(address, "qmp"), lambda client: QMPSession(client, machine, commands), "qmp")


class QMPSession:
    """One client: greeting, negotiation, then commands in order."""

    def __init__(self, client: Client, machine: Machine, commands: Any) -> None:
        self._client = client
        self._machine = machine
        self._commands = commands
        self._stream = JSONStream()
        self._negotiated = False
        self._send({"QMP": {"version": version_info(), "capabilities": []}})

    def received(self, data: bytes) -> None:
        for message in self._stream.feed(data):
            self._answer(message)

    def closed(self) -> None:
        self._machine.events.remove(self._event)

    def _send(self, message: dict[str, Any]) -> None:
        self._client.send(json.dumps(message).encode() + b"\r\n")

    def _event(self, event: Event) -> None:
        seconds = int(event.time)
        stamp = {"seconds": seconds, "microseconds": int((event.time - seconds) * 1e6)}
        message: dict[str, Any] = {"event": event.name, "timestamp": stamp}
        if event.data:
            message["data"] = event.data
        self._send(message)

    def _answer(self, message: Any) -> None:
        reply: dict[str, Any] = {}
        then = None
        try:
            if isinstance(message, ValueError):
                raise ControlError(str(message))
            if not isinstance(message, dict):
                raise ControlError("QMP input must be a JSON object")
            if "id" in message:
                reply["id"] = message["id"]
            unknown = set(message) - {"execute", "arguments", "id"}
            if unknown:
                raise ControlError(f"QMP input member '{min(unknown)}' is unexpected")
            name = message.get("execute")
            if not isinstance(name, str):
                raise ControlError("QMP input lacks member 'execute', or it is no string")
            arguments = message.get("arguments", {})
            if not isinstance(arguments, dict):
                raise ControlError("QMP input member 'arguments' must be an object")
            reply["return"], then = self._execute(name, arguments)
        except ControlError as error:
            reply["error"] = {"class": error.error_class, "desc": str(error)}
        except MigrationError as error:
            reply["error"] = {"class": "GenericError", "desc": error.desc}
        except PyemuError as error:
            reply["error"] = {"class": "GenericError", "desc": str(error)}
        except OSError as error:
            reply["error"] = {"class": "GenericError", "desc": f"{error.strerror}: {error.filename}"}
        # A bug of ours: the client hears of it, the session and the machine live.
        except Exception as error:  # noqa: BLE001
            _log.exception("QMP command failed")
            reply["error"] = {"class": "GenericError", "desc": f"internal error: {type(error).__name__}: {error}"}
        self._send(reply)
        if then is not None:
            then()

    def _execute(self, name: str, arguments: dict[str, Any]) -> tuple[Any, Any]:
        if name == "qmp_capabilities":
            if self._negotiated:
                raise ControlError("capabilities were negotiated already", error_class="CommandNotFound")
            enable = arguments.get("enable", [])
            if enable:
                raise ControlError(f"capability {enable[0]!r} is not offered")
            self._negotiated = True
            self._machine.events.add(self._event)
            return {}, None
        if not self._negotiated:
            raise ControlError(f"'qmp_capabilities' must come before '{name}'", error_class="CommandNotFound")
        answer: tuple[Any, Any] = self._commands.execute(name, arguments, self._client.take_fd)
        return answer

# SPDX-License-Identifier: MIT
"""A small blocking QMP client for the subcommands that talk to a running machine."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any

from ..control.server import Address
from ..errors import ControlError

_TIMEOUT = 30.0


class QMPConnection:
    """A negotiated connection to a machine's QMP socket.

    Args:
        address: ``unix:PATH`` or ``tcp:HOST:PORT``.

    Raises:
        ControlError: nobody answers there, or what answers is not QMP.
    """

    def __init__(self, address: str) -> None:
        self._where = Address.parse(address, "qmp")
        try:
            if self._where.family == "unix":
                self._sock = socket.socket(socket.AF_UNIX)
                self._sock.settimeout(_TIMEOUT)
                self._sock.connect(self._where.path)
            else:
                self._sock = socket.create_connection((self._where.host, self._where.port), _TIMEOUT)
        except OSError as error:
            if self._where.family == "unix":
                self._sock.close()
            raise ControlError(f"qmp {self._where}: {error.strerror or error}") from None
        self._file = self._sock.makefile("rwb")
        if "QMP" not in self._read():
            raise ControlError(f"qmp {self._where}: the other side does not speak QMP")
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Runs a command and returns its value; underscores in argument names become dashes.

        Raises:
            ControlError: the command failed; the text is the machine's.
        """
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._file.write(json.dumps(message).encode() + b"\n")
        self._file.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise ControlError(f"qmp {self._where}: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _read(self) -> dict[str, Any]:
        try:
            line = self._file.readline()
            answer = json.loads(line) if line else None
        except (OSError, ValueError) as error:
            raise ControlError(f"qmp {self._where}: {error}") from None
        if not isinstance(answer, dict):
            raise ControlError(f"qmp {self._where}: the machine closed the connection")
        return answer

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def __enter__(self) -> QMPConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

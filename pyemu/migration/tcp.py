# SPDX-License-Identifier: MIT
"""The channel ``tcp``: ``tcp:HOST:PORT[,to=PORT][,ipv4=on|off][,ipv6=on|off]``."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MigrationError
from .interrupt import Interrupt
from .sockets import BACKLOG, Bound, SocketChannel
from .uri import AddressMembers

_SWITCH = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}
#: Ports that the system is asked for until one is free in both families.
_CHOICES = 8
_AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A host and a port, which may be a service's name.

    Attributes:
        to: listening tries the ports from *port* to this one.
        ipv4, ipv6: None lets the system's resolver decide.
    """

    host: str
    port: str
    to: int | None = None
    ipv4: bool | None = None
    ipv6: bool | None = None
    keep_alive: bool = False
    numeric: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def family(self) -> socket.AddressFamily:
        """Of addresses that may be used.

        Raises:
            MigrationError: both families are switched off.
        """
        if self.ipv4 is False and self.ipv6 is False:
            raise MigrationError("Cannot disable IPv4 and IPv6 at same time")
        if self.ipv6 is False or (self.ipv4 and not self.ipv6):
            return socket.AF_INET
        if self.ipv4 is False or (self.ipv6 and not self.ipv4):
            return socket.AF_INET6
        return socket.AF_UNSPEC


class TCPChannel(SocketChannel):
    """``tcp:HOST:PORT``; port 0 lets the system choose, no host means all addresses."""

    def parse(self, text: str) -> InetAddress:
        spec, *options = text.split(",")
        if spec.startswith("["):
            match = re.fullmatch(r"\[([^]]+)\]:([^:]+)", spec)
            if match is None:
                raise MigrationError(f"error parsing IPv6 address '{text}'")
        else:
            match = re.fullmatch(r"([^:]*):([^:]+)", spec)
            if match is None:
                raise MigrationError(f"error parsing address '{text}'")
        values: dict[str, Any] = {}
        for option in options:
            name, _, value = option.partition("=")
            if name == "to" and value.isdecimal():
                values["to"] = int(value)
            elif name in ("ipv4", "ipv6", "keep-alive", "numeric") and (value in _SWITCH or value == ""):
                values[name.replace("-", "_")] = _SWITCH.get(value, True)
            else:
                raise MigrationError(f"error parsing address '{text}': option '{option}' is unknown or has a bad value")
        return _checked(InetAddress(match[1], match[2], **values))

    def parse_object(self, address: Mapping[str, Any]) -> InetAddress:
        members = AddressMembers(address)
        to = members.number("to", -1)
        made = InetAddress(
            host=members.text("host"),
            port=members.text("port"),
            to=None if to == -1 else to,
            ipv4=members.flag("ipv4"),
            ipv6=members.flag("ipv6"),
            keep_alive=bool(members.flag("keep-alive")),
            numeric=bool(members.flag("numeric")),
        )
        members.end()
        return _checked(made)

    def connect(self, address: InetAddress, interrupt: Interrupt) -> socket.socket:
        last: OSError | None = None
        for family, kind, protocol, _, where in resolve(address, interrupt):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                _connect(sock, where, interrupt)
                if address.keep_alive:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return sock
            except OSError as error:
                sock.close()
                last = error
            except BaseException:
                sock.close()
                raise
        reason = last.strerror if last is not None else "no address"
        raise MigrationError(f"Failed to connect to '{address}': {reason}") from last

    def bind(self, address: InetAddress, interrupt: Interrupt) -> Bound:
        found = resolve(address, interrupt, passive=True)
        first = found[0][4][1]
        last = first if address.to is None else address.to
        error: OSError | None = None
        # Port 0 is a new choice each time, which may be taken in the other family.
        for port in range(first, last + 1) if first else [0] * _CHOICES:
            try:
                sockets = _listen_all(found, port)
            except OSError as failed:
                error = failed
                continue
            return Bound(sockets, [_describe(sock) for sock in sockets], [_uri(sock) for sock in sockets])
        reason = error.strerror if error is not None else f"no port from {first} to {last}"
        raise MigrationError(f"Failed to bind socket: {address}: {reason}", desc=f"Failed to bind socket: {reason}")

    def tune(self, sock: socket.socket) -> None:
        # Each write is as large as it should be when it is made; waiting for more would only delay the last.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _checked(address: InetAddress) -> InetAddress:
    if address.port.isdecimal() and int(address.port) > 0xFFFF:
        raise MigrationError(f"error parsing address '{address}': port {address.port} is above 65535")
    if address.to is not None and address.to > 0xFFFF:
        raise MigrationError(f"error parsing address '{address}': port {address.to} is above 65535")
    if "\0" in address.host or "\0" in address.port:
        raise MigrationError(f"error parsing address '{address}': zero byte")
    address.family()
    return address


def resolve(address: InetAddress, interrupt: Interrupt, *, passive: bool = False) -> list[_AddressInfo]:
    """The socket addresses of a name. The resolver cannot be interrupted, so a thread waits for it instead of us.

    Raises:
        MigrationError: there are none, or the interrupt was set.
    """
    flags = (socket.AI_PASSIVE if passive else 0) | (socket.AI_NUMERICHOST if address.numeric else 0)
    found: list[_AddressInfo] = []
    failed: list[OSError | UnicodeError] = []
    done = interrupt.below()

    def ask() -> None:
        try:
            family, kind = address.family(), socket.SOCK_STREAM
            found.extend(socket.getaddrinfo(address.host or None, address.port, family, kind, 0, flags))
        except (OSError, UnicodeError) as error:
            failed.append(error)
        done.set(MigrationError("resolved"))

    threading.Thread(target=ask, name="migration-resolve", daemon=True).start()
    with contextlib.suppress(MigrationError):
        done.wait_any({})
    interrupt.check()
    if failed:
        reason = getattr(failed[0], "strerror", None) or str(failed[0])
        raise MigrationError(f"address resolution failed for {address}: {reason}") from failed[0]
    # The same address may stand in the hosts file twice, but is bound only once.
    return list({entry[4]: entry for entry in found}.values())


def _connect(sock: socket.socket, where: Any, interrupt: Interrupt) -> None:
    try:
        sock.connect(where)
    except BlockingIOError:
        interrupt.wait(sock.fileno(), select.POLLOUT)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None


def _listen_all(found: Sequence[_AddressInfo], port: int) -> list[socket.socket]:
    """Listens on all addresses with one port; with port 0 the first one's choice holds for all.

    An address that this system has not got is left out as long as there is another.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, kind, protocol, _, where in found:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                absent = error
                continue
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((where[0], port, *where[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                absent = error
                sockets.pop().close()
                continue
            sock.listen(BACKLOG)
            port = sock.getsockname()[1]
        if not sockets:
            raise absent or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _describe(sock: socket.socket) -> dict[str, Any]:
    host, port = sock.getsockname()[:2]
    version = "ipv6" if sock.family == socket.AF_INET6 else "ipv4"
    return {"type": "inet", "host": host, "port": str(port), version: True}


def _uri(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"tcp:[{host}]:{port}" if sock.family == socket.AF_INET6 else f"tcp:{host}:{port}"

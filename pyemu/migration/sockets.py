# SPDX-License-Identifier: MIT
"""The channels ``tcp`` and ``unix``: connecting, and listeners that tell connections apart."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import MigrationError
from .channel import ChannelContext, ChannelType, InputChannel, Listener, OutputChannel
from .connection import SocketConnection, StreamInput, StreamOutput
from .interrupt import Interrupt
from .uri import AddressMembers
from .wire import MAGIC

#: Connections that may wait to be accepted: a main one and as many further ones as there can be.
BACKLOG = 256
#: Bytes that a unix socket holds for a reader that is behind, as far as the system permits.
SEND_BUFFER = 1 << 20
#: Seconds between two tries to connect to a unix socket whose backlog is full; nothing can be polled for that.
_RETRY = 0.01


class SocketChannel(ChannelType):
    """What the socket channels share: many connections to one address, each of which goes both ways."""

    multiple = True
    connects = True

    def open_output(self, address: Any, context: ChannelContext) -> OutputChannel:
        def connect() -> SocketConnection:
            sock = self.connect(address, context.interrupt)
            self.tune(sock)
            return SocketConnection(sock, context.interrupt)

        return StreamOutput(connect(), two_way=True, connect=connect)

    def listen(self, address: Any, context: ChannelContext) -> Listener:
        return SocketListener(self.bind(address, context.interrupt), context, self)

    @abstractmethod
    def connect(self, address: Any, interrupt: Interrupt) -> socket.socket:
        """A connected, non-blocking socket."""

    @abstractmethod
    def bind(self, address: Any, interrupt: Interrupt) -> Bound:
        """Listening, non-blocking sockets."""

    def tune(self, sock: socket.socket) -> None:
        """Sets the options of a connected socket."""


class Bound:
    """Listening sockets, where they listen, and what is to be done when they no longer do."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        addresses: Sequence[Mapping[str, Any]],
        uris: Sequence[str],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.sockets = list(sockets)
        self.addresses = list(addresses)
        self.uris = list(uris)
        self._after = after

    def close(self) -> None:
        sockets, self.sockets = self.sockets, []
        for sock in sockets:
            sock.close()
        if sockets:
            self._after()


class SocketListener(Listener):
    """Accepts connections and sorts them: the main one begins with the stream's magic.

    Where only one is expected, the first is the main one. Where several are, they may come in any order, and
    one that ends before it said anything is let go. When all are there, nobody else can connect.
    """

    def __init__(self, bound: Bound, context: ChannelContext, channel: SocketChannel) -> None:
        self._bound = bound
        self._interrupt = context.interrupt.below()
        self._above = context.interrupt
        self._missing = 1 + context.further
        self._several = context.further > 0
        self._channel = channel
        self._accepting = threading.Lock()
        self._silent: dict[int, SocketConnection] = {}
        self._main: deque[SocketConnection] = deque()
        self._further: deque[SocketConnection] = deque()
        self._all: list[SocketConnection] = []

    @property
    def addresses(self) -> Sequence[Mapping[str, Any]]:
        return self._bound.addresses

    @property
    def uris(self) -> Sequence[str]:
        return self._bound.uris

    def accept(self) -> InputChannel:
        with self._accepting:
            connection = self._wait_for(self._main)
        more = self._more if self._several else None
        return StreamInput(connection, two_way=True, owner=self.close, more=more)

    def _more(self) -> InputChannel:
        with self._accepting:
            connection = self._wait_for(self._further)
        return StreamInput(connection, two_way=True, owner=connection.close)

    def close(self) -> None:
        self._interrupt.set(MigrationError("the listener was closed"))
        with self._accepting:
            self._bound.close()
            for connection in self._all:
                connection.close()

    def _wait_for(self, kind: deque[SocketConnection]) -> SocketConnection:
        while not kind:
            waiting = {sock.fileno(): select.POLLIN for sock in self._bound.sockets}
            waiting.update(dict.fromkeys(self._silent, select.POLLIN))
            ready = self._interrupt.wait_any(waiting)
            for sock in list(self._bound.sockets):
                if sock.fileno() in ready:
                    self._take(sock)
            for fd in [fd for fd in ready if fd in self._silent]:
                self._sort(fd)
        return kind.popleft()

    def _take(self, listening: socket.socket) -> None:
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it went away between the two calls
        except OSError as error:
            raise MigrationError(f"Unable to accept a connection: {error.strerror}") from error
        self._channel.tune(sock)
        connection = SocketConnection(sock, self._above)
        self._all.append(connection)
        if self._several:
            if len(self._silent) == BACKLOG:
                # Those who connect and say nothing shall not keep others out.
                self._silent.pop(next(iter(self._silent))).close()
            self._silent[connection.fileno()] = connection
        else:
            self._is(self._main, connection)

    def _sort(self, fd: int) -> None:
        head = self._silent[fd].read_head(len(MAGIC))
        if head is not None and len(head) < len(MAGIC):
            return
        connection = self._silent.pop(fd)
        if head is None:
            connection.close()
        elif head == MAGIC and not self._main:
            self._is(self._main, connection)
        else:
            self._is(self._further, connection)

    def _is(self, kind: deque[SocketConnection], connection: SocketConnection) -> None:
        kind.append(connection)
        self._missing -= 1
        if not self._missing:
            self._bound.close()


class UnixChannel(SocketChannel):
    """``unix:PATH``."""

    def parse(self, text: str) -> str:
        if not text or "\0" in text:
            raise MigrationError(f"invalid Unix socket address: {text!r}", desc="invalid Unix socket address")
        return text

    def parse_object(self, address: Mapping[str, Any]) -> str:
        members = AddressMembers(address)
        path = members.text("path")
        members.end()
        return self.parse(path)

    def tune(self, sock: socket.socket) -> None:
        # TCP sizes its buffers by itself; here it is the sender's buffer that counts, and it stays as it is.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def connect(self, address: str, interrupt: Interrupt) -> socket.socket:
        sock = _unix_socket()
        try:
            while True:
                interrupt.check()
                try:
                    sock.connect(_checked_path(address))
                    return sock
                except BlockingIOError:
                    interrupt.sleep(_RETRY)
        except OSError as error:
            sock.close()
            raise MigrationError(f"Failed to connect to '{address}': {error.strerror}") from error
        except BaseException:
            sock.close()
            raise

    def bind(self, address: str, interrupt: Interrupt) -> Bound:
        path = _checked_path(address)
        sock = _unix_socket()
        try:
            _remove_dead(path)
            sock.bind(path)
        except OSError as error:
            sock.close()
            raise MigrationError(f"Failed to bind socket to {path}: {error.strerror}") from error
        identity = _identity(path)

        def remove() -> None:
            # Only what we made: somebody may have put another one there.
            if _identity(path) == identity:
                with contextlib.suppress(OSError):
                    os.unlink(path)

        try:
            # Nobody can connect before listen(), so nobody does while the mode is still that of the umask.
            os.chmod(path, 0o600)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            remove()
            raise MigrationError(f"Failed to listen on socket {path}: {error.strerror}") from error
        return Bound([sock], [{"type": "unix", "path": address}], [f"unix:{address}"], remove)


def _unix_socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    return sock


def _checked_path(path: str) -> str:
    if len(os.fsencode(path)) > 107:
        text = f"UNIX socket path '{path}' is too long"
        raise MigrationError(f"{text}: path must be less than 108 bytes", desc=text)
    return path


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _remove_dead(path: str) -> None:
    """Removes a socket that nobody listens on, as a process that was killed leaves it."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with _unix_socket() as probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)

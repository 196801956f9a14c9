# SPDX-License-Identifier: MIT
"""Chardevs on sockets: one client at a time, and the next one when it has left."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import threading

from ...errors import ConfigError
from .capture import DEFAULT_CAPTURE
from .pump import FdChardev

CONNECT_SECONDS = 10.0
#: What fits into a socket address, with the terminating zero.
UNIX_PATH_LIMIT = 107


class SocketChardev(FdChardev):
    """What unix and tcp sockets have in common.

    As a server it keeps output (up to the limit) while nobody is connected, so that whoever comes
    sees what was written before. As a client it connects once.

    Attributes:
        address: where it listens or is connected to, as text.
        connected: set while there is a peer.
    """

    def __init__(self, name: str, sock: socket.socket, address: str, server: bool, capture: int) -> None:
        super().__init__(name, capture=capture)
        self.address = address
        self.server = server
        self.connected = threading.Event()
        self._listener = sock if server else None
        self._peer: socket.socket | None = None
        if not server:
            self._use(sock)
        self._start()

    def wait_connected(self, timeout: float | None = None) -> bool:
        """Waits for a peer; any thread but the machine's."""
        return self.connected.wait(timeout)

    def _use(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = peer
        self._reader = self._writer = peer.fileno()
        self.connected.set()

    def _extra_interest(self) -> dict[int, int]:
        if self._listener is None or self._peer is not None or self.closed:
            return {}
        return {self._listener.fileno(): select.POLLIN}

    def _extra_event(self, fd: int) -> None:
        if self._listener is None or fd != self._listener.fileno():
            return
        try:
            peer, _ = self._listener.accept()
        except OSError:  # the client left between knocking and being let in
            return
        self._use(peer)

    def _input_ended(self, error: OSError | None) -> None:
        self._leave()

    def _output_failed(self, error: OSError) -> None:
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self.dropped += len(self._in_flight)
            self._in_flight = b""
            self._reader = self._writer = None
        if self._peer is not None:
            self._peer.close()
            self._peer = None
        self.connected.clear()

    def _release(self) -> None:
        self._leave()
        if self._listener is not None:
            self._listener.close()


class UnixChardev(SocketChardev):
    """``unix:PATH[,server=on][,wait=on]``: a local stream socket, made with mode 0600.

    Raises:
        ConfigError: the path is too long, in use, not ours to replace, or nobody listens there.
    """

    kind = "unix"

    def __init__(
        self, path: str | os.PathLike[str], *, server: bool = False, name: str = "", capture: int = DEFAULT_CAPTURE
    ) -> None:
        self.path = os.fspath(path)
        self._made: tuple[int, int] | None = None
        if not 0 < len(os.fsencode(self.path)) <= UNIX_PATH_LIMIT:
            raise ConfigError(f"chardev unix {self.path}: the path must have 1 to {UNIX_PATH_LIMIT} bytes")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._open(sock, server)
        except OSError as error:
            sock.close()
            self._remove()
            raise ConfigError(f"chardev unix {self.path}: {error.strerror or error}") from error
        except ConfigError:
            sock.close()
            raise
        super().__init__(name, sock, self.path, server, capture)

    def _open(self, sock: socket.socket, server: bool) -> None:
        if not server:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(self.path)
            return
        self._clear_stale()
        sock.bind(self.path)
        status = os.stat(self.path)
        self._made = status.st_dev, status.st_ino
        # Nobody can connect before listen(), so there is no moment at which others could.
        os.chmod(self.path, 0o600)
        sock.listen(1)
        sock.setblocking(False)

    def _clear_stale(self) -> None:
        """Removes the socket of a process that died; anything else at that path is left alone."""
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ConfigError(f"chardev unix {self.path}: exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_SECONDS)
            code = probe.connect_ex(self.path)
        if code != errno.ECONNREFUSED:
            raise ConfigError(f"chardev unix {self.path}: another process listens there")
        os.unlink(self.path)

    def _remove(self) -> None:
        if self._made is None:
            return
        try:
            status = os.lstat(self.path)
            if (status.st_dev, status.st_ino) == self._made:
                os.unlink(self.path)
        except FileNotFoundError:  # somebody tidied up before us
            pass
        self._made = None

    def _release(self) -> None:
        super()._release()
        self._remove()


class TcpChardev(SocketChardev):
    """``tcp:HOST:PORT[,server=on][,wait=on]``; port 0 lets the system choose, see :attr:`address`.

    Raises:
        ConfigError: the name does not resolve, the port is taken, or nobody listens there.
    """

    kind = "tcp"

    def __init__(
        self, host: str, port: int, *, server: bool = False, name: str = "", capture: int = DEFAULT_CAPTURE
    ) -> None:
        if not 0 <= port <= 0xFFFF or (not server and port == 0):
            raise ConfigError(f"chardev tcp {host}:{port}: port {port} is not between {0 if server else 1} and 65535")
        try:
            if server:
                family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
                sock = socket.create_server((host, port), family=family, backlog=1)
                sock.setblocking(False)
            else:
                sock = socket.create_connection((host or "localhost", port), timeout=CONNECT_SECONDS)
        except OSError as error:
            raise ConfigError(f"chardev tcp {host}:{port}: {error.strerror or error}") from error
        where = sock.getsockname() if server else sock.getpeername()
        shown = f"[{where[0]}]" if ":" in where[0] else where[0]
        super().__init__(name, sock, f"{shown}:{where[1]}", server, capture)
        self.port: int = where[1]

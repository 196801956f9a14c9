# SPDX-License-Identifier: MIT
"""Sockets for control protocols: listening, clients, and writing without ever blocking the machine."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..errors import ConfigError

_log = logging.getLogger("pyemu.control")
_MAX_QUEUED = 10_000
_READ = 1 << 16
#: Descriptors of a client that wait to be taken by its commands; the oldest go first.
_MAX_FDS = 16


@dataclass(frozen=True, slots=True)
class Address:
    """Where a control socket lives: ``unix:PATH`` or ``tcp:HOST:PORT``."""

    family: str
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str, what: str) -> Address:
        """Reads ``unix:PATH`` or ``tcp:HOST:PORT``; trailing ``,server=on,wait=off`` as QEMU's users write is accepted.

        Raises:
            ConfigError: *text* is neither.
        """
        spec, *options = text.split(",")
        for option in options:
            if option.partition("=")[0] not in ("server", "wait", "nowait"):
                raise ConfigError(f"{what} {text!r}: unknown option {option!r}; known: server, wait")
        scheme, _, rest = spec.partition(":")
        if scheme == "unix" and rest:
            return cls("unix", path=rest)
        host, _, port = rest.rpartition(":")
        if scheme == "tcp" and port.isdigit() and int(port) <= 0xFFFF:
            return cls("tcp", host=host.strip("[]") or "127.0.0.1", port=int(port))
        raise ConfigError(f"{what} {text!r} is not of the form unix:PATH or tcp:HOST:PORT")

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.family == "unix" else f"tcp:{self.host}:{self.port}"


class Session(Protocol):
    """One client's conversation."""

    def received(self, data: bytes) -> None:
        """Bytes from the client, on the client's own thread."""

    def closed(self) -> None:
        """The client is gone."""


class Client:
    """A connected client. :meth:`send` hands the kernel what it takes; the rest is queued for a thread of the client's own."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fds: deque[int] = deque()
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._order = threading.Lock()
        self._queued = 0  # messages that the writer has not sent yet
        self._writer = threading.Thread(target=self._write, name="pyemu-control-out", daemon=True)
        self._writer.start()

    def send(self, data: bytes) -> None:
        """Any thread, never blocks. A client that stopped reading is cut off rather than buffered for ever."""
        with self._order:
            if not self._queued:
                # Most clients wait for the answer: another thread would only make them wait longer.
                try:
                    data = data[self._sock.send(data, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    pass  # its buffer is full
                except OSError:
                    return  # gone; the reading thread finds out too
                if not data:
                    return
            if self._queued < _MAX_QUEUED:
                self._queued += 1
                self._out.put(data)
                return
        _log.warning("a control client does not read its messages: disconnected")
        self.abort()

    def finish(self) -> None:
        """Sends what is queued, then closes."""
        self._out.put(None)
        if threading.current_thread() is not self._writer:
            self._writer.join(timeout=2)
        self.abort()

    def abort(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # gone already: that is what we want

    def take_fd(self) -> int | None:
        """The first descriptor that came with what the client sent and nobody has taken yet; client's thread only."""
        return self._fds.popleft() if self._fds else None

    def _receive(self) -> bytes:
        if self._sock.family != socket.AF_UNIX:
            return self._sock.recv(_READ)
        data, fds, _, _ = socket.recv_fds(self._sock, _READ, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        self._fds.extend(fds)
        while len(self._fds) > _MAX_FDS:
            os.close(self._fds.popleft())
        return data

    def read_all(self, session: Session) -> None:
        try:
            while data := self._receive():
                session.received(data)
        except OSError as error:
            _log.debug("control client: %s", error)
        finally:
            session.closed()
            while self._fds:
                os.close(self._fds.popleft())
            self._out.put(None)
            self._writer.join(timeout=2)
            self._sock.close()

    def _write(self) -> None:
        while (data := self._out.get()) is not None:
            try:
                self._sock.sendall(data)
            except OSError:
                return
            with self._order:
                self._queued -= 1


class Server:
    """Listens on one address and gives every client a session of its own.

    Unix sockets are made with mode 0600: whoever can open one owns the machine.

    Args:
        address: where to listen; port 0 picks a free one (see :attr:`address`).
        make_session: called with each new :class:`Client`.
        name: for thread names and messages.

    Raises:
        ConfigError: the address cannot be bound; the message names it and the cause.
    """

    def __init__(self, address: Address, make_session: Callable[[Client], Session], name: str) -> None:
        self._make_session = make_session
        self._name = name
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._closing = False
        try:
            self._sock = _bind(address)
        except OSError as error:
            raise ConfigError(f"{name} {address}: {error.strerror or error}") from None
        if address.family == "tcp":
            address = Address("tcp", host=address.host, port=self._sock.getsockname()[1])
        self.address = address
        self._thread = threading.Thread(target=self._accept, name=f"pyemu-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Lets each client have what is queued for it, then closes everything and removes a unix socket."""
        with self._lock:
            self._closing = True
            clients = list(self._clients)
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # a listening socket that never had a client
        self._sock.close()
        for client in clients:
            client.finish()
        self._thread.join(timeout=2)
        if self.address.family == "unix":
            _unlink_socket(self.address.path)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return  # closed
            client = Client(sock)
            with self._lock:
                if self._closing:
                    client.finish()
                    return
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), name=f"pyemu-{self._name}-in", daemon=True).start()

    def _serve(self, client: Client) -> None:
        try:
            client.read_all(self._make_session(client))
        finally:
            with self._lock:
                self._clients.discard(client)


def _bind(address: Address) -> socket.socket:
    if address.family == "tcp":
        return socket.create_server((address.host, address.port))
    sock = socket.socket(socket.AF_UNIX)
    try:
        if _is_dead_socket(address.path):
            os.unlink(address.path)
        # The mode must be right from the first moment, and umask is the process's: bind under a
        # name nobody knows, restrict it, then give it its real name.
        temporary = f"{address.path}.{os.getpid()}.{threading.get_ident()}"
        sock.bind(temporary)
        try:
            os.chmod(temporary, 0o600)
            sock.listen()
            os.link(temporary, address.path)
        finally:
            os.unlink(temporary)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_dead_socket(path: str) -> bool:
    """A socket file left by a process that was killed; anything else at the path is not ours to remove."""
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    finally:
        probe.close()
    return False


def _unlink_socket(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # removed by its user

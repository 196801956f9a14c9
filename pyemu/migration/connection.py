# SPDX-License-Identifier: MIT
"""Descriptors that bytes flow through in order: sockets and pipes, and channels made of them.

No call here blocks for good: each tries, and where it would have to wait, it waits with the migration's
:class:`~pyemu.migration.interrupt.Interrupt`. The GIL is not held while the system copies or waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from ..errors import MigrationError
from .channel import Buffer, InputChannel, OutputChannel
from .faults import read_fault, write_fault
from .interrupt import Interrupt

#: Buffers of one vectored write, at most.
_VECTOR = os.sysconf("SC_IOV_MAX")


class Connection(ABC):
    """One descriptor. At most one thread reads and one writes at a time; any may :meth:`close`.

    Args:
        interrupt: of the migration.
        what: for messages, e.g. ``socket``.
    """

    def __init__(self, fd: int, interrupt: Interrupt, what: str) -> None:
        self.interrupt = interrupt.below()
        self.what = what
        self._fd = fd
        # Held around each use of the descriptor, so that close() gives no number back that is in use.
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        #: Bytes that were read ahead, to see what kind of connection this is.
        self._head = bytearray()

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Writes all of *buffers*; returns how many bytes that were.

        Raises:
            MigrationError: the other side is gone, or the interrupt was set.
        """
        views = [v for v in (memoryview(b).cast("B") for b in buffers) if v.nbytes]
        total = sum(v.nbytes for v in views)
        at = 0
        with self._writing:
            while at < len(views):
                self.interrupt.check()
                try:
                    done = self._send(views[at : at + _VECTOR])
                except BlockingIOError:
                    self.interrupt.wait(self._fd, select.POLLOUT)
                    continue
                except OSError as error:
                    raise write_fault(error, self.what) from error
                while at < len(views) and done >= views[at].nbytes:
                    done -= views[at].nbytes
                    at += 1
                if done:
                    views[at] = views[at][done:]
        return total

    def receive(self, view: memoryview, interrupt: Interrupt | None = None) -> int:
        """Reads at least one byte, 0 at the end; *interrupt* is one below this connection's.

        Raises:
            MigrationError: reading failed, or the interrupt was set.
        """
        if self._head:
            done = min(len(view), len(self._head))
            view[:done] = self._head[:done]
            del self._head[:done]
            return done
        waiting = interrupt or self.interrupt
        with self._reading:
            while True:
                waiting.check()
                try:
                    return self._receive(view)
                except BlockingIOError:
                    waiting.wait(self._fd, select.POLLIN)
                except OSError as error:
                    raise read_fault(error, self.what) from error

    def read_head(self, length: int) -> bytes | None:
        """The first bytes, which stay to be read, as far as they are here; None when the end comes first."""
        buffer = memoryview(bytearray(length - len(self._head)))
        while buffer:
            try:
                done = self._receive(buffer)
            except BlockingIOError:
                break
            except OSError:
                return None  # reset by its peer
            if not done:
                return None
            self._head += buffer[:done]
            buffer = buffer[done:]
        return bytes(self._head)

    def fileno(self) -> int:
        return self._fd

    def check_sent(self) -> None:
        """All was written.

        Raises:
            MigrationError: it is known already not to have arrived.
        """

    def close(self) -> None:
        """Ends reading and writing in other threads and closes. Never raises."""
        self.interrupt.set(MigrationError(f"the {self.what} was closed"))
        with self._reading, self._writing:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                self._close(fd)

    @abstractmethod
    def _send(self, views: Sequence[memoryview]) -> int:
        """Writes what can be written at once, or raises BlockingIOError."""

    @abstractmethod
    def _receive(self, view: memoryview) -> int:
        """Reads what is there, or raises BlockingIOError."""

    @abstractmethod
    def _close(self, fd: int) -> None: ...


class SocketConnection(Connection):
    """A connected stream socket, which it owns."""

    def __init__(self, sock: socket.socket, interrupt: Interrupt) -> None:
        super().__init__(sock.fileno(), interrupt, "socket")
        self._sock = sock

    def _send(self, views: Sequence[memoryview]) -> int:
        return self._sock.sendmsg(views, (), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _receive(self, view: memoryview) -> int:
        return self._sock.recv_into(view, 0, socket.MSG_DONTWAIT)

    def check_sent(self) -> None:
        self.interrupt.check()
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise write_fault(OSError(code, os.strerror(code)), self.what)

    def _close(self, fd: int) -> None:
        # The other side hears of the end even if somebody else has a descriptor of this socket, too.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._sock.close()


class PipeConnection(Connection):
    """A pipe or anything else that is read and written in order; its flags are put back at the end."""

    def __init__(self, fd: int, interrupt: Interrupt, what: str = "pipe") -> None:
        super().__init__(fd, interrupt, what)
        self._was_blocking = os.get_blocking(fd)
        os.set_blocking(fd, False)

    def _send(self, views: Sequence[memoryview]) -> int:
        with _no_sigpipe():
            return os.writev(self._fd, views)

    def _receive(self, view: memoryview) -> int:
        return os.readv(self._fd, [view])

    def _close(self, fd: int) -> None:
        # The flag is that of the open file, which others may have a descriptor of.
        with contextlib.suppress(OSError):
            os.set_blocking(fd, self._was_blocking)
        with contextlib.suppress(OSError):
            os.close(fd)


@contextlib.contextmanager
def _no_sigpipe() -> Iterator[None]:
    """A write into a pipe that nobody reads is an error of that write, whatever the process does about the signal."""
    if signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN:
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPIPE,))
    try:
        yield
    except BrokenPipeError:
        if signal.SIGPIPE not in blocked:
            signal.sigtimedwait((signal.SIGPIPE,), 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class StreamOutput(OutputChannel):
    """Writes to a connection.

    Args:
        connection: owned.
        two_way: the other side can answer on it.
        connect: makes a further connection to the same destination, where that is possible.
    """

    def __init__(
        self, connection: Connection, *, two_way: bool = False, connect: Callable[[], Connection] | None = None
    ) -> None:
        self.multiple = connect is not None
        self._connection = connection
        self._two_way = two_way
        self._connect = connect
        self._more: list[StreamOutput] = []
        self._position = 0

    @property
    def position(self) -> int:
        return self._position

    def write(self, data: Buffer) -> None:
        self._position += self._connection.send((data,))

    def writev(self, buffers: Sequence[Buffer]) -> None:
        self._position += self._connection.send(buffers)

    def open_more(self) -> OutputChannel:
        if self._connect is None:
            return super().open_more()
        made = StreamOutput(self._connect())
        self._more.append(made)
        return made

    def reply(self) -> InputChannel | None:
        return StreamInput(self._connection) if self._two_way else None

    def finish(self) -> None:
        self._connection.check_sent()

    def commit(self) -> None:
        """Closes. From here on the other side may have the machine, so nothing can fail any more."""
        self.abort()

    def abort(self) -> None:
        for channel in self._more:
            channel.abort()
        self._connection.close()


class StreamInput(InputChannel):
    """Reads from a connection.

    Args:
        connection: closed by the owner.
        two_way: what is read can be answered.
        owner: closes everything when this is closed; without one, :meth:`close` only ends this reading.
        more: waits for the source's next connection, where there can be one.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        two_way: bool = False,
        owner: Callable[[], None] | None = None,
        more: Callable[[], InputChannel] | None = None,
    ) -> None:
        self.multiple = more is not None
        self._connection = connection
        self._interrupt = connection.interrupt.below()
        self._two_way = two_way
        self._owner = owner
        self._next = more
        self._position = 0

    @property
    def position(self) -> int:
        return self._position

    def readinto(self, view: memoryview) -> int:
        done = self._connection.receive(view, self._interrupt)
        self._position += done
        return done

    def more(self) -> InputChannel:
        return super().more() if self._next is None else self._next()

    def reply(self) -> OutputChannel | None:
        return _Reply(self._connection) if self._two_way else None

    def close(self) -> None:
        self._interrupt.set(MigrationError(f"the {self._connection.what} was closed"))
        if self._owner is not None:
            self._owner()


class _Reply(StreamOutput):
    """The way back: it ends with the connection that it belongs to, not by itself."""

    def finish(self) -> None:
        """Nothing is buffered here."""

    def commit(self) -> None:
        """The connection is closed by the channel it carries."""

    def abort(self) -> None:
        """The connection is closed by the channel it carries."""

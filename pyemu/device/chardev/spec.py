# SPDX-License-Identifier: MIT
"""From ``unix:/run/console,server=on`` to a chardev."""

from __future__ import annotations

from ...errors import ConfigError
from ..options import parse_options, parse_switch, split_commas
from .base import Chardev

KINDS = ("null", "memory", "stdio", "file", "unix", "tcp")


def open_chardev(spec: str, name: str = "") -> Chardev:
    """Opens the chardev that *spec* describes.

    ======================================== ===========================================================
    ``null``                                 nowhere
    ``memory``                               the program's memory: ``feed()`` and ``capture``
    ``stdio[,signal=off]``                   the terminal
    ``file:PATH[,append=on]``                a file, output only
    ``unix:PATH[,server=on][,wait=on]``      a local socket
    ``tcp:HOST:PORT[,server=on][,wait=on]``  a TCP socket; IPv6 addresses in brackets
    ======================================== ===========================================================

    A comma inside a path is written twice. With ``wait=on`` a server waits for its first client here.

    Raises:
        ConfigError: names the spec and what is wrong with it.
    """
    first, *rest = split_commas(spec)
    kind, colon, target = first.partition(":")
    owner = f"chardev {spec!r}"
    if kind not in KINDS:
        raise ConfigError(f"{owner}: unknown kind {kind!r}; there are: {', '.join(KINDS)}")
    if kind in ("file", "unix", "tcp") and not target:
        raise ConfigError(f"{owner}: {kind} needs {'HOST:PORT' if kind == 'tcp' else 'a path'}, as in {kind}:...")
    if kind in ("null", "memory", "stdio") and colon:
        raise ConfigError(f"{owner}: {kind} takes no argument")
    chardev = _open(owner, kind, target, rest, name)
    chardev.spec = spec
    return chardev


def _open(owner: str, kind: str, target: str, rest: list[str], name: str) -> Chardev:
    if kind in ("null", "memory"):
        from .simple import MemoryChardev, NullChardev

        parse_options(owner, rest, ())
        return NullChardev(name) if kind == "null" else MemoryChardev(name)
    if kind == "stdio":
        from .stdio import StdioChardev

        options = parse_options(owner, rest, ("signal",))
        return StdioChardev(signals=parse_switch(owner, "signal", options.get("signal", "on")), name=name)
    if kind == "file":
        from .file import FileChardev

        options = parse_options(owner, rest, ("append",))
        return FileChardev(target, append=parse_switch(owner, "append", options.get("append", "off")), name=name)
    return _open_socket(owner, kind, target, rest, name)


def _open_socket(owner: str, kind: str, target: str, rest: list[str], name: str) -> Chardev:
    from .socket import SocketChardev, TcpChardev, UnixChardev

    options = parse_options(owner, rest, ("server", "wait"))
    server = parse_switch(owner, "server", options.get("server", "off"))
    wait = parse_switch(owner, "wait", options.get("wait", "off"))
    if wait and not server:
        raise ConfigError(f"{owner}: wait=on needs server=on")
    chardev: SocketChardev
    if kind == "unix":
        chardev = UnixChardev(target, server=server, name=name)
    else:
        chardev = TcpChardev(*_host_port(owner, target), server=server, name=name)
    if wait:
        try:
            chardev.wait_connected()
        except BaseException:  # Ctrl-C while waiting: the socket must not stay behind
            chardev.close()
            raise
    return chardev


def _host_port(owner: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{owner}: an IPv6 address is written in brackets")
    if not colon or not (port.isascii() and port.isdigit()):
        raise ConfigError(f"{owner}: {text!r} is not HOST:PORT")
    return host, int(port)

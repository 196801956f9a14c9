# SPDX-License-Identifier: MIT
"""``pyemu run``: builds a machine from the command line and runs it until it ends."""

from __future__ import annotations

import argparse
import contextlib
import logging
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..device.options import escape_commas
from ..errors import ConfigError, MigrationError
from ..plugin import PluginManager
from . import display, options, post

if TYPE_CHECKING:
    from ..device.properties import Property
    from ..machine import Machine


#: Where the processor begins after a reset; of an x86 board.
X86_RESET_VECTOR = 0xFFFFFFF0
#: Options of which a saved file knows better.
_OF_A_BOARD = ("memory", "device", "kernel", "append", "initrd", "bios", "loader", "uuid", "qtest")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(usage_error=parser.error)
    machine = parser.add_argument_group("machine")
    machine.add_argument("-M", "--machine", metavar="BOARD[,K=V]", type=options.named, help="board; 'help' lists them")
    machine.add_argument(
        "-m", "--memory", metavar="SIZE", type=options.size, help="RAM, e.g. 64M; a plain number is MiB"
    )
    machine.add_argument(
        "--memory-backend", metavar="memfd|file:PATH,share=on|off", help="where RAM is; by default memory of its own"
    )
    machine.add_argument("--cpu", metavar="ENGINE", help="CPU engine, 'none' for no processor; 'help' lists them")
    machine.add_argument("--uuid", help="of the machine")
    devices = parser.add_argument_group("devices; 'help' lists them, 'NAME,help' a device's properties")
    devices.add_argument("--device", metavar="NAME[,K=V]", type=options.named, action="append", default=[])
    devices.add_argument("--drive", metavar="file=F,if=ide|floppy,...", action="append", default=[])
    devices.add_argument(
        "--serial",
        metavar="CHARDEV",
        action="append",
        default=[],
        help="stdio, null, file:PATH, unix:PATH, tcp:HOST:PORT or none; one for each serial port",
    )
    devices.add_argument("--cdrom", metavar="FILE", help="short for --drive file=FILE,media=cdrom")
    devices.add_argument(
        "--display",
        metavar="KIND",
        default="none",
        help="terminal (Ctrl-] ends the program), png:FILE (kept up to date) or none; gives the board a VGA",
    )
    devices.add_argument("--post", action="store_true", help="show the POST codes that firmware writes to port 80")
    guest = parser.add_argument_group("guest")
    guest.add_argument("--bios", metavar="FILE", help="firmware image")
    guest.add_argument("--kernel", metavar="FILE", help="image with the 32-bit Linux boot protocol")
    guest.add_argument("--append", metavar="TEXT", default="", help="the kernel's command line")
    guest.add_argument("--initrd", metavar="FILE", help="initial RAM disk for the kernel")
    guest.add_argument(
        "--loader",
        metavar="file=F,addr=N",
        type=options.loader,
        action="append",
        default=[],
        help="copy a file into RAM at each reset",
    )
    control = parser.add_argument_group("control")
    control.add_argument("--qmp", metavar="ADDR", help="QMP on unix:PATH or tcp:HOST:PORT")
    control.add_argument("--qtest", metavar="ADDR", help="qtest protocol; guest time moves only by clock_step")
    control.add_argument(
        "--incoming", metavar="URI", help="load a machine first: file:PATH, tcp:HOST:PORT, ...; 'defer' waits for QMP"
    )
    control.add_argument(
        "--lazy",
        action="store_true",
        help="with --incoming file:PATH of a mapped-ram file: map RAM over the file and read pages as they are used",
    )
    control.add_argument(
        "--migration",
        metavar="K=V[,K=V]",
        type=options.settings,
        default={},
        help="capabilities and parameters of migrations, e.g. multifd=on,multifd-channels=4",
    )
    control.add_argument(
        "--host-files",
        action="store_true",
        help="with --incoming and without -M: open the drives and images that the saved file names (trust its writer)",
    )
    control.add_argument("-S", dest="stopped", action="store_true", help="do not start the guest")


def run(args: argparse.Namespace) -> int:
    plugins: PluginManager = args.plugins
    if _help(args, plugins):
        return 0
    if args.machine is None and not _loads_file(args.incoming):
        args.usage_error("the following arguments are required: -M/--machine, or --incoming file:PATH")
    from ..control import QMPServer, QTestServer

    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(_machine(args))
        keep = bool(args.qmp or args.qtest)
        if not keep:  # what goes wrong is the program's last line then; it need not be logged as well
            log = logging.getLogger("pyemu.machine")
            stack.callback(log.setLevel, log.level)
            log.setLevel(logging.CRITICAL)
        finished = _Finished(machine, keep)
        if args.post:
            post.watch(machine)
        if args.qmp:
            stack.callback(QMPServer(machine, args.qmp).close)
        if args.qtest:
            stack.callback(QTestServer(machine, args.qtest).close)
        stack.enter_context(_signals(machine))
        machine.migration.set_from_texts(args.migration)
        machine.migration.autostart = not args.stopped
        stack.enter_context(display.shown(machine, args.display, keyboard="stdio" not in args.serial))
        if args.incoming not in (None, "defer"):
            _load(machine, args.incoming, lazy=args.lazy)
        elif args.incoming is None and not args.stopped:
            _check_runnable(machine, args)
            machine.cont()
        finished.wait()
        fault = machine.fault
        if isinstance(fault, MigrationError) and args.incoming != "defer":
            raise _named(args.incoming, fault) from fault
        if fault is not None and keep:
            return 1  # it was logged when it happened
        if fault is not None:
            raise fault
        return 0


def _loads_file(uri: str | None) -> bool:
    """The URI names a file whose head can be looked at before anything is loaded."""
    return uri is not None and uri.startswith("file:") and ",offset=" not in uri and "/dev/fdset/" not in uri


def _machine(args: argparse.Namespace) -> Machine:
    """The machine that the command line describes; without ``-M`` the one that the saved file describes."""
    from ..machine import Machine
    from ..machine.restoration import from_description
    from ..migration import read_description

    if args.machine is not None:
        return Machine(**machine_arguments(args))
    given = [name for name in _OF_A_BOARD if getattr(args, name) not in (None, "", [])]
    if given:
        args.usage_error(f"--{given[0]} needs -M/--machine: without, the saved file says what the machine consists of")
    path = args.incoming.removeprefix("file:")
    try:
        return from_description(
            read_description(path),
            cpu=args.cpu,
            serial=args.serial,
            drives=drives_of(args) or None,
            host_files=args.host_files,
            plugins=args.plugins,
        )
    except MigrationError as error:
        raise _named(args.incoming, error) from error


def _named(uri: str, error: MigrationError) -> MigrationError:
    """*error* with what was to be loaded in front, unless it says so itself."""
    return error if uri in str(error) else MigrationError(f"{uri}: {error}", desc=error.desc)


def _check_runnable(machine: Machine, args: argparse.Namespace) -> None:
    """A PC that finds no memory at its reset vector and no kernel was started without anything to run.

    Raises:
        ConfigError: says what may be missing.
    """
    arch = args.plugins.get("board", machine.board).arch
    if arch != "x86" or machine.engine is None or args.kernel is not None or args.bios is not None:
        return
    if not any(r.start <= X86_RESET_VECTOR < r.start + r.size for r in machine.call(machine.memory.flat_view)):
        raise ConfigError(
            f"board {machine.board} has nothing to run at {X86_RESET_VECTOR:#x}: give --kernel or --bios, "
            "or --incoming, or start it stopped with -S"
        )


def _load(machine: Machine, uri: str, lazy: bool) -> None:
    """Begins to load; a file says itself which capabilities it was saved with. A failure ends the machine.

    Raises:
        MigrationError: loading cannot begin; what was to be loaded is named.
    """
    from ..migration import read_header

    try:
        if _loads_file(uri):
            saved_with = read_header(uri.removeprefix("file:")).capabilities
            machine.migration.set_capabilities(dict.fromkeys(saved_with, True))
        machine.migration.set_parameters({"lazy-restore": lazy})
        machine.migration.incoming(uri, exit_on_error=True)
    except MigrationError as error:
        raise _named(uri, error) from error
    if machine.migration.listening:
        print(f"pyemu: waiting for a migration at {' and '.join(machine.migration.listening)}", file=sys.stderr)


def drives_of(args: argparse.Namespace) -> list[str]:
    """All drives of the command line."""
    return [*args.drive, *([f"file={escape_commas(args.cdrom)},media=cdrom"] if args.cdrom else [])]


def machine_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says, as arguments of :class:`~pyemu.Machine`."""
    board, properties = args.machine
    if display.parse(args.display)[0] != "none":
        known = args.plugins.get("board", board).properties
        if any(p.name == "vga" for p in known):
            properties = {"vga": True, **properties}
    for kind in ("bios", "kernel", "initrd"):
        name = getattr(args, kind)
        if name is not None and not pathlib.Path(name).is_file():
            exists = pathlib.Path(name).exists()
            raise ConfigError(f"{kind} {name}: {'not a regular file' if exists else 'no such file'}")
    return {
        "board": board,
        "properties": properties,
        "memory": args.memory,
        "memory_backend": args.memory_backend,
        "cpu": args.cpu,
        "devices": args.device,
        "serial": args.serial,
        "drives": drives_of(args),
        "kernel": args.kernel,
        "append": args.append,
        "initrd": args.initrd,
        "bios": args.bios,
        "loaders": args.loader,
        "uuid": args.uuid,
        "clock": "step" if args.qtest else "host",
        "incoming": args.incoming is not None,
        "plugins": args.plugins,
    }


class _Finished:
    """Waits for the end of the machine.

    A machine that somebody controls through a socket lives on after a fault, so that its state can be
    looked at; one that nobody could reach any more ends with it.
    """

    def __init__(self, machine: Machine, keep: bool) -> None:
        self._machine = machine
        self._keep = keep
        self._changed = threading.Event()
        machine.on_event(lambda event: self._changed.set())

    def wait(self) -> None:
        while not self._machine.exited.is_set():
            self._changed.wait()
            self._changed.clear()
            if self._machine.shutdown_reason is not None:
                # The event comes just before the end that it announces.
                self._machine.exited.wait()
            elif self._machine.fault is not None and not self._keep:
                return


@contextlib.contextmanager
def _signals(machine: Machine) -> Iterator[None]:
    """SIGTERM and SIGHUP end the machine in an orderly way; Ctrl-C arrives as KeyboardInterrupt."""

    def end(number: int, frame: object) -> None:
        machine.request_shutdown("host-signal", guest=False)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- help -----------------------------------------------------------------------------------------


def _help(args: argparse.Namespace, plugins: PluginManager) -> bool:
    """Answers ``-M help``, ``--cpu help``, ``--device help`` and ``NAME,help``; true if one was asked for."""
    board, board_options = args.machine or ("", {})
    if board == "help":
        return _list("boards", [(b.name, b.help) for b in plugins.boards().values()])
    if args.cpu == "help":
        return _list("CPU engines", [("none", "no processor"), *((e.name, e.help) for e in plugins.engines().values())])
    for name, given in args.device:
        if name == "help":
            return _list("devices", [(d.name, f"{d.help} [{d.bus}]") for d in plugins.devices().values()])
        if given == {"help": ""}:
            return _properties(f"device {name}", plugins.resolve(plugins.get("device", name)).properties)
    if board_options == {"help": ""}:
        return _properties(f"board {board}", plugins.get("board", board).properties)
    return False


def _list(title: str, rows: Sequence[tuple[str, str]]) -> bool:
    print(f"{title}:")
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"  {name:{width}}  {text}".rstrip())
    return True


def _properties(title: str, properties: Sequence[Property]) -> bool:
    rows = []
    for p in properties:
        accepts = "|".join(p.choices) if p.choices else "on|off" if p.kind == "bool" else p.kind
        default = {True: "on", False: "off"}.get(p.default, p.default) if p.kind == "bool" else p.default
        if p.kind == "int" and isinstance(default, int) and default > 0xF:
            default = hex(default)
        suffix = f" (default: {default})" if default is not None else ""
        rows.append((f"{p.name}=<{accepts}>", f"{p.help}{suffix}"))
    return _list(title, rows or [("no properties", "")])

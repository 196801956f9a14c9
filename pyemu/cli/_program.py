# SPDX-License-Identifier: MIT
"""Finds the subcommand, parses its options, runs it and turns every error into one line."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..errors import PluginError, PyemuError
from ..plugin import Command, PluginManager

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``pyemu`` with these arguments (the process's own when None) and returns the exit status."""
    # Taken out before anything else is parsed: parsing itself may load plugins and fail.
    common = _Common.split(sys.argv[1:] if argv is None else argv)
    debug = common.debug
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="pyemu: %(levelname)s: %(name)s: %(message)s"
    )
    with _terminal_kept():
        try:
            return _dispatch(common)
        except SystemExit as exit_:  # argparse: --help, --version, wrong usage
            return exit_.code if isinstance(exit_.code, int) else EXIT_USAGE
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            # The reader of our output left. Python would complain once more while it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_ERROR
        except (PyemuError, OSError) as error:
            return _report(str(error), debug)
        except Exception as error:  # noqa: BLE001  a fault of ours or of a plugin's command: one line that says so
            text = f"internal error: {type(error).__name__}: {error}"
            return _report(text if debug else f"{text} (--debug shows where)", debug)


def _report(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print("pyemu: " + " ".join(message.split()), file=sys.stderr)
    return EXIT_ERROR


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Gives the terminal back as it was, even if a chardev that made it raw never got to."""
    try:
        # Not on every system, and `pyemu doctor` runs on all.
        import termios
    except ImportError:
        yield
        return
    try:
        fd = sys.stdin.fileno()
        saved = termios.tcgetattr(fd)
    except (OSError, ValueError, AttributeError, termios.error):  # no terminal, or no stdin at all
        yield
        return
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)


@dataclass
class _Common:
    """The options that may stand anywhere on the command line, also behind nested subcommands."""

    debug: bool = False
    no_plugins: bool = False
    block: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)

    @classmethod
    def split(cls, arguments: Sequence[str]) -> _Common:
        """Takes the common options out; everything behind ``--`` is left alone."""
        found = cls()
        words = iter(arguments)
        for word in words:
            if word == "--":
                found.rest += [word, *words]
            elif word == "--debug":
                found.debug = True
            elif word == "--no-plugins":
                found.no_plugins = True
            elif word == "--block":
                found.block += [value] if (value := next(words, None)) is not None else []
                found.rest += [word] if value is None else []  # argparse says what is wrong with that
            elif word.startswith("--block="):
                found.block.append(word.partition("=")[2])
            else:
                found.rest.append(word)
        return found

    @staticmethod
    def describe(parser: argparse.ArgumentParser) -> None:
        """Puts the options into the help text."""
        group = parser.add_argument_group("plugins and errors")
        group.add_argument(
            "--no-plugins",
            action="store_true",
            help="use only what the core itself provides (pyemu's own plugins are left out too)",
        )
        group.add_argument(
            "--block", metavar="NAME", help="do not load this plugin (its name or its package's); may be repeated"
        )
        group.add_argument("--debug", action="store_true", help="log more and show tracebacks")


def _dispatch(common: _Common) -> int:
    name = next((word for word in common.rest if not word.startswith("-")), None)
    # The core's commands are known without looking for plugins; only others need them loaded.
    manager = PluginManager((), trace=False)
    plugins = PluginManager(no_plugins=common.no_plugins, block=common.block)
    if name not in manager.commands():
        manager = plugins
    parser = argparse.ArgumentParser(
        prog="pyemu", description="A programmable machine whose parts are plugins.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"pyemu {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for record in manager.commands().values():
        command = commands.add_parser(record.name, help=record.help, description=record.help, allow_abbrev=False)
        if record.name == name:
            module = _module_of(manager, record)
            module.configure(command)
            command.set_defaults(run_command=module.run)
            _Common.describe(command)
    _Common.describe(parser)
    if name is not None and name not in manager.commands():
        try:
            manager.get("command", name)
        except PluginError as error:
            parser.error(str(error))
    args = parser.parse_args(common.rest)
    args.plugins, args.debug = plugins, common.debug
    status = args.run_command(args)
    sys.stdout.flush()
    return int(status or 0)


def _module_of(manager: PluginManager, record: Command) -> Any:
    module = manager.resolve(record)
    for function in ("configure", "run"):
        if not callable(getattr(module, function, None)):
            raise PluginError(f"command {record.name}: {record.factory} has no function {function}()")
    return module

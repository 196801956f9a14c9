# SPDX-License-Identifier: MIT
"""Finds the subcommand, parses its options, runs it and turns every error into one line."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import termios
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from .. import __version__
from ..errors import PluginError, PyemuError
from ..plugin import Command, PluginManager

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``pyemu`` with these arguments (the process's own when None) and returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Known before anything is parsed properly: parsing itself may load plugins and fail.
    debug = "--debug" in arguments
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="pyemu: %(levelname)s: %(name)s: %(message)s"
    )
    with _terminal_kept():
        try:
            return _dispatch(arguments)
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
        except Exception as error:  # a fault of ours (or of a plugin's command): still one line, and say so
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
        fd = sys.stdin.fileno()
        saved = termios.tcgetattr(fd)
    except (OSError, ValueError, AttributeError, termios.error):  # no terminal, or no stdin at all
        yield
        return
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def _add_common(parser: argparse.ArgumentParser, *, default: Any) -> None:
    group = parser.add_argument_group("plugins and errors")
    suppressed = default is argparse.SUPPRESS
    group.add_argument(
        "--no-plugins",
        action="store_true",
        default=default if suppressed else False,
        help="use only what the core itself provides (pyemu's own plugins are left out too)",
    )
    group.add_argument(
        "--block",
        metavar="NAME",
        action="append",
        default=default if suppressed else None,
        help="do not load this plugin (its name or its distribution's); may be repeated",
    )
    group.add_argument(
        "--debug", action="store_true", default=default if suppressed else False, help="log more and show tracebacks"
    )


def _command_of(arguments: Sequence[str]) -> str | None:
    """The first word that is neither an option nor the value of ``--block``."""
    words = iter(arguments)
    for word in words:
        if word == "--block":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _manager_for(arguments: Sequence[str]) -> PluginManager:
    """The plugins as the common options, wherever they stand, select them."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_common(early, default=None)
    known, _ = early.parse_known_args(arguments)
    return PluginManager(no_plugins=known.no_plugins, block=known.block or ())


def _dispatch(arguments: Sequence[str]) -> int:
    name = _command_of(arguments)
    # The core's commands are known without looking for plugins; only others need them loaded.
    core = PluginManager((), trace=False)
    commands = core.commands()
    manager = core
    if name not in commands:
        manager = _manager_for(arguments)
        commands = manager.commands()
        if name is not None and name not in commands:
            manager.get("command", name)  # raises, with the known names or the reason
    parser = _parser(commands)
    module = None
    if name is not None:
        module = _module_of(manager, commands[name])
        actions = parser.get_default("subparsers")
        module.configure(actions[name])
    args = parser.parse_args(arguments)
    args.plugins = manager if manager is not core else PluginManager(no_plugins=args.no_plugins, block=args.block or ())
    assert module is not None  # a command is required, so parse_args() has left otherwise
    status = module.run(args)
    sys.stdout.flush()
    return int(status or 0)


def _module_of(manager: PluginManager, record: Command) -> Any:
    module = manager.resolve(record)
    for function in ("configure", "run"):
        if not callable(getattr(module, function, None)):
            raise PluginError(f"command {record.name}: {record.factory} has no function {function}()")
    return module


def _parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyemu", description="A programmable machine whose parts are plugins.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"pyemu {__version__}")
    _add_common(parser, default=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    added = {}
    for name, record in commands.items():
        added[name] = subparsers.add_parser(name, help=record.help, description=record.help, allow_abbrev=False)
        _add_common(added[name], default=argparse.SUPPRESS)
    parser.set_defaults(subparsers=added)
    return parser

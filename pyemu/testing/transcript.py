# SPDX-License-Identifier: MIT
"""Replays recorded bus transcripts on a machine and compares the answers.

A transcript holds one operation a line, numbers in hexadecimal with 0x, ``#`` begins a comment line::

    powerup [config=N]              a new machine; properties override the board's
    reset                           system reset
    outb PORT VALUE                 also outw, outl
    inb PORT -> VALUE               also inw, inl
    pci_write8 FN REG VALUE         configuration write to function FN of the south bridge; also 16, 32
    pci_read8 FN REG -> VALUE       also 16, 32
    ... & MASK -> VALUE             compare only the bits of MASK
    ... -> A ~ B                    A was recorded, B is right as well; ``~ *`` accepts any answer

From the shell, with the exit status 1 when an answer differs::

    python -m pyemu.testing.transcript BOARD[,k=v...] FILE...
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import ConfigError, PyemuError

#: Which of two answers count: both, only the first (recorded), or the second where there is one.
Answers = Literal["any", "first", "second"]

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
SLOTS = 32
CLASS_ISA_BRIDGE = 0x0601
#: Guest time between operations, for models that need some.
STEP_NS = 1_000_000

_LINE = re.compile(
    r"(?P<name>[a-z_]+)(?P<bits>\d*)(?P<args>(?:\s+(?!->|&)\S+)*)"
    r"(?:\s+&\s*(?P<mask>\S+))?(?:\s*->\s*(?P<first>\S+)(?:\s*~\s*(?P<second>\S+))?)?\s*\Z"
)
_PORT_SIZE = {"b": 1, "w": 2, "l": 4}
_HEX = re.compile(r"(0[xX])?[0-9a-fA-F]{1,8}\Z")


class Target(Protocol):
    """What a transcript is replayed on."""

    def io_read(self, port: int, size: int) -> int: ...

    def io_write(self, port: int, size: int, value: int) -> None: ...

    def reset(self) -> None: ...

    def step(self, delta_ns: int) -> None:
        """Lets guest time pass."""

    def together(self, function: Callable[[], int | None]) -> int | None:
        """Runs *function*, which uses the methods above, with nothing happening in between."""

    def close(self) -> None: ...


#: Makes a new machine, given what follows ``powerup``.
Factory = Callable[[Mapping[str, str]], Target]


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of a transcript.

    Attributes:
        line: its number in the file.
        text: as written.
        kind: ``powerup``, ``reset``, ``in``, ``out``, ``pci_read`` or ``pci_write``.
        size: access size in bytes.
        args: port or function and register, and the value of a write.
        options: what follows ``powerup``.
        mask: bits that are compared.
        first, second: accepted answers; ``second`` is None when there is only one.
        anything: any answer is right.
    """

    line: int
    text: str
    kind: str
    size: int = 0
    args: tuple[int, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    mask: int = 0
    first: int | None = None
    second: int | None = None
    anything: bool = False

    def accepted(self, answers: Answers) -> tuple[int, ...] | None:
        """The values that count as right under *answers*; None when every value does."""
        if self.first is None or (self.anything and answers != "first"):
            return None
        if self.second is None or answers == "first":
            return (self.first,)
        return (self.second,) if answers == "second" else (self.first, self.second)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One wrong answer."""

    file: str
    operation: Operation
    expected: tuple[int, ...]
    got: int

    def __str__(self) -> str:
        wanted = " or ".join(f"0x{value:x}" for value in self.expected)
        return f"{self.file}:{self.operation.line}: {self.operation.text}: expected {wanted}, got 0x{self.got:x}"


def _number(text: str, where: str) -> int:
    if _HEX.match(text) is None:
        raise ConfigError(f"{where}: {text!r} is not a hexadecimal number of up to 32 bits")
    return int(text, 16)


def _operation(line: int, text: str, where: str) -> Operation:
    match = _LINE.match(text)
    if match is None:
        raise ConfigError(f"{where}: cannot read {text!r}")
    name, bits, words = match["name"], match["bits"], match["args"].split()
    if name == "powerup":
        pairs = tuple((key, value) for key, _, value in (word.partition("=") for word in words))
        return Operation(line, text, name, options=pairs)
    if name == "reset" and not words:
        return Operation(line, text, name)
    if name in ("pci_read", "pci_write") and bits in ("8", "16", "32"):
        kind, size, count = name, int(bits) // 8, 2 + (name == "pci_write")
    elif name[:-1] in ("in", "out") and name[-1] in _PORT_SIZE and not bits:
        kind, size, count = name[:-1], _PORT_SIZE[name[-1]], 1 + (name[:-1] == "out")
    else:
        raise ConfigError(f"{where}: unknown operation {text!r}")
    reads = kind in ("in", "pci_read")
    if len(words) != count or reads != (match["first"] is not None):
        raise ConfigError(f"{where}: {text!r} does not have {count} numbers{' and an answer' if reads else ''}")
    args = tuple(_number(word, where) for word in words)
    full = (1 << 8 * size) - 1
    if kind in ("out", "pci_write") and args[-1] > full:
        raise ConfigError(f"{where}: 0x{args[-1]:x} does not fit {size} bytes")
    mask = _number(match["mask"], where) if match["mask"] else full
    first = _number(match["first"], where) if reads else None
    anything = match["second"] == "*"
    second = _number(match["second"], where) if match["second"] and not anything else None
    return Operation(line, text, kind, size, args, (), mask, first, second, anything)


def parse(text: str, source: str = "transcript") -> list[Operation]:
    """The operations of a transcript; *source* names it in errors.

    Raises:
        ConfigError: a line is not understood (names it), or the first operation is not ``powerup``.
    """
    operations = []
    for line, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if stripped and not stripped.startswith("#"):
            operations.append(_operation(line, stripped, f"{source}:{line}"))
    if not operations or operations[0].kind != "powerup":
        raise ConfigError(f"{source}: the first operation is not powerup")
    return operations


class _Session:
    """One powered-up target, with configuration accesses on top of its ports."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._slot: int | None = None

    def _select(self, slot: int, function: int, register: int) -> int:
        self.target.io_write(CONFIG_ADDRESS, 4, 0x80000000 | slot << 11 | function << 8 | register & 0xFC)
        return CONFIG_DATA + (register & 3)

    def slot(self) -> int:
        """Where the south bridge is: the slot whose function 0 is an ISA bridge."""
        if self._slot is None:
            for slot in range(SLOTS):
                if self.target.io_read(self._select(slot, 0, 0x0A), 2) == CLASS_ISA_BRIDGE:
                    self._slot = slot
                    break
            else:
                raise ConfigError("the transcript reads PCI configuration space, and there is no ISA bridge on bus 0")
        return self._slot

    def advance_and_run(self, operation: Operation) -> int | None:
        """Lets some time pass and carries the operation out; what a read answered."""
        self.target.step(STEP_NS)
        args, size = operation.args, operation.size
        if operation.kind == "in":
            return self.target.io_read(args[0], size)
        if operation.kind == "out":
            self.target.io_write(args[0], size, args[1])
        elif operation.kind == "pci_read":
            return self.target.io_read(self._select(self.slot(), args[0], args[1]), size)
        elif operation.kind == "pci_write":
            self.target.io_write(self._select(self.slot(), args[0], args[1]), size, args[2])
        else:
            self.target.reset()
        return None


def replay(
    operations: Iterable[Operation], factory: Factory, *, source: str = "transcript", answers: Answers = "any"
) -> Iterator[Mismatch]:
    """Replays *operations* on machines that *factory* makes and yields each wrong answer."""
    session: _Session | None = None
    try:
        for operation in operations:
            if operation.kind == "powerup":
                if session is not None:
                    session.target.close()
                    session = None
                session = _Session(factory(dict(operation.options)))
                continue
            assert session is not None, "parse() puts powerup first"
            got = session.target.together(functools.partial(session.advance_and_run, operation))
            expected = operation.accepted(answers)
            if got is None or expected is None:
                continue
            if got & operation.mask not in [value & operation.mask for value in expected]:
                yield Mismatch(source, operation, expected, got & operation.mask)
    finally:
        if session is not None:
            session.target.close()


class MachineTarget:
    """A machine without a CPU, whose clock moves only when told to; to be used inside :meth:`together`."""

    def __init__(self, board: str, properties: Mapping[str, Any], **machine_options: Any) -> None:
        from ..machine import Machine

        self.machine = Machine(board, properties=dict(properties), cpu="none", clock="step", **machine_options)

    def io_read(self, port: int, size: int) -> int:
        return int(self.machine.ports.read(port, size))

    def io_write(self, port: int, size: int, value: int) -> None:
        self.machine.ports.write(port, size, value)

    def reset(self) -> None:
        self.machine.reset()

    def step(self, delta_ns: int) -> None:
        self.machine.clock.advance(delta_ns)

    def together(self, function: Callable[[], int | None]) -> int | None:
        def checked() -> int | None:
            result = function()
            fault = self.machine.take_fault()
            if fault is not None:
                raise fault
            return result

        return self.machine.call(checked)

    def close(self) -> None:
        self.machine.close()


def machine_factory(board: str, properties: Mapping[str, Any] | None = None, **machine_options: Any) -> Factory:
    """A factory of machines *board*; properties after ``powerup`` override *properties*."""

    def make(options: Mapping[str, str]) -> Target:
        return MachineTarget(board, {**(properties or {}), **options}, **machine_options)

    return make


def replay_file(path: str | Path, factory: Factory, *, answers: Answers = "any") -> list[Mismatch]:
    """All wrong answers of the transcript in *path*.

    Raises:
        ConfigError: the file cannot be read or is not a transcript.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the transcript: {error}") from error
    return list(replay(parse(text, str(path)), factory, source=str(path), answers=answers))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    description = "Replays bus transcripts on a machine and compares the answers."
    parser = argparse.ArgumentParser(description=description, prog="python -m pyemu.testing.transcript")
    parser.add_argument("board", metavar="BOARD[,k=v...]", help="the machine to replay on")
    parser.add_argument("files", metavar="FILE", nargs="+", help="transcripts")
    parser.add_argument(
        "--answers", choices=("any", "first", "second"), default="any",
        help="where two answers are right, accept both (the default), the first, or the second",
    )  # fmt: skip
    options = parser.parse_args(argv)
    board, *pairs = options.board.split(",")
    properties = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            parser.error(f"{pair!r} in {options.board!r} is not of the form k=v")
        properties[name] = value
    wrong = 0
    try:
        for path in options.files:
            for mismatch in replay_file(path, machine_factory(board, properties), answers=options.answers):
                print(mismatch)
                wrong += 1
    except PyemuError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(f"{len(options.files)} transcripts, {wrong} wrong answers")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""Migration parameters: names, defaults, ranges and the texts of refusals.

The core holds those that every migration has; backends bring theirs. All of QEMU's generic ones
are here because clients read the whole list, change one and write it back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..device.properties import parse_size
from ..errors import MigrationError
from .wire import PAGE_SIZE

#: Ours alone: blocks are mapped over the file that they are restored from.
LAZY = "lazy-restore"
_UINT64 = (1 << 64) - 1
_UINT8 = 255


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Args:
        name: as clients write it.
        default: its type is the parameter's.
        minimum, maximum: of a number.
        expects: what the refusal of a number out of range says, where it is not the plain range.
        choices: of a text.
        nullable: ``null`` stands for the default.
    """

    name: str
    default: bool | int | str
    minimum: int = 0
    maximum: int = _UINT64
    expects: str = ""
    choices: tuple[str, ...] = ()
    nullable: bool = False

    def check(self, value: Any) -> bool | int | str:
        """The value to store.

        Raises:
            MigrationError: wrong type, out of range or not a choice.
        """
        kind = type(self.default)
        if kind is int:
            return self._number(value)
        if value is None and self.nullable:
            return self.default
        if type(value) is not kind:
            word = "StrOrNull" if self.nullable else {bool: "boolean", str: "string"}[kind]
            text = f"Invalid parameter type for '{self.name}', expected: {word}"
            raise MigrationError(f"{text}, not {value!r}", desc=text)
        if self.choices and value not in self.choices:
            text = f"Parameter '{self.name}' does not accept value '{value}'"
            raise MigrationError(f"{text}; accepted: {', '.join(self.choices)}", desc=text)
        result: bool | int | str = value
        return result

    def parse(self, text: str) -> bool | int | str:
        """The value that a command line means: ``on`` and ``off``, numbers with k, M, G or T behind, texts.

        Raises:
            MigrationError: as :meth:`check`.
        """
        value: bool | int | str = text
        if type(self.default) is bool:
            value = {"on": True, "off": False}.get(text, text)
        elif type(self.default) is int:
            with contextlib.suppress(ValueError):
                value = parse_size(text)
        return self.check(value)

    def _number(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not -(1 << 63) <= value <= _UINT64:
            raise self._refused(f"'{self.name}' expects uint64", value)
        # Clients know negative numbers as another way to write the largest ones: -1 is no limit.
        number: int = value & _UINT64
        if number > _UINT8 >= self.maximum:
            raise self._refused(f"'{self.name}' expects uint8_t", value)
        if not self.minimum <= number <= self.maximum:
            # The wire name has dashes, this message has underscores; clients look for the latter.
            wanted = self.expects or f"a value between {self.minimum} and {self.maximum}"
            raise self._refused(f"'{self.name.replace('-', '_')}' expects {wanted}", value)
        return number

    def _refused(self, text: str, value: Any) -> MigrationError:
        return MigrationError(f"Parameter {text}, not {value!r}", desc=f"Parameter {text}")


def _percent(name: str, default: int, low: int = 1, high: int = 99) -> Parameter:
    return Parameter(name, default, low, high, f"an integer in the range of {low} to {high}")


CORE_PARAMETERS: tuple[Parameter, ...] = (
    Parameter("announce-initial", 50, 0, 100000),
    Parameter("announce-max", 550, 0, 100000),
    Parameter("announce-rounds", 5, 0, 1000),
    Parameter("announce-step", 100, 1, 10000, "a value between 0 and 10000"),
    _percent("throttle-trigger-threshold", 50, 1, 100),
    _percent("cpu-throttle-initial", 20),
    _percent("cpu-throttle-increment", 10),
    Parameter("cpu-throttle-tailslow", False),
    Parameter("tls-creds", "", nullable=True),
    Parameter("tls-hostname", "", nullable=True),
    Parameter("tls-authz", "", nullable=True),
    Parameter("max-bandwidth", 128 << 20),
    Parameter("avail-switchover-bandwidth", 0),
    Parameter("downtime-limit", 300, 0, 2000000, "an integer in the range of 0 to (2000 * 1000) ms"),
    Parameter("x-checkpoint-delay", 20000),
    Parameter("xbzrle-cache-size", 64 << 20),
    Parameter("max-postcopy-bandwidth", 0),
    Parameter("max-cpu-throttle", 99, 0, 99, "an integer in the range of cpu_throttle_initial to 99"),
    Parameter("x-vcpu-dirty-limit-period", 1000, 1, 1000),
    Parameter("vcpu-dirty-limit", 1, 1),
    Parameter("mode", "normal", choices=("normal", "cpr-reboot", "cpr-transfer")),
    Parameter(LAZY, False),
    Parameter("zero-page-detection", "multifd", choices=("none", "legacy", "multifd")),
)


class Parameters:
    """The values of all parameters of one controller."""

    def __init__(self, declared: Iterable[Parameter]) -> None:
        self._declared = {p.name: p for p in declared}
        self._values: dict[str, Any] = {p.name: p.default for p in self._declared.values()}

    def set(self, changes: Mapping[str, Any]) -> None:
        """Changes some values, all or none.

        Raises:
            MigrationError: an unknown name or a value that is refused.
        """
        new = dict(self._values)
        for name, value in changes.items():
            parameter = self._declared.get(name)
            if parameter is None:
                text = f"Parameter '{name}' is unexpected"
                raise MigrationError(f"{text}; known: {', '.join(sorted(self._declared))}", desc=text)
            new[name] = parameter.check(value)
        if new["max-cpu-throttle"] < new["cpu-throttle-initial"]:
            raise MigrationError(
                "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99"
            )
        cache = new["xbzrle-cache-size"]
        if cache < PAGE_SIZE or cache & (cache - 1):
            raise MigrationError(
                "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size"
            )
        self._values = new

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Values from a command line's texts; a name that is not known is left for :meth:`set` to refuse."""
        declared = self._declared
        return {name: declared[name].parse(text) if name in declared else text for name, text in texts.items()}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def as_dict(self) -> dict[str, Any]:
        """All values by name."""
        return dict(self._values)

# SPDX-License-Identifier: MIT
"""Arguments of QMP commands: checked against the signature of the method that is the command."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ControlError

#: Gives the next descriptor that the client sent along, or None.
TakeFD = Callable[[], int | None]
#: The parameter through which a command gets at descriptors; no client can set it.
TAKES_FD = "take_fd"

_JSON_TYPES: dict[str, tuple[type, str]] = {
    "str": (str, "string"),
    "int": (int, "integer"),
    "bool": (bool, "boolean"),
    "list": (list, "array"),
    "dict": (dict, "object"),
}


def file_name(command: str, text: str) -> Path:
    """A name that the system can take: no zero bytes, nothing that has no bytes in its encoding.

    Raises:
        ControlError: it is none.
    """
    try:
        if "\0" not in text and text:
            os.fsencode(text)
            return Path(text)
    except UnicodeEncodeError:
        pass  # a lone surrogate: refused below
    raise ControlError(f"{command}: {text!r} is no file name")


def checked(signature: inspect.Signature, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments by parameter name.

    Args:
        signature: of the command's method. One that takes any keyword gets all arguments as they are.
        arguments: as they came.

    Raises:
        ControlError: one is unexpected, missing, or of another type.
    """
    values: dict[str, Any] = {}
    parameters = signature.parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    for key, value in arguments.items():
        attribute = key.replace("-", "_")
        parameter = parameters.get(attribute)
        if parameter is None or attribute == TAKES_FD:
            raise ControlError(f"Parameter '{key}' is unexpected")
        name = re.match(r"\w+", str(parameter.annotation))
        kind, word = _JSON_TYPES.get(name[0] if name else "", (object, "any"))
        if kind is not object and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise ControlError(f"Invalid parameter type for '{key}', expected: {word}")
        values[attribute] = value
    for attribute, parameter in parameters.items():
        if parameter.default is parameter.empty and attribute not in (*values, TAKES_FD):
            raise ControlError(f"Parameter '{attribute.replace('_', '-')}' is missing")
    return values

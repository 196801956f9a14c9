# SPDX-License-Identifier: MIT
"""Looks at everything an installed plugin provides, as its author wants to before a release."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from ..errors import PluginError
from .manager import PluginInfo, PluginManager
from .records import Backend, Board, Channel, Command, Compression, DeviceType, Engine, Record


def check_plugin(manager: PluginManager, plugin: PluginInfo) -> list[str]:
    """One line a problem; empty when there is none."""
    problems = [f"{plugin.state}: {plugin.reason}"] if plugin.reason else []
    if plugin.state != "loaded":
        return problems
    for provided in plugin.provides:
        kind, _, name = provided.partition(" ")
        try:
            record = manager.get(kind, name)
            factory = manager.resolve(record)
        except PluginError as error:
            problems.append(str(error))
            continue
        problems += [f"{provided}: {text}" for text in _problems_of(record, factory)]
    return problems


def _problems_of(record: Record, factory: Any) -> Iterator[str]:
    if not record.help:
        yield "has no help text"
    if isinstance(record, DeviceType):
        yield from _device_problems(record, factory)
    elif isinstance(record, Board):
        if not callable(factory):
            yield f"{record.factory} cannot be called"
        elif not _accepts(factory, [None], {p.attribute: p.default for p in record.properties}):
            yield f"{record.factory}{inspect.signature(factory)} cannot be called with a machine and its properties"
    elif isinstance(record, Engine):
        if not callable(factory):
            yield f"{record.factory} cannot be called"
        elif not _accepts(factory, [None, None], {}):
            yield f"{record.factory} cannot be called with an architecture and a host"
    elif isinstance(record, (Backend, Channel, Compression)):
        if not isinstance(factory, type):
            yield f"{record.factory} is not a class"
        elif inspect.isabstract(factory):
            yield f"{record.factory} lacks: {', '.join(sorted(getattr(factory, '__abstractmethods__', ())))}"
    elif isinstance(record, Command):
        for function in ("configure", "run"):
            if not callable(getattr(factory, function, None)):
                yield f"{record.factory} has no function {function}()"


def _device_problems(record: DeviceType, factory: Any) -> Iterator[str]:
    from ..device import Device

    if not (isinstance(factory, type) and issubclass(factory, Device)):
        yield f"{record.factory} is not a Device class"
        return
    if factory.type_name != record.name:
        yield f"{record.factory} has the type_name {factory.type_name!r}"
    if factory.vmstate is None:
        yield "declares no state, so it cannot be saved"


def _accepts(function: Any, positional: list[Any], keywords: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*positional, **keywords)
    except TypeError:
        return False
    return True

# SPDX-License-Identifier: MIT
"""Finds plugins, loads them one by one behind a guard, and hands out their records.

A plugin that cannot be loaded becomes *failed* with a reason and the others work. It turns into an
error only for a machine that names something it provides: a machine never runs with a part missing.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar

import pluggy

from .. import __version__
from ..errors import PluginError
from . import hookspecs
from .records import API_VERSION, Backend, Board, Channel, Command, Compression, DeviceType, Engine, Record

#: The entry-point group that every plugin is in.
GROUP = "pyemu"
#: How the core's own records are listed.
CORE = "core"
CORE_DISTRIBUTION = "pyemu-machine"

#: Each hook and the type of record it yields.
HOOKS: Mapping[str, type[Record]] = {
    "pyemu_boards": Board,
    "pyemu_devices": DeviceType,
    "pyemu_engines": Engine,
    "pyemu_backends": Backend,
    "pyemu_channels": Channel,
    "pyemu_compressions": Compression,
    "pyemu_commands": Command,
}

State = Literal["loaded", "failed", "blocked"]
R = TypeVar("R", bound=Record)


class Distribution(Protocol):
    """What the host asks of an installed distribution."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


class EntryPoint(Protocol):
    """What the host asks of an entry point; :class:`importlib.metadata.EntryPoint` is one."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> str: ...

    @property
    def dist(self) -> Distribution | None: ...

    def load(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One installed plugin, as ``pyemu plugins list`` shows it.

    Attributes:
        name: the entry point's name; what ``--block`` takes.
        distribution: the installed package it came with.
        version: of that distribution.
        kinds: the kinds of records it yields, sorted.
        provides: ``"board via-pc"``, ... sorted; also of a failed plugin, as far as it is known.
        api: the newest plugin interface its records ask for, e.g. ``"1.0"``; empty when unknown.
        state: loaded, failed or blocked.
        reason: why it is not loaded, or what of it cannot be used.
    """

    name: str
    distribution: str
    version: str
    kinds: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    api: str = ""
    state: State = "loaded"
    reason: str = ""

    @property
    def title(self) -> str:
        """For messages: name, distribution and version."""
        return f"{self.name} ({self.distribution} {self.version})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


class _Refused(Exception):
    """A plugin that breaks a rule of the interface; the text is the reason shown to the user."""


class _Candidate:
    """One plugin while it is being loaded."""

    def __init__(self, name: str, distribution: str, version: str, load: Callable[[], Any]) -> None:
        self.name = name
        self.distribution = distribution
        self.version = version
        self.load = load
        self.records: list[Record] = []
        self.state: State = "loaded"
        self.reason = ""
        self.notes: list[str] = []

    @property
    def sort_key(self) -> tuple[str, str, str]:
        return (self.name, self.distribution, self.version)

    def info(self) -> PluginInfo:
        apis = [r.api for r in self.records if _is_version(r.api)]
        return PluginInfo(
            name=self.name,
            distribution=self.distribution,
            version=self.version,
            kinds=tuple(sorted({r.kind for r in self.records})),
            provides=tuple(sorted(f"{r.kind} {r.name}" for r in self.records)),
            api=_dotted(max(apis)) if apis else "",
            state=self.state,
            reason="; ".join(filter(None, [self.reason, *self.notes])),
        )


class PluginManager:
    """The plugins that a machine may name. Several managers can live in one process.

    Args:
        entry_points: where plugins come from; the installed distributions' when None.
        no_plugins: uses only what the core itself provides. Plugins that ship with pyemu are
            distributions like any other and are left out too.
        block: names of plugins, or of distributions, that are not to be loaded.
        trace: prints every hook call with its results to stderr; None asks ``PYEMU_TRACE_HOOKS``.

    Raises:
        PluginError: *block* names something that is not installed.
    """

    def __init__(
        self,
        entry_points: Iterable[EntryPoint] | None = None,
        *,
        no_plugins: bool = False,
        block: Sequence[str] = (),
        trace: bool | None = None,
    ) -> None:
        self._entry_points = entry_points
        self._no_plugins = no_plugins
        self._block = tuple(block)
        self._trace = os.environ.get("PYEMU_TRACE_HOOKS") == "1" if trace is None else trace
        self._loaded = False
        self._candidates: list[_Candidate] = []
        self._providers: dict[tuple[str, str], list[tuple[_Candidate, Record]]] = {}
        self._pluggy = pluggy.PluginManager("pyemu")
        self._pluggy.add_hookspecs(hookspecs)

    # -- loading ----------------------------------------------------------------------------------

    def load(self) -> PluginManager:
        """Loads every plugin that is not blocked; a second call does nothing. Returns the manager."""
        if self._loaded:
            return self
        found = sorted(self._discover(), key=lambda c: c.sort_key)
        self._check_block_list(found)
        core = _Candidate(CORE, CORE_DISTRIBUTION, __version__, lambda: importlib.import_module("pyemu.builtin"))
        self._candidates = [core, *found]
        self._loaded = True
        for candidate in self._candidates:
            if candidate is not core and self._no_plugins:
                candidate.state, candidate.reason = "blocked", "plugins are switched off by --no-plugins"
            elif self._is_blocked(candidate):
                candidate.state, candidate.reason = "blocked", "blocked by --block"
            else:
                self._load_one(candidate)
        self._index(core)
        return self

    def _discover(self) -> Iterator[_Candidate]:
        entry_points: Iterable[EntryPoint]
        if self._entry_points is None:
            entry_points = importlib.metadata.entry_points(group=GROUP)
        else:
            entry_points = self._entry_points
        seen: set[tuple[str, str, str]] = set()
        for entry_point in entry_points:
            dist = entry_point.dist
            name = dist.name if dist is not None else "?"
            # A distribution that is on the path twice (an editable install beside a built one) is one plugin.
            key = (entry_point.name, entry_point.value, name)
            if key not in seen:
                seen.add(key)
                yield _Candidate(entry_point.name, name, (dist and dist.version) or "?", entry_point.load)

    def _check_block_list(self, found: Sequence[_Candidate]) -> None:
        names = {c.name for c in found} | {_normal(c.distribution) for c in found}
        for name in self._block:
            if name == CORE:
                raise PluginError("the core itself cannot be blocked")
            if name not in names and _normal(name) not in names:
                installed = ", ".join(c.name for c in found) or "none"
                raise PluginError(f"cannot block {name}: no such plugin; installed: {installed}")

    def _is_blocked(self, candidate: _Candidate) -> bool:
        return any(n == candidate.name or _normal(n) == _normal(candidate.distribution) for n in self._block)

    def _load_one(self, candidate: _Candidate) -> None:
        name = " ".join(candidate.sort_key)
        try:
            plugin = candidate.load()
            _check_marks(plugin)
            self._pluggy.register(plugin, name=name)
            self._check_hooks(plugin)
            for hook, kind in HOOKS.items():
                self._collect(candidate, plugin, hook, kind)
        except _Refused as error:
            candidate.reason = str(error)
        # The one place that may catch everything: the code behind it is not ours, and whatever it
        # raises (a module that calls sys.exit() included) must not take the other plugins with it.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            candidate.reason = _one_line(error)
        if candidate.reason:
            candidate.state = "failed"
            if self._pluggy.has_plugin(name):
                self._pluggy.unregister(name=name)

    def _check_hooks(self, plugin: object) -> None:
        """Finds hooks nobody will ever call; pluggy alone would stay silent about a misspelt one."""
        callers = self._pluggy.get_hookcallers(plugin) or []
        for caller in callers:
            if not caller.has_spec():
                raise _Refused(f"unknown hook {caller.name}{_did_you_mean(caller.name, HOOKS)}")
        if not callers:
            raise _Refused(f"it implements no hook; there are: {', '.join(HOOKS)}")

    def _collect(self, candidate: _Candidate, plugin: object, hook: str, kind: type[Record]) -> None:
        """Calls one hook of one plugin and checks each record it yields."""
        others = [p for p in self._pluggy.get_plugins() if p is not plugin]
        results: list[Record] = []
        for result in self._pluggy.subset_hook_caller(hook, remove_plugins=others)():
            if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
                raise _Refused(f"{hook} must yield {kind.__name__} records, not return {result!r}")
            for record in result:
                if not isinstance(record, kind):
                    raise _Refused(f"{hook} yielded {record!r}, which is not a {kind.__name__} record")
                results.append(record)
                _check_record(record)
                if any(r.kind == record.kind and r.name == record.name for r in candidate.records):
                    raise _Refused(f"{record.kind} {record.name} is provided twice by the same plugin")
                candidate.records.append(record)
        if self._trace and results:
            print(f"pyemu: hook {candidate.name}.{hook}() -> {results!r}", file=sys.stderr)

    def _index(self, core: _Candidate) -> None:
        for candidate in self._candidates:
            for record in candidate.records:
                key = (record.kind, record.name)
                owners = self._providers.setdefault(key, [])
                if candidate is not core and owners and owners[0][0] is core:
                    # The core's own names are never ambiguous: commands are dispatched before plugins load.
                    candidate.notes.append(f"{record.kind} {record.name} is the core's own and cannot be replaced")
                    continue
                owners.append((candidate, record))
        for (kind, name), owners in sorted(self._providers.items()):
            active = [c for c, _ in owners if c.state == "loaded"]
            for candidate in active if len(active) > 1 else ():
                rivals = ", ".join(_title(c) for c in active if c is not candidate)
                candidate.notes.append(f"{kind} {name} is also provided by {rivals}")

    # -- asking -----------------------------------------------------------------------------------

    @property
    def plugins(self) -> list[PluginInfo]:
        """Every installed plugin: the core first, then by name."""
        self.load()
        return [c.info() for c in self._candidates]

    def boards(self) -> dict[str, Board]:
        """Usable boards by name."""
        return self._records(Board)

    def devices(self) -> dict[str, DeviceType]:
        """Usable devices by name."""
        return self._records(DeviceType)

    def engines(self) -> dict[str, Engine]:
        """Usable CPU engines by name."""
        return self._records(Engine)

    def backends(self) -> dict[str, Backend]:
        """Usable migration backends by name."""
        return self._records(Backend)

    def channels(self) -> dict[str, Channel]:
        """Usable migration channels by URI scheme."""
        return self._records(Channel)

    def compressions(self) -> dict[str, Compression]:
        """Usable compressions by name."""
        return self._records(Compression)

    def commands(self) -> dict[str, Command]:
        """Usable subcommands by name."""
        return self._records(Command)

    def _records(self, cls: type[R]) -> dict[str, R]:
        self.load()
        found: dict[str, R] = {}
        for (kind, name), owners in sorted(self._providers.items()):
            active = [r for c, r in owners if c.state == "loaded"]
            if kind == cls.kind and len(active) == 1 and isinstance(active[0], cls):
                found[name] = active[0]
        return found

    def get(self, kind: str, name: str) -> Any:
        """The record of *kind* (``board``, ``device``, ...) called *name*.

        Raises:
            PluginError: nobody provides it (the message lists the known names and a close one), two
                distributions do, or its plugin failed or is blocked, with the reason.
        """
        self.load()
        owners = self._providers.get((kind, name), [])
        active = [(c, r) for c, r in owners if c.state == "loaded"]
        if len(active) == 1:
            return active[0][1]
        if active:
            titles = " and ".join(_title(c) for c, _ in active)
            raise PluginError(f"{kind} {name} is provided by {titles}; uninstall one or use --block")
        if owners:
            candidate = owners[0][0]
            raise PluginError(f"{kind} {name}: its plugin {_title(candidate)} {candidate.state}: {candidate.reason}")
        raise PluginError(self._unknown(kind, name))

    def _unknown(self, kind: str, name: str) -> str:
        known = sorted(n for (k, n), owners in self._providers.items() if k == kind and owners)
        message = f"unknown {kind} {name}{_did_you_mean(name, known)}; known: {', '.join(known) or 'none'}"
        # What a plugin that was not read would have provided is not known: say which ones that are.
        out = [c for c in self._candidates if c.state != "loaded" and not c.records]
        if self._no_plugins and out:
            return f"{message}; plugins are switched off by --no-plugins: {', '.join(c.name for c in out)}"
        for candidate in out:
            message += f"; plugin {_title(candidate)} {candidate.state}: {candidate.reason}"
        return message

    def provider(self, record: Record) -> PluginInfo:
        """The plugin that yielded *record*.

        Raises:
            PluginError: the record is not one of this manager's.
        """
        self.load()
        for candidate in self._candidates:
            if any(r is record for r in candidate.records):
                return candidate.info()
        raise PluginError(f"{record.kind} {record.name} comes from no plugin of this host")

    def resolve(self, record: Record) -> Any:
        """Imports what the record's factory names.

        Raises:
            PluginError: the module cannot be imported or lacks the attribute; the cause is chained.
        """
        module_name, _, attribute = record.factory.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
        # As in _load_one(): a plugin's module may raise anything while it is imported.
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{record.kind} {record.name}{self._from(record)}: cannot import {module_name}: {_one_line(error)}"
            ) from error
        for part in attribute.split(".") if attribute else ():
            if not hasattr(found, part):
                raise PluginError(f"{record.kind} {record.name}{self._from(record)}: {module_name} has no {attribute}")
            found = getattr(found, part)
        return found

    def _from(self, record: Record) -> str:
        for candidate in self._candidates:
            if any(r is record for r in candidate.records):
                return f" of plugin {_title(candidate)}"
        return ""


def _title(candidate: _Candidate) -> str:
    return f"{candidate.name} ({candidate.distribution} {candidate.version})"


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _is_version(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(v) is int for v in value)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_marks(plugin: object) -> None:
    """A function called like a hook but not marked as one would be ignored without a word."""
    for name in HOOKS:
        function = getattr(plugin, name, None)
        if callable(function) and not hasattr(function, "pyemu_impl"):
            raise _Refused(f"{name} lacks the @pyemu.hookimpl mark")


def _check_record(record: Record) -> None:
    what = f"{record.kind} {record.name}"
    if not isinstance(record.name, str) or not record.name or any(c in record.name for c in ",=: \t\n"):
        raise _Refused(f"{record.kind} record has the unusable name {record.name!r}")
    if not _is_version(record.api):
        raise _Refused(f"{what} states the plugin API {record.api!r}; it must be a pair like (1, 0)")
    if record.api[0] != API_VERSION[0] or record.api[1] > API_VERSION[1]:
        raise _Refused(f"{what} was written for plugin API {_dotted(record.api)}, this host has {_dotted(API_VERSION)}")
    module, _, attribute = record.factory.partition(":") if isinstance(record.factory, str) else ("", "", "")
    whole = isinstance(record, Command)
    if not all(p.isidentifier() for p in module.split(".")) or not (
        all(p.isidentifier() for p in attribute.split(".")) or (whole and ":" not in record.factory)
    ):
        wanted = "package.module" if whole else "package.module:attribute"
        raise _Refused(f"{what} has the factory {record.factory!r}; it must be {wanted!r}")
    if isinstance(record, Channel) and record.scheme not in ("", record.name):
        raise _Refused(f"{what} has the scheme {record.scheme!r}; a channel is called like its scheme")


@functools.cache
def default_manager() -> PluginManager:
    """The installed plugins, for a :class:`~pyemu.Machine` that was given no manager of its own."""
    return PluginManager()

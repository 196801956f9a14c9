# SPDX-License-Identifier: MIT
"""Migration capabilities: switches that both ends of a migration have to set alike.

A capability is served by the core or by a backend. Names of QEMU that nobody here serves may be
switched off, as clients do for the whole list, but not on, and are not listed: a client takes a
listed name for one that works.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import MigrationError, PluginError
from .backend import MigrationBackend
from .channel import PluginSource
from .parameters import CORE_PARAMETERS, Parameters

#: Names of QEMU 10, in its order.
QEMU_CAPABILITIES = (
    "xbzrle",
    "rdma-pin-all",
    "auto-converge",
    "zero-blocks",
    "events",
    "postcopy-ram",
    "x-colo",
    "release-ram",
    "return-path",
    "pause-before-switchover",
    "multifd",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "x-ignore-shared",
    "validate-uuid",
    "background-snapshot",
    "zero-copy-send",
    "postcopy-preempt",
    "switchover-ack",
    "dirty-limit",
    "mapped-ram",
)
#: What the core itself serves.
CORE_CAPABILITIES = (
    "auto-converge",
    "background-snapshot",
    "events",
    "pause-before-switchover",
    "return-path",
    "switchover-ack",
    "validate-uuid",
    "x-ignore-shared",
)

_NOT_WITH_BACKGROUND_SNAPSHOT = (
    "postcopy-ram",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "return-path",
    "multifd",
    "pause-before-switchover",
    "auto-converge",
    "release-ram",
    "rdma-pin-all",
    "xbzrle",
    "x-colo",
    "validate-uuid",
    "zero-copy-send",
)


class Backends:
    """The usable migration backends of a plugin host, resolved when first needed."""

    def __init__(self, plugins: PluginSource) -> None:
        self.plugins = plugins
        self._all: dict[str, MigrationBackend] | None = None
        self._failed: dict[str, PluginError] = {}

    @property
    def all(self) -> dict[str, MigrationBackend]:
        """Backends by name. One that cannot be imported is left out until it is asked for by name."""
        if self._all is None:
            self._all = {}
            for name, record in sorted(self.plugins.backends().items()):
                try:
                    backend = self.plugins.resolve(record)()
                except PluginError as error:
                    self._failed.update(dict.fromkeys(record.capabilities or (name,), error))
                    continue
                backend.capabilities = tuple(record.capabilities)
                backend.plugins = self.plugins
                self._all[name] = backend
        return self._all

    def served(self) -> list[str]:
        """Capabilities that can be switched on: QEMU's in its order, then others by name."""
        names = set(CORE_CAPABILITIES)
        for backend in self.all.values():
            names.update(backend.capabilities)
        return [n for n in QEMU_CAPABILITIES if n in names] + sorted(names.difference(QEMU_CAPABILITIES))

    def parameters(self) -> Parameters:
        """The parameters that the core and all backends declare, at their defaults."""
        return Parameters([*CORE_PARAMETERS, *(p for b in self.all.values() for p in b.parameters)])

    def in_configuration(self) -> list[str]:
        """Capabilities that the configuration section names when they are on."""
        names = {"x-ignore-shared", *(n for b in self.all.values() for n in b.in_configuration)}
        return [n for n in QEMU_CAPABILITIES if n in names] + sorted(names.difference(QEMU_CAPABILITIES))

    def active(self, enabled: frozenset[str]) -> list[MigrationBackend]:
        """The layout and then the carriers that *enabled* selects.

        Raises:
            MigrationError: no layout, or two, are selected.
        """
        chosen = [b for b in self.all.values() if enabled.intersection(b.capabilities)]
        layouts = [b for b in chosen if b.role == "layout"]
        if not layouts:
            layouts = [b for b in self.all.values() if b.role == "layout" and not b.capabilities]
        if len(layouts) > 1:
            names = " and ".join(n for n, b in self.all.items() if b in layouts)
            raise MigrationError(f"two layouts are selected at once: {names}")
        if not layouts:
            reason = "; ".join(sorted({str(e) for e in self._failed.values()}))
            raise MigrationError(
                "no plugin provides a page layout for these capabilities"
                f" ({', '.join(sorted(enabled)) or 'none is on'}){': ' + reason if reason else ''}"
            )
        return layouts + [b for b in chosen if b.role == "carrier"]

    def reason_missing(self, capability: str) -> str:
        """Why nobody serves a capability."""
        failed = self._failed.get(capability)
        if failed is not None:
            return str(failed)
        try:
            self.plugins.get("backend", capability)
        except PluginError as error:
            return str(error)
        return "no plugin serves it"

    def check_late(self, current: frozenset[str], changes: Mapping[str, bool]) -> None:
        """Refuses changes at a destination that has begun to wait for its source.

        Raises:
            MigrationError: one of them decides how the source connects.
        """
        for backend in self.all.values():
            for name, text in backend.before_incoming.items():
                if changes.get(name, name in current) and name not in current:
                    raise MigrationError(text)

    def check(self, current: frozenset[str], changes: Mapping[str, bool]) -> frozenset[str]:
        """The set that results from *changes*.

        Raises:
            MigrationError: an unknown name, names that exclude each other, or one that nobody serves.
        """
        served = self.served()
        for name in changes:
            if name not in served and name not in QEMU_CAPABILITIES:
                text = f"Parameter 'capability' does not accept value '{name}'"
                raise MigrationError(f"{text}; known: {', '.join(served)}", desc=text)
        enabled = (current | {n for n, on in changes.items() if on}) - {n for n, on in changes.items() if not on}
        for backend in self.all.values():
            if enabled.intersection(backend.capabilities):
                backend.check_capabilities(enabled)
        _check_core(enabled)
        for name in sorted(enabled.difference(served)):
            raise MigrationError(
                f"Capability '{name}' is not supported: {self.reason_missing(name)}",
                desc=f"Capability '{name}' is not supported",
            )
        return enabled


def _check_core(enabled: frozenset[str]) -> None:
    if {"postcopy-ram", "x-ignore-shared"} <= enabled:
        raise MigrationError("Postcopy is not compatible with ignore-shared")
    if "postcopy-preempt" in enabled and "postcopy-ram" not in enabled:
        raise MigrationError("Postcopy preempt requires postcopy-ram")
    if "switchover-ack" in enabled and "return-path" not in enabled:
        raise MigrationError("Capability 'switchover-ack' requires capability 'return-path'")
    if {"dirty-limit", "auto-converge"} <= enabled:
        raise MigrationError("dirty-limit conflicts with auto-converge either of then available currently")
    if "dirty-limit" in enabled:
        raise MigrationError("dirty-limit requires KVM with accelerator property 'dirty-ring-size' set")
    if "zero-copy-send" in enabled and ("multifd" not in enabled or "xbzrle" in enabled):
        raise MigrationError("Zero copy only available for non-compressed non-TLS multifd migration")
    if "background-snapshot" in enabled:
        for name in _NOT_WITH_BACKGROUND_SNAPSHOT:
            if name in enabled:
                raise MigrationError(f"Background-snapshot is not compatible with {name}")

# SPDX-License-Identifier: MIT
"""What is set for the migrations of one machine: capabilities and parameters."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import MigrationError
from .capabilities import CORE_CAPABILITIES, QEMU_CAPABILITIES, Backends
from .channel import PluginSource
from .parameters import Parameters


class MigrationSettings:
    """Capabilities and parameters; all methods may be called from any thread.

    Args:
        plugins: where backends come from.
        lock: held around changes.
    """

    def __init__(self, plugins: PluginSource, lock: threading.RLock) -> None:
        self._plugins = plugins
        self._backends = Backends(plugins)
        self._enabled: frozenset[str] = frozenset()
        self._parameters_store: Parameters | None = None
        self._lock = lock

    def _refuse_while_active(self) -> None:
        """Raises while a migration is under way."""

    @property
    def _has_listened(self) -> bool:
        """The source may be connected, or have been: what it must not find changed is what it is."""
        return False

    @property
    def _waits_for_source(self) -> bool:
        """A destination to which nothing has come yet: what does not decide how it is come to may still change."""
        return False

    @property
    def capabilities(self) -> dict[str, bool]:
        """Every capability that can be switched on here, and whether it is."""
        return {name: name in self._enabled for name in self._backends.served()}

    def set_capabilities(self, changes: Mapping[str, bool]) -> None:
        """Switches capabilities, all or none.

        Raises:
            MigrationError: an unknown name, a combination that is refused, or a migration is under way.
        """
        with self._lock:
            if self._has_listened:
                self._backends.check_late(self._enabled, changes)
            new = {name for name, on in changes.items() if on != (name in self._enabled)}
            if not (self._waits_for_source and new <= set(CORE_CAPABILITIES)):
                self._refuse_while_active()
            self._enabled = self._backends.check(self._enabled, changes)

    @property
    def _parameters(self) -> Parameters:
        if self._parameters_store is None:
            self._parameters_store = self._backends.parameters()
        return self._parameters_store

    @property
    def parameters(self) -> dict[str, Any]:
        """Values of all parameters."""
        with self._lock:
            return self._parameters.as_dict()

    def set_parameters(self, changes: Mapping[str, Any]) -> None:
        """Changes parameters, all or none; bandwidth and downtime limits take effect at once.

        Raises:
            MigrationError: an unknown name or a value that is refused.
        """
        with self._lock:
            self._parameters.set(changes)

    def set_from_texts(self, texts: Mapping[str, str]) -> None:
        """Capabilities and parameters as a command line has them, ``{"multifd": "on", "multifd-channels": "4"}``.

        Raises:
            MigrationError: an unknown name or a value that is refused.
        """
        with self._lock:
            capabilities = {n: t for n, t in texts.items() if n in QEMU_CAPABILITIES or n in self._backends.served()}
            for name, text in capabilities.items():
                if text not in ("on", "off"):
                    raise MigrationError(f"capability '{name}' is on or off, not '{text}'")
            parameters = self._parameters.parse({n: t for n, t in texts.items() if n not in capabilities})
            with_all = self._backends.check(self._enabled, {n: t == "on" for n, t in capabilities.items()})
            self._refuse_while_active()
            self._parameters.set(parameters)
            self._enabled = with_all

    @contextlib.contextmanager
    def configured(self, capabilities: Mapping[str, bool], parameters: Mapping[str, Any]) -> Iterator[None]:
        """Sets capabilities and parameters for the length of a ``with`` block."""
        with self._lock:
            enabled, values = self._enabled, self._parameters.as_dict()
            self.set_capabilities(capabilities)
            try:
                self.set_parameters(parameters)
            except BaseException:
                self._enabled = enabled
                raise
        try:
            yield
        finally:
            with self._lock:
                self._enabled = enabled
                self._parameters.set(values)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine conformance suite on Unicorn, in both modes."""

from __future__ import annotations

from typing import Any

from pyemu_unicorn.engine import UnicornEngine

from pyemu.testing.engine import EngineConformance
from pyemu.testing.protected import ProtectedModeConformance


class TestDeep(EngineConformance, ProtectedModeConformance):
    def create(self, host: Any) -> UnicornEngine:
        return UnicornEngine(host, mode="deep")


class TestPublic(EngineConformance):
    def create(self, host: Any) -> UnicornEngine:
        return UnicornEngine(host, mode="public")

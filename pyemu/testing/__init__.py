# SPDX-License-Identifier: MIT
"""The public test kit: surroundings for devices, conformance suites, benchmarks.

Conformance suites are classes to inherit from; pytest finds their tests in the subclass.
"""

from .bench import Benchmark
from .conformance import DeviceConformance
from .fakes import ISAFixture, PCIFixture

__all__ = ["Benchmark", "DeviceConformance", "ISAFixture", "PCIFixture"]

# SPDX-License-Identifier: MIT
from typing import Any

from ..cpu.engine import CPUEngine
from ._irq import IRQLine

def cpu_interrupt_line(capsule: Any, engine: CPUEngine) -> IRQLine: ...

# SPDX-License-Identifier: MIT
from collections.abc import Callable
from typing import Any

from ..memory import AddressSpace, PortSpace
from ._clock import Clock

def make_cpu_host(ports: PortSpace, memory: AddressSpace, clock: Clock, irq_ack: Callable[[], int] | Any) -> Any: ...

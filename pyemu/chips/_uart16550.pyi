# SPDX-License-Identifier: MIT
from collections.abc import Callable
from typing import Any

from ..device import Clock, IRQOut, Timer
from ..memory import IoHandler

class UARTCore:
    divisor: int
    ier: int
    fcr: int
    lcr: int
    mcr: int
    lsr: int
    msr: int
    scr: int
    rbr: int
    modem_lines: int
    tsr: int
    tx_busy: bool
    rsr: int
    rx_busy: bool
    thre_pending: bool
    timeout_pending: bool
    timeout_at: int
    rx_head: int
    rx_count: int
    tx_head: int
    tx_count: int
    rx_data: bytes
    rx_errors: bytes
    tx_data: bytes
    @property
    def timeout_timer(self) -> Timer: ...
    @property
    def tx_timer(self) -> Timer: ...
    @property
    def rx_timer(self) -> Timer: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def pin(self) -> IRQOut: ...
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def attach(self, clock: Clock, pin: IRQOut) -> None: ...
    def configure(
        self,
        *,
        pacing: bool,
        out2_gates_irq: bool,
        sink: Callable[[bytes], Any] | None = None,
        on_room: Callable[[], Any] | None = None,
    ) -> None: ...
    def reset_core(self) -> None: ...
    def handler(self) -> IoHandler: ...
    def read(self, offset: int, size: int = 1) -> int: ...
    def write(self, offset: int, size: int, value: int) -> None: ...
    def refresh(self) -> None: ...
    def can_receive(self) -> int: ...
    def receive(self, data: bytes) -> None: ...
    def receive_break(self) -> None: ...
    def set_modem_lines(
        self, *, dcd: bool | None = None, ri: bool | None = None, dsr: bool | None = None, cts: bool | None = None
    ) -> None: ...

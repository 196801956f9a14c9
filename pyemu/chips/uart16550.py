# SPDX-License-Identifier: MIT
"""The 16550A serial port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..device import ISAFunction, Property, VMState, vmstate
from . import _registers
from ._uart16550 import UARTCore

if TYPE_CHECKING:
    from ..memory import PortioEntry


class UART16550(UARTCore, ISAFunction):
    """A 16550A with both FIFOs, all interrupt sources, modem lines and loopback.

    Bytes go out to the chardev at once, so the transmitter always reads empty, unless ``pacing`` is
    on: then they leave and arrive at the rate of the divisor. In both cases input waits at the host
    while the receiver is full; it is never lost to an overrun. Parity is not checked.

    Out of loopback the modem inputs show a connected peer (CTS, DSR and carrier on) whether or not
    there is a chardev; :meth:`set_modem_lines` changes them. Reset sets the divisor to 12 (9600
    baud), where the real part leaves it as it was.
    """

    type_name = "isa-serial"
    plain_ports = True
    properties: ClassVar[tuple[Property, ...]] = (
        Property("chardev", "chardev", None, "where the bytes go and come from"),
        Property("iobase", "int", 0x3F8, "first of its eight ports", minimum=0, maximum=0xFFF8),
        Property("irq", "int", 4, "interrupt line", minimum=0, maximum=15),
        Property("pacing", "bool", False, "bytes take the time that the divisor says"),
        Property("out2-gates-irq", "bool", True, "interrupts need modem control bit 3, as on PC boards"),
    )
    vmstate = VMState(
        "serial",
        version=1,
        fields=(
            vmstate.uint16("divisor"),
            vmstate.uint8("ier", limit=0x0F),
            vmstate.uint8("fcr"),
            vmstate.uint8("lcr"),
            vmstate.uint8("mcr", limit=0x1F),
            vmstate.uint8("lsr"),
            vmstate.uint8("msr"),
            vmstate.uint8("scr"),
            vmstate.uint8("rbr"),
            vmstate.uint8("modem_lines"),
            vmstate.uint8("tsr"),
            vmstate.boolean("tx_busy"),
            vmstate.uint8("rsr"),
            vmstate.boolean("rx_busy"),
            vmstate.boolean("thre_pending"),
            vmstate.boolean("timeout_pending"),
            vmstate.int64("timeout_at"),
            vmstate.uint8("rx_head", limit=15),
            vmstate.uint8("rx_count", limit=16),
            vmstate.buffer("rx_data", 16),
            vmstate.buffer("rx_errors", 16),
            vmstate.uint8("tx_head", limit=15),
            vmstate.uint8("tx_count", limit=16),
            vmstate.buffer("tx_data", 16),
            vmstate.timer("timeout_timer"),
            vmstate.timer("tx_timer"),
            vmstate.timer("rx_timer"),
        ),
    )
    register_tables = (_registers.UART,)
    volatile = ISAFunction.volatile | {"chardev", "pacing", "out2_gates_irq", "clock", "pin"}

    # The properties become attributes in Device.__init__.
    chardev: Any
    pacing: bool
    out2_gates_irq: bool

    def realize(self) -> None:
        self.attach(self.bus.clock, self.irq_out)
        chardev = self.chardev
        self.configure(
            pacing=self.pacing,
            out2_gates_irq=self.out2_gates_irq,
            sink=chardev.write if chardev is not None else None,
            on_room=chardev.accept_input if chardev is not None else None,
        )
        super().realize()
        if chardev is not None:
            chardev.set_receiver(self.receive, self.can_receive)

    def unrealize(self) -> None:
        if self.chardev is not None:
            self.chardev.set_receiver(None)
        for timer in (self.timeout_timer, self.tx_timer, self.rx_timer):
            timer.cancel()
        super().unrealize()

    def reset(self) -> None:
        self.reset_core()

    def post_load(self, version: int) -> None:
        self.refresh()

    def failed(self, verb: str, offset: int, error: BaseException) -> None:
        """The chardev raised: its place is the access, or the timer, that moved the byte; the machine stops."""
        self.bus.ports.blame(self, verb, offset, 1, error)

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (PortioEntry(0, 8, 1, handler=self.handler()),)

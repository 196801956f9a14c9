# SPDX-License-Identifier: MIT
"""The UHCI core: registers, root ports, and the walk over the schedule in guest memory.

Once a millisecond of the machine's clock the entry of the frame list is followed. Everything in
memory is the guest's and believed in nothing: a walk ends after :data:`MAX_VISITS` descriptors, at a
queue that was visited before without anything having moved since, and at a descriptor that no
controller would accept, which halts this one as it does the real part.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from ..device import Clock, Device, IRQOut, Register, RegisterBlock, RegisterTable, Timer, VMState, block_field, touches, vmstate
from .usb import PID_IN, PID_OUT, PID_SETUP, Handshake, USBBus, USBDevice

if TYPE_CHECKING:
    from ..memory import AddressSpace, PortioEntry

COMMAND, STATUS, INTERRUPTS, FRAME, LIST, SOF, PORTS = 0x00, 0x02, 0x04, 0x06, 0x08, 0x0C, (0x10, 0x12)
COMMAND_RUN, COMMAND_RESET, COMMAND_GLOBAL_RESET = 0x01, 0x02, 0x04
STATUS_INTERRUPT, STATUS_ERROR, STATUS_PROCESS_ERROR, STATUS_HALTED = 0x01, 0x02, 0x10, 0x20
ENABLE_ERROR, ENABLE_COMPLETE, ENABLE_SHORT = 0x01, 0x04, 0x08
#: Why the interrupt status was set.
CAUSE_COMPLETE, CAUSE_SHORT = 1, 2

PORT_CONNECTED, PORT_CONNECT_CHANGED, PORT_ENABLED, PORT_ENABLE_CHANGED = 0x0001, 0x0002, 0x0004, 0x0008
PORT_LINE_PLUS, PORT_LINE_MINUS, PORT_ALWAYS = 0x0010, 0x0020, 0x0080
PORT_LOW_SPEED, PORT_RESET, PORT_SUSPEND = 0x0100, 0x0200, 0x1000

FRAME_NS = 1_000_000
FRAME_MASK, FRAME_ENTRIES = 0x07FF, 1024

LINK_END, LINK_QUEUE, LINK_DEPTH = 0x1, 0x2, 0x4
TD_ACTIVE, TD_STALLED, TD_BABBLE, TD_NAK, TD_TIMEOUT = 1 << 23, 1 << 22, 1 << 20, 1 << 19, 1 << 18
TD_COMPLETE, TD_ISOCHRONOUS, TD_SHORT = 1 << 24, 1 << 25, 1 << 29
TD_ERRORS_SHIFT, TD_LENGTH = 27, 0x7FF
#: The largest packet, and how the field says "nothing".
MAX_PACKET, NOTHING = 1280, 0x7FF
_DESCRIPTOR = struct.Struct("<4I")
_QUEUE = struct.Struct("<2I")

#: Descriptors that one frame looks at: more than a real frame has time for.
MAX_VISITS = 256

UHCI = RegisterTable(
    (
        Register(COMMAND, "USB command", 0, 0x00FF, size=2, effect="bit 0 runs the schedule, bit 1 resets the controller"),
        Register(STATUS, "USB status", STATUS_HALTED, 0, size=2, clear=0x001F, effect="clearing it ends the interrupt"),
        Register(INTERRUPTS, "USB interrupt enable", 0, 0x000F, size=2),
        Register(FRAME, "frame number", 0, FRAME_MASK, size=2, effect="counts milliseconds while running"),
        Register(LIST, "frame list base", 0, 0xFFFFF000, size=4),
        Register(SOF, "SOF modify", 0x40, 0x7F),
        # Bit 7 always reads 1.
        *(Register(at, f"port {n}", PORT_ALWAYS, 0x1240, size=2, clear=PORT_CONNECT_CHANGED | PORT_ENABLE_CHANGED,
                   effect="9 resets the device, 2 enables it") for n, at in enumerate(PORTS, 1)),
    ),
    name="UHCI", size=32, attribute="uhci.registers",
)  # fmt: skip


class ProcessError(Exception):
    """A descriptor that no controller accepts; never leaves this module."""


class UHCIController:
    """One controller with two root ports; a PCI function wraps it.

    Attributes:
        registers: the port registers.
        frame_origin: guest time at which the running frame counter was 0.
        causes: why the interrupt status is set.
        irq: the interrupt pin; the owner drives its own from it.
        can_master: whether the owner's bus lets it reach memory.
    """

    vmstate: ClassVar[VMState] = VMState(
        "uhci",
        fields=(
            block_field("registers", UHCI),
            vmstate.int64("frame_origin"),
            vmstate.uint8("causes", limit=3),
            vmstate.timer("timer"),
        ),
    )

    def __init__(self, irq: IRQOut, can_master: Callable[[], bool], owner: Device | None = None) -> None:
        self.registers = RegisterBlock(UHCI, owner)
        self.irq = irq
        self.can_master = can_master
        self.frame_origin = 0
        self.causes = 0
        self.clock: Clock | None = None
        self.memory: AddressSpace | None = None
        self.usb: USBBus | None = None
        self.first_port = 0
        self.timer: Timer | None = None

    # -- wiring -----------------------------------------------------------------------------------

    def attach(self, clock: Clock, memory: AddressSpace | None) -> None:
        """Connects clock and memory."""
        self.clock, self.memory = clock, memory
        self.timer = clock.timer(self._frame, "uhci frame")

    def detach(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def own_ports(self, usb: USBBus, first: int) -> None:
        """Makes the ports *first* and *first* + 1 of the bus this controller's."""
        self.usb, self.first_port = usb, first
        for n in range(len(PORTS)):
            usb.listeners[first + n] = lambda n=n: self._port_changed(n)  # type: ignore[misc]
            self._port_changed(n)

    def ports(self) -> list[PortioEntry]:
        return self.registers.ports(self.read, self.write)

    def reset(self) -> None:
        """The reset pin: registers at their reset values, ports disabled, what is attached is announced again."""
        self.registers.reset()
        self.frame_origin = self.causes = 0
        if self.timer is not None:
            self.timer.cancel()
        for n in range(len(PORTS)):
            self._port_changed(n)
        self.update_irq()

    def check(self) -> None:
        """After a load: what is plugged in here counts, not what was there."""
        for n in range(len(PORTS)):
            connected = bool(self._port(n) & PORT_CONNECTED)
            if connected != (self._device_at(n) is not None):
                self._port_changed(n)
        self.update_irq()

    # -- registers --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return bool(self.registers.data[COMMAND] & COMMAND_RUN)

    def read(self, offset: int, size: int) -> int:
        self._count_frames()
        return self.registers.get(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self._count_frames()
        was_running = self.running
        before = [self._port(n) for n in range(len(PORTS))]
        self.registers.write(offset, size, value)
        if self.registers.data[COMMAND] & COMMAND_RESET:
            self.reset()
            return
        if touches(offset, size, FRAME, 2) or not was_running:
            self.frame_origin = self._now() - self.registers.get(FRAME, 2) * FRAME_NS
        if self.registers.data[COMMAND] & COMMAND_GLOBAL_RESET:
            self._reset_devices(range(len(PORTS)))
        for n, at in enumerate(PORTS):
            if touches(offset, size, at, 2):
                self._write_port(n, before[n], value >> 8 * (at - offset) if at >= offset else before[n] & 0xFF | value << 8)
        if not self.registers.get(STATUS, 2) & STATUS_INTERRUPT:
            self.causes = 0
        self._set_halted(not self.running)
        self._arm()
        self.update_irq()

    def _set_halted(self, halted: bool) -> None:
        status = self.registers.get(STATUS, 2) & ~STATUS_HALTED
        self.registers.put(STATUS, 2, status | (STATUS_HALTED if halted else 0))

    def update_irq(self) -> None:
        status, enabled = self.registers.get(STATUS, 2), self.registers.get(INTERRUPTS, 2)
        wanted = bool(status & STATUS_PROCESS_ERROR) or bool(status & STATUS_ERROR and enabled & ENABLE_ERROR)
        if status & STATUS_INTERRUPT:
            wanted |= bool(self.causes & CAUSE_COMPLETE and enabled & ENABLE_COMPLETE)
            wanted |= bool(self.causes & CAUSE_SHORT and enabled & ENABLE_SHORT)
        self.irq.set_level(1 if wanted else 0)

    # -- ports ------------------------------------------------------------------------------------

    def _port(self, n: int) -> int:
        return self.registers.get(PORTS[n], 2)

    def _device_at(self, n: int) -> USBDevice | None:
        return self.usb.ports[self.first_port + n] if self.usb is not None else None

    def _port_changed(self, n: int) -> None:
        """A device came or went: the port is disabled and says so."""
        device, before = self._device_at(n), self._port(n)
        value = PORT_ALWAYS
        if device is not None:
            value |= PORT_CONNECTED
            value |= PORT_LOW_SPEED | PORT_LINE_MINUS if device.low_speed else PORT_LINE_PLUS
        if device is not None or before & PORT_CONNECTED:
            value |= PORT_CONNECT_CHANGED
        if before & PORT_ENABLED:
            value |= PORT_ENABLE_CHANGED
        self.registers.put(PORTS[n], 2, value)

    def _write_port(self, n: int, before: int, written: int) -> None:
        value = self._port(n)
        device = self._device_at(n)
        if value & PORT_RESET:
            value &= ~PORT_ENABLED
            if not before & PORT_RESET:
                self._reset_devices((n,))
        elif device is not None and not before & PORT_RESET:
            value = value & ~PORT_ENABLED | written & PORT_ENABLED
        else:
            value &= ~PORT_ENABLED
        self.registers.put(PORTS[n], 2, value)

    def _reset_devices(self, ports: range | tuple[int, ...]) -> None:
        for n in ports:
            device = self._device_at(n)
            if device is not None:
                device.bus_reset()

    def _find(self, address: int) -> USBDevice | None:
        for n in range(len(PORTS)):
            device = self._device_at(n)
            port = self._port(n)
            if device is not None and device.address == address and port & PORT_ENABLED and not port & PORT_SUSPEND:
                return device
        return None

    # -- frames -----------------------------------------------------------------------------------

    def _now(self) -> int:
        return self.clock.now_ns if self.clock is not None else 0

    def _count_frames(self) -> None:
        """Brings the frame number up to date: it counts milliseconds while the controller runs."""
        if self.running:
            self.registers.put(FRAME, 2, (self._now() - self.frame_origin) // FRAME_NS & FRAME_MASK)

    def _arm(self) -> None:
        if self.timer is None:
            return
        if not self.running:
            self.timer.cancel()
        elif not self.timer.armed:
            # At a whole frame after now: frames that a late host missed are not made up for.
            past = (self._now() - self.frame_origin) // FRAME_NS
            self.timer.arm(self.frame_origin + (past + 1) * FRAME_NS)

    def _frame(self) -> None:
        if not self.running:
            return
        self._count_frames()
        if self.memory is not None and self.can_master():
            at = self.registers.get(LIST, 4) + 4 * (self.registers.get(FRAME, 2) % FRAME_ENTRIES)
            try:
                self._walk(self.memory, self.memory.load(at, 4))
            except ProcessError:
                self.registers.data[COMMAND] &= ~COMMAND_RUN
                self.registers.put(STATUS, 2, self.registers.get(STATUS, 2) | STATUS_PROCESS_ERROR)
                self._set_halted(True)
        self._arm()
        self.update_irq()

    def _walk(self, memory: AddressSpace, link: int) -> None:
        seen: set[int] = set()
        moved = False
        visits = MAX_VISITS
        while not link & LINK_END and visits > 0:
            visits -= 1
            at = link & ~0xF
            if not link & LINK_QUEUE:
                link = self._transact(memory, at)[0]
                continue
            if at in seen:
                # Round the loop that lets a frame's idle time be used: once more only if that helped.
                if not moved:
                    return
                seen.clear()
                moved = False
            seen.add(at)
            link, element = _QUEUE.unpack(memory.read(at, _QUEUE.size))
            while not element & (LINK_END | LINK_QUEUE) and visits > 0:
                visits -= 1
                element, done = self._transact(memory, element & ~0xF)
                if not done:
                    break
                moved = True
                memory.store(at + 4, 4, element)
                if not element & LINK_DEPTH:
                    break

    def _transact(self, memory: AddressSpace, at: int) -> tuple[int, bool]:
        """Performs a transfer descriptor; its link, and whether its queue goes on to that.

        Raises:
            ProcessError: packet identifier or length are none.
        """
        link, control, token, buffer = _DESCRIPTOR.unpack(memory.read(at, _DESCRIPTOR.size))
        if not control & TD_ACTIVE:
            return link, False
        pid, endpoint, length = token & 0xFF, token >> 15 & 0xF, token >> 21 & TD_LENGTH
        length = 0 if length == NOTHING else length + 1
        if pid not in (PID_IN, PID_OUT, PID_SETUP) or length > MAX_PACKET:
            raise ProcessError
        device = self._find(token >> 8 & 0x7F)
        if device is None:
            control, done = self._timed_out(control), False
        else:
            data = memory.read(buffer, length) if pid != PID_IN else b""
            answer: bytes | Handshake
            if pid == PID_IN:
                answer = device.token_in(endpoint, length)
            elif pid == PID_OUT:
                answer = device.token_out(endpoint, data)
            else:
                answer = device.token_setup(data) if endpoint == 0 else Handshake.STALL
            if isinstance(answer, bytes) and answer:
                memory.write(buffer, answer[:length])
            control, done = self._completed(control, answer, length)
        if control & TD_ISOCHRONOUS:
            control &= ~TD_ACTIVE
        memory.store(at + 4, 4, control)
        if control & TD_COMPLETE and not control & TD_ACTIVE:
            self._interrupt(CAUSE_COMPLETE)
        return link, done

    def _completed(self, control: int, answer: bytes | Handshake, length: int) -> tuple[int, bool]:
        """The descriptor's control word after an answer, and whether the queue goes on."""
        if answer is Handshake.NAK:
            return control | TD_NAK, False
        if answer is Handshake.STALL:
            return self._failed(control & ~TD_NAK, TD_STALLED), False
        moved = length if answer is Handshake.ACK else len(answer)
        if moved > length:
            return self._failed(control, TD_STALLED | TD_BABBLE), False
        control = control & ~(TD_ACTIVE | TD_NAK | TD_TIMEOUT | TD_LENGTH) | (moved - 1 & TD_LENGTH)
        short = moved < length and bool(control & TD_SHORT)
        if short:
            self._interrupt(CAUSE_SHORT)
        return control, not short

    def _failed(self, control: int, bits: int) -> int:
        self.registers.data[STATUS] |= STATUS_ERROR
        return (control | bits) & ~TD_ACTIVE

    def _timed_out(self, control: int) -> int:
        """Nobody answered: one error less is allowed, and with the last one the descriptor is done for."""
        control |= TD_TIMEOUT
        left = control >> TD_ERRORS_SHIFT & 3
        if left:
            control -= 1 << TD_ERRORS_SHIFT
            if left == 1:
                return self._failed(control, TD_STALLED)
        return control

    def _interrupt(self, cause: int) -> None:
        self.causes |= cause
        self.registers.data[STATUS] |= STATUS_INTERRUPT

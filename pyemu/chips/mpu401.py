# SPDX-License-Identifier: MIT
"""The MPU-401 MIDI interface in UART mode, and the game port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ..device import ISAFunction, Property, Register, RegisterTable, VMState, vmstate

if TYPE_CHECKING:
    from ..device import Chardev
    from ..memory import PortioEntry

DATA, STATUS = 0, 1
STATUS_NOT_READY, STATUS_NO_DATA = 0x40, 0x80
COMMAND_UART, COMMAND_RESET = 0x3F, 0xFF
ACKNOWLEDGE = 0xFE
QUEUE = 64

MPU_REGISTERS = RegisterTable(
    (
        Register(DATA, "MIDI data", ACKNOWLEDGE, source="first",
                 effect="the oldest byte received; written bytes are sent, in UART mode"),
        Register(STATUS, "MIDI status, command", STATUS_NO_DATA, 0xFF, source="status",
                 effect="3F enters UART mode, FF leaves it; both are acknowledged with FE"),
    ),
    name="MPU-401", size=2,
)  # fmt: skip


class MPU401(ISAFunction):
    """An MPU-401 that knows UART mode, as those in bridges and on sound cards do.

    Bytes that arrive wait in a queue of 64, then at the chardev; none is lost. They arrive only in UART mode.

    Attributes:
        uart: bytes pass through.
        queue, count: bytes for the guest; ``queue[:count]``.
    """

    type_name = "isa-mpu401"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("chardev", "chardev", None, "where MIDI bytes go and come from"),
        Property("iobase", "int", 0x330, "first of its two ports", minimum=0, maximum=0xFFFE),
        Property("irq", "int", 9, "interrupt line, 0 for none", minimum=0, maximum=15),
    )
    vmstate = VMState(
        "mpu401",
        fields=(vmstate.boolean("uart"), vmstate.buffer("queue", QUEUE), vmstate.uint8("count", limit=QUEUE)),
    )
    register_tables = (MPU_REGISTERS,)
    volatile: ClassVar[frozenset[str]] = frozenset({"chardev"})
    chardev: Chardev | None

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.queue = bytearray(QUEUE)
        self.uart = False
        self.count = 0

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (PortioEntry(0, 2, 1, read=self.io_read, write=self.io_write),)

    def realize(self) -> None:
        super().realize()
        if self.chardev is not None:
            self.chardev.set_receiver(self._receive, self._room)

    def unrealize(self) -> None:
        if self.chardev is not None:
            self.chardev.set_receiver(None)
        super().unrealize()

    def reset(self) -> None:
        self.uart = False
        self._clear()

    def post_load(self, version: int) -> None:
        self._drive()

    @property
    def first(self) -> int:
        """What a read of the data register would give."""
        return self.queue[0] if self.count else ACKNOWLEDGE

    @property
    def status(self) -> int:
        return 0 if self.count else STATUS_NO_DATA

    def io_read(self, offset: int, size: int) -> int:
        if offset == STATUS:
            return self.status
        value = self.first
        if self.count:
            self.count -= 1
            self.queue[:] = self.queue[1:] + b"\0"
            self._drive()
            if self.chardev is not None and self.uart:
                self.chardev.accept_input()
        return value

    def io_write(self, offset: int, size: int, value: int) -> None:
        if offset == DATA:
            if self.uart and self.chardev is not None:
                self.chardev.write(bytes((value,)))
        elif value in (COMMAND_UART, COMMAND_RESET):
            # In UART mode only a reset is a command, and it is not acknowledged.
            silent = self.uart
            if not (silent and value == COMMAND_UART):
                self._clear()
                self.uart = value == COMMAND_UART
                if not silent:
                    self._queue(bytes((ACKNOWLEDGE,)))
                if self.uart and self.chardev is not None:
                    self.chardev.accept_input()
        elif not self.uart:
            self.warn_once(f"command {value:02x}", "command 0x%02x of the intelligent mode is acknowledged, not obeyed", value)
            self._queue(bytes((ACKNOWLEDGE,)))

    def _room(self) -> int:
        return QUEUE - self.count if self.uart else 0

    def _receive(self, data: bytes) -> None:
        self._queue(data)

    def _queue(self, data: bytes) -> None:
        data = data[: QUEUE - self.count]
        self.queue[self.count : self.count + len(data)] = data
        self.count += len(data)
        self._drive()

    def _clear(self) -> None:
        self.queue[:] = bytes(QUEUE)
        self.count = 0
        self._drive()

    def _drive(self) -> None:
        self.irq_out.set_level(1 if self.count else 0)


#: A one-shot of the game port takes 24.2 us and 11 us for each kilohm of its potentiometer.
ONE_SHOT_NS, ONE_SHOT_NS_PER_OHM = 24_200, 11
AXES = 4

GAME_REGISTERS = RegisterTable(
    (Register(1, "game port", 0xF0, source="lines", effect="writing starts the axes' one-shots"),), name="game port", size=8
)


class GamePort(ISAFunction):
    """The game port at 200-207, of which 201 decodes: four buttons and the one-shots of four axes.

    Attributes:
        axes: the potentiometers in ohms, 0 to 100,000; None where nothing is connected. The environment, not state.
        buttons: bits 0-3 of those that are pressed.
        started: guest time at which the one-shots were last started; -1 for never.
    """

    type_name = "isa-gameport"
    properties: ClassVar[tuple[Property, ...]] = (
        Property("iobase", "int", 0x200, "first of its eight ports", minimum=0, maximum=0xFFF8),
    )
    vmstate = VMState("gameport", fields=(vmstate.int64("started"),))
    register_tables = (GAME_REGISTERS,)
    volatile: ClassVar[frozenset[str]] = frozenset({"axes", "buttons"})

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.axes: list[int | None] = [None] * AXES
        self.buttons = 0
        self.started = -1

    def table(self) -> Sequence[PortioEntry]:
        from ..memory import PortioEntry

        return (PortioEntry(1, 1, 1, read=self.io_read, write=self.io_write),)

    def reset(self) -> None:
        self.started = -1

    @property
    def lines(self) -> int:
        """The port as it reads now."""
        value = (~self.buttons & 0xF) << 4
        if self.started < 0:
            return value
        elapsed = self.bus.clock.now_ns - self.started
        for n, ohms in enumerate(self.axes):
            # A one-shot with nothing connected never ends.
            if ohms is None or elapsed < ONE_SHOT_NS + ONE_SHOT_NS_PER_OHM * ohms:
                value |= 1 << n
        return value

    def io_read(self, offset: int, size: int) -> int:
        return self.lines

    def io_write(self, offset: int, size: int, value: int) -> None:
        self.started = self.bus.clock.now_ns

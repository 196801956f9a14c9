# SPDX-License-Identifier: MIT
"""The keyboard controller at 60/64, with keyboard and mouse behind it.

Its output port is also the PC's oldest way to reset the processor (bit 0, active low) and to gate address line 20
(bit 1): see :attr:`KeyboardController.on_reset` and :attr:`KeyboardController.a20_out`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..device import IRQOut, ISADevice, Property, Register, RegisterTable, VMState, vmstate
from ..device.keys import chord
from ..errors import MigrationError
from ..memory import PortioEntry
from .ps2 import PS2Keyboard
from .ps2_mouse import PS2Mouse

PORT_DATA, PORT_STATUS_COMMAND = 0, 4

STATUS_OUTPUT_FULL = 0x01
STATUS_SYSTEM = 0x04
STATUS_COMMAND = 0x08  # the last byte written went to port 64
STATUS_NOT_LOCKED = 0x10
STATUS_AUX_DATA = 0x20
STATUS_TIMEOUT = 0x40

MODE_IRQ1, MODE_IRQ12 = 0x01, 0x02
MODE_SYSTEM = 0x04
MODE_KEYBOARD_OFF, MODE_AUX_OFF = 0x10, 0x20
MODE_TRANSLATE = 0x40
#: Command byte after power-on: both interfaces held off, no interrupts, until the firmware says otherwise.
MODE_POWER_ON = MODE_KEYBOARD_OFF | MODE_AUX_OFF
#: Command byte as a BIOS leaves it.
MODE_FIRMWARE = MODE_IRQ1 | MODE_SYSTEM | MODE_AUX_OFF | MODE_TRANSLATE

OUTPUT_NOT_RESET, OUTPUT_A20 = 0x01, 0x02
OUTPUT_IRQ1, OUTPUT_IRQ12 = 0x10, 0x20
OUTPUT_IDLE_LINES = 0xC0  # keyboard clock and data
OUTPUT_POWER_ON = OUTPUT_NOT_RESET | OUTPUT_A20 | OUTPUT_IDLE_LINES

INPUT_PORT = 0xA0  # not locked, colour display jumper

SOURCE_CONTROLLER, SOURCE_KEYBOARD, SOURCE_AUX = 0, 1, 2

NO_DEVICE = 0xFE

# Scan code set 2 to set 1, for codes below 80: what the controller does to keyboard bytes in translating mode.
_TRANSLATION = bytes.fromhex(
    "ff43413f3d3b3c58644442403e0f2959"
    "65382a701d10025a66712c1f1e11035b"
    "672e2d201205045c68392f211413065d"
    "693130231522075e6a7232241608095f"
    "6b332517180b0a606c34352627190c61"
    "6d7328741a0d626e3a361c1b752b6376"
    "55567778797a0e7b7c4f7d4b477e7f6f"
    "5253504c4d480145574e514a37494654"
)
_HIGH = {0x83: 0x41, 0x84: 0x54}
BREAK_PREFIX = 0xF0


REGISTERS = RegisterTable(
    (
        Register(PORT_DATA, "data", 0, source="output",
                 effect="the next byte of keyboard, mouse or controller; written bytes go to the keyboard or complete a command"),
        Register(PORT_STATUS_COMMAND, "status, command", STATUS_NOT_LOCKED | STATUS_SYSTEM, source="status",
                 effect="0 output full, 5 from the mouse; written bytes are commands to the controller"),
    ),
    name="keyboard controller", size=5,
)  # fmt: skip


class KeyboardController(ISADevice):
    """An 8042 with a PS/2 keyboard, and a PS/2 mouse on its second port.

    Attributes:
        keyboard: the keyboard; use :meth:`press` to type.
        mouse: the mouse; use :meth:`move_mouse`.
        a20_out: level of output port bit 1. A machine ORs it with its other A20 gates.
        on_reset: called when the guest pulses the reset line.
    """

    type_name = "i8042"
    properties = (
        Property(
            "firmware-setup",
            "bool",
            True,
            "start as a BIOS leaves it (keyboard on, translated, with interrupts) and not as after power-on",
        ),
        Property("mouse-port", "bool", True, "a mouse on the second port"),
    )
    vmstate = VMState(
        "i8042",
        fields=(
            vmstate.uint8("status"),
            vmstate.uint8("mode"),
            vmstate.uint8("output"),
            vmstate.uint8("output_source", limit=SOURCE_AUX),
            vmstate.uint8("output_port"),
            vmstate.uint8("pending"),
            vmstate.boolean("break_prefix"),
            vmstate.uint8("reply"),
            vmstate.uint8("reply_source", limit=SOURCE_AUX),
            vmstate.boolean("reply_waits"),
            vmstate.buffer("ram", 32),
            vmstate.nested("keyboard", PS2Keyboard.vmstate),
            vmstate.nested("mouse", PS2Mouse.vmstate),
        ),
    )
    register_tables = (REGISTERS,)
    volatile = frozenset({"on_reset", "irq1", "irq12", "a20_out", "mouse_port"})

    firmware_setup: bool
    mouse_port: bool

    def __init__(self, **properties: object) -> None:
        super().__init__(**properties)
        self.keyboard = PS2Keyboard()
        self.mouse = PS2Mouse()
        self.irq1 = IRQOut("i8042.irq1")
        self.irq12 = IRQOut("i8042.irq12")
        self.a20_out = IRQOut("i8042.a20")
        self.on_reset: Callable[[], None] | None = None
        self.ram = bytearray(32)
        self.reset()

    def realize(self) -> None:
        self.add_ports(
            [
                PortioEntry(PORT_DATA, 1, 1, self._read_data, self._write_data),
                PortioEntry(PORT_STATUS_COMMAND, 1, 1, self._read_status, self._write_command),
            ],
            0x60,
        )
        self.irq1.connect(self.bus.irq_line(1))
        self.irq12.connect(self.bus.irq_line(12))

    def unrealize(self) -> None:
        self.irq1.connect(None)
        self.irq12.connect(None)
        super().unrealize()

    def reset(self) -> None:
        self.mode = MODE_FIRMWARE if self.firmware_setup else MODE_POWER_ON
        self.status = STATUS_NOT_LOCKED | (self.mode & MODE_SYSTEM)
        self.output = 0
        self.output_source = SOURCE_CONTROLLER
        self.output_port = OUTPUT_POWER_ON
        self.pending = 0
        self.break_prefix = False
        self.reply = 0
        self.reply_source = SOURCE_CONTROLLER
        self.reply_waits = False
        self.ram[:] = bytes(32)
        self.keyboard.reset()
        self.mouse.reset()
        self._update_pins()

    def post_load(self, version: int) -> None:
        if not self.output_port & OUTPUT_NOT_RESET:
            raise MigrationError(f"{self.id}: output port {self.output_port:#04x} holds the processor in reset")
        self._update_pins()

    def press(self, codes: bytes) -> bool:
        """Types: hands the keyboard one key's scan codes (see :meth:`PS2Keyboard.press`)."""
        taken = self.keyboard.press(codes)
        self._fill()
        return taken

    def press_keys(self, names: Sequence[str]) -> bool:
        """Types a chord of keys by name, in scan code set 2; false when it is lost.

        Raises:
            KeyError: no such key.
        """
        return self.press(chord(names))

    def takes_keys(self) -> bool | None:
        """Whether the keyboard's queue is empty; None while the guest has it switched off."""
        return not self.keyboard.count if self.keyboard.scanning else None

    def move_mouse(self, right: int = 0, up: int = 0, wheel: int = 0, buttons: int | None = None) -> None:
        """Moves the mouse (see :meth:`PS2Mouse.move`)."""
        self.mouse.move(right, up, wheel, buttons)
        self._fill()

    # -- ports ------------------------------------------------------------------------------------

    def _read_data(self, offset: int, size: int) -> int:
        value = self.output
        if self.status & STATUS_OUTPUT_FULL:
            self.status &= ~(STATUS_OUTPUT_FULL | STATUS_AUX_DATA | STATUS_TIMEOUT)
            # The pin drops before the next byte raises it again: one edge a byte.
            self._update_pins()
            self._fill()
        return value

    def _read_status(self, offset: int, size: int) -> int:
        return self.status

    def _write_data(self, offset: int, size: int, value: int) -> None:
        self.status &= ~STATUS_COMMAND
        pending, self.pending = self.pending, 0
        if not pending:
            self.mode &= ~MODE_KEYBOARD_OFF  # the controller turns the interface on to send
            self.keyboard.write(value)
            self._fill()
        elif pending == 0x60:
            self._set_mode(value)
        elif 0x61 <= pending <= 0x7F:
            self.ram[pending & 0x1F] = value
        elif pending == 0xD1:
            self._set_output_port(value)
        elif pending == 0xD2:
            self._put(value, SOURCE_KEYBOARD)
        elif pending == 0xD3:
            self._put(value, SOURCE_AUX)
        elif pending == 0xD4 and self.mouse_port:
            self.mode &= ~MODE_AUX_OFF
            self.mouse.write(value)
            self._fill()
        elif pending == 0xD4:
            # Nothing on the second port answers in time.
            self._put(NO_DEVICE, SOURCE_AUX)
            self.status |= STATUS_TIMEOUT

    def _write_command(self, offset: int, size: int, value: int) -> None:
        self.status |= STATUS_COMMAND
        self.pending = 0
        if value == 0x20:
            self._put(self.mode)
        elif 0x21 <= value <= 0x3F:
            self._put(self.ram[value & 0x1F])
        elif 0x60 <= value <= 0x7F or 0xD1 <= value <= 0xD4:
            self.pending = value
        elif value in (0xA7, 0xA8):
            self._set_mode(self.mode | MODE_AUX_OFF if value == 0xA7 else self.mode & ~MODE_AUX_OFF)
        elif value in (0xAD, 0xAE):
            self._set_mode(self.mode | MODE_KEYBOARD_OFF if value == 0xAD else self.mode & ~MODE_KEYBOARD_OFF)
        elif value == 0xAA:
            self._self_test()
        elif value in (0xA9, 0xAB):
            self._put(0x00)  # the interface's lines are good
        elif value == 0xC0:
            self._put(INPUT_PORT)
        elif value == 0xD0:
            self._put(self._output_port_pins())
        elif value in (0xDD, 0xDF):
            port = self.output_port & ~OUTPUT_A20
            self._set_output_port(port | OUTPUT_A20 if value == 0xDF else port)
        elif value == 0xE0:
            self._put(0x00)  # test inputs: clocks low
        elif value >= 0xF0:
            # Bits 3-0 that are 0 pulse their output line; only the reset line is wired to anything.
            if not value & 1:
                self._pulse_reset()
        else:
            self.warn_once(f"command {value:02x}", "unknown command 0x%02x ignored", value)

    # -- inside -----------------------------------------------------------------------------------

    def _self_test(self) -> None:
        self.keyboard.count = self.mouse.count = 0
        self.status = STATUS_NOT_LOCKED | STATUS_COMMAND | STATUS_SYSTEM
        self.mode = self.mode & MODE_TRANSLATE | MODE_KEYBOARD_OFF | MODE_AUX_OFF | MODE_SYSTEM
        self.reply_waits = False
        self.break_prefix = False
        self._put(0x55)

    def _set_mode(self, value: int) -> None:
        self.mode = value
        self.status = self.status & ~STATUS_SYSTEM | value & MODE_SYSTEM
        self._update_pins()
        self._fill()

    def _set_output_port(self, value: int) -> None:
        self.output_port = value | OUTPUT_NOT_RESET
        self._update_pins()
        if not value & OUTPUT_NOT_RESET:
            self._pulse_reset()

    def _pulse_reset(self) -> None:
        if self.on_reset is not None:
            self.on_reset()

    def _output_port_pins(self) -> int:
        port = self.output_port & ~(OUTPUT_IRQ1 | OUTPUT_IRQ12)
        if self.status & STATUS_OUTPUT_FULL:
            port |= OUTPUT_IRQ12 if self.status & STATUS_AUX_DATA else OUTPUT_IRQ1
        return port

    def _put(self, value: int, source: int = SOURCE_CONTROLLER) -> None:
        """A byte from the controller itself. It waits in its own latch while the guest has one unread."""
        self.reply, self.reply_source, self.reply_waits = value, source, True
        self._fill()

    def _fill(self) -> None:
        """Moves the next byte that waits into the output buffer, if that is empty."""
        while not self.status & STATUS_OUTPUT_FULL:
            if self.reply_waits:
                self.reply_waits = False
                self._show(self.reply, self.reply_source)
            elif self.keyboard.count and not self.mode & MODE_KEYBOARD_OFF:
                self._show_key(self.keyboard.take())
            elif self.mouse.count and not self.mode & MODE_AUX_OFF:
                self._show(self.mouse.take(), SOURCE_AUX)
            else:
                return

    def _show_key(self, value: int) -> None:
        if self.mode & MODE_TRANSLATE:
            if value == BREAK_PREFIX:
                self.break_prefix = True
                return
            value = _TRANSLATION[value] if value < 0x80 else _HIGH.get(value, value)
            if self.break_prefix:
                self.break_prefix = False
                value |= 0x80
        self._show(value, SOURCE_KEYBOARD)

    def _show(self, value: int, source: int) -> None:
        self.output, self.output_source = value, source
        self.status |= STATUS_OUTPUT_FULL | (STATUS_AUX_DATA if source == SOURCE_AUX else 0)
        self._update_pins()

    def _update_pins(self) -> None:
        full = bool(self.status & STATUS_OUTPUT_FULL)
        aux = bool(self.status & STATUS_AUX_DATA)
        self.irq1.set_level(full and not aux and bool(self.mode & MODE_IRQ1))
        self.irq12.set_level(full and aux and bool(self.mode & MODE_IRQ12))
        self.a20_out.set_level(self.output_port & OUTPUT_A20)

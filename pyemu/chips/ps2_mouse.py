# SPDX-License-Identifier: MIT
"""The PS/2 mouse: what it answers to the controller, and its packets, with and without a wheel."""

from __future__ import annotations

from ..device import VMState, vmstate

ACK, RESEND, SELF_TEST_PASSED = 0xFA, 0xFE, 0xAA
SCALE_1_1, SCALE_2_1, SET_RESOLUTION, STATUS_REQUEST = 0xE6, 0xE7, 0xE8, 0xE9
STREAM_MODE, READ_DATA, END_WRAP, WRAP_MODE, REMOTE_MODE = 0xEA, 0xEB, 0xEC, 0xEE, 0xF0
IDENTIFY, SET_RATE, ENABLE, DISABLE, DEFAULTS, RESEND_LAST, RESET = 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xFE, 0xFF

STREAMING, REMOTE, WRAPPING = range(3)
PLAIN, WHEEL, FIVE_BUTTONS = 0, 3, 4
#: The rates that a driver sets one after the other to find a wheel, or a wheel and two more buttons.
KNOCKS = {bytes((200, 100, 80)): WHEEL, bytes((200, 200, 80)): FIVE_BUTTONS}
RATES = (10, 20, 40, 60, 80, 100, 200)

QUEUE_SIZE = 16
DEFAULT_RATE, DEFAULT_RESOLUTION = 100, 2
#: One packet tells movements up to here; the rest follows with the next one.
FARTHEST = 255
FARTHEST_WHEEL = 7
#: What movements of 0 to 5 become when scaled 2:1.
SHORT_DOUBLED = (0, 1, 1, 3, 6, 9)


def _doubled(distance: int) -> int:
    """Scaling 2:1: short movements less than twice, so that they stay fine."""
    size = abs(distance)
    scaled = SHORT_DOUBLED[size] if size < len(SHORT_DOUBLED) else 2 * size
    return scaled if distance >= 0 else -scaled


class PS2Mouse:
    """A mouse with three buttons that turns into one with a wheel, or five buttons, when asked the usual way.

    Movement that does not fit into the queue adds up and goes out as soon as there is room.

    Attributes:
        queue, count: bytes not yet taken by the controller; ``queue[:count]``.
        kind: its identity: 0, 3 with a wheel, 4 with five buttons.
        buttons: bits left, right, middle, fourth, fifth.
        moved: what was not told yet: right, up, wheel; positive is right, up and towards the user.
    """

    vmstate = VMState(
        "ps2mouse",
        fields=(
            vmstate.buffer("queue", QUEUE_SIZE),
            vmstate.uint8("count", limit=QUEUE_SIZE),
            vmstate.uint8("mode", limit=WRAPPING),
            vmstate.boolean("reporting"),
            vmstate.uint8("kind", limit=FIVE_BUTTONS),
            vmstate.boolean("doubled"),
            vmstate.uint8("resolution", limit=3),
            vmstate.uint8("rate"),
            vmstate.buffer("knock", 3),
            vmstate.uint8("expects"),
            vmstate.uint8("last_sent"),
            vmstate.uint8("buttons", limit=0x1F),
            vmstate.uint8("told_buttons", limit=0x1F),
            vmstate.int32("moved", 3),
        ),
    )

    def __init__(self) -> None:
        self.queue = bytearray(QUEUE_SIZE)
        self.knock = bytearray(3)
        self.moved = [0, 0, 0]
        self.reset()

    def reset(self) -> None:
        """Power-on, with the self test's result taken by nobody."""
        self.queue[:] = bytes(QUEUE_SIZE)
        self.count = 0
        self.expects = self.last_sent = 0
        self.kind = PLAIN
        self.buttons = self.told_buttons = 0
        self._defaults()

    def _defaults(self) -> None:
        self.mode = STREAMING
        self.reporting = False
        self.doubled = False
        self.resolution, self.rate = DEFAULT_RESOLUTION, DEFAULT_RATE
        self.knock[:] = bytes(3)
        self.moved[:] = [0, 0, 0]

    # -- towards the host -------------------------------------------------------------------------

    def take(self) -> int:
        """The oldest byte of the queue, which must not be empty."""
        value = self.queue[0]
        self.count -= 1
        self.queue[:] = self.queue[1:] + b"\0"
        self.last_sent = value
        self._report()
        return value

    def move(self, right: int = 0, up: int = 0, wheel: int = 0, buttons: int | None = None) -> None:
        """Moves the mouse, turns its wheel, and presses *buttons* (None: as they are)."""
        for n, by in enumerate((right, up, wheel)):
            self.moved[n] = min(max(self.moved[n] + by, -(1 << 30)), 1 << 30)
        if buttons is not None:
            self.buttons = buttons & 0x1F
        self._report()

    def _report(self) -> None:
        """Queues packets while there is something to tell, and room."""
        while (
            self.mode == STREAMING
            and self.reporting
            and (any(self.moved) or self.buttons != self.told_buttons)
            and self.count + self._packet_size() <= QUEUE_SIZE
        ):
            if not self._answer_packet():
                return

    def _packet_size(self) -> int:
        return 3 if self.kind == PLAIN else 4

    def _answer_packet(self) -> bool:
        """Queues one packet; false when it told nothing new."""
        before = (*self.moved, self.told_buttons)
        doubled = self.doubled and self.mode == STREAMING
        farthest = FARTHEST // 2 if doubled else FARTHEST
        right, up = (min(max(n, -farthest), farthest) for n in self.moved[:2])
        self.moved[0] -= right
        self.moved[1] -= up
        if doubled:
            right, up = _doubled(right), _doubled(up)
        head = 0x08 | self.buttons & 7 | (0x10 if right < 0 else 0) | (0x20 if up < 0 else 0)
        packet = [head, right & 0xFF, up & 0xFF]
        if self.kind == PLAIN:
            self.moved[2] = 0
        else:
            wheel = min(max(self.moved[2], -FARTHEST_WHEEL), FARTHEST_WHEEL)
            self.moved[2] -= wheel
            extra = wheel & 0x0F | (self.buttons & 0x18) << 1 if self.kind == FIVE_BUTTONS else wheel & 0xFF
            packet.append(extra)
        self.told_buttons = self.buttons
        self._answer(*packet)
        return before != (*self.moved, self.told_buttons)

    def _answer(self, *values: int) -> None:
        for value in values[: QUEUE_SIZE - self.count]:
            self.queue[self.count] = value
            self.count += 1

    # -- from the host ----------------------------------------------------------------------------

    def write(self, value: int) -> None:
        """A byte from the host: a command, or the argument of one. What was queued before it is dropped."""
        if value == RESEND_LAST:
            self._answer(self.last_sent)
            return
        self.count = 0
        expects, self.expects = self.expects, 0
        if self.mode == WRAPPING and value not in (END_WRAP, RESET):
            self._answer(value)
        elif expects:
            self._argument(expects, value)
        elif value == RESET:
            self.reset()
            self._answer(ACK, SELF_TEST_PASSED, PLAIN)
        elif value == IDENTIFY:
            self._answer(ACK, self.kind)
        elif value in (SET_RESOLUTION, SET_RATE):
            self.expects = value
            self._answer(ACK)
        elif value == STATUS_REQUEST:
            state = (self.mode == REMOTE) << 6 | self.reporting << 5 | self.doubled << 4
            buttons = (self.buttons & 1) << 2 | (self.buttons & 4) >> 1 | (self.buttons & 2) >> 1
            self._answer(ACK, state | buttons, self.resolution, self.rate)
        elif value == READ_DATA:
            self._answer(ACK)
            self._answer_packet()
        elif value in (SCALE_1_1, SCALE_2_1):
            self.doubled = value == SCALE_2_1
            self._answer(ACK)
        elif value in (STREAM_MODE, REMOTE_MODE, WRAP_MODE, END_WRAP):
            self.mode = {REMOTE_MODE: REMOTE, WRAP_MODE: WRAPPING}.get(value, STREAMING)
            self._answer(ACK)
        elif value in (ENABLE, DISABLE):
            self.reporting = value == ENABLE
            self._answer(ACK)
        elif value == DEFAULTS:
            self._defaults()
            self._answer(ACK)
        else:
            self._answer(RESEND)

    def _argument(self, command: int, value: int) -> None:
        if command == SET_RESOLUTION and value <= 3:
            self.resolution = value
        elif command == SET_RATE and value in RATES:
            self.rate = value
            self.knock[:] = bytes((*self.knock[1:], value))
            self.kind = KNOCKS.get(bytes(self.knock), self.kind)
        else:
            self._answer(RESEND)
            return
        self._answer(ACK)

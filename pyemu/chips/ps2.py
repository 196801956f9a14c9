# SPDX-License-Identifier: MIT
"""The PS/2 keyboard: what it answers to the controller, and its queue of scan codes."""

from __future__ import annotations

from ..device import VMState, vmstate

ACK, RESEND, ECHO, SELF_TEST_PASSED = 0xFA, 0xFE, 0xEE, 0xAA
IDENTITY = (0xAB, 0x83)

SET_LEDS, DO_ECHO, SCAN_SET, IDENTIFY, TYPEMATIC = 0xED, 0xEE, 0xF0, 0xF2, 0xF3
ENABLE, DISABLE, DEFAULTS, RESEND_LAST, RESET = 0xF4, 0xF5, 0xF6, 0xFE, 0xFF
#: Key types of scan code set 3: F7-FA for all keys at once, FB-FD for the keys that follow.
ALL_KEYS, SOME_KEYS = range(0xF7, 0xFB), range(0xFB, 0xFE)

QUEUE_SIZE = 16
OVERRUN = 0x00  # sent instead of a key when sets 2 and 3 overflow

DEFAULT_TYPEMATIC = 0x2B


class PS2Keyboard:
    """A keyboard. Bytes to the host wait in a queue of 16, as in the real part's buffer.

    Attributes:
        queue, count: bytes not yet taken by the controller; ``queue[:count]``.
        scanning: whether keys are sent.
        scan_set: 1, 2 or 3.
        leds: scroll, num and caps lock in bits 0-2.
        expects: the command whose argument is due, else 0.
    """

    vmstate = VMState(
        "ps2kbd",
        fields=(
            vmstate.buffer("queue", QUEUE_SIZE),
            vmstate.uint8("count", limit=QUEUE_SIZE),
            vmstate.boolean("scanning"),
            vmstate.uint8("scan_set", limit=3),
            vmstate.uint8("leds", limit=7),
            vmstate.uint8("typematic", limit=0x7F),
            vmstate.uint8("expects"),
            vmstate.uint8("last_sent"),
        ),
    )

    def __init__(self) -> None:
        self.queue = bytearray(QUEUE_SIZE)
        self.reset()

    def reset(self) -> None:
        """Power-on, with the self test's result taken by nobody."""
        self.queue[:] = bytes(QUEUE_SIZE)
        self.count = 0
        self.leds = 0
        self.expects = 0
        self.last_sent = 0
        self._defaults()
        self.scanning = True

    def _defaults(self) -> None:
        self.scan_set = 2
        self.typematic = DEFAULT_TYPEMATIC

    # -- towards the host -------------------------------------------------------------------------

    def take(self) -> int:
        """The oldest byte of the queue, which must not be empty."""
        value = self.queue[0]
        self.count -= 1
        self.queue[:] = self.queue[1:] + b"\0"
        self.last_sent = value
        return value

    def _answer(self, *values: int) -> None:
        for value in values[: QUEUE_SIZE - self.count]:
            self.queue[self.count] = value
            self.count += 1

    def press(self, codes: bytes) -> bool:
        """Queues one key's scan codes, in the set that is selected; false when they are lost.

        The last place of the queue is kept for the overrun code, so a host that does not read sees that keys are missing.
        """
        if not self.scanning:
            return False
        if self.count + len(codes) >= QUEUE_SIZE:
            if self.count < QUEUE_SIZE and (not self.count or self.queue[self.count - 1] != OVERRUN):
                self._answer(OVERRUN)
            return False
        self._answer(*codes)
        return True

    # -- from the host ----------------------------------------------------------------------------

    def write(self, value: int) -> None:
        """A byte from the host: a command, or the argument of one. What was queued before it is dropped."""
        if value == RESEND_LAST:
            self._answer(self.last_sent)
            return
        self.count = 0
        expects, self.expects = self.expects, 0
        if expects and value < 0x80:
            self._argument(expects, value)
        elif value == RESET:
            self.reset()
            self._answer(ACK, SELF_TEST_PASSED)
        elif value == IDENTIFY:
            self._answer(ACK, *IDENTITY)
        elif value == DO_ECHO:
            self._answer(ECHO)
        elif value in (SET_LEDS, SCAN_SET, TYPEMATIC) or value in SOME_KEYS:
            self.expects = value
            self._answer(ACK)
        elif value in (ENABLE, DISABLE, DEFAULTS) or value in ALL_KEYS:
            if value in (DISABLE, DEFAULTS):
                self._defaults()
            if value in (ENABLE, DISABLE):
                self.scanning = value == ENABLE
            self._answer(ACK)
        else:
            self._answer(RESEND)

    def _argument(self, command: int, value: int) -> None:
        if command == SET_LEDS:
            self.leds = value & 7
        elif command == TYPEMATIC:
            self.typematic = value & 0x7F
        elif command == SCAN_SET:
            if value > 3:
                self._answer(RESEND)
                return
            if value == 0:
                self._answer(ACK, self.scan_set)
                return
            self.scan_set = value
        else:
            self.expects = command  # a list of keys goes on until a command ends it
        self._answer(ACK)

# SPDX-License-Identifier: MIT
"""A USB keyboard: HID with the boot protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..device import VMState, vmstate
from .usb import (
    CLASS_REQUEST,
    GET_DESCRIPTOR,
    TO_HOST,
    TO_INTERFACE,
    USB_FIELDS,
    Handshake,
    Request,
    USBDevice,
    configuration_descriptor,
    device_descriptor,
    endpoint_descriptor,
)

REPORT_SIZE, QUEUE = 8, 16
HID, REPORT = 0x21, 0x22
GET_REPORT, GET_IDLE, GET_PROTOCOL, SET_REPORT, SET_IDLE, SET_PROTOCOL = 1, 2, 3, 9, 10, 11
ROLL_OVER = b"\x00\x00" + b"\x01" * 6

#: Eight modifier bits, a reserved byte, five LEDs and padding, six key codes: the layout of the boot protocol.
REPORT_DESCRIPTOR = bytes.fromhex(
    "05010906a101"  # generic desktop, keyboard, application
    "050719e029e7150025017501950881"  # modifiers E0-E7, one bit each
    "02950175088101"  # input; one reserved byte
    "950575010508190129059102950175039101"  # five LEDs, three bits of padding
    "95067508150025650507190029658100c0"  # six key codes 0-65
)


class USBKeyboard(USBDevice):
    """A low-speed keyboard with one interrupt endpoint; :meth:`press` types.

    Attributes:
        queue, count: reports that the host has not fetched; ``queue[:8 * count]``.
        leds: num, caps and scroll lock in bits 0-2, as the host set them.
    """

    type_name = "usb-kbd"
    low_speed = True
    strings = ("pyemu", "keyboard")
    device_descriptor = device_descriptor(0x0627, 0x0001, strings=2)
    configuration_descriptor = configuration_descriptor(
        (3, 1, 1),
        endpoint_descriptor(1, True, 3, REPORT_SIZE, 10),
        1,
        bytes((9, HID, 0x11, 0x01, 0, 1, REPORT)) + len(REPORT_DESCRIPTOR).to_bytes(2, "little"),
    )
    vmstate = VMState(
        "usb-kbd",
        fields=(
            *USB_FIELDS,
            vmstate.buffer("queue", REPORT_SIZE * QUEUE),
            vmstate.uint8("count", limit=QUEUE),
            vmstate.uint8("leds"),
            vmstate.uint8("idle"),
            vmstate.uint8("protocol"),
        ),
    )
    volatile: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **properties: Any) -> None:
        self.queue = bytearray(REPORT_SIZE * QUEUE)
        super().__init__(**properties)

    def configured(self) -> None:
        self.queue[:] = bytes(len(self.queue))
        self.count = 0
        self.leds = self.idle = 0
        self.protocol = 1

    def press(self, keys: Sequence[int], modifiers: int = 0) -> bool:
        """Queues the report of these keys being down (HID usages, at most six) and of all being up; false when full.

        Args:
            keys: usages of the keyboard page, e.g. 4 for A.
            modifiers: bits for left control, shift, alt, GUI, then the right ones.
        """
        if self.count + 2 > QUEUE:
            return False
        down = bytes((modifiers & 0xFF, 0, *keys)).ljust(REPORT_SIZE, b"\0") if len(keys) <= 6 else ROLL_OVER
        for report in (down, bytes(REPORT_SIZE)):
            self.queue[REPORT_SIZE * self.count : REPORT_SIZE * (self.count + 1)] = report
            self.count += 1
        return True

    def endpoint_in(self, endpoint: int, limit: int) -> bytes | Handshake:
        if endpoint != 1:
            return Handshake.STALL
        if not self.count:
            return Handshake.NAK
        report = bytes(self.queue[: min(limit, REPORT_SIZE)])
        self.queue[:] = self.queue[REPORT_SIZE:] + bytes(REPORT_SIZE)
        self.count -= 1
        return report

    def control(self, request: Request, data: bytes) -> bytes | None:
        if request.kind == TO_HOST | TO_INTERFACE and request.number == GET_DESCRIPTOR:
            hid = self.configuration_descriptor[18:27]
            return {HID: hid, REPORT: REPORT_DESCRIPTOR}.get(request.value >> 8)
        if request.kind & ~TO_HOST != CLASS_REQUEST | TO_INTERFACE:
            return None
        if request.kind & TO_HOST:
            answers = {GET_REPORT: bytes(REPORT_SIZE), GET_IDLE: bytes((self.idle,)), GET_PROTOCOL: bytes((self.protocol,))}
            return answers.get(request.number)
        if request.number == SET_REPORT:
            self.leds = data[0] & 0x1F if data else self.leds
        elif request.number == SET_IDLE:
            self.idle = request.value >> 8
        elif request.number == SET_PROTOCOL and request.value <= 1:
            self.protocol = request.value
        else:
            return None
        return b""

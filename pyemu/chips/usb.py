# SPDX-License-Identifier: MIT
"""USB 1.1: the bus with its root ports, and what every device on it does.

A controller hands a device single transactions (:meth:`USBDevice.token_in` and its like). The base
class answers the standard requests on endpoint 0; a subclass has its descriptors, its class requests
and its other endpoints. Data toggles are not compared: nothing is ever lost on this wire.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from ..device import Bus, Device, Property, vmstate
from ..errors import ConfigError

PID_IN, PID_OUT, PID_SETUP = 0x69, 0xE1, 0x2D

GET_STATUS, CLEAR_FEATURE, SET_FEATURE, SET_ADDRESS = 0, 1, 3, 5
GET_DESCRIPTOR, GET_CONFIGURATION, SET_CONFIGURATION, GET_INTERFACE, SET_INTERFACE = 6, 8, 9, 10, 11
TO_HOST, CLASS_REQUEST, TO_INTERFACE, TO_ENDPOINT = 0x80, 0x20, 1, 2
FEATURE_HALT = 0

DEVICE, CONFIGURATION, STRING, INTERFACE, ENDPOINT = 1, 2, 3, 4, 5
LANGUAGE = b"\x04\x03\x09\x04"
CONTROL_PACKET = 8
CONTROL_BUFFER = 256
MAX_ADDRESS = 127


class Handshake(enum.Enum):
    """How a transaction ends that returns no data."""

    ACK = "ack"
    NAK = "nak"
    STALL = "stall"


class Request(NamedTuple):
    """A set-up packet."""

    kind: int
    number: int
    value: int
    where: int
    length: int

    @classmethod
    def parse(cls, data: bytes | bytearray) -> Request:
        return cls(data[0], data[1], data[2] | data[3] << 8, data[4] | data[5] << 8, data[6] | data[7] << 8)


class USBBus(Bus):
    """Root ports that belong to one or more controllers.

    Args:
        ports: how many.
        name: unique in the machine.

    Attributes:
        ports: the device at each port, or None.
        listeners: for each port, who is told that a device came or went.
    """

    kind = "usb"

    def __init__(self, ports: int, name: str = "usb.0") -> None:
        super().__init__(name)
        self.ports: list[USBDevice | None] = [None] * ports
        self.listeners: list[Callable[[], None] | None] = [None] * ports

    def plug(self, device: Device, id: str | None = None) -> Device:
        """Plugs *device* in at its ``port``, or at the first free one.

        Raises:
            ConfigError: it is no USB device, or there is no such free port.
        """
        if not isinstance(device, USBDevice):
            raise ConfigError(f"{device.type_name}: is no USB device and cannot go into {self.name}")
        if device.bus is not None:
            return super().plug(device, id)
        free = [n for n, other in enumerate(self.ports) if other is None]
        wanted = free[0] if device.port is None and free else (device.port or 0) - 1
        if wanted not in free:
            what = f"port {device.port}" if device.port is not None else "every port"
            raise ConfigError(f"{device.type_name}: {what} of {self.name} is taken or missing; it has {len(self.ports)}")
        super().plug(device, id)
        self._set(wanted, device)
        return device

    def unplug(self, device: Device) -> None:
        super().unplug(device)
        for n, other in enumerate(self.ports):
            if other is device:
                self._set(n, None)

    def _set(self, n: int, device: USBDevice | None) -> None:
        self.ports[n] = device
        listener = self.listeners[n]
        if listener is not None:
            listener()


#: The fields that the state of each device begins with.
USB_FIELDS = (
    vmstate.uint8("address", limit=MAX_ADDRESS),
    vmstate.uint8("next_address", limit=MAX_ADDRESS),
    vmstate.uint8("configuration"),
    vmstate.uint16("halted"),
    vmstate.buffer("setup", 8),
    vmstate.boolean("control_stalled"),
    vmstate.buffer("control_data", CONTROL_BUFFER),
    vmstate.uint16("control_count", limit=CONTROL_BUFFER),
    vmstate.uint16("control_at", limit=CONTROL_BUFFER),
)


class USBDevice(Device):
    """A device with endpoint 0 and up to fifteen others.

    Class attributes:
        low_speed: 1.5 Mbit/s instead of 12.
        device_descriptor, configuration_descriptor: as they are sent.
        strings: from index 1 on.

    Attributes:
        address: what it answers to; 0 after a reset.
        halted: a bit for each halted endpoint: 0 to 7 from the host, 8 to 15 towards it.
    """

    bus_kind = "usb"
    properties: ClassVar[tuple[Property, ...]] = (Property("port", "int", None, "root port, from 1", 1, 16),)
    volatile: ClassVar[frozenset[str]] = frozenset({"port"})
    low_speed: ClassVar[bool] = False
    device_descriptor: ClassVar[bytes]
    configuration_descriptor: ClassVar[bytes]
    strings: ClassVar[tuple[str, ...]] = ()
    port: int | None

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.setup = bytearray(8)
        self.control_data = bytearray(CONTROL_BUFFER)
        self.bus_reset()

    # -- for subclasses ---------------------------------------------------------------------------

    def control(self, request: Request, data: bytes) -> bytes | None:
        """A class request: the bytes for the host (none for a request with data from it), or None to refuse."""
        return None

    def endpoint_in(self, endpoint: int, limit: int) -> bytes | Handshake:
        """At most *limit* bytes of an endpoint towards the host, or NAK or STALL."""
        return Handshake.STALL

    def endpoint_out(self, endpoint: int, data: bytes) -> Handshake:
        """Bytes for an endpoint from the host."""
        return Handshake.STALL

    def configured(self) -> None:
        """The host chose a configuration or reset the bus: back to the beginning."""

    def halt_cleared(self, endpoint: int) -> None:
        """The host cleared a halt."""

    # -- life -------------------------------------------------------------------------------------

    def reset(self) -> None:
        self.bus_reset()

    def bus_reset(self) -> None:
        """The port was reset."""
        self.address = self.next_address = 0
        self.configuration = 0
        self.halted = 0
        self.setup[:] = bytes(8)
        self.control_stalled = False
        self.control_data[:] = bytes(CONTROL_BUFFER)
        self.control_count = self.control_at = 0
        self.configured()

    def halt(self, endpoint: int, to_host: bool) -> None:
        """Halts an endpoint until the host clears it."""
        self.halted |= _bit(endpoint, to_host)

    # -- transactions -----------------------------------------------------------------------------

    def token_setup(self, data: bytes) -> Handshake:
        """The first transaction of a control transfer."""
        if len(data) != 8:
            return Handshake.STALL
        self.setup[:] = data
        self.control_stalled = False
        self.control_count = self.control_at = 0
        request = Request.parse(data)
        if request.kind & TO_HOST or request.length == 0:
            self._perform(request, b"")
        elif request.length > CONTROL_BUFFER:
            self.control_stalled = True
        return Handshake.ACK

    def token_in(self, endpoint: int, limit: int) -> bytes | Handshake:
        """A transaction that asks for at most *limit* bytes."""
        if endpoint:
            if not self.configuration:
                return Handshake.STALL
            return Handshake.STALL if self.halted & _bit(endpoint, True) else self.endpoint_in(endpoint, limit)
        if self.control_stalled:
            return Handshake.STALL
        if not self.setup[0] & TO_HOST:
            # The status stage: only now does a new address count.
            self.address = self.next_address
            return b""
        data = bytes(self.control_data[self.control_at : min(self.control_count, self.control_at + min(limit, CONTROL_PACKET))])
        self.control_at += len(data)
        return data

    def token_out(self, endpoint: int, data: bytes) -> Handshake:
        """A transaction with data from the host."""
        if endpoint:
            if not self.configuration:
                return Handshake.STALL
            return Handshake.STALL if self.halted & _bit(endpoint, False) else self.endpoint_out(endpoint, data)
        if self.control_stalled:
            return Handshake.STALL
        if self.setup[0] & TO_HOST:
            return Handshake.ACK
        request = Request.parse(self.setup)
        end = self.control_count + len(data)
        if end > min(request.length, CONTROL_BUFFER):
            self.control_stalled = True
            return Handshake.STALL
        self.control_data[self.control_count : end] = data
        self.control_count = end
        if end == request.length:
            self._perform(request, bytes(self.control_data[:end]))
        return Handshake.ACK

    # -- requests ---------------------------------------------------------------------------------

    def _perform(self, request: Request, data: bytes) -> None:
        standard = not request.kind & 0x60
        answer = self._standard(request) if standard else None
        if answer is None:
            answer = self.control(request, data)
        if answer is None:
            self.control_stalled = True
        elif request.kind & TO_HOST:
            answer = answer[: min(request.length, CONTROL_BUFFER)]
            self.control_data[: len(answer)] = answer
            self.control_count = len(answer)

    def _standard(self, request: Request) -> bytes | None:
        number, target = request.number, request.kind & 0x1F
        if request.kind & TO_HOST:
            if number == GET_DESCRIPTOR:
                return self._descriptor(request.value >> 8, request.value & 0xFF)
            if number == GET_STATUS:
                halted = target == TO_ENDPOINT and self.halted & _bit(request.where & 0xF, bool(request.where & 0x80))
                return bytes((1 if halted else 0, 0))
            if number == GET_CONFIGURATION:
                return bytes((self.configuration,))
            return b"\0" if number == GET_INTERFACE else None
        if number == SET_ADDRESS and request.value <= MAX_ADDRESS:
            self.next_address = request.value
        elif number == SET_CONFIGURATION and request.value in (0, self.configuration_descriptor[5]):
            self.configuration = request.value
            self.halted = 0
            self.configured()
        elif number in (CLEAR_FEATURE, SET_FEATURE) and target == TO_ENDPOINT and request.value == FEATURE_HALT:
            bit = _bit(request.where & 0xF, bool(request.where & 0x80))
            self.halted = self.halted & ~bit if number == CLEAR_FEATURE else self.halted | bit & 0xFEFE
            if number == CLEAR_FEATURE:
                self.halt_cleared(request.where & 0x8F)
        elif not (number in (CLEAR_FEATURE, SET_FEATURE) or (number == SET_INTERFACE and request.value == 0)):
            return None
        return b""

    def _descriptor(self, kind: int, index: int) -> bytes | None:
        if kind == DEVICE:
            return self.device_descriptor
        if kind == CONFIGURATION and index == 0:
            return self.configuration_descriptor
        if kind == STRING and index == 0:
            return LANGUAGE
        if kind == STRING and index <= len(self.strings):
            text = self.strings[index - 1].encode("utf-16-le")
            return bytes((len(text) + 2, STRING)) + text
        return None


def _bit(endpoint: int, to_host: bool) -> int:
    # Endpoints 0 to 7 from the host in bits 0-7, those towards it in bits 8-15; devices here have no others.
    return 1 << (endpoint & 7) + (8 if to_host else 0)


def device_descriptor(vendor: int, product: int, kind: int = 0, strings: int = 0) -> bytes:
    """The 18 bytes: USB 1.1, endpoint 0 with packets of 8 bytes, one configuration."""
    names = [n if n <= strings else 0 for n in (1, 2, 3)]
    words = vendor.to_bytes(2, "little") + product.to_bytes(2, "little") + b"\x00\x01"
    return bytes((18, DEVICE, 0x10, 0x01, kind, 0, 0, CONTROL_PACKET)) + words + bytes((*names, 1))


def configuration_descriptor(interface: tuple[int, int, int], endpoints: bytes, count: int, extra: bytes = b"") -> bytes:
    """A configuration with one interface of *interface* (class, subclass, protocol).

    Args:
        interface: class, subclass and protocol.
        endpoints: the endpoints' descriptors.
        count: how many these are.
        extra: class descriptors between interface and endpoints.
    """
    body = bytes((9, INTERFACE, 0, 0, count, *interface, 0)) + extra + endpoints
    total = (9 + len(body)).to_bytes(2, "little")
    return bytes((9, CONFIGURATION)) + total + bytes((1, 1, 0, 0xC0, 0)) + body


def endpoint_descriptor(number: int, to_host: bool, kind: int, packet: int, interval: int = 0) -> bytes:
    """*kind* is 2 for bulk, 3 for interrupt."""
    return bytes((7, ENDPOINT, number | (TO_HOST if to_host else 0), kind)) + packet.to_bytes(2, "little") + bytes((interval,))

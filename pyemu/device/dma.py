# SPDX-License-Identifier: MIT
"""The third-party DMA of ISA boards: what a device asks of the controller and the reverse.

A device holds a :class:`DMARequest`, its pair of DREQ and DACK pins, which can be moved from channel
to channel like an interrupt pin. The controller moves bytes only from inside ``set_request`` or from
its own port handlers, always on the machine thread, by calling the device's :class:`DMAClient` methods.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..errors import ConfigError


@runtime_checkable
class DMAClient(Protocol):
    """A device that is served by a DMA channel."""

    def dma_read(self, length: int) -> bytes:
        """Device to memory: up to *length* bytes; fewer when the device has no more for now."""

    def dma_write(self, data: bytes) -> int:
        """Memory to device: how many of these bytes the device took."""

    def dma_verify(self, length: int) -> int:
        """A verify transfer: bytes pass by without being stored; how many there were."""

    def dma_terminal_count(self) -> None:
        """The controller has moved the last byte it was programmed for (TC)."""


class DMAController(Protocol):
    """What a DMA controller offers a bus."""

    channels: int

    def attach(self, channel: int, client: DMAClient) -> None:
        """*client* will be served by *channel*; several may share it as long as one at a time requests."""

    def detach(self, channel: int, client: DMAClient) -> None: ...

    def set_request(self, channel: int, client: DMAClient, level: int) -> None:
        """*client* raises (1) or drops (0) DREQ. Transfers may happen before this returns."""


class DMARequest:
    """The DMA request pin of a device.

    Its level survives being moved or cut off: the old channel loses the request, the new one gets it.

    Args:
        client: the device that is called to move bytes.
        name: for messages.
    """

    def __init__(self, client: DMAClient, name: str = "dma") -> None:
        self.client = client
        self.name = name
        self.controller: DMAController | None = None
        self.channel: int | None = None
        self._level = 0

    @property
    def level(self) -> int:
        """What the device drives, connected or not."""
        return self._level

    def set_level(self, level: int) -> None:
        """Raises or drops the request."""
        level = 1 if level else 0
        if level == self._level:
            return
        self._level = level
        if self.controller is not None and self.channel is not None:
            self.controller.set_request(self.channel, self.client, level)

    def connect(self, controller: DMAController | None, channel: int | None) -> None:
        """Moves the pin to *channel* of *controller*, or cuts it off when either is None.

        Raises:
            ConfigError: the controller has no such channel.
        """
        if controller is None or channel is None:
            controller = channel = None
        elif not 0 <= channel < controller.channels:
            raise ConfigError(f"{self.name}: DMA channel {channel} is not between 0 and {controller.channels - 1}")
        if controller is self.controller and channel == self.channel:
            return
        if self.controller is not None and self.channel is not None:
            if self._level:
                self.controller.set_request(self.channel, self.client, 0)
            self.controller.detach(self.channel, self.client)
        self.controller, self.channel = controller, channel
        if controller is not None and channel is not None:
            controller.attach(channel, self.client)
            if self._level:
                controller.set_request(channel, self.client, 1)

    def __repr__(self) -> str:
        where = f"channel {self.channel}" if self.channel is not None else "unconnected"
        return f"<DMARequest {self.name} -> {where} level={self._level}>"

# SPDX-License-Identifier: MIT
"""What all buses have in common: plugging, unplugging, reset, names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..errors import ConfigError
from ._irq import IRQLine
from .device import Device


class Bus:
    """A place that devices are plugged into.

    Class attributes:
        kind: what a device's :attr:`~pyemu.device.Device.bus_kind` must say to fit, e.g. ``isa``.

    Args:
        name: as in ``isa.0``; unique in a machine.
    """

    kind: ClassVar[str] = ""

    def __init__(self, name: str) -> None:
        self.name = name
        self.devices: list[Device] = []

    def interrupt_lines(self) -> Sequence[IRQLine]:
        """The lines that devices of this bus drive."""
        return ()

    def plug(self, device: Device, id: str | None = None) -> Device:
        """Realizes *device* on this bus, resets it and returns it.

        Whatever :meth:`~pyemu.device.Device.realize` raises comes out of here, after everything the
        device had claimed by then was given back.

        Args:
            device: not plugged in anywhere yet.
            id: unique on the bus; made up from the type name when not given.

        Raises:
            ConfigError: the device is plugged in already, is for another kind of bus, or *id* is taken.
        """
        if device.bus is not None:
            raise ConfigError(f"{device.id}: is plugged into {device.bus.name} already, cannot go into {self.name}")
        if device.bus_kind and device.bus_kind != self.kind:
            raise ConfigError(f"{device.type_name}: needs a bus of kind {device.bus_kind}, {self.name} is {self.kind}")
        device.id = self._free_id(device, id)
        device.bus = self
        try:
            device.realize()
        except BaseException:
            self._withdraw(device)
            raise
        self.devices.append(device)
        device.reset()
        return device

    def unplug(self, device: Device) -> None:
        """Takes *device* out; its state stays with it, so it may be plugged in again.

        Raises:
            ConfigError: it is not on this bus.
        """
        if device not in self.devices:
            raise ConfigError(f"{device.id}: is not plugged into {self.name}")
        self.devices.remove(device)
        self._withdraw(device)

    def reset(self) -> None:
        """Resets each device, in the order they were plugged in."""
        for device in list(self.devices):
            device.reset()

    def find(self, id: str) -> Device:
        """The device of that name.

        Raises:
            ConfigError: there is none; the message lists those there are.
        """
        for device in self.devices:
            if device.id == id:
                return device
        raise ConfigError(f"{self.name}: no device {id!r}; it has: {', '.join(d.id for d in self.devices) or 'none'}")

    def _withdraw(self, device: Device) -> None:
        try:
            device.unrealize()
        finally:
            device.bus = None

    def _free_id(self, device: Device, wanted: str | None) -> str:
        taken = {d.id for d in self.devices}
        if wanted is not None:
            if not wanted or wanted in taken:
                raise ConfigError(f"{device.type_name}: id {wanted!r} is {'taken' if wanted else 'empty'} on {self.name}")
            return wanted
        stem = device.type_name or type(device).__name__.lower()
        name, n = stem, 1
        while name in taken:
            n += 1
            name = f"{stem}-{n}"
        return name

    def info(self) -> list[dict[str, Any]]:
        """One line a device, for listings."""
        return [{"id": d.id, "type": d.type_name} for d in self.devices]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {', '.join(d.id for d in self.devices) or 'empty'}>"

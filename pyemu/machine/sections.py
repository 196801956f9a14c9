# SPDX-License-Identifier: MIT
"""The state of a machine's parts as migration wants it: one section each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..cpu.engine import CPUEngine
from ..cpu.x86 import CPU_STATE, StateView
from ..device import Device
from ..migration.host import DeviceSection


def device_sections(devices: Iterable[Device]) -> list[DeviceSection]:
    """One section a device that declares state; several of a name are told apart by their instance numbers."""
    counts: dict[str, int] = {}
    out = []
    for device in devices:
        if device.vmstate is None:
            continue
        name = device.section_name
        instance = counts.get(name, 0)
        counts[name] = instance + 1
        out.append(DeviceSection(name, instance, device.vmstate, device, device.pre_save, device.post_load))
    return out


def cpu_sections(engine: CPUEngine | None) -> Sequence[DeviceSection]:
    """The processor's section: architectural registers, fetched from the engine and put back into it."""
    if engine is None:
        return ()
    view = StateView()

    def fetch() -> None:
        for name, value in engine.get_state().items():
            setattr(view, name, value)

    def put(version: int) -> None:
        engine.set_state(view.as_dict())

    return (DeviceSection("cpu", 0, CPU_STATE, view, fetch, put),)

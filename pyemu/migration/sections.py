# SPDX-License-Identifier: MIT
"""Sections of declared state, and the two that belong to migration itself: ``timer`` and ``globalstate``."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..device import vmstate
from ..device.vmstate import VMState
from ..errors import MigrationError, PyemuError
from . import wire
from .faults import load_fault
from .framing import StreamReader, StreamWriter
from .host import DeviceSection, MigrationHost

#: Run states that a saved machine may be in; the value says whether the guest ran.
RUN_STATES = {
    "running": True,
    "suspended": False,
    "paused": False,
    "prelaunch": False,
    "shutdown": False,
    "io-error": False,
    "internal-error": False,
    "guest-panicked": False,
    "watchdog": False,
    "debug": False,
    "inmigrate": False,
    "postmigrate": False,
    "finish-migrate": False,
    "restore-vm": False,
    "save-vm": False,
    "colo": False,
    "preconfig": False,
}
#: Those that a machine cannot be left in after loading; it is paused instead.
_PASSING = frozenset({"inmigrate", "postmigrate", "finish-migrate", "restore-vm", "save-vm", "colo", "preconfig"})


class TimerState:
    """Guest time, as section ``timer``."""

    vmstate = VMState(
        "timer",
        version=2,
        minimum_version=2,
        fields=(vmstate.int64("cpu_ticks_offset"), vmstate.buffer("unused", 8), vmstate.int64("cpu_clock_offset")),
    )

    def __init__(self, now_ns: int = 0) -> None:
        # One clock feeds everything here, so the tick counter stands where guest time does.
        self.cpu_ticks_offset = now_ns
        self.cpu_clock_offset = now_ns
        self.unused = bytearray(8)


class GlobalState:
    """The run state that the machine had before migration stopped it, as section ``globalstate``."""

    vmstate = VMState(
        "globalstate",
        fields=(
            vmstate.uint32("size"),
            vmstate.buffer("runstate", 32),
            vmstate.uint8("has_vm_was_suspended"),
            vmstate.uint8("vm_was_suspended"),
            vmstate.buffer("unused", 66),
        ),
    )

    def __init__(self, run_state: str = "") -> None:
        name = run_state.encode()
        self.size = len(name) + 1
        self.runstate = bytearray(name.ljust(32, b"\0"))
        self.has_vm_was_suspended = 1
        self.vm_was_suspended = 0
        self.unused = bytearray(66)

    @property
    def name(self) -> str:
        """The run state's name.

        Raises:
            MigrationError: there is no such run state.
        """
        text = bytes(self.runstate).partition(b"\0")[0].decode("ascii", "replace")
        if text not in RUN_STATES:
            raise load_fault(f"invalid parameter value: {text}")
        return text


def settled(run_state: str) -> str:
    """The run state to leave a loaded machine in."""
    return "paused" if run_state in _PASSING else run_state


@dataclass(frozen=True, slots=True)
class EncodedSection:
    """One FULL section, ready to be written."""

    name: str
    instance_id: int
    version: int
    payload: bytes
    description: dict[str, Any]


def encode_sections(host: MigrationHost, run_state: str) -> list[EncodedSection]:
    """All FULL sections in wire order. Machine thread only.

    Raises:
        MigrationError: a device's state does not fit its declaration.
    """
    sections = [
        DeviceSection("timer", 0, TimerState.vmstate, TimerState(host.clock.now_ns)),
        *host.sections(),
        DeviceSection("globalstate", 0, GlobalState.vmstate, GlobalState(run_state)),
    ]
    return [_encode(section) for section in sections]


def _encode(section: DeviceSection) -> EncodedSection:
    try:
        if section.pre_save is not None:
            section.pre_save()
        payload = section.state.encode(section.obj)
        description = {
            "name": section.name,
            "instance_id": section.instance_id,
            **section.state.describe(section.obj),
        }
    except MigrationError:
        raise
    # A device is a plugin's code: whatever it raises ends this migration and nothing else.
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        raise MigrationError(f"cannot save the state of '{section.name}' {section.instance_id}: {detail}") from error
    return EncodedSection(section.name, section.instance_id, section.state.version, payload, description)


def write_sections(stream: StreamWriter, sections: Sequence[EncodedSection]) -> None:
    """Writes FULL sections; ids go on from the ``ram`` section's, but ``timer`` has 0."""
    for number, section in enumerate(sections):
        section_id = number if number < wire.RAM_SECTION_ID else number + wire.RAM_SECTION_ID
        stream.section(wire.SECTION_FULL, section_id, section.name, section.instance_id, section.version)
        stream.write(section.payload)
        stream.footer(section_id)


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """What a START or FULL section begins with."""

    section_id: int
    name: str
    instance_id: int
    version: int


def read_header(stream: StreamReader) -> SectionHeader:
    """Reads a START or FULL section's header behind its type byte."""
    section_id = stream.u32("a section header")
    length = stream.u8("a section header")
    name = stream.read(length, "a section name").decode("utf-8", "replace")
    if not name.isprintable() or not name:
        raise load_fault(f"Unable to read ID string for section {section_id}")
    instance_id, version = struct.unpack(">II", stream.read(8, "a section header"))
    return SectionHeader(section_id, name, instance_id, version)


def read_footer(stream: StreamReader, name: str, section_id: int) -> None:
    """Reads the footer that must follow the payload of a section."""
    head = stream.peek(5)
    if len(head) < 5:
        raise load_fault(f"check_section_footer: Read section footer failed: -{errno.EIO}", errno.EIO)
    stream.read(5)
    if head[0] != wire.FOOTER:
        raise load_fault(f"Missing section footer for {name}")
    found = int.from_bytes(head[1:], "big")
    if found != section_id:
        raise load_fault(f"Mismatched section id in footer for {name} - read {found:#x} expected {section_id:#x}")


class SectionTable:
    """The sections that a machine can load, by name and instance."""

    def __init__(self, host: MigrationHost) -> None:
        self.timer = TimerState()
        self.global_state = GlobalState()
        self.has_global_state = False
        self._table: dict[tuple[str, int], DeviceSection] = {}
        own: Sequence[DeviceSection] = (
            DeviceSection("timer", 0, TimerState.vmstate, self.timer, None, lambda _: self._set_clock(host)),
            DeviceSection("globalstate", 0, GlobalState.vmstate, self.global_state, None, self._check_state),
        )
        for section in (*own, *host.sections()):
            key = (section.name, section.instance_id)
            if key in self._table:
                raise MigrationError(f"two devices claim section '{section.name}' {section.instance_id}")
            self._table[key] = section

    def _set_clock(self, host: MigrationHost) -> None:
        now = self.timer.cpu_clock_offset
        if now < 0:
            raise load_fault(f"timer: guest time {now} ns lies before power-on")
        host.clock.set_ns(now)

    def _check_state(self, version: int) -> None:
        self.has_global_state = bool(self.global_state.name)

    def load(self, stream: StreamReader, header: SectionHeader) -> None:
        """Loads one FULL section. Machine thread only.

        Raises:
            MigrationError: nothing here has that section, or its payload is not acceptable.
        """
        section = self._table.get((header.name, header.instance_id))
        if section is None:
            known = ", ".join(f"'{name}' {instance}" for name, instance in self._table)
            raise load_fault(
                f"Unknown savevm section or instance '{header.name}' {header.instance_id}. Make sure that your current"
                f" VM setup matches your saved VM setup, including any hotplugged devices (here are: {known})"
            )
        state = section.state
        if header.version > state.version:
            raise load_fault(f"savevm: unsupported version {header.version} for '{header.name}' v{state.version}")
        where = f"error while loading state for instance {header.instance_id:#x} of device '{header.name}'"
        try:
            state.decode(section.obj, stream.read, header.version, stream.peek)
            if section.post_load is not None:
                section.post_load(header.version)
        except PyemuError as error:
            raise load_fault(f"{where}: {error}") from error
        # A device is a plugin's code, fed with bytes that nobody vouches for: what it raises is a
        # refusal of these bytes. (A bug of the device shows here as well, with its cause chained.)
        except Exception as error:
            raise load_fault(f"{where}: {type(error).__name__}: {error}") from error

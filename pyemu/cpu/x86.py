# SPDX-License-Identifier: MIT
"""The architectural state of an x86 processor: names, order and wire types.

This list is the contract between engines: what one saves another loads.
"""

from __future__ import annotations

from typing import Any

from ..device.vmstate import Field, VMState, buffer, uint16, uint32, uint64, uint8

GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
#: Segment registers with their hidden parts; ``flags`` are the descriptor's high dword bits 8-23 in place.
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8")
DEBUG = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
MSRS = (
    "efer", "star", "lstar", "cstar", "fmask", "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip",
    "pat", "apic_base", "misc_enable", "tsc",
)  # fmt: skip


def _fields() -> tuple[Field, ...]:
    out = [uint64(r) for r in (*GENERAL, "rip", "rflags")]
    for s in SEGMENTS:
        out += [uint16(f"{s}_selector"), uint64(f"{s}_base"), uint32(f"{s}_limit"), uint32(f"{s}_flags")]
    for s in ("gdtr", "idtr"):
        out += [uint64(f"{s}_base"), uint32(f"{s}_limit")]
    out += [uint64(r) for r in (*CONTROL, *DEBUG, *MSRS)]
    out += [
        uint16("fpu_control"), uint16("fpu_status"), uint16("fpu_tag"), uint16("fpu_opcode"),
        uint64("fpu_ip"), uint64("fpu_dp"), buffer("fpu_registers", 80), buffer("xmm_registers", 256), uint32("mxcsr"),
        uint8("halted"), uint8("a20"), uint8("interrupt_shadow"), uint8("nmi_masked"),
    ]  # fmt: skip
    return tuple(out)


#: Section ``cpu``: every field is an entry of the dictionaries that engines exchange.
CPU_STATE = VMState("cpu", version=1, fields=_fields())
FIELD_NAMES: tuple[str, ...] = tuple(f.name for f in CPU_STATE.fields)


class StateView:
    """Attribute access to a state dictionary, so that the declaration above can read and fill it."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        for f in CPU_STATE.fields:
            setattr(self, f.name, bytes(f.type.size) if f.type.name == "buffer" else 0)
        for name, value in (values or {}).items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELD_NAMES}

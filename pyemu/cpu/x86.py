# SPDX-License-Identifier: MIT
"""The architectural state of an x86 processor: names, order and wire types.

This list is the contract between engines: what one saves another loads.
"""

from __future__ import annotations

from typing import Any

from ..device.vmstate import Field, VMState, buffer, uint8, uint16, uint32, uint64
from ..errors import EngineError, MigrationError

GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
#: Segment registers with their hidden parts; ``flags`` are the descriptor's high dword bits 8-23 in place.
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8")
DEBUG = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
MSRS = (
    "efer", "star", "lstar", "cstar", "fmask", "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip",
    "pat", "apic_base", "misc_enable", "tsc", "tsc_aux", "mtrr_deftype",
)  # fmt: skip
MTRR_FIXED = 11
MTRR_VARIABLE = 8

#: Descriptor bits that :func:`reset_state` uses, at their places in a ``flags`` field.
_CODE = 0x9B00  # present, code, readable, accessed
_DATA = 0x9300  # present, data, writable, accessed
_LDT = 0x8200
_TSS = 0x8B00


def _fields() -> tuple[Field, ...]:
    out = [uint64(r) for r in (*GENERAL, "rip", "rflags")]
    for s in SEGMENTS:
        out += [uint16(f"{s}_selector"), uint64(f"{s}_base"), uint32(f"{s}_limit"), uint32(f"{s}_flags")]
    for s in ("gdtr", "idtr"):
        out += [uint64(f"{s}_base"), uint32(f"{s}_limit")]
    out += [uint64(r) for r in (*CONTROL, *DEBUG, *MSRS)]
    out += [uint64("mtrr_fixed", MTRR_FIXED), uint64("mtrr_base", MTRR_VARIABLE), uint64("mtrr_mask", MTRR_VARIABLE)]
    # fpu_tag has a bit for each register that is not empty, by physical number; fpu_registers are ST(0) to
    # ST(7), ten bytes each; fpu_status carries the top of the stack: all as FXSAVE stores them.
    out += [
        uint16("fpu_control"), uint16("fpu_status"), uint16("fpu_tag"), uint16("fpu_opcode"),
        uint64("fpu_ip"), uint64("fpu_dp"), buffer("fpu_registers", 80), buffer("xmm_registers", 256), uint32("mxcsr"),
        uint8("halted"), uint8("a20"), uint8("interrupt_shadow"), uint8("nmi_masked"),
        uint8("nmi_pending"),
    ]  # fmt: skip
    return tuple(out)


#: Section ``cpu``: every field is an entry of the dictionaries that engines exchange.
CPU_STATE = VMState("cpu", version=1, fields=_fields())
FIELD_NAMES: tuple[str, ...] = tuple(f.name for f in CPU_STATE.fields)


class StateView:
    """Attribute access to a state dictionary, so that the declaration above can read and fill it."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        for f in CPU_STATE.fields:
            setattr(self, f.name, _blank(f))
        for name, value in (values or {}).items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELD_NAMES}


def _blank(f: Field) -> Any:
    if f.type.name == "buffer":
        return bytes(f.type.size)
    return 0 if f.count is None else [0] * f.count


def reset_state(signature: int = 0x663) -> dict[str, Any]:
    """The processor after power-on: real mode, first instruction at 0xfffffff0.

    Args:
        signature: family, model and stepping, which RDX holds then.
    """
    state = StateView().as_dict()
    for s in SEGMENTS:
        state[f"{s}_limit"] = 0xFFFF
        state[f"{s}_flags"] = {"cs": _CODE, "ldtr": _LDT, "tr": _TSS}.get(s, _DATA)
    state.update(
        rip=0xFFF0, rflags=2, rdx=signature, cs_selector=0xF000, cs_base=0xFFFF0000, gdtr_limit=0xFFFF,
        idtr_limit=0xFFFF, cr0=0x60000010, dr6=0xFFFF0FF0, dr7=0x400, pat=0x0007040600070406,
        apic_base=0xFEE00900, misc_enable=1, fpu_control=0x40, fpu_tag=0xFF, mxcsr=0x1F80, a20=1,
    )  # fmt: skip
    return state


def check_state(state: dict[str, Any]) -> None:
    """Checks that a state dictionary has exactly the declared names and values that fit them.

    Raises:
        EngineError: names what is missing, unknown or does not fit.
    """
    unknown = sorted(set(state) - set(FIELD_NAMES))
    missing = sorted(set(FIELD_NAMES) - set(state))
    if unknown or missing:
        parts = [f"{what} {', '.join(names)}" for what, names in (("unknown", unknown), ("missing", missing)) if names]
        raise EngineError(f"processor state: {'; '.join(parts)}")
    try:
        CPU_STATE.encode(StateView(state))
    except MigrationError as error:
        raise EngineError(f"processor state: {error}") from error

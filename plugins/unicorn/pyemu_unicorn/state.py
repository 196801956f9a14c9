# SPDX-License-Identifier: GPL-2.0-or-later
"""Architectural state by name, out of and into the library's processor.

Deep mode reads the processor's structure, hidden segment parts included. Public mode has the documented
register interface only: 32-bit registers, and segments of which hidden parts are inferred.
"""

from __future__ import annotations

import struct
from typing import Any

from pyemu.cpu import x86
from pyemu.errors import EngineError

from ._engine import Processor

_RFLAGS = 253
_SEGMENT_AT = {name: 184 + 24 * i for i, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"))}
_TABLE_AT = {"gdtr": 376, "idtr": 400}
_SEGMENT_FLAGS = 0x00FFFF00
_TSS_BUSY = 0x200
_TOP = 0x3800
_HFLAGS, _HFLAGS2 = 176, 180
_INHIBIT_IRQ, _NMI_MASK = 1 << 3, 1 << 2
_MTRR_VARIABLE_AT = 6416

#: Where scalar registers are in the processor's structure (Unicorn 2.1.4) and how wide.
_SCALARS: dict[str, tuple[int, str]] = {
    **{name: (8 * i, "<Q") for i, name in enumerate(x86.GENERAL)},
    "rip": (128, "<Q"),
    **{f"cr{i}": (424 + 8 * i, "<Q") for i in (0, 2, 3, 4, 8)},
    **{f"dr{i}": (5400 + 8 * i, "<Q") for i in (0, 1, 2, 3, 6, 7)},
    "efer": (592, "<Q"), "star": (4824, "<Q"), "lstar": (4840, "<Q"), "cstar": (4848, "<Q"), "fmask": (4856, "<Q"),
    "kernel_gs_base": (4864, "<Q"), "sysenter_cs": (4800, "<I"), "sysenter_esp": (4808, "<Q"),
    "sysenter_eip": (4816, "<Q"), "pat": (5280, "<Q"), "misc_enable": (4920, "<Q"), "tsc_aux": (4896, "<Q"),
    "mtrr_deftype": (6408, "<Q"), "fpu_control": (610, "<H"), "fpu_opcode": (752, "<H"), "fpu_ip": (760, "<Q"),
    "fpu_dp": (768, "<Q"), "mxcsr": (816, "<I"),
}  # fmt: skip


def get_deep(processor: Processor) -> dict[str, Any]:
    """The state of a processor in deep mode, but for what the engine keeps itself."""
    env = bytes(processor.environment())
    state: dict[str, Any] = {name: struct.unpack_from(code, env, at)[0] for name, (at, code) in _SCALARS.items()}
    state["rflags"] = int.from_bytes(processor.reg_read(_RFLAGS, 8), "little")
    for name, at in _SEGMENT_AT.items():
        selector, base, limit, flags = struct.unpack_from("<I4xQII", env, at)
        state[f"{name}_selector"] = selector & 0xFFFF
        state[f"{name}_base"] = base
        state[f"{name}_limit"] = limit
        state[f"{name}_flags"] = flags & _SEGMENT_FLAGS
    state["tr_flags"] |= _TSS_BUSY
    for name, at in _TABLE_AT.items():
        state[f"{name}_base"], state[f"{name}_limit"] = struct.unpack_from("<QI", env, at + 8)
    top, status = struct.unpack_from("<IH", env, 604)
    state["fpu_status"] = (status & ~_TOP) | (top & 7) << 11
    state["fpu_tag"] = sum(1 << i for i in range(8) if not env[612 + i])
    physical = [env[624 + 16 * i : 634 + 16 * i] for i in range(8)]
    state["fpu_registers"] = b"".join(physical[(top + i) & 7] for i in range(8))
    state["xmm_registers"] = b"".join(env[824 + 64 * i : 840 + 64 * i] for i in range(16))
    state["mtrr_fixed"] = list(struct.unpack_from("<11Q", env, 6320))
    variable = struct.unpack_from("<16Q", env, _MTRR_VARIABLE_AT)
    state["mtrr_base"], state["mtrr_mask"] = list(variable[0::2]), list(variable[1::2])
    hflags, hflags2 = struct.unpack_from("<II", env, _HFLAGS)
    state["interrupt_shadow"] = int(bool(hflags & _INHIBIT_IRQ))
    state["nmi_masked"] = int(bool(hflags2 & _NMI_MASK))
    return state


def set_deep(processor: Processor, state: dict[str, Any]) -> None:
    """The reverse."""
    env = processor.environment()
    for name, (at, code) in _SCALARS.items():
        if name != "dr7":
            struct.pack_into(code, env, at, state[name] & ((1 << 8 * struct.calcsize(code)) - 1))
    for name, at in _SEGMENT_AT.items():
        values = (state[f"{name}_{part}"] for part in ("selector", "base", "limit", "flags"))
        struct.pack_into("<I4xQII", env, at, *values)
    # The library keeps the type as it was in the table before LTR, and its I/O check relies on that.
    struct.pack_into("<I", env, _SEGMENT_AT["tr"] + 20, state["tr_flags"] & ~_TSS_BUSY)
    for name, at in _TABLE_AT.items():
        struct.pack_into("<QI", env, at + 8, state[f"{name}_base"], state[f"{name}_limit"])
    top = state["fpu_status"] >> 11 & 7
    struct.pack_into("<IH", env, 604, top, state["fpu_status"] & ~_TOP)
    for i in range(8):
        env[612 + i] = not state["fpu_tag"] >> i & 1
        at = 624 + 16 * ((top + i) & 7)
        env[at : at + 16] = state["fpu_registers"][10 * i : 10 * i + 10] + bytes(6)
    for i in range(16):
        at = 824 + 64 * i
        env[at : at + 64] = state["xmm_registers"][16 * i : 16 * i + 16] + bytes(48)
    struct.pack_into("<11Q", env, 6320, *state["mtrr_fixed"])
    for i, pair in enumerate(zip(state["mtrr_base"], state["mtrr_mask"], strict=True)):
        struct.pack_into("<QQ", env, _MTRR_VARIABLE_AT + 16 * i, *pair)
    (hflags2,) = struct.unpack_from("<I", env, _HFLAGS2)
    hflags2 = hflags2 & ~_NMI_MASK | (_NMI_MASK if state["nmi_masked"] else 0)
    struct.pack_into("<II", env, _HFLAGS, _INHIBIT_IRQ if state["interrupt_shadow"] else 0, hflags2)
    env.release()
    processor.reg_write(_RFLAGS, (state["rflags"] | 2).to_bytes(8, "little"))
    processor.environment_changed(state["cr4"] & 0xFFFFFFFF, state["dr7"] & 0xFFFFFFFF)


# -- public ---------------------------------------------------------------------------------------

_PE, _PG, _LMA, _VM = 1, 1 << 31, 1 << 10, 1 << 17
_ACCESSED, _LIMIT_PART = 0x100, 0xF0000
_GENERAL_32 = dict(zip(x86.GENERAL[:8], (19, 22, 24, 21, 30, 20, 29, 23), strict=True))
_SELECTORS = {"cs": 11, "ds": 17, "es": 28, "fs": 32, "gs": 33, "ss": 49}
_TABLES = {"gdtr": 243, "idtr": 242}
_SYSTEM = {"ldtr": 244, "tr": 245}
_WORDS = {"cr0": (50, 4), "cr2": (52, 4), "cr3": (53, 4), "cr4": (54, 4), "mxcsr": (249, 4), "fpu_control": (246, 2),
          "fpu_status": (31, 2), "fpu_opcode": (258, 2)}  # fmt: skip
_WORDS |= {f"dr{i}": (66 + i, 4) for i in (0, 1, 2, 3, 6, 7)}
_FPTAG, _FP0, _XMM0, _MSR = 247, 82, 122, 248
_MSR_NUMBERS = {
    "efer": 0xC0000080, "star": 0xC0000081, "lstar": 0xC0000082, "cstar": 0xC0000083, "fmask": 0xC0000084,
    "kernel_gs_base": 0xC0000102, "tsc_aux": 0xC0000103, "sysenter_cs": 0x174, "sysenter_esp": 0x175,
    "sysenter_eip": 0x176, "pat": 0x277, "misc_enable": 0x1A0, "mtrr_deftype": 0x2FF,
}  # fmt: skip
_MTRR_FIXED = (0x250, 0x258, 0x259, *range(0x268, 0x270))


class PublicState:
    """State through documented registers, of 16 and 32-bit guests."""

    def __init__(self, processor: Processor) -> None:
        self._p = processor

    def get(self) -> dict[str, Any]:
        """The state of a processor in public mode, but for what the engine keeps itself.

        Raises:
            EngineError: the guest is in long mode.
        """
        state = x86.StateView().as_dict()
        for name, number in _MSR_NUMBERS.items():
            state[name] = self._msr(number)
        if state["efer"] & _LMA:
            raise EngineError("unicorn: public mode cannot read the state of a 64-bit guest")
        for name, reg in _GENERAL_32.items():
            state[name] = self._int(reg, 4)
        state["rip"], state["rflags"] = self._int(26, 4), self._int(25, 4)
        for name, (reg, size) in _WORDS.items():
            state[name] = self._int(reg, size)
        for name, reg in _TABLES.items():
            _, state[f"{name}_base"], state[f"{name}_limit"], _ = self._table(reg)
        for name, reg in _SYSTEM.items():
            selector, base, limit, flags = self._table(reg)
            state.update({f"{name}_selector": selector, f"{name}_base": base, f"{name}_limit": limit,
                          f"{name}_flags": flags & _SEGMENT_FLAGS})  # fmt: skip
        protected = bool(state["cr0"] & _PE) and not state["rflags"] & _VM
        for name, reg in _SELECTORS.items():
            selector = self._int(reg, 2)
            base, limit, flags = self._descriptor(state, selector) if protected else (
                selector << 4, 0xFFFF, 0x9B00 if name == "cs" else 0x9300)  # fmt: skip
            state.update({f"{name}_selector": selector, f"{name}_base": base, f"{name}_limit": limit,
                          f"{name}_flags": flags})  # fmt: skip
        top = state["fpu_status"] >> 11 & 7
        state["fpu_registers"] = b"".join(self._p.reg_read(_FP0 + ((top + i) & 7), 10) for i in range(8))
        tags = self._int(_FPTAG, 2)
        state["fpu_tag"] = sum(1 << i for i in range(8) if tags >> 2 * i & 3 != 3)
        xmm = b"".join(self._p.reg_read(_XMM0 + i, 16) for i in range(8))
        state["xmm_registers"] = xmm.ljust(256, b"\0")
        state["mtrr_fixed"] = [self._msr(n) for n in _MTRR_FIXED]
        state["mtrr_base"] = [self._msr(0x200 + 2 * i) for i in range(8)]
        state["mtrr_mask"] = [self._msr(0x201 + 2 * i) for i in range(8)]
        return state

    def set(self, state: dict[str, Any]) -> None:
        """The reverse. In protected mode segments are loaded from the guest's tables, which must be there.

        Raises:
            EngineError: the state is one of a 64-bit guest, of user code, or has segments that differ from
                the tables. Nothing was changed.
        """
        self._check(state)
        for name, number in _MSR_NUMBERS.items():
            self._set_msr(number, state[name])
        for number, value in zip(_MTRR_FIXED, state["mtrr_fixed"], strict=True):
            self._set_msr(number, value)
        for i in range(8):
            self._set_msr(0x200 + 2 * i, state["mtrr_base"][i])
            self._set_msr(0x201 + 2 * i, state["mtrr_mask"][i])
        self._put(_WORDS["cr0"][0], 4, state["cr0"] & ~_PG)
        for name, reg in _TABLES.items():
            self._set_table(reg, (0, state[f"{name}_base"], state[f"{name}_limit"], 0))
        for name, reg in _SYSTEM.items():
            parts = ("selector", "base", "limit", "flags")
            self._set_table(reg, tuple(state[f"{name}_{part}"] for part in parts))
        self._put(25, 4, state["rflags"] | 2)
        for name, reg in _SELECTORS.items():
            self._put(reg, 2, state[f"{name}_selector"])
        for name, reg in _GENERAL_32.items():
            self._put(reg, 4, state[name])
        self._put(26, 4, state["rip"])
        for name in ("cr3", "cr4", *(n for n in _WORDS if n not in ("cr3", "cr4"))):
            self._put(*_WORDS[name], state[name])
        top = state["fpu_status"] >> 11 & 7
        for i in range(8):
            self._p.reg_write(_FP0 + ((top + i) & 7), state["fpu_registers"][10 * i : 10 * i + 10])
            self._p.reg_write(_XMM0 + i, state["xmm_registers"][16 * i : 16 * i + 16])
        self._put(_FPTAG, 2, sum(3 << 2 * i for i in range(8) if not state["fpu_tag"] >> i & 1))

    def _check(self, state: dict[str, Any]) -> None:
        if state["efer"] & _LMA or any(state[r] >> 32 for r in (*_GENERAL_32, "rip")):
            raise EngineError("unicorn: public mode cannot load the state of a 64-bit guest")
        if not state["cr0"] & _PE:
            return
        if state["rflags"] & _VM or state["cs_selector"] & 3:
            raise EngineError("unicorn: public mode cannot load the state of a guest in user code")
        for name in _SELECTORS:
            selector = state[f"{name}_selector"]
            if not selector & 0xFFFC:
                continue
            found = self._descriptor(state, selector)
            wanted = (state[f"{name}_base"], state[f"{name}_limit"], state[f"{name}_flags"])
            if found[:2] != wanted[:2] or (found[2] ^ wanted[2]) & ~(_ACCESSED | _LIMIT_PART):
                raise EngineError(
                    f"unicorn: public mode loads {name} from the table, where {selector:#x} is base {found[0]:#x} "
                    f"limit {found[1]:#x} flags {found[2]:#x}, not {wanted[0]:#x} {wanted[1]:#x} {wanted[2]:#x}"
                )

    def _int(self, reg: int, size: int) -> int:
        return int.from_bytes(self._p.reg_read(reg, size), "little")

    def _put(self, reg: int, size: int, value: int) -> None:
        self._p.reg_write(reg, (value & ((1 << 8 * size) - 1)).to_bytes(size, "little"))

    def _msr(self, number: int) -> int:
        return self._p.msr_read(number)

    def _set_msr(self, number: int, value: int) -> None:
        self._p.reg_write(_MSR, struct.pack("<I4xQ", number, value))

    def _table(self, reg: int) -> tuple[int, int, int, int]:
        selector, base, limit, flags = struct.unpack("<H6xQII", self._p.reg_read(reg, 24))
        return selector, base, limit, flags

    def _set_table(self, reg: int, values: tuple[int, ...]) -> None:
        self._p.reg_write(reg, struct.pack("<H6xQII", *values))

    def _descriptor(self, state: dict[str, Any], selector: int) -> tuple[int, int, int]:
        table = "ldtr" if selector & 4 else "gdtr"
        offset = selector & 0xFFF8
        if (not selector & 0xFFFC) or offset + 7 > state[f"{table}_limit"]:
            return 0, 0, 0
        low, high = struct.unpack("<II", self._p.mem_read(state[f"{table}_base"] + offset, 8))
        limit = low & 0xFFFF | high & 0xF0000
        if high & 1 << 23:
            limit = limit << 12 | 0xFFF
        return low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000, limit, high & _SEGMENT_FLAGS

# SPDX-License-Identifier: MIT
"""Small x86 programs for the tests of CPU engines, with their source.

Code is at 0x1000, handlers are at 0x2000, results at 0x5000. ``mov ecx`` counts are filled in.
"""

from __future__ import annotations

import struct
from typing import Any

from ..cpu import x86

CODE, HANDLER, DATA = 0x1000, 0x2000, 0x5000

_ = bytes.fromhex


def count_stores(n: int) -> bytes:
    """mov ecx, n / l: inc dword [0x5000] / dec ecx / jnz l / hlt"""
    return _("66b9") + struct.pack("<I", n) + _("66ff060050664975f7f4")


#: l: inc dword [0x5000] / jmp l
FOREVER = _("66ff060050ebf9")
#: mov dx, 0x80 / out dx, al / inc word [0x5000] / hlt
OUT_THEN_COUNT = _("ba8000eeff060050f4")
#: sti / nop / mov dx, 0x80 / out dx, al / jmp n / n: mov byte [0x5004], 1 / cli / hlt
OUT_THEN_BLOCK = _("fb90ba8000eeeb00c606045001faf4")
#: cli / mov dx, 0x80 / out dx, al / jmp n / n: inc word [0x5002] / sti / nop / nop / cli / hlt
OUT_WITH_IRQS_OFF = _("faba8000eeeb00ff060250fb9090faf4")
#: l: sti / hlt / inc word [0x5000] / jmp l
HALT_LOOP = _("fbf4ff060050ebf8")
#: inc word [0x5002] / iret
COUNT_IRQ = _("ff060250cf")
#: push ax / push dx / inc dword [0x5000] / mov al, [0x5004] / mov [0x5005], al / mov dx, 0x81 / out dx, al
#: / pop dx / pop ax / iret
RECORD_IRQ = _("505266ff060050a00450a20550ba8100ee5a58cf")
#: sti / mov dx, 0x80 / l: inc dword [0x5010] / out dx, al / jmp l
FOREVER_WITH_PORT = _("fbba800066ff061050eeebf8")
#: int 0x40 / mov byte [0x5004], 1 / hlt
INT_40 = _("cd40c606045001f4")
#: xor cx, cx / div cx / hlt
DIVIDE_BY_ZERO = _("31c9f7f1f4")
#: ud2 / hlt
UNDEFINED = _("0f0bf4")
#: pop ax / mov [0x5006], ax / add ax, 2 / push ax / inc dword [0x5000] / iret
SKIP_TWO = _("58a3065083c0025066ff060050cf")
#: mov dx, 0x80 / in al, dx / mov [0x5000], al / in ax, dx / mov [0x5002], ax / in eax, dx / mov [0x5004], eax
#: / out dx, al / out dx, ax / out dx, eax / mov di, 0x5010 / mov cx, 3 / cld / rep insw / mov si, 0x5010
#: / mov cx, 3 / rep outsw / hlt
PORT_WIDTHS = _("ba8000eca20050eda3025066ed66a30450eeef66efbf1050b90300fcf36dbe1050b90300f36ff4")
#: mov cx, 1000 / l: inc word [p+1] / p: mov ax, 0 / add [0x5000], ax / loop l / hlt
SELF_MODIFYING = _("b9e803ff060810b8000001060050e2f3f4")
#: mov byte [p+1], 7 / p: mov al, 0 / mov [0x5000], al / hlt
SELF_MODIFYING_NEXT = _("c606061007b000a20050f4")
#: l: call 0x3000 / mov dx, 0x80 / out dx, al / jmp l
CALL_LOOP = _("e8fd1fba8000eeebf7")
CALLED = 0x3000


def set_result(n: int) -> bytes:
    """mov al, n / mov [0x5000], al / ret"""
    return bytes((0xB0, n)) + _("a20050c3")


#: mov ax, 0xffff / mov es, ax / mov al, [es:0x510] / mov [0x5100], al / hlt
READ_ABOVE_1M = _("b8ffff8ec026a01005a20051f4")

# -- 32-bit ---------------------------------------------------------------------------------------

#: mov ebx, 0xfec00000 / mov al, [ebx] / mov cx, [ebx+2] / mov edx, [ebx+4] / mov [ebx+1], al
#: / mov [ebx+6], cx / mov [ebx+8], edx / hlt
MMIO_WIDTHS = _("bb0000c0fe8a03668b4b028b530488430166894b06895308f4")
#: mov byte [0x40010], 0x55 / mov al, [0x40010] / hlt
WRITE_ROM = _("c6051000040055a010000400f4")
#: mov dx, 0x80 / out dx, al / mov eax, [0x40000] / mov [0x5000], eax / out dx, al / mov eax, [0x40000]
#: / mov [0x5004], eax / hlt
REMAP_BY_PORT = _("66ba8000eea100000400a300500000eea100000400a304500000f4")
#: mov eax, 0x18 / mov ds, ax / mov eax, 0x80 / mov ds, ax / hlt
BAD_SELECTOR = _("b8180000008ed8b8800000008ed8f4")
#: pop dword [0x5000] / pop dword [0x5004] / inc dword [0x5008] / hlt
RECORD_FAULT = _("8f05005000008f0504500000ff0508500000f4")
#: mov eax, [0x300000] / hlt
READ_3M = _("a100003000f4")
#: mov eax, cr2 / mov [0x500c], eax / pop dword [0x5000] / pop dword [0x5004] / hlt
RECORD_PAGE_FAULT = _("0f20d0a30c5000008f05005000008f0504500000f4")
#: sti / l: inc dword [0x5010] / jmp l
FOREVER_32 = _("fbff0510500000ebf8")
#: push eax / inc dword [0x5000] / mov al, 0x20 / out 0x20, al / pop eax / iretd
ACKNOWLEDGE_32 = _("50ff0500500000b020e62058cf")
#: mov ecx, 200 / l: call 0x3000 / inc byte [0x403001] / dec ecx / jnz l / hlt
ALIASED_32 = _("b9c8000000e8f61f0000fe05013040004975f2f4")
#: mov al, 0 / add [0x5000], al / ret
ADD_RESULT = _("b000000500500000c3")
#: ud2
UNDEFINED_32 = _("0f0b")


def mixing(bits: int, n: int) -> bytes:
    """A long dependent computation in memory and registers of each mode; what it leaves depends on every step.

    Integer shifts and carries through [0x5000] and [0x5004], the stack through [0x5008]; x87 and SSE sums that
    are stored at 0x5010 and 0x5020 at the end (not in 16-bit mode); then hlt. A write to port 0x80 every 8192
    rounds.
    """
    count = struct.pack("<I", n)
    if bits == 16:
        return _("66b9") + count + _(
            "66a100506689c266c1e20d6631d06689c266c1ea116631d06689c266c1e2056631d066a3005066110604506650668f06"
            "08506649f7c1ff1f7502e6806685c975bff4"
        )  # fmt: skip
    if bits == 32:
        return _("dbe3d9ebb9") + count + _(
            "a10050000089c2c1e20d31d089c2c1ea1131d089c2c1e20531d0a300500000110504500000d9e8dec1660f6ec8660ffe"
            "d1508f05085000004966f7c1ff1f7502e68085c975badd1d10500000f30f7f1520500000f4"
        )  # fmt: skip
    return _("dbe3d9ebb9") + count + _(
        "49b9f1debc9a785634124c89c84889c248c1e20d4831d04889c248c1ea074831d04889c248c1e2114831d04989c14811"
        "042500500000d9e8dec1664c0f6ec866450fd4d1508f042508500000ffc966f7c1ff1f7502e68085c975afdd1c251050"
        "0000f3440f7f142520500000f4"
    )  # fmt: skip


# -- 64-bit ---------------------------------------------------------------------------------------

#: mov ecx, 200 / mov rbx, 0x40003001 / l: mov esi, 0x3000 / call rsi / inc byte [rbx] / dec ecx / jnz l / hlt
ALIASED_64 = _("b9c8000000bb01300040be00300000ffd6fe03ffc975f3f4")
#: mov al, 0 / add [0x5000], al / ret
ADD_RESULT_64 = _("b00000042500500000c3")
#: mov ecx, 200 / mov rbx, 0x40003001 / l: mov byte [0x3000], 0xb0 / mov [0x3001], cl / mov byte [0x3002], 0xc3
#: / mov esi, 0x3000 / call rsi / add [0x5000], al / adc byte [0x5001], 0 / inc byte [rbx] / call rsi
#: / add [0x5002], al / adc byte [0x5003], 0 / dec ecx / jnz l / hlt
REWRITTEN_64 = _(
    "b9c8000000bb01300040c6042500300000b0880c2501300000c6042502300000c3be00300000ffd600042500500000"
    "8014250150000000fe03ffd6000425025000008014250350000000ffc975bcf4"
)
#: rdtsc / mov [0x5000], eax / mov [0x5004], edx / hlt
READ_TSC = _("0f318904250050000089142504500000f4")
#: mov rax, 0x1234 / syscall / hlt
SYSCALL = _("b8341200000f05f4")
#: mov [0x5000], rax / mov [0x5008], rcx / mov [0x5010], r11 / mov ax, cs / mov [0x5018], ax / hlt
RECORD_SYSCALL = _("488904250050000048890c25085000004c891c2510500000668cc86689042518500000f4")

#: in al, 0x80 / hlt
IN_80 = _("e480f4")
#: pop qword [0x5000] / pop qword [0x5008] / hlt
RECORD_FAULT_64 = _("8f0425005000008f042508500000f4")
#: mov eax, 0x1234 / sysenter
SYSENTER_32 = _("b8341200000f34")
#: mov [0x5000], esp / mov ax, cs / mov [0x5004], ax / mov ax, ss / mov [0x5006], ax / hlt
RECORD_SYSENTER = _("892500500000668cc866a304500000668cd066a306500000f4")

#: fxsave64 [0x6000] / sgdt [0x5000] / sidt [0x5010] / str [0x5020] / sldt [0x5022] / mov rbx, dr0
#: / mov [0x5028], rbx / mov rbx, dr3 / mov [0x5030], rbx / mov rbx, cr2 / mov [0x5038], rbx / mov rbx, cr4
#: / mov [0x5040], rbx / mov rbx, [fs:0] / mov [0x5048], rbx / mov rsi, 0x4000 / mov rdi, 0x4800 / cld / l: lodsd
#: / test eax, eax / jz d / mov ecx, eax / rdmsr / stosd / mov eax, edx / stosd / jmp l / d: hlt
SHOW_STATE = _(
    "480fae0425006000000f010425005000000f010c25105000000f000c25205000000f000425225000000f21c348891c2528500000"
    "0f21db48891c25305000000f20d348891c25385000000f20e348891c254050000064488b1c250000000048891c2548500000"
    "be00400000bf00480000fcad85c0740a89c10f32ab89d0abebf1f4"
)
MSR_LIST, MSR_VALUES, FXSAVE_AREA = 0x4000, 0x4800, 0x6000

# -- states ---------------------------------------------------------------------------------------

GDT, IDT, PAGE_TABLES, TSS = 0x8000, 0x9000, 0xA000, 0xE000
_CODE32, _DATA32, _CODE64, _USER_DATA, _USER64 = 0x00CF9B00, 0x00CF9300, 0x00AF9B00, 0x00CFF300, 0x00AFFB00
#: null, 64-bit code 0x08, flat 32-bit code 0x10, flat data 0x18
GDT_BYTES = struct.pack("<QQQQ", 0, 0x00AF9B000000FFFF, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)


def real_mode(entry: int = CODE) -> dict[str, int]:
    """Registers for a 16-bit program; all segments start at 0."""
    state = {"rip": entry, "rsp": 0x7000, "rflags": 2}
    for s in ("es", "cs", "ss", "ds", "fs", "gs"):
        state.update({f"{s}_selector": 0, f"{s}_base": 0})
    state["idtr_limit"] = 0x3FF
    return state


def flat_32(entry: int = CODE) -> dict[str, int]:
    """Registers for a flat 32-bit program in ring 0 without paging; the GDT is at :data:`GDT`."""
    state = {"rip": entry, "rsp": 0x7000, "rflags": 2, "cr0": 0x11, "cr4": 0x600, "gdtr_base": GDT, "gdtr_limit": 31}
    state |= {"idtr_base": IDT, "idtr_limit": 0x7FF}
    for s in ("es", "cs", "ss", "ds", "fs", "gs"):
        state |= {f"{s}_selector": 0x10 if s == "cs" else 0x18, f"{s}_base": 0, f"{s}_limit": 0xFFFFFFFF,
                  f"{s}_flags": _CODE32 if s == "cs" else _DATA32}  # fmt: skip
    return state


def flat_64(entry: int = CODE, ring: int = 0) -> dict[str, int]:
    """Registers for a 64-bit program; :func:`page_tables` must be at :data:`PAGE_TABLES`."""
    state = flat_32(entry)
    state |= {"cr0": 0x80000011, "cr3": PAGE_TABLES, "cr4": 0x620, "efer": 0x501}
    state["cs_flags"] = _USER64 if ring else _CODE64
    if ring:
        for s in ("es", "ss", "ds", "fs", "gs"):
            state[f"{s}_selector"], state[f"{s}_flags"] = 0x1B, _USER_DATA
        state["cs_selector"] = 0x23
    return state


def page_tables() -> bytes:
    """Identity map of the first GiB in 2 MiB pages, for user code too."""
    top = struct.pack("<Q", PAGE_TABLES + 0x1000 | 7).ljust(4096, b"\0")
    second = struct.pack("<Q", PAGE_TABLES + 0x2000 | 7).ljust(4096, b"\0")
    return top + second + b"".join(struct.pack("<Q", i << 21 | 0x87) for i in range(512))


def gate_32(handler: int) -> bytes:
    """An interrupt gate for the 32-bit IDT."""
    return struct.pack("<HHHH", handler & 0xFFFF, 0x10, 0x8E00, handler >> 16)


def gate_64(handler: int) -> bytes:
    """An interrupt gate for the 64-bit IDT."""
    return struct.pack("<HHHHII", handler & 0xFFFF, 0x08, 0x8E00, handler >> 16 & 0xFFFF, handler >> 32, 0)


def task_64(bitmap: bytes) -> bytes:
    """A 64-bit TSS with a ring 0 stack at 0x7000 and an I/O bitmap."""
    return struct.pack("<IQ", 0, 0x7000).ljust(0x66, b"\0") + struct.pack("<H", 0x68) + bitmap + b"\xff"


def complete(changes: dict[str, Any]) -> dict[str, Any]:
    """The power-on state with *changes*."""
    return {**x86.reset_state(), **changes}

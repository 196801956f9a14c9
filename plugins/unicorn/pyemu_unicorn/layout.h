/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where things are inside Unicorn 2.1.4 as its x86-64 wheel is built. Offsets
 * are facts found with a debugger; none is used before the self check of
 * _deep.pxi has passed. Names are ours: structure, underscore, member.
 */
#ifndef PYEMU_LAYOUT_H
#define PYEMU_LAYOUT_H

enum {
    LAYOUT_MAJOR = 2,
    LAYOUT_MINOR = 1,
    LAYOUT_PATCH = 4,

    UC_MODE = 4,
    UC_STOP_INTERRUPT = 224,
    UC_CPU = 440,
    UC_L1_MAP = 736,
    UC_V_L1_SIZE = 752,
    UC_V_L1_SHIFT = 756,
    UC_V_L2_LEVELS = 760,
    UC_STOP_REQUEST = 1389,
    UC_INVALID_ADDR = 1416,
    UC_NO_EXIT_REQUEST = 2034,
    UC_SKIP_SYNC = 14898,

    CPU_EXIT_REQUEST = 21,
    CPU_INTERRUPT_REQUEST = 28,
    CPU_ENV_PTR = 296,
    CPU_ICOUNT_DECR = 304, /* pointer; the high half word makes blocks leave */
    CPU_HALTED = 33176,
    CPU_EXCEPTION_INDEX = 33184,
    CPU_UC = 33192,
    CPU_CLASS = 33200,
    CPU_TLB = 33216,
    CPU_ENV = 35408,

    CLASS_DO_INTERRUPT = 16,
    CLASS_TLB_FILL = 72,
    CLASS_EXEC_INTERRUPT = 144,

    ENV_REGS = 0,
    ENV_EIP = 128,
    ENV_EFLAGS = 136,
    ENV_HFLAGS = 176,
    ENV_HFLAGS2 = 180,
    ENV_SEGS = 184,
    ENV_CR = 424,
    ENV_EFER = 592,
    ENV_STAR = 4824,
    ENV_LSTAR = 4840,
    ENV_CSTAR = 4848,
    ENV_FMASK = 4856,
    ENV_SYSENTER_CS = 4800,
    ENV_SYSENTER_ESP = 4808,
    ENV_SYSENTER_EIP = 4816,
    ENV_ERROR_CODE = 5384,
    ENV_EXCEPTION_IS_INT = 5388,
    ENV_EXCEPTION_NEXT_EIP = 5392,
    ENV_OLD_EXCEPTION = 5496,
    ENV_FEATURES = 5632,
    ENV_UC = 7000,
    ENV_SIZE = 7008,

    SEG_SIZE = 24,
    SEG_BASE = 8,
    SEG_LIMIT = 16,
    SEG_FLAGS = 20,

    /* CPUTLB: descriptors, then {mask, table} pairs, one each for 3 kinds of access */
    TLB_MODES = 3,
    TLB_DESC = 32,
    TLB_DESC_SIZE = 696,
    TLB_DESC_VICTIMS = 48,
    TLB_VICTIMS = 8,
    TLB_DESC_IOTLB = 688,
    TLB_FAST = 2128,
    TLB_FAST_SIZE = 16,
    IOTLB_SIZE = 16,

    /* bits of an address in a TLB entry */
    TLB_INVALID = 0x800,
    TLB_NOTDIRTY = 0x400,
    TLB_MMIO = 0x200,

    L2_BITS = 10,
    PAGE_DESC_SIZE = 24,

    INTERRUPT_HARD = 0x2,
    INTERRUPT_NMI = 0x200,
    /* Never set by the library: keeps the class function called between blocks. */
    INTERRUPT_ALWAYS = 0x40000000,

    HF_CPL = 3,
    HF_INHIBIT_IRQ = 1 << 3,
    HF_PE = 1 << 7,
    HF_LMA = 1 << 14,
    HF_CS64 = 1 << 15,
    HF2_NMI_MASK = 1 << 2,
};

/* One entry of the software TLB. */
typedef struct pyemu_tlb_entry {
    uint64_t addr_read;
    uint64_t addr_write;
    uint64_t addr_code;
    uint64_t paddr;
    uint64_t addend;
    uint64_t pad[3];
} pyemu_tlb_entry;

_Static_assert(sizeof(pyemu_tlb_entry) == 64, "one TLB entry is 64 bytes");

#endif

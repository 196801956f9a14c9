/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of Unicorn's interface that the engine uses, resolved at run time.
 *
 * The library comes from the installed `unicorn` wheel. Linking with it would
 * bake in a path of the build environment, so it is opened by name when the
 * module is first used, and nothing of it is needed to build.
 */
#ifndef PYEMU_UC_API_H
#define PYEMU_UC_API_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

typedef struct uc_struct uc_engine;
typedef size_t uc_hook;

/* Documented functions. Values and signatures are those of Unicorn 2.1. */
#define UC_API_FUNCTIONS(X)                                                                                  \
    X(uc_version, unsigned, (unsigned *major, unsigned *minor))                                              \
    X(uc_open, int, (int arch, int mode, uc_engine **uc))                                                    \
    X(uc_close, int, (uc_engine * uc))                                                                       \
    X(uc_strerror, const char *, (int code))                                                                 \
    X(uc_ctl, int, (uc_engine * uc, int control, ...))                                                       \
    X(uc_reg_read, int, (uc_engine * uc, int reg, void *value))                                              \
    X(uc_reg_write, int, (uc_engine * uc, int reg, const void *value))                                       \
    X(uc_mem_read, int, (uc_engine * uc, uint64_t gpa, void *bytes, uint64_t size))                          \
    X(uc_mem_write, int, (uc_engine * uc, uint64_t gpa, const void *bytes, uint64_t size))                   \
    X(uc_mem_map_ptr, int, (uc_engine * uc, uint64_t gpa, uint64_t size, uint32_t perms, void *ptr))         \
    X(uc_mem_protect, int, (uc_engine * uc, uint64_t gpa, uint64_t size, uint32_t perms))                    \
    X(uc_mem_unmap, int, (uc_engine * uc, uint64_t gpa, uint64_t size))                                      \
    X(uc_mmio_map, int,                                                                                      \
      (uc_engine * uc, uint64_t gpa, uint64_t size, void *read, void *read_data, void *write,                \
       void *write_data))                                                                                    \
    X(uc_hook_add, int,                                                                                      \
      (uc_engine * uc, uc_hook * hook, int type, void *callback, void *data, uint64_t begin, uint64_t end,   \
       ...))                                                                                                 \
    X(uc_emu_start, int, (uc_engine * uc, uint64_t begin, uint64_t until, uint64_t timeout, size_t count))   \
    X(uc_emu_stop, int, (uc_engine * uc))

/* Internal functions, which the wheel exports too; only used when the self check passes. */
#define UC_DEEP_FUNCTIONS(X)                                                                                 \
    X(x86_cpu_do_interrupt, void, (void *cpu))                                                               \
    X(x86_cpu_exec_interrupt, int, (void *cpu, int request))                                                 \
    X(x86_cpu_tlb_fill, uint8_t,                                                                             \
      (void *cpu, uint64_t addr, int size, int access, int mmu_idx, uint8_t probe, uintptr_t retaddr))       \
    X(x86_cpu_pending_interrupt, int, (void *cpu, int request))                                              \
    X(do_interrupt_x86_hardirq, void, (void *env, int vector, int is_hw))                                    \
    X(x86_cpu_set_a20, void, (void *cpu, int enabled))                                                       \
    X(x86_update_hflags, void, (void *env))                                                                  \
    X(cpu_x86_update_cr4, void, (void *env, uint32_t value))                                                 \
    X(cpu_x86_update_dr7, void, (void *env, uint32_t value))                                                 \
    X(cpu_loop_exit, void, (void *cpu))                                                                      \
    X(raise_exception_err_ra, void, (void *env, int vector, int error_code, uintptr_t retaddr))              \
    X(update_fp_status, void, (void *env))                                                                   \
    X(update_mxcsr_status, void, (void *env))                                                                \
    X(helper_check_iob, void, (void *env, uint32_t port))                                                    \
    X(helper_check_iow, void, (void *env, uint32_t port))                                                    \
    X(helper_check_iol, void, (void *env, uint32_t port))                                                    \
    X(qemu_ram_addr_from_host, uint64_t, (uc_engine * uc, void *host))                                       \
    X(tb_invalidate_phys_range, void, (uc_engine * uc, uint64_t start, uint64_t end))                        \
    X(tlb_flush, void, (void *cpu))

#define PYEMU_UC_MEMBER(name, result, arguments) result(*name) arguments;
typedef struct pyemu_uc_api {
    UC_API_FUNCTIONS(PYEMU_UC_MEMBER)
    UC_DEEP_FUNCTIONS(PYEMU_UC_MEMBER)
} pyemu_uc_api;
#undef PYEMU_UC_MEMBER

/* Each answers NULL, or the name of the first function that the library lacks. */
static const char *pyemu_uc_load(void *library, pyemu_uc_api *api)
{
#define PYEMU_UC_RESOLVE(name, result, arguments)                                                            \
    *(void **)&api->name = dlsym(library, #name);                                                            \
    if (api->name == NULL)                                                                                   \
        return #name;
    UC_API_FUNCTIONS(PYEMU_UC_RESOLVE)
#undef PYEMU_UC_RESOLVE
    return NULL;
}

static const char *pyemu_uc_load_deep(void *library, pyemu_uc_api *api)
{
#define PYEMU_UC_RESOLVE(name, result, arguments)                                                            \
    *(void **)&api->name = dlsym(library, #name "_x86_64");                                                  \
    if (api->name == NULL)                                                                                   \
        return #name "_x86_64";
    UC_DEEP_FUNCTIONS(PYEMU_UC_RESOLVE)
#undef PYEMU_UC_RESOLVE
    return NULL;
}

enum {
    UC_ARCH_X86 = 4,
    UC_MODE_16 = 1 << 1,
    UC_MODE_32 = 1 << 2,
    UC_MODE_64 = 1 << 3,
    UC_PROT_RX = 5,
    UC_PROT_ALL = 7,
    UC_HOOK_INTR = 1 << 0,
    UC_HOOK_INSN = 1 << 1,
    UC_HOOK_BLOCK = 1 << 3,
    UC_HOOK_MEM_UNMAPPED = 7 << 4,
    UC_HOOK_MEM_WRITE_PROT = 1 << 8,
    UC_HOOK_MEM_FETCH_PROT = 1 << 9,
    UC_HOOK_INSN_INVALID = 1 << 14,
    UC_MEM_FETCH_UNMAPPED = 21,
    UC_ERR_INSN_INVALID = 10,
    UC_INS_CPUID = 113,
    UC_INS_IN = 218,
    UC_INS_OUT = 500,
    UC_INS_RDTSC = 608,
    UC_INS_RDTSCP = 609,
    UC_INS_SYSCALL = 699,
    UC_INS_SYSENTER = 700,
    UC_REG_CS = 11,
    UC_REG_EAX = 19,
    UC_REG_EDX = 24,
    UC_REG_EFLAGS = 25,
    UC_REG_EIP = 26,
    UC_REG_ESP = 30,
    UC_REG_IP = 34,
    UC_REG_SP = 47,
    UC_REG_SS = 49,
    UC_REG_CR0 = 50,
    UC_REG_IDTR = 242,
    UC_REG_MSR = 248,
    /* uc_ctl: type | argument count << 26 | write << 30 */
    UC_CTL_USE_EXITS = 4 | 1 << 26 | 1 << 30,
    UC_CTL_FLUSH_TB = 10 | 1 << 30,
    UC_CTL_FLUSH_TLB = 11 | 1 << 30,
};

/* Unicorn's layout of IDTR and the other table registers. */
typedef struct pyemu_uc_mmr {
    uint16_t selector;
    uint64_t base;
    uint32_t limit;
    uint32_t flags;
} pyemu_uc_mmr;

typedef struct pyemu_uc_msr {
    uint32_t number;
    uint64_t value;
} pyemu_uc_msr;

/* -- threads --------------------------------------------------------------- */

static inline int pyemu_load(int *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void pyemu_store(int *word, int value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
static inline int pyemu_swap(int *word, int value) { return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST); }
static inline int pyemu_add(int *word, int value) { return __atomic_add_fetch(word, value, __ATOMIC_SEQ_CST); }
static inline void *pyemu_load_pointer(void **word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void pyemu_store_pointer(void **word, void *value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }

/* Orders the stores before it, the library's included, before the loads after it. */
static inline void pyemu_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void pyemu_store_half(void *word, int value)
{
    __atomic_store_n((int16_t *)word, (int16_t)value, __ATOMIC_RELEASE);
}
static inline void pyemu_store_byte(void *byte, int value)
{
    __atomic_store_n((uint8_t *)byte, (uint8_t)value, __ATOMIC_RELEASE);
}

/*
 * The engine that this thread is busy with: functions of the processor's class
 * get no other pointer to it. Set for as long as the library is inside, and
 * never followed by anything else, so it may go stale.
 */
static __thread void *pyemu_current;
/* The engine that is inside run() on this thread, which keeps it alive. */
static __thread void *pyemu_runner;
static inline void *pyemu_get_current(void) { return pyemu_current; }
static inline void pyemu_set_current(void *core) { pyemu_current = core; }
static inline void *pyemu_get_runner(void) { return pyemu_runner; }
static inline void pyemu_set_runner(void *core) { pyemu_runner = core; }

#endif

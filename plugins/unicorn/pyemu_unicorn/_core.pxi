# SPDX-License-Identifier: GPL-2.0-or-later
# Declarations and the parts that both modes share: ports, MMIO, time, kicks.

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset, strerror


cdef extern from "pyemu.h":
    enum: PYEMU_ABI_VERSION
    ctypedef struct pyemu_cpu_host:
        uint32_t abi_version
        uint32_t size
        void *opaque
        uint32_t (*port_in)(void *opaque, uint32_t port, unsigned size) noexcept nogil
        void (*port_out)(void *opaque, uint32_t port, unsigned size, uint32_t value) noexcept nogil
        uint64_t (*mmio_read)(void *opaque, uint64_t gpa, unsigned size) noexcept nogil
        void (*mmio_write)(void *opaque, uint64_t gpa, unsigned size, uint64_t value) noexcept nogil
        int (*irq_ack)(void *opaque) noexcept nogil
        int64_t (*clock_ns)(void *opaque) noexcept nogil
    ctypedef struct pyemu_cpu_engine:
        uint32_t abi_version
        uint32_t size
        void *opaque
        void (*set_irq)(void *opaque, int level) noexcept nogil
        void (*kick)(void *opaque) noexcept nogil


cdef extern from "uc_api.h" nogil:
    ctypedef struct uc_engine:
        pass
    ctypedef size_t uc_hook
    ctypedef struct pyemu_uc_mmr:
        uint16_t selector
        uint64_t base
        uint32_t limit
        uint32_t flags
    ctypedef struct pyemu_uc_msr:
        uint32_t number
        uint64_t value
    ctypedef struct pyemu_uc_api:
        unsigned (*uc_version)(unsigned *, unsigned *) noexcept nogil
        int (*uc_open)(int, int, uc_engine **) noexcept nogil
        int (*uc_close)(uc_engine *) noexcept nogil
        const char *(*uc_strerror)(int) noexcept nogil
        int (*uc_ctl)(uc_engine *, int, ...) noexcept nogil
        int (*uc_reg_read)(uc_engine *, int, void *) noexcept nogil
        int (*uc_reg_write)(uc_engine *, int, const void *) noexcept nogil
        int (*uc_mem_read)(uc_engine *, uint64_t, void *, uint64_t) noexcept nogil
        int (*uc_mem_write)(uc_engine *, uint64_t, const void *, uint64_t) noexcept nogil
        int (*uc_mem_map_ptr)(uc_engine *, uint64_t, uint64_t, uint32_t, void *) noexcept nogil
        int (*uc_mem_protect)(uc_engine *, uint64_t, uint64_t, uint32_t) noexcept nogil
        int (*uc_mem_unmap)(uc_engine *, uint64_t, uint64_t) noexcept nogil
        int (*uc_mmio_map)(uc_engine *, uint64_t, uint64_t, void *, void *, void *, void *) noexcept nogil
        int (*uc_hook_add)(uc_engine *, uc_hook *, int, void *, void *, uint64_t, uint64_t, ...) noexcept nogil
        int (*uc_emu_start)(uc_engine *, uint64_t, uint64_t, uint64_t, size_t) noexcept nogil
        int (*uc_emu_stop)(uc_engine *) noexcept nogil
        void (*x86_cpu_do_interrupt)(void *) noexcept nogil
        int (*x86_cpu_exec_interrupt)(void *, int) noexcept nogil
        uint8_t (*x86_cpu_tlb_fill)(void *, uint64_t, int, int, int, uint8_t, uintptr_t) noexcept nogil
        int (*x86_cpu_pending_interrupt)(void *, int) noexcept nogil
        void (*do_interrupt_x86_hardirq)(void *, int, int) noexcept nogil
        void (*x86_cpu_set_a20)(void *, int) noexcept nogil
        void (*x86_update_hflags)(void *) noexcept nogil
        void (*cpu_x86_update_cr4)(void *, uint32_t) noexcept nogil
        void (*cpu_x86_update_dr7)(void *, uint32_t) noexcept nogil
        void (*cpu_loop_exit)(void *) noexcept nogil
        void (*raise_exception_err_ra)(void *, int, int, uintptr_t) noexcept nogil
        void (*update_fp_status)(void *) noexcept nogil
        void (*update_mxcsr_status)(void *) noexcept nogil
        void (*helper_check_iob)(void *, uint32_t) noexcept nogil
        void (*helper_check_iow)(void *, uint32_t) noexcept nogil
        void (*helper_check_iol)(void *, uint32_t) noexcept nogil
        uint64_t (*qemu_ram_addr_from_host)(uc_engine *, void *) noexcept nogil
        void (*tb_invalidate_phys_range)(uc_engine *, uint64_t, uint64_t) noexcept nogil
        void (*tlb_flush)(void *) noexcept nogil
    const char *pyemu_uc_load(void *, pyemu_uc_api *)
    const char *pyemu_uc_load_deep(void *, pyemu_uc_api *)
    enum:
        UC_ARCH_X86, UC_MODE_16, UC_MODE_32, UC_MODE_64, UC_PROT_RX, UC_PROT_ALL
        UC_HOOK_INTR, UC_HOOK_INSN, UC_HOOK_BLOCK, UC_HOOK_MEM_UNMAPPED
        UC_HOOK_MEM_WRITE_PROT, UC_HOOK_MEM_FETCH_PROT, UC_ERR_INSN_INVALID
        UC_INS_IN, UC_INS_OUT, UC_INS_RDTSC, UC_INS_RDTSCP, UC_INS_SYSCALL, UC_INS_SYSENTER
        UC_REG_CS, UC_REG_EAX, UC_REG_EDX, UC_REG_EFLAGS, UC_REG_EIP, UC_REG_IP, UC_REG_SP, UC_REG_SS
        UC_REG_CR0, UC_REG_IDTR, UC_REG_MSR, UC_CTL_USE_EXITS, UC_CTL_FLUSH_TB, UC_CTL_FLUSH_TLB
    int pyemu_load(int *)
    void pyemu_store(int *, int)
    int pyemu_swap(int *, int)
    int pyemu_add(int *, int)
    void *pyemu_load_pointer(void **)
    void pyemu_store_pointer(void **, void *)
    void pyemu_fence()
    void pyemu_store_half(void *, int)
    void pyemu_store_byte(void *, int)
    void *pyemu_get_current()
    void pyemu_set_current(void *)
    void *pyemu_get_runner()
    void pyemu_set_runner(void *)
    void *dlopen(const char *, int)
    char *dlerror()
    enum: RTLD_NOW, RTLD_LOCAL


# Results of one stretch of guest execution.
cdef enum:
    RUN_KICK = 0
    RUN_HALT = 1
    RUN_SHUTDOWN = 2
    RUN_ERROR = 3
    RUN_SYNC = 4  # the memory map waits to be brought up to date


cdef struct Core:
    uc_engine *uc
    pyemu_uc_api *api
    pyemu_cpu_host *host
    char *cpu
    char *env
    void *wake  # the half word that makes blocks leave; NULL while there is none
    void *unsynced  # deep: the flag that the library need not keep RIP up to date
    int kickers  # threads inside core_kick()
    int kicked
    int attention  # leave at the next block boundary: work for this thread
    int running
    int deep
    int sync_wanted  # the memory map changed where it could not be applied
    int flush_wanted  # translated code must go before the next block
    int irq
    int nmi
    int halted
    int a20
    int mmio_depth
    int stopped  # public: a block hook stopped the library
    int vector  # public: an exception to deliver, or -1
    int withheld  # public: an interrupt could not be delivered in protected mode
    int error  # the library's error code
    int error_kind
    uint64_t error_gpa
    int64_t tsc_offset
    uint64_t block_gpa  # public: the block that runs
    uint32_t block_size
    uint8_t *pages  # deep: one byte of PAGE_ flags for each page of the library's RAM
    size_t page_count


# What an MMIO range's callbacks get: offsets count from the range's start.
cdef struct Window:
    Core *core
    uint64_t base


cdef uint32_t on_in(uc_engine *uc, uint32_t port, int size, void *data) noexcept nogil:
    cdef pyemu_cpu_host *host = (<Core *>data).host
    return host.port_in(host.opaque, port, size)


cdef void on_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *data) noexcept nogil:
    cdef pyemu_cpu_host *host = (<Core *>data).host
    host.port_out(host.opaque, port, size, value)


cdef uint64_t on_mmio_read(uc_engine *uc, uint64_t offset, unsigned size, void *data) noexcept nogil:
    cdef Window *window = <Window *>data
    cdef Core *c = window.core
    cdef uint64_t value
    c.mmio_depth += 1
    value = c.host.mmio_read(c.host.opaque, window.base + offset, size)
    c.mmio_depth -= 1
    return value


cdef void on_mmio_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data) noexcept nogil:
    cdef Window *window = <Window *>data
    cdef Core *c = window.core
    c.mmio_depth += 1
    c.host.mmio_write(c.host.opaque, window.base + offset, size, value)
    c.mmio_depth -= 1


cdef uint8_t on_rom_write(uc_engine *uc, int kind, uint64_t gpa, int size, int64_t value, void *data) noexcept nogil:
    # The store itself is discarded by the library: the range is mapped read-only there.
    cdef Core *c = <Core *>data
    c.mmio_depth += 1
    c.host.mmio_write(c.host.opaque, gpa, size, <uint64_t>value)
    c.mmio_depth -= 1
    return 1


cdef uint8_t on_unmapped(uc_engine *uc, int kind, uint64_t gpa, int size, int64_t value, void *data) noexcept nogil:
    # Fetches from MMIO, and accesses beyond the guest's physical address space: the run ends.
    cdef Core *c = <Core *>data
    c.error_kind = kind
    c.error_gpa = gpa
    if c.deep:
        pyemu_store_byte(c.unsynced, 0)
    return 0


cdef int64_t guest_tsc(Core *c) noexcept nogil:
    # The time stamp counter runs at 1 GHz on the machine's clock, so that it agrees with the timers.
    return c.host.clock_ns(c.host.opaque) + c.tsc_offset


# Makes the guest leave its blocks for the main loop. The order matters: a block that finds the half word
# set has to find the flag clear, or it would leave with a stale RIP.
cdef inline void core_leave_blocks(Core *c, void *wake) noexcept nogil:
    pyemu_store_byte(c.unsynced, 0)
    pyemu_store_half(wake, -1)


# Any thread. Why no kick is lost: the main loop clears the half word, passes a fence and then looks at
# kicked (deep_exec_interrupt). If it looks too early to see this kick, the clearing was visible before
# kicked was set, so the half word stays set and the next block leaves.
cdef void core_kick(Core *c) noexcept nogil:
    cdef void *wake
    pyemu_add(&c.kickers, 1)
    pyemu_store(&c.kicked, 1)
    wake = pyemu_load_pointer(&c.wake)
    if wake != NULL:
        core_leave_blocks(c, wake)
    pyemu_add(&c.kickers, -1)


# This thread: makes the guest leave at the next block boundary.
cdef void core_poke(Core *c) noexcept nogil:
    pyemu_store(&c.attention, 1)
    if c.wake != NULL:
        core_leave_blocks(c, c.wake)


cdef void capsule_kick(void *opaque) noexcept nogil:
    core_kick(<Core *>opaque)

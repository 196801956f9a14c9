# SPDX-License-Identifier: GPL-2.0-or-later
# Deep mode: exact interrupts and faults, fast stores, by way of the library's own structures.

cdef extern from "layout.h" nogil:
    enum:
        LAYOUT_MAJOR, LAYOUT_MINOR, LAYOUT_PATCH
        UC_MODE, UC_STOP_INTERRUPT, UC_CPU, UC_L1_MAP, UC_V_L1_SIZE, UC_V_L1_SHIFT, UC_V_L2_LEVELS
        UC_STOP_REQUEST, UC_NO_EXIT_REQUEST, UC_SKIP_SYNC
        CPU_EXIT_REQUEST, CPU_INTERRUPT_REQUEST, CPU_ENV_PTR, CPU_ICOUNT_DECR, CPU_HALTED
        CPU_EXCEPTION_INDEX, CPU_UC, CPU_CLASS, CPU_TLB, CPU_ENV
        CLASS_DO_INTERRUPT, CLASS_TLB_FILL, CLASS_EXEC_INTERRUPT
        ENV_REGS, ENV_EIP, ENV_EFLAGS, ENV_HFLAGS, ENV_HFLAGS2, ENV_SEGS, ENV_CR, ENV_EFER
        ENV_STAR, ENV_LSTAR, ENV_CSTAR, ENV_FMASK, ENV_SYSENTER_CS, ENV_SYSENTER_ESP, ENV_SYSENTER_EIP
        ENV_ERROR_CODE, ENV_EXCEPTION_IS_INT, ENV_EXCEPTION_NEXT_EIP, ENV_OLD_EXCEPTION
        ENV_FEATURES, ENV_UC, ENV_SIZE
        SEG_SIZE, SEG_BASE, SEG_LIMIT, SEG_FLAGS
        TLB_MODES, TLB_DESC, TLB_DESC_SIZE, TLB_DESC_VICTIMS, TLB_VICTIMS, TLB_DESC_IOTLB
        TLB_FAST, TLB_FAST_SIZE, IOTLB_SIZE, TLB_INVALID, TLB_NOTDIRTY, TLB_MMIO
        L2_BITS, PAGE_DESC_SIZE
        INTERRUPT_HARD, INTERRUPT_NMI, INTERRUPT_ALWAYS
        HF_CPL, HF_INHIBIT_IRQ, HF_PE, HF_LMA, HF_CS64, HF2_NMI_MASK
    ctypedef struct pyemu_tlb_entry:
        uint64_t addr_read
        uint64_t addr_write
        uint64_t addr_code
        uint64_t paddr
        uint64_t addend

cdef enum:
    EXCEPTION_UD = 6
    EXCEPTION_DOUBLE_FAULT = 8
    EXCEPTION_GP = 13
    FETCH = 2  # the library's number of an instruction fetch
    STORE = 1
    PAGE_CODE = 1  # a TLB entry may allow fetching from the page, or code was translated from it
    PAGE_FAST = 2  # a TLB entry may let stores pass unseen

cdef uint64_t PAGE_MASK = ~<uint64_t>0xFFF
cdef uint64_t NONE = ~<uint64_t>0


cdef inline uint8_t *u8(char *base, size_t offset) noexcept nogil:
    return <uint8_t *>(base + offset)


cdef inline int *i32(char *base, size_t offset) noexcept nogil:
    return <int *>(base + offset)


cdef inline uint32_t *u32(char *base, size_t offset) noexcept nogil:
    return <uint32_t *>(base + offset)


cdef inline uint64_t *u64(char *base, size_t offset) noexcept nogil:
    return <uint64_t *>(base + offset)


cdef inline void **pointer_at(char *base, size_t offset) noexcept nogil:
    return <void **>(base + offset)


# -- interrupts and faults ------------------------------------------------------------------------

cdef void deep_intr(uc_engine *uc, uint32_t number, void *data) noexcept nogil:
    # INT n or a fault. May leave by the library's longjmp when delivery itself faults.
    cdef Core *c = <Core *>data
    c.api.x86_cpu_do_interrupt(c.cpu)


cdef inline bint io_privileged(Core *c) noexcept nogil:
    # CPL <= IOPL and not virtual-8086 mode, or real mode.
    cdef uint32_t hflags = u32(c.env, ENV_HFLAGS)[0]
    cdef uint32_t flags = u32(c.env, ENV_EFLAGS)[0]
    return not hflags & HF_PE or (hflags & HF_CPL <= flags >> 12 & 3 and not flags & FLAG_VM)


cdef uint32_t deep_in(uc_engine *uc, uint32_t port, int size, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    if not io_privileged(c):
        check_io(c, port, size)
    return c.host.port_in(c.host.opaque, port, size)


cdef void deep_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    if not io_privileged(c):
        check_io(c, port, size)
    c.host.port_out(c.host.opaque, port, size, value)


cdef void check_io(Core *c, uint32_t port, int size) noexcept nogil:
    # The library lets everybody at the ports. Leaves with a general protection fault where the task's
    # bitmap says no; RIP is right, because deep_exec_interrupt() did not allow it to lag.
    if size == 1:
        c.api.helper_check_iob(c.env, port)
    elif size == 2:
        c.api.helper_check_iow(c.env, port)
    else:
        c.api.helper_check_iol(c.env, port)


# Replaces the class function of that name; called between blocks whenever the guest is in the main loop.
cdef uint8_t deep_exec_interrupt(void *cpu, int request) noexcept nogil:
    cdef Core *c = <Core *>pyemu_get_current()
    cdef int pending, vector
    # Port handlers do not look at RIP, so the library may spare itself finding it for each access
    # (half their time). Privilege only falls by way of the main loop, so this is the place to decide.
    pyemu_store_byte(c.unsynced, io_privileged(c))
    pyemu_fence()
    if pyemu_load(&c.kicked) or c.attention:
        u8(<char *>c.uc, UC_STOP_REQUEST)[0] = 1
        u8(c.cpu, CPU_EXIT_REQUEST)[0] = 1
        return 0
    request &= INTERRUPT_HARD | INTERRUPT_NMI
    if not request:
        return 0
    pending = c.api.x86_cpu_pending_interrupt(cpu, request)
    if pending == INTERRUPT_NMI:
        i32(c.cpu, CPU_INTERRUPT_REQUEST)[0] &= ~INTERRUPT_NMI
        u32(c.env, ENV_HFLAGS2)[0] |= HF2_NMI_MASK
        c.api.do_interrupt_x86_hardirq(c.env, 2, 1)
        return 1
    if pending == INTERRUPT_HARD:
        # The controller lowers the pin itself when nothing else waits.
        vector = c.host.irq_ack(c.host.opaque)
        if vector < 0:
            return 0
        c.api.do_interrupt_x86_hardirq(c.env, vector & 0xFF, 1)
        return 1
    return 0


cdef int deep_rdtsc(uc_engine *uc, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    cdef uint64_t value = guest_tsc(c)
    u64(c.env, ENV_REGS)[0] = <uint32_t>value
    u64(c.env, ENV_REGS)[2] = value >> 32
    return 1


cdef void set_segment(Core *c, int n, uint32_t selector, uint32_t flags) noexcept nogil:
    cdef char *segment = c.env + ENV_SEGS + n * SEG_SIZE
    u32(segment, 0)[0] = selector
    u64(segment, SEG_BASE)[0] = 0
    u32(segment, SEG_LIMIT)[0] = 0xFFFFFFFF
    u32(segment, SEG_FLAGS)[0] = flags


cdef void enter_kernel(Core *c, uint32_t selector, bint wide, uint64_t rip) noexcept nogil:
    # Flat ring 0 code and stack, as SYSCALL and SYSENTER load them; the selectors are not looked up.
    set_segment(c, 1, selector & 0xFFFC, 0x00A09B00 if wide else 0x00C09B00)
    set_segment(c, 2, (selector + 8) & 0xFFFC, 0x00C09300)
    u64(c.env, ENV_EIP)[0] = rip
    c.api.x86_update_hflags(c.env)
    c.api.cpu_loop_exit(c.cpu)


cdef int syscall_length(Core *c) noexcept nogil:
    # Prefixes in front of 0F 05 are legal; they are read by way of the TLB entry the fetch left behind.
    cdef uint64_t rip = u64(c.env, ENV_EIP)[0]
    cdef uint64_t address
    cdef pyemu_tlb_entry *entry
    cdef int mode, n
    cdef uint8_t *code
    if not u32(c.env, ENV_HFLAGS)[0] & HF_CS64:
        rip += u64(c.env, ENV_SEGS + SEG_SIZE + SEG_BASE)[0]
    for mode in range(TLB_MODES):
        entry = tlb_entry(c, mode, rip)
        if entry.addr_code == (rip & PAGE_MASK):
            code = <uint8_t *>(rip + entry.addend)
            for n in range(14):
                address = rip + n + 1
                if (address & PAGE_MASK) != (rip & PAGE_MASK):
                    break
                if code[n] == 0x0F and code[n + 1] == 0x05:
                    return n + 2
            break
    return 2


cdef void deep_syscall(uc_engine *uc, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    cdef uint64_t star = u64(c.env, ENV_STAR)[0]
    cdef uint64_t following, flags
    cdef uint32_t selector = (star >> 32) & 0xFFFF
    if not u64(c.env, ENV_EFER)[0] & 1:
        c.api.raise_exception_err_ra(c.env, EXCEPTION_UD, 0, 0)
    following = u64(c.env, ENV_EIP)[0] + syscall_length(c)
    c.api.uc_reg_read(uc, 253, &flags)
    if u32(c.env, ENV_HFLAGS)[0] & HF_LMA:
        u64(c.env, ENV_REGS)[1] = following
        u64(c.env, ENV_REGS)[11] = flags & ~<uint64_t>0x10000
        flags &= ~(u64(c.env, ENV_FMASK)[0] | 0x10000)
        c.api.uc_reg_write(uc, 253, &flags)
        if u32(c.env, ENV_HFLAGS)[0] & HF_CS64:
            enter_kernel(c, selector, 1, u64(c.env, ENV_LSTAR)[0])
        enter_kernel(c, selector, 1, u64(c.env, ENV_CSTAR)[0])
    u64(c.env, ENV_REGS)[1] = <uint32_t>following
    flags &= ~<uint64_t>0x30200  # VM, RF, IF
    c.api.uc_reg_write(uc, 253, &flags)
    enter_kernel(c, selector, 0, <uint32_t>star)


cdef void deep_sysenter(uc_engine *uc, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    cdef uint32_t selector = u32(c.env, ENV_SYSENTER_CS)[0]
    cdef bint wide = (u32(c.env, ENV_HFLAGS)[0] & HF_LMA) != 0
    cdef uint64_t flags
    if selector & 0xFFFC == 0:
        c.api.raise_exception_err_ra(c.env, EXCEPTION_GP, 0, 0)
    c.api.uc_reg_read(uc, 253, &flags)
    flags &= ~<uint64_t>0x30200  # VM, RF, IF
    c.api.uc_reg_write(uc, 253, &flags)
    u64(c.env, ENV_REGS)[4] = u64(c.env, ENV_SYSENTER_ESP)[0]
    enter_kernel(c, selector, wide, u64(c.env, ENV_SYSENTER_EIP)[0])

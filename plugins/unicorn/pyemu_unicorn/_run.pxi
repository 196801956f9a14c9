# SPDX-License-Identifier: GPL-2.0-or-later
# Running the guest in either mode until there is something to return for.

cdef bint deep_deliverable(Core *c) noexcept nogil:
    cdef int request = i32(c.cpu, CPU_INTERRUPT_REQUEST)[0] & (INTERRUPT_HARD | INTERRUPT_NMI)
    return request and c.api.x86_cpu_pending_interrupt(c.cpu, request) != 0


cdef void core_flush(Core *c) noexcept nogil:
    c.flush_wanted = 0
    c.api.uc_ctl(c.uc, UC_CTL_FLUSH_TB)
    c.api.uc_ctl(c.uc, UC_CTL_FLUSH_TLB)
    # Neither code nor TLB entries are left, so no page needs watching.
    if c.pages != NULL:
        memset(c.pages, 0, c.page_count)


cdef int deep_run(Core *c) noexcept nogil:
    cdef bint halted
    if c.halted:
        if not deep_deliverable(c):
            return RUN_HALT
        c.halted = 0
    i32(c.cpu, CPU_INTERRUPT_REQUEST)[0] |= INTERRUPT_ALWAYS
    c.error = c.api.uc_emu_start(c.uc, u64(c.env, ENV_EIP)[0], 0, 0, 0)
    halted = u32(c.cpu, CPU_HALTED)[0] != 0
    u32(c.cpu, CPU_HALTED)[0] = 0
    if c.error:
        return RUN_ERROR
    if halted:
        c.halted = 1
    elif i32(c.env, ENV_OLD_EXCEPTION)[0] == EXCEPTION_DOUBLE_FAULT:
        i32(c.env, ENV_OLD_EXCEPTION)[0] = -1
        return RUN_SHUTDOWN
    return -1


cdef int public_run(Core *c) noexcept nogil:
    cdef int vector = c.vector
    if vector >= 0:
        if not real_mode(c):
            c.error = 0
            return RUN_ERROR
        c.vector = -1
        public_deliver(c, vector)
    elif public_interrupt(c):
        c.halted = 0
    elif c.halted:
        return RUN_HALT
    c.stopped = 0
    c.error = c.api.uc_emu_start(c.uc, read_reg(c, UC_REG_EIP), 0, 0, 0)
    if c.error == UC_ERR_INSN_INVALID:
        c.vector = EXCEPTION_UD
    elif c.error:
        return RUN_ERROR
    elif not c.stopped:
        c.halted = 1
        c.block_size = 0
    return -1


cdef int core_run(Core *c) noexcept nogil:
    cdef int result
    while True:
        if pyemu_swap(&c.kicked, 0):
            return RUN_KICK
        pyemu_store(&c.attention, 0)
        if c.sync_wanted:
            return RUN_SYNC
        if c.flush_wanted:
            core_flush(c)
        c.running = 1
        result = deep_run(c) if c.deep else public_run(c)
        c.running = 0
        if result >= 0:
            return result


cdef void core_set_irq(Core *c, int level) noexcept nogil:
    c.irq = level != 0
    if c.deep and c.uc != NULL:
        if level:
            i32(c.cpu, CPU_INTERRUPT_REQUEST)[0] |= INTERRUPT_HARD
        else:
            i32(c.cpu, CPU_INTERRUPT_REQUEST)[0] &= ~INTERRUPT_HARD
            return
        # Not core_poke(): the main loop delivers without leaving the library.
        core_leave_blocks(c, c.wake)


cdef void capsule_set_irq(void *opaque, int level) noexcept nogil:
    core_set_irq(<Core *>opaque, level)

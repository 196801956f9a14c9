# SPDX-License-Identifier: GPL-2.0-or-later
# Public mode: only documented functions. Interrupts and faults are delivered here, in real mode.

cdef enum:
    FLAG_TF = 0x100
    FLAG_IF = 0x200
    FLAG_VM = 0x20000
    FLAG_AC = 0x40000


cdef inline uint32_t read_reg(Core *c, int reg) noexcept nogil:
    cdef uint64_t value = 0
    c.api.uc_reg_read(c.uc, reg, &value)
    return <uint32_t>value


cdef bint real_mode(Core *c) noexcept nogil:
    return not read_reg(c, UC_REG_CR0) & 1


cdef bint in_shadow(Core *c) noexcept nogil:
    # The instruction after STI, POP SS and MOV SS,reg runs before any interrupt. Each of these ends a block.
    cdef uint8_t tail[2]
    if c.block_size == 0:
        return 0
    tail[0] = tail[1] = 0
    if c.block_size == 1:
        c.api.uc_mem_read(c.uc, c.block_gpa, &tail[1], 1)
    else:
        c.api.uc_mem_read(c.uc, c.block_gpa + c.block_size - 2, tail, 2)
    if tail[1] == 0xFB or tail[1] == 0x17:
        return 1
    return c.block_size > 1 and tail[0] == 0x8E and (tail[1] & 0xF8) == 0xD0


cdef void public_block(uc_engine *uc, uint64_t address, uint32_t size, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    cdef bint leave = pyemu_load(&c.kicked) or c.attention
    if not leave and c.irq and read_reg(c, UC_REG_EFLAGS) & FLAG_IF:
        if real_mode(c):
            leave = not in_shadow(c)
        else:
            c.withheld = 1
    if leave:
        c.stopped = 1
        c.api.uc_emu_stop(uc)
    else:
        c.block_gpa = address
        c.block_size = size


cdef void public_intr(uc_engine *uc, uint32_t number, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    c.vector = number
    c.stopped = 1
    c.api.uc_emu_stop(uc)


cdef int public_rdtsc(uc_engine *uc, void *data) noexcept nogil:
    cdef Core *c = <Core *>data
    cdef uint64_t value = guest_tsc(c)
    cdef uint32_t half = <uint32_t>value
    c.api.uc_reg_write(uc, UC_REG_EAX, &half)
    half = <uint32_t>(value >> 32)
    c.api.uc_reg_write(uc, UC_REG_EDX, &half)
    return 1


cdef void public_deliver(Core *c, int vector) noexcept nogil:
    # Real mode: FLAGS, CS and IP go to the stack, CS:IP comes from the table at IDTR.
    cdef pyemu_uc_mmr idtr
    cdef uint32_t flags = read_reg(c, UC_REG_EFLAGS)
    cdef uint64_t stack = <uint64_t>(read_reg(c, UC_REG_SS) & 0xFFFF) << 4
    cdef uint16_t sp = <uint16_t>read_reg(c, UC_REG_SP)
    cdef uint16_t frame[3]
    cdef uint16_t entry[2]
    cdef int i
    frame[0] = <uint16_t>read_reg(c, UC_REG_EIP)
    frame[1] = <uint16_t>read_reg(c, UC_REG_CS)
    frame[2] = <uint16_t>flags
    for i in range(2, -1, -1):
        sp = <uint16_t>(sp - 2)
        c.api.uc_mem_write(c.uc, stack + sp, &frame[i], 2)
    c.api.uc_reg_read(c.uc, UC_REG_IDTR, &idtr)
    entry[0] = entry[1] = 0
    c.api.uc_mem_read(c.uc, idtr.base + 4 * vector, entry, 4)
    flags &= ~<uint32_t>(FLAG_IF | FLAG_TF | FLAG_AC)
    c.api.uc_reg_write(c.uc, UC_REG_SP, &sp)
    c.api.uc_reg_write(c.uc, UC_REG_EFLAGS, &flags)
    c.api.uc_reg_write(c.uc, UC_REG_CS, &entry[1])
    flags = entry[0]
    c.api.uc_reg_write(c.uc, UC_REG_EIP, &flags)
    c.block_size = 0


cdef bint public_interrupt(Core *c) noexcept nogil:
    # Between blocks: takes a waiting NMI or interrupt if the guest would.
    cdef int vector
    if not c.nmi and not c.irq:
        return 0
    if not real_mode(c):
        if c.nmi or read_reg(c, UC_REG_EFLAGS) & FLAG_IF:
            c.withheld = 1
        return 0
    if in_shadow(c):
        return 0
    if c.nmi:
        c.nmi = 0
        public_deliver(c, 2)
        return 1
    if read_reg(c, UC_REG_EFLAGS) & FLAG_IF:
        vector = c.host.irq_ack(c.host.opaque)
        if vector >= 0:
            public_deliver(c, vector & 0xFF)
            return 1
    return 0

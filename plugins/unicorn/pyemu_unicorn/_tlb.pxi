# SPDX-License-Identifier: GPL-2.0-or-later
# Deep mode: fast stores.
#
# The library sends every store to a page that may be executed through a slow path, to catch code that
# changes; without a no-execute bit that is every page. Here a data access gets an entry that forbids
# fetching and lets stores pass, as long as the page holds no code. What keeps that right:
#
#   a page with translated code, or with any entry that allows fetching from it, has PAGE_CODE;
#   a page with PAGE_CODE has no entry that lets stores pass, and none that the library's slow path
#   would turn into one (it does so if addr_code is "none").
#
# Code cannot be translated without an entry that allows the fetch, and each such entry comes from
# deep_tlb_fill(), so both hold from the first instruction on.

cdef inline pyemu_tlb_entry *tlb_table(Core *c, int mode, uint64_t *count) noexcept nogil:
    cdef char *fast = c.cpu + CPU_TLB + TLB_FAST + mode * TLB_FAST_SIZE
    count[0] = (u64(fast, 0)[0] >> 6) + 1
    return <pyemu_tlb_entry *>pointer_at(fast, 8)[0]


cdef inline pyemu_tlb_entry *tlb_entry(Core *c, int mode, uint64_t address) noexcept nogil:
    cdef uint64_t count
    cdef pyemu_tlb_entry *table = tlb_table(c, mode, &count)
    return table + ((address >> 12) & (count - 1))


cdef bint page_has_code(Core *c, uint64_t page) noexcept nogil:
    cdef char *uc = <char *>c.uc
    cdef void **slot = (<void **>pointer_at(uc, UC_L1_MAP)[0])
    cdef int level
    slot += (page >> u32(uc, UC_V_L1_SHIFT)[0]) & (u32(uc, UC_V_L1_SIZE)[0] - 1)
    for level in range(u32(uc, UC_V_L2_LEVELS)[0], 0, -1):
        if slot[0] == NULL:
            return 0
        slot = (<void **>slot[0]) + ((page >> (level * L2_BITS)) & ((1 << L2_BITS) - 1))
    if slot[0] == NULL:
        return 0
    return u64(<char *>slot[0], (page & ((1 << L2_BITS) - 1)) * PAGE_DESC_SIZE)[0] != 0


cdef inline void restrict_entry(pyemu_tlb_entry *entry, uint64_t host, bint fetch) noexcept nogil:
    cdef uint64_t virtual_page
    if entry.addr_read != NONE:
        virtual_page = entry.addr_read & PAGE_MASK
    elif entry.addr_code != NONE:
        virtual_page = entry.addr_code & PAGE_MASK
    else:
        return
    if virtual_page + entry.addend != host:
        return
    if fetch:  # code is coming: stores must be seen
        if entry.addr_write != NONE:
            entry.addr_write |= TLB_NOTDIRTY
        if entry.addr_code == NONE:
            entry.addr_code = virtual_page | TLB_INVALID
    else:  # code is gone: fetches must be seen
        entry.addr_code = NONE


cdef void restrict_page(Core *c, uint64_t host, bint fetch) noexcept nogil:
    cdef pyemu_tlb_entry *table
    cdef uint64_t count
    cdef int64_t i
    cdef int mode
    for mode in range(TLB_MODES):
        table = tlb_table(c, mode, &count)
        for i in range(<int64_t>count):
            restrict_entry(table + i, host, fetch)
        table = <pyemu_tlb_entry *>(c.cpu + CPU_TLB + TLB_DESC + mode * TLB_DESC_SIZE + TLB_DESC_VICTIMS)
        for i in range(TLB_VICTIMS):
            restrict_entry(table + i, host, fetch)


cdef bint grow_pages(Core *c, size_t page) noexcept nogil:
    cdef size_t count = (page + 4096) & ~<size_t>4095
    cdef uint8_t *pages = <uint8_t *>realloc(c.pages, count)
    if pages == NULL:
        return 0
    memset(pages + c.page_count, 0, count - c.page_count)
    c.pages = pages
    c.page_count = count
    return 1


# Replaces the class function of that name. The original may leave by longjmp with a page fault.
cdef uint8_t deep_tlb_fill(
    void *cpu, uint64_t address, int size, int access, int mode, uint8_t probe, uintptr_t retaddr
) noexcept nogil:
    cdef Core *c = <Core *>pyemu_get_current()
    cdef pyemu_tlb_entry *entry
    cdef uint64_t host, page, virtual_page, iotlb, count
    cdef uint8_t *flags
    if not c.api.x86_cpu_tlb_fill(cpu, address, size, access, mode, probe, retaddr):
        return 0
    virtual_page = address & PAGE_MASK
    entry = tlb_entry(c, mode, address)
    host = entry.addend + virtual_page
    if host == 0:  # MMIO
        return 1
    tlb_table(c, mode, &count)
    iotlb = <uint64_t>pointer_at(c.cpu + CPU_TLB + TLB_DESC + mode * TLB_DESC_SIZE, TLB_DESC_IOTLB)[0]
    iotlb += ((address >> 12) & (count - 1)) * IOTLB_SIZE
    page = ((<uint64_t *>iotlb)[0] + virtual_page) >> 12
    if page >= c.page_count and not grow_pages(c, page):
        return 1
    flags = c.pages + page
    if access == FETCH:
        if flags[0] & PAGE_FAST:
            restrict_page(c, host, 1)
        flags[0] = PAGE_CODE
        return 1
    if flags[0] & PAGE_CODE:
        if access != STORE or page_has_code(c, page):
            if entry.addr_code == NONE:
                entry.addr_code = virtual_page | TLB_INVALID
            return 1
        restrict_page(c, host, 0)
        flags[0] = PAGE_FAST
    entry.addr_code = NONE
    if entry.addr_write == (virtual_page | TLB_NOTDIRTY):
        entry.addr_write = virtual_page
        flags[0] |= PAGE_FAST
    return 1

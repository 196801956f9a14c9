# SPDX-License-Identifier: GPL-2.0-or-later
"""One processor of the Unicorn library: running, stopping, memory and raw state.

:class:`Processor` is the compiled part of :class:`pyemu_unicorn.engine.UnicornEngine`, which keeps the
memory map and gives state its names. Guest code runs without the GIL.
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

import os

from pyemu.errors import EngineError

include "_core.pxi"
include "_deep.pxi"
include "_tlb.pxi"
include "_public.pxi"
include "_run.pxi"

KICK, HALT, SHUTDOWN, ERROR, SYNC = RUN_KICK, RUN_HALT, RUN_SHUTDOWN, RUN_ERROR, RUN_SYNC


cdef class _Table:
    """Owns what the C tables point to; capsules keep it alive after the engine is closed."""
    cdef Core core
    cdef pyemu_uc_api api
    cdef pyemu_cpu_engine table


cdef extern from "unistd.h" nogil:
    long write(int, const void *, size_t)
    long read(int, void *, size_t)


cdef bint readable(int *pipe, const void *address, size_t size) noexcept nogil:
    # The kernel copies, and answers EFAULT where a load would crash.
    cdef char sink[64]
    return write(pipe[1], address, size) == <long>size and read(pipe[0], sink, size) == <long>size


cdef class Processor:
    """One processor.

    Args:
        library: path of the library.
        host: capsule ``pyemu.cpu_host``.
        deep: try deep mode; :attr:`refusal` says why it was not possible.
    """

    cdef _Table owner
    cdef Core *c
    cdef object host
    cdef dict windows
    cdef readonly str refusal
    cdef object __weakref__

    def __cinit__(self, bytes library not None, object host not None, bint deep=True):
        cdef Core *c
        cdef void *handle
        cdef const char *missing
        self.owner = _Table()
        self.host = host
        self.windows = {}
        self.refusal = ""
        c = self.c = &self.owner.core
        c.api = &self.owner.api
        c.host = <pyemu_cpu_host *>PyCapsule_GetPointer(host, b"pyemu.cpu_host")
        c.vector = -1
        c.a20 = 1
        if c.host.abi_version != PYEMU_ABI_VERSION or c.host.size < sizeof(pyemu_cpu_host):
            raise EngineError(f"unicorn: the host's C table has ABI {c.host.abi_version}, size {c.host.size}; "
                              f"needed: ABI {PYEMU_ABI_VERSION}, size {sizeof(pyemu_cpu_host)}")
        handle = dlopen(library, RTLD_NOW | RTLD_LOCAL)
        if handle == NULL:
            raise EngineError(f"unicorn: {dlerror().decode(errors='replace')}")
        missing = pyemu_uc_load(handle, c.api)
        if missing != NULL:
            raise EngineError(f"unicorn: {library.decode(errors='replace')} has no {missing.decode()}")
        if deep:
            self._open(UC_MODE_16)
            self.refusal = self._self_check(handle)
            c.deep = not self.refusal
        else:
            self.refusal = "public mode was asked for"
        if not c.deep:
            # Here a run starts at a 32-bit EIP, whatever mode the guest is in; real mode is set up by state.
            self._open(UC_MODE_32)
        self._add_hooks()

    def __dealloc__(self):
        self.close()

    def close(self):
        """Gives the library's resources back; a second call does nothing."""
        cdef Core *c = self.c
        if c == NULL or c.uc == NULL:
            return
        if c.running:
            raise EngineError("unicorn: close is not possible from inside guest code")
        pyemu_store_pointer(&c.wake, NULL)
        while pyemu_load(&c.kickers):
            pass  # a few instructions of another thread, see core_kick()
        c.api.uc_close(c.uc)
        c.uc = NULL
        free(c.pages)
        c.pages = NULL
        c.page_count = 0
        self.windows.clear()

    cdef int _check(self, int error, str what) except -1:
        if error:
            raise EngineError(f"unicorn: {what}: {self.c.api.uc_strerror(error).decode()}")
        return 0

    cdef int _enter(self) except -1:
        # The library calls back into functions that find the engine by thread.
        cdef void *runner = pyemu_get_runner()
        if self.c.uc == NULL:
            raise EngineError("unicorn: the engine is closed")
        if runner != NULL and runner != self.c:
            raise EngineError("unicorn: another engine is inside guest code on this thread")
        pyemu_set_current(self.c)
        return 0

    cdef int _outside(self, str what) except -1:
        self._enter()
        if self.c.running:
            raise EngineError(f"unicorn: {what} is not possible from inside guest code")
        return 0

    cdef int _open(self, int mode) except -1:
        cdef Core *c = self.c
        if c.uc != NULL:
            c.api.uc_close(c.uc)
            c.uc = NULL
        self._check(c.api.uc_open(UC_ARCH_X86, mode, &c.uc), "open")
        # Without exits no address ends a run.
        self._check(c.api.uc_ctl(c.uc, UC_CTL_USE_EXITS, 1), "use exits")
        # The processor comes into being with its first use.
        read_reg(c, UC_REG_EIP)
        return 0

    # -- set-up -----------------------------------------------------------------------------------

    cdef str _self_check(self, void *handle):
        cdef Core *c = self.c
        cdef unsigned version = c.api.uc_version(NULL, NULL)
        cdef const char *missing
        cdef char *cpu
        cdef char *cls
        found = f"{version >> 24}.{version >> 16 & 255}.{version >> 8 & 255}"
        if found != f"{LAYOUT_MAJOR}.{LAYOUT_MINOR}.{LAYOUT_PATCH}":
            return f"Unicorn {found} is not the known {LAYOUT_MAJOR}.{LAYOUT_MINOR}.{LAYOUT_PATCH}"
        if os.uname().machine != "x86_64":
            return f"the layout is known for x86_64 hosts, not for {os.uname().machine}"
        missing = pyemu_uc_load_deep(handle, c.api)
        if missing != NULL:
            return f"the library does not export {missing.decode()}"
        cdef int[2] pipe
        pipe[0], pipe[1] = os.pipe()
        try:
            if not readable(pipe, <char *>c.uc + UC_CPU, 8) or i32(<char *>c.uc, UC_MODE)[0] != UC_MODE_16:
                return "the engine structure looks different"
            cpu = <char *>pointer_at(<char *>c.uc, UC_CPU)[0]
            if not readable(pipe, cpu, 8) or not readable(pipe, cpu + CPU_ENV + ENV_UC, 8):
                return "the processor is not where it should be"
            if (pointer_at(cpu, CPU_UC)[0] != c.uc or pointer_at(cpu, CPU_ENV_PTR)[0] != cpu + CPU_ENV
                    or pointer_at(cpu + CPU_ENV, ENV_UC)[0] != c.uc
                    or <char *>pointer_at(cpu, CPU_ICOUNT_DECR)[0] != cpu + CPU_ENV - 16):
                return "the processor's back pointers differ"
            cls = <char *>pointer_at(cpu, CPU_CLASS)[0]
            if not readable(pipe, cls, 8) or not readable(pipe, cls + CLASS_EXEC_INTERRUPT, 8):
                return "the processor's class is not where it should be"
            if (pointer_at(cls, CLASS_DO_INTERRUPT)[0] != <void *>c.api.x86_cpu_do_interrupt
                    or pointer_at(cls, CLASS_TLB_FILL)[0] != <void *>c.api.x86_cpu_tlb_fill
                    or pointer_at(cls, CLASS_EXEC_INTERRUPT)[0] != <void *>c.api.x86_cpu_exec_interrupt):
                return "the processor's class holds other functions"
            if not readable(pipe, pointer_at(cpu + CPU_TLB, TLB_FAST + 8)[0], 64):
                return "the TLB is not where it should be"
        finally:
            os.close(pipe[0])
            os.close(pipe[1])
        c.cpu = cpu
        c.env = cpu + CPU_ENV
        pointer_at(cls, CLASS_TLB_FILL)[0] = <void *>deep_tlb_fill
        pointer_at(cls, CLASS_EXEC_INTERRUPT)[0] = <void *>deep_exec_interrupt
        # In this mode a run's start address is the whole RIP, whatever mode the guest is in.
        i32(<char *>c.uc, UC_MODE)[0] = UC_MODE_64
        # #UD is a fault like others.
        pointer_at(<char *>c.uc, UC_STOP_INTERRUPT)[0] = NULL
        # No checks inside blocks: with them the library stops after a store whose instruction it then repeats.
        u8(<char *>c.uc, UC_NO_EXIT_REQUEST)[0] = 1
        # There is no local APIC.
        u32(c.env, ENV_FEATURES)[0] &= ~<uint32_t>(1 << 9)
        i32(c.env, ENV_OLD_EXCEPTION)[0] = -1
        c.unsynced = <char *>c.uc + UC_SKIP_SYNC
        c.wake = <char *>pointer_at(cpu, CPU_ICOUNT_DECR)[0] + 2
        return ""

    cdef int _hook(self, int kind, void *function, int instruction=0) except -1:
        cdef uc_hook handle
        return self._check(
            self.c.api.uc_hook_add(self.c.uc, &handle, kind, function, self.c, 1, 0, instruction), "add hook")

    cdef int _add_hooks(self) except -1:
        self._hook(UC_HOOK_MEM_WRITE_PROT, <void *>on_rom_write)
        self._hook(UC_HOOK_MEM_UNMAPPED, <void *>on_unmapped)
        self._hook(UC_HOOK_MEM_FETCH_PROT, <void *>on_unmapped)
        if self.c.deep:
            self._hook(UC_HOOK_INSN, <void *>deep_in, UC_INS_IN)
            self._hook(UC_HOOK_INSN, <void *>deep_out, UC_INS_OUT)
            self._hook(UC_HOOK_INTR, <void *>deep_intr)
            self._hook(UC_HOOK_INSN, <void *>deep_rdtsc, UC_INS_RDTSC)
            self._hook(UC_HOOK_INSN, <void *>deep_syscall, UC_INS_SYSCALL)
            self._hook(UC_HOOK_INSN, <void *>deep_sysenter, UC_INS_SYSENTER)
        else:
            self._hook(UC_HOOK_INSN, <void *>on_in, UC_INS_IN)
            self._hook(UC_HOOK_INSN, <void *>on_out, UC_INS_OUT)
            self._hook(UC_HOOK_INTR, <void *>public_intr)
            self._hook(UC_HOOK_INSN, <void *>public_rdtsc, UC_INS_RDTSC)
            self._hook(UC_HOOK_BLOCK, <void *>public_block)
        return 0

    # -- memory -----------------------------------------------------------------------------------

    @property
    def deep(self) -> bool:
        return self.c.deep != 0

    @property
    def running(self) -> bool:
        """Inside :meth:`run`: a handler of a device is asking."""
        return self.c.running != 0

    @property
    def in_mmio(self) -> bool:
        """Inside an MMIO handler: the range that is being accessed must stay."""
        return self.c.mmio_depth != 0

    @property
    def sync_wanted(self) -> bool:
        return self.c.sync_wanted != 0

    @sync_wanted.setter
    def sync_wanted(self, bint wanted):
        self.c.sync_wanted = wanted
        if wanted:
            core_poke(self.c)

    def map_ram(self, uint64_t gpa, uint64_t size, uintptr_t pointer, bint writable):
        """Maps host memory; the range must be free."""
        self._enter()
        what = f"map {gpa:#x}-{gpa + size - 1:#x}"
        self._check(self.c.api.uc_mem_map_ptr(self.c.uc, gpa, size, UC_PROT_ALL, <void *>pointer), what)
        if not writable:
            self._check(self.c.api.uc_mem_protect(self.c.uc, gpa, size, UC_PROT_RX), what)

    def map_mmio(self, uint64_t gpa, uint64_t size):
        """Maps a range whose accesses go to the host; the range must be free."""
        self._enter()
        cdef _Window holder = _Window()
        holder.window.core = self.c
        holder.window.base = gpa
        self._check(self.c.api.uc_mmio_map(self.c.uc, gpa, size, <void *>on_mmio_read, &holder.window,
                                           <void *>on_mmio_write, &holder.window),
                    f"map MMIO {gpa:#x}-{gpa + size - 1:#x}")
        self.windows[gpa] = holder

    def unmap(self, uint64_t gpa, uint64_t size):
        """Takes back one range that was mapped as such."""
        cdef Core *c = self.c
        cdef int index = -1, error_code = 0, is_int = 0, old = -1
        cdef uint64_t next_eip = 0, cr2 = 0
        cdef int error
        self._enter()
        # The library looks the range up as if it were code at that virtual address; a page fault
        # of that attempt must not become the guest's.
        if c.deep:
            index, error_code = i32(c.cpu, CPU_EXCEPTION_INDEX)[0], i32(c.env, ENV_ERROR_CODE)[0]
            is_int, old = i32(c.env, ENV_EXCEPTION_IS_INT)[0], i32(c.env, ENV_OLD_EXCEPTION)[0]
            next_eip, cr2 = u64(c.env, ENV_EXCEPTION_NEXT_EIP)[0], u64(c.env, ENV_CR + 16)[0]
        else:
            c.api.uc_reg_read(c.uc, 52, &cr2)
        error = c.api.uc_mem_unmap(c.uc, gpa, size)
        if c.deep:
            i32(c.cpu, CPU_EXCEPTION_INDEX)[0], i32(c.env, ENV_ERROR_CODE)[0] = index, error_code
            i32(c.env, ENV_EXCEPTION_IS_INT)[0], i32(c.env, ENV_OLD_EXCEPTION)[0] = is_int, old
            u64(c.env, ENV_EXCEPTION_NEXT_EIP)[0], u64(c.env, ENV_CR + 16)[0] = next_eip, cr2
        else:
            c.api.uc_reg_write(c.uc, 52, &cr2)
        self._check(error, f"unmap {gpa:#x}-{gpa + size - 1:#x}")
        self.windows.pop(gpa, None)

    def flush(self):
        """Drops all translated code and all address translations, at the latest before the next block."""
        self._enter()
        if self.c.running:
            self.c.api.uc_ctl(self.c.uc, UC_CTL_FLUSH_TLB)
            self.c.flush_wanted = 1
            core_poke(self.c)
        else:
            core_flush(self.c)

    def invalidate(self, uintptr_t pointer, uint64_t size):
        """The host wrote *size* bytes of mapped memory at *pointer*: drops code translated from them.

        Public mode drops all code, see :meth:`flush`.
        """
        cdef Core *c = self.c
        cdef uint64_t start, page, last, first
        self._enter()
        if not c.deep:
            self.flush()
            return
        start = c.api.qemu_ram_addr_from_host(c.uc, <void *>pointer)
        if start == NONE:
            raise EngineError(f"unicorn: no memory mapped at host address {pointer:#x}")
        last = (start + size - 1) >> 12
        page = start >> 12
        while page <= last and page < c.page_count:
            if c.pages[page] & PAGE_CODE:
                first = max(start, page << 12)
                c.api.tb_invalidate_phys_range(c.uc, first, min(start + size, (page + 1) << 12))
            page += 1

    # -- running ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Runs the guest; one of KICK, HALT, SHUTDOWN, ERROR and SYNC."""
        cdef int result
        self._outside("run")
        pyemu_set_runner(self.c)
        with nogil:
            result = core_run(self.c)
        pyemu_set_runner(NULL)
        return result

    def kick(self):
        """Makes :meth:`run` return; any thread."""
        core_kick(self.c)

    def set_irq(self, int level):
        """Level of the INTR pin."""
        core_set_irq(self.c, level)

    def inject_nmi(self):
        """Raises a non-maskable interrupt."""
        self._enter()
        self.c.nmi = 1
        if self.c.deep:
            self.c.nmi = 0
            i32(self.c.cpu, CPU_INTERRUPT_REQUEST)[0] |= INTERRUPT_NMI
        core_poke(self.c)

    @property
    def nmi_pending(self) -> bool:
        if self.c.deep:
            return i32(self.c.cpu, CPU_INTERRUPT_REQUEST)[0] & INTERRUPT_NMI != 0
        return self.c.nmi != 0

    @nmi_pending.setter
    def nmi_pending(self, bint pending):
        if not self.c.deep:
            self.c.nmi = pending
        elif pending:
            i32(self.c.cpu, CPU_INTERRUPT_REQUEST)[0] |= INTERRUPT_NMI
        else:
            i32(self.c.cpu, CPU_INTERRUPT_REQUEST)[0] &= ~INTERRUPT_NMI

    @property
    def halted(self) -> bool:
        return self.c.halted != 0

    @halted.setter
    def halted(self, bint halted):
        self.c.halted = halted

    @property
    def a20(self) -> bool:
        return self.c.a20 != 0

    def set_a20(self, bint enabled):
        """Opens or closes address line 20; in public mode it is always open."""
        self._enter()
        self.c.a20 = enabled
        if self.c.deep:
            # The library wants to leave the block, too.
            pyemu_store_byte(self.c.unsynced, 0)
            self.c.api.x86_cpu_set_a20(self.c.cpu, enabled)

    @property
    def withheld(self) -> bool:
        """Public mode kept an interrupt back because the guest is in protected mode."""
        return self.c.withheld != 0

    def error(self) -> tuple:
        """(cause, kind of access, physical address, undelivered exception) of the last ERROR."""
        cause = self.c.api.uc_strerror(self.c.error).decode() if self.c.error else ""
        return cause, self.c.error_kind, self.c.error_gpa, self.c.vector

    def clear_error(self):
        """Forgets an exception that public mode could not deliver."""
        self.c.vector = -1
        self.c.block_size = 0

    def engine_capsule(self):
        """Capsule ``pyemu.cpu_engine``; valid as long as the capsule lives, also after :meth:`close`."""
        cdef pyemu_cpu_engine *table = &self.owner.table
        table.abi_version = PYEMU_ABI_VERSION
        table.size = sizeof(pyemu_cpu_engine)
        table.opaque = self.c
        table.set_irq = capsule_set_irq
        table.kick = capsule_kick
        # The capsule's context is a reference to the table's owner.
        capsule = PyCapsule_New(table, b"pyemu.cpu_engine", release_owner)
        PyCapsule_SetContext(capsule, <void *>self.owner)
        Py_INCREF(self.owner)
        return capsule

    # -- raw state --------------------------------------------------------------------------------

    @property
    def tsc(self) -> int:
        return guest_tsc(self.c) & 0xFFFFFFFFFFFFFFFF

    @tsc.setter
    def tsc(self, uint64_t value):
        self.c.tsc_offset = <int64_t>(value - <uint64_t>self.c.host.clock_ns(self.c.host.opaque))

    def reg_read(self, int reg, size_t size) -> bytes:
        """A register of the documented interface as *size* bytes."""
        cdef char[64] value
        self._enter()
        if size > 64:
            raise ValueError(f"a register of {size} bytes")
        memset(value, 0, 64)
        self._check(self.c.api.uc_reg_read(self.c.uc, reg, value), f"read register {reg}")
        return value[:size]

    def msr_read(self, uint32_t number) -> int:
        """A model-specific register through the documented interface."""
        cdef pyemu_uc_msr msr
        self._enter()
        msr.number = number
        msr.value = 0
        self._check(self.c.api.uc_reg_read(self.c.uc, UC_REG_MSR, &msr), f"read MSR {number:#x}")
        return msr.value

    def reg_write(self, int reg, bytes data not None):
        """The reverse."""
        cdef char[64] value
        self._outside("set a register")
        memset(value, 0, 64)
        if len(data) > 64:
            raise ValueError(f"a register of {len(data)} bytes")
        memcpy(value, <const char *>data, len(data))
        self._check(self.c.api.uc_reg_write(self.c.uc, reg, value), f"write register {reg}")

    def mem_read(self, uint64_t gpa, size_t size) -> bytes:
        """Guest physical memory."""
        cdef bytes data = bytes(size)
        self._enter()
        self._check(self.c.api.uc_mem_read(self.c.uc, gpa, <char *>data, size), f"read {gpa:#x}")
        return data

    def environment(self) -> memoryview:
        """Deep mode: the processor's own structure, for immediate use."""
        self._enter()
        if not self.c.deep:
            raise EngineError("unicorn: public mode has no access to the processor's structure")
        return PyMemoryView_FromMemory(self.c.env, ENV_SIZE, PyBUF_WRITE)

    def environment_changed(self, uint32_t cr4, uint32_t dr7):
        """Deep mode: recomputes what the library derives from the registers just written."""
        cdef Core *c = self.c
        self._outside("set state")
        c.api.x86_update_hflags(c.env)
        c.api.cpu_x86_update_cr4(c.env, cr4)
        c.api.cpu_x86_update_dr7(c.env, dr7)
        c.api.update_fp_status(c.env)
        c.api.update_mxcsr_status(c.env)
        i32(c.env, ENV_OLD_EXCEPTION)[0] = -1
        c.api.tlb_flush(c.cpu)


cdef class _Window:
    cdef Window window


cdef void release_owner(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))

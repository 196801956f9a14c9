# SPDX-License-Identifier: MIT
"""The part of the engine conformance suite for engines that claim ``exact-interrupts``."""

from __future__ import annotations

import random
import threading

import pytest

from ..cpu.engine import Exit
from . import guests
from .enginehost import Guest, HostRAM, acknowledge

_PSE = 0x10
_BIG_PAGE = 0x83
_NX = 1 << 63


class ProtectedModeConformance:
    """Protected and long mode; mix it in beside :class:`~pyemu.testing.engine.EngineConformance`."""

    # -- faults -----------------------------------------------------------------------------------

    def test_fault_with_error_code(self, guest: Guest) -> None:
        guest.load(guests.BAD_SELECTOR, guests.flat_32())
        guest.write(guests.IDT + 8 * 13, guests.gate_32(guests.HANDLER))
        guest.write(guests.HANDLER, guests.RECORD_FAULT)
        guest.halt()
        assert guest.ram.u32(guests.DATA) == 0x80
        assert guest.ram.u32(guests.DATA + 4) == guests.CODE + 12
        assert guest.ram.u32(guests.DATA + 8) == 1

    def test_page_fault(self, guest: Guest) -> None:
        guest.load(guests.READ_3M, guests.flat_32() | {"cr0": 0x80000011, "cr3": guests.PAGE_TABLES, "cr4": _PSE})
        guest.write(guests.PAGE_TABLES, (0x87).to_bytes(4, "little").ljust(4096, b"\0"))
        # 0x300000 lies in the first 4 MiB: map that by 4 KiB pages, but not this one.
        table = b"".join((i << 12 | 7 if i < 0x200 else 0).to_bytes(4, "little") for i in range(1024))
        guest.write(guests.PAGE_TABLES + 0x1000, table)
        guest.write(guests.PAGE_TABLES, (guests.PAGE_TABLES + 0x1000 | 7).to_bytes(4, "little"))
        guest.write(guests.IDT + 8 * 14, guests.gate_32(guests.HANDLER))
        guest.write(guests.HANDLER, guests.RECORD_PAGE_FAULT)
        guest.halt()
        assert guest.ram.u32(guests.DATA) == 0  # error code: not present, read, supervisor
        assert guest.ram.u32(guests.DATA + 4) == guests.CODE
        assert guest.ram.u32(guests.DATA + 12) == 0x300000
        assert guest.engine.get_state()["cr2"] == 0x300000

    def test_undefined_instruction(self, guest: Guest) -> None:
        guest.load(guests.UNDEFINED_32, guests.flat_32())
        guest.write(guests.IDT + 8 * 6, guests.gate_32(guests.HANDLER))
        guest.write(guests.HANDLER, guests.RECORD_FAULT)
        guest.halt()
        assert guest.ram.u32(guests.DATA) == guests.CODE

    def test_triple_fault_shuts_down_and_reset_recovers(self, guest: Guest) -> None:
        guest.load(guests.UNDEFINED_32, guests.flat_32() | {"idtr_limit": 0})
        assert guest.run().exit is Exit.SHUTDOWN
        guest.engine.reset()
        guest.load(guests.count_stores(5), guests.real_mode())
        guest.halt()
        assert guest.ram.u32(guests.DATA) == 5

    # -- interrupts -------------------------------------------------------------------------------

    def test_interrupts_under_load(self, guest: Guest) -> None:
        guest.load(guests.FOREVER_32, guests.flat_32())
        guest.write(guests.IDT + 8 * 0x30, guests.gate_32(guests.HANDLER))
        guest.write(guests.HANDLER, guests.ACKNOWLEDGE_32)
        acks = acknowledge(guest, 0x30)
        ends: list[int] = []

        def end_of_interrupt(size: int, value: int) -> None:
            ends.append(value)
            guest.engine.kick()

        guest.host.ports[0x20] = (None, end_of_interrupt)
        guest.engine.kick()
        guest.run()
        for _ in range(2000):
            guest.engine.set_irq(1)
            assert guest.run().exit is Exit.KICK
        assert len(acks) == len(ends) == 2000
        assert guest.ram.u32(guests.DATA) == 2000

    def test_nmi_waits_for_the_end_of_the_one_before(self, guest: Guest) -> None:
        guest.load(b"\xf4" * 4, guests.flat_32())
        guest.write(guests.IDT + 8 * 2, guests.gate_32(guests.HANDLER))
        guest.write(guests.HANDLER, b"\xf4\xcf")  # hlt / iretd
        guest.halt()
        guest.engine.inject_nmi()
        assert guest.run(kicks=True).exit is Exit.HALT  # in the handler
        assert guest.engine.get_state()["nmi_masked"] == 1
        guest.engine.inject_nmi()
        assert guest.run(kicks=True).exit is Exit.HALT
        state = guest.engine.get_state()
        assert (state["nmi_pending"], state["rip"]) == (1, guests.HANDLER + 1)
        guest.engine.set_state({**state, "halted": 0})  # lets it go on to IRET
        assert guest.run(kicks=True).exit is Exit.HALT
        state = guest.engine.get_state()
        assert (state["nmi_pending"], state["nmi_masked"], state["rip"]) == (0, 1, guests.HANDLER + 1)

    # -- memory -----------------------------------------------------------------------------------

    def test_mmio_accesses_of_each_width(self, guest: Guest) -> None:
        guest.host.mmio_read = lambda gpa, size: 0x44332211 + (gpa & 0xFF)
        guest.load(guests.MMIO_WIDTHS, guests.flat_32())
        guest.halt()
        base = 0xFEC00000
        assert [entry[:3] for entry in guest.host.mmio_log] == [
            ("r", base, 1), ("r", base + 2, 2), ("r", base + 4, 4),
            ("w", base + 1, 1), ("w", base + 6, 2), ("w", base + 8, 4),
        ]  # fmt: skip
        assert [entry[3] for entry in guest.host.mmio_log[3:]] == [0x11, 0x2213, 0x44332215]

    def test_writes_to_rom_go_to_the_host(self, guest: Guest) -> None:
        rom = HostRAM(64 << 10)
        rom[0x10:0x11] = b"\xaa"
        guest.engine.map_ram(0x40000, rom.size, rom.pointer, writable=False)
        guest.load(guests.WRITE_ROM, guests.flat_32())
        guest.halt()
        assert guest.host.mmio_log == [("w", 0x40010, 1, 0x55)]
        assert rom[0x10:0x11] == b"\xaa"
        assert guest.engine.get_state()["rax"] & 0xFF == 0xAA

    def test_a_port_write_changes_the_map_for_the_next_instruction(self, guest: Guest) -> None:
        other = HostRAM(64 << 10)
        other[0:4] = b"\1\2\3\4"
        guest.host.mmio_read = lambda gpa, size: 0x99999999
        steps = [
            lambda: guest.engine.unmap(0x40000, 0x10000),
            lambda: guest.engine.map_ram(0x40000, other.size, other.pointer),
        ]
        guest.host.ports[0x80] = (None, lambda size, value: steps.pop(0)())
        guest.load(guests.REMAP_BY_PORT, guests.flat_32())
        guest.halt()
        assert guest.ram.u32(guests.DATA) == 0x99999999
        assert guest.ram.u32(guests.DATA + 4) == 0x04030201

    def test_an_mmio_write_that_maps_memory_over_itself(self, guest: Guest) -> None:
        other = HostRAM(64 << 10)
        other[0:4] = b"\1\2\3\4"
        guest.engine.unmap(0x40000, 0x10000)
        guest.host.mmio_write = lambda gpa, size, value: guest.engine.map_ram(0x40000, other.size, other.pointer)
        # mov [0x40000], eax / jmp n / n: mov eax, [0x40000] / hlt
        guest.load(bytes.fromhex("a300000400eb00a100000400f4"), guests.flat_32())
        guest.halt()
        assert guest.engine.get_state()["rax"] == 0x04030201

    def test_a20(self, guest: Guest) -> None:
        guest.ram[0x500:0x501] = b"\x11"
        guest.ram[0x100500:0x100501] = b"\x22"
        for enabled, value in ((False, b"\x11"), (True, b"\x22"), (False, b"\x11")):
            guest.load(guests.READ_ABOVE_1M, guests.real_mode())
            guest.engine.set_a20(enabled)
            guest.halt()
            assert guest.ram[0x5100:0x5101] == value
            assert guest.engine.get_state()["a20"] == int(enabled)

    def test_code_changed_through_another_mapping(self, guest: Guest) -> None:
        # 32-bit: 0x403000 is 0x3000. Each round changes the operand of the code it calls.
        guest.load(guests.ALIASED_32, guests.flat_32() | {"cr0": 0x80000011, "cr3": guests.PAGE_TABLES, "cr4": _PSE})
        guest.write(guests.PAGE_TABLES, _BIG_PAGE.to_bytes(4, "little") * 2)
        guest.write(guests.CALLED, guests.ADD_RESULT)
        guest.halt()
        assert guest.ram[guests.DATA : guests.DATA + 1] == bytes([sum(range(200)) & 0xFF])

    @pytest.mark.parametrize("program", ["ALIASED_64", "REWRITTEN_64"])
    def test_code_changed_through_a_mapping_without_execution(self, guest: Guest, program: str) -> None:
        # 64-bit: 0x40000000 is 0 once more, marked no-execute.
        guest.load(getattr(guests, program), guests.flat_64() | {"efer": 0xD01})
        second = guests.PAGE_TABLES + 0x1000
        guest.write(second + 8, (guests.PAGE_TABLES + 0x3000 | 7).to_bytes(8, "little"))
        guest.write(guests.PAGE_TABLES + 0x3000, (0x87 | _NX).to_bytes(8, "little"))
        guest.write(guests.CALLED, guests.ADD_RESULT_64)
        guest.halt()
        if program == "ALIASED_64":
            assert guest.ram[guests.DATA : guests.DATA + 1] == bytes([sum(range(200)) & 0xFF])
        else:
            rounds = range(1, 201)
            total = (sum(rounds) & 0xFFFF) | (sum(n + 1 for n in rounds) & 0xFFFF) << 16
            assert guest.ram.u32(guests.DATA) == total

    # -- long mode --------------------------------------------------------------------------------

    def test_time_stamp_counter_follows_the_clock(self, guest: Guest) -> None:
        for now in (5_000_000_123, 6_000_000_123):
            guest.load(guests.READ_TSC, guests.flat_64() | {"tsc": 7})
            start, guest.host.now_ns = guest.host.now_ns, now
            guest.halt()
            value = guest.ram.u32(guests.DATA) | guest.ram.u32(guests.DATA + 4) << 32
            assert value == 7 + now - start

    def test_state_is_what_the_guest_sees(self, guest: Guest) -> None:
        msrs = {
            "star": 0xC0000081, "lstar": 0xC0000082, "cstar": 0xC0000083, "fmask": 0xC0000084,
            "kernel_gs_base": 0xC0000102, "sysenter_cs": 0x174, "sysenter_esp": 0x175, "sysenter_eip": 0x176,
            "pat": 0x277, "mtrr_deftype": 0x2FF,
        }  # fmt: skip
        noise = random.Random(1)
        state = guests.complete(guests.flat_64())
        state |= {name: noise.getrandbits(32) for name in msrs} | {"pat": 0x0106070000010607, "lstar": 0xFFFF8000 << 32}
        state |= {"fpu_control": 0x27F, "fpu_status": 5 << 11 | 0x4100, "fpu_tag": 0xA5, "fpu_opcode": 0x123}
        state |= {"fpu_ip": 0x1234, "fpu_dp": 0x5678, "mxcsr": 0x3FA0, "fpu_registers": noise.randbytes(80)}
        state |= {"xmm_registers": noise.randbytes(256), "dr0": 0x111122223333, "dr3": 0x44445555, "cr2": 0x6666}
        state |= {"tr_selector": 0x28, "ldtr_selector": 0x30, "fs_base": guests.FXSAVE_AREA, "cs_base": 0}
        guest.load(guests.SHOW_STATE, state)
        guest.write(guests.MSR_LIST, b"".join(n.to_bytes(4, "little") for n in msrs.values()) + bytes(4))
        guest.halt()

        def number(at: int, size: int) -> int:
            return int.from_bytes(guest.ram[at : at + size], "little")

        area = guests.FXSAVE_AREA
        layout = {"fpu_control": (0, 2), "fpu_status": (2, 2), "fpu_tag": (4, 1), "mxcsr": (24, 4)}
        assert {name: number(area + at, size) for name, (at, size) in layout.items()} == {
            name: state[name] for name in layout
        }
        stack = b"".join(guest.ram[area + 32 + 16 * i : area + 42 + 16 * i] for i in range(8))
        assert stack == state["fpu_registers"]
        assert guest.ram[area + 160 : area + 416] == state["xmm_registers"]
        seen = {name: number(guests.MSR_VALUES + 8 * i, 8) for i, name in enumerate(msrs)}
        assert seen == {name: state[name] for name in msrs}
        data = guests.DATA
        assert (number(data, 2), number(data + 2, 8)) == (state["gdtr_limit"], state["gdtr_base"])
        assert (number(data + 16, 2), number(data + 18, 8)) == (state["idtr_limit"], state["idtr_base"])
        assert (number(data + 32, 2), number(data + 34, 2)) == (0x28, 0x30)
        assert [number(data + at, 8) for at in (40, 48, 56, 64)] == [
            state[name] for name in ("dr0", "dr3", "cr2", "cr4")
        ]
        assert number(data + 72, 8) == number(area, 8)  # through FS
        after = guest.engine.get_state()
        changed = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rip", "rflags", "halted"}
        assert {name for name in state if after[name] != state[name]} <= changed

    def test_syscall(self, guest: Guest) -> None:
        state = guests.flat_64(guests.CALLED, ring=3) | {"rflags": 0x202}
        state |= {"star": 0x10 << 32, "lstar": guests.HANDLER, "fmask": 0x200}
        guest.load(guests.SYSCALL, state, at=guests.CALLED)
        guest.write(guests.HANDLER, guests.RECORD_SYSCALL)
        guest.halt()
        data = guest.ram[guests.DATA : guests.DATA + 26]
        values = [int.from_bytes(data[i : i + 8], "little") for i in (0, 8, 16)]
        assert values == [0x1234, guests.CALLED + 7, 0x202]
        assert data[24:26] == b"\x10\0"
        state = guest.engine.get_state()
        assert (state["ss_selector"], state["rflags"] & 0x200, state["cs_flags"] >> 13 & 3) == (0x18, 0, 0)

    def test_sysenter(self, guest: Guest) -> None:
        state = guests.flat_32(guests.CALLED)
        state |= {f"{s}_flags": state[f"{s}_flags"] | 0x6000 for s in ("es", "cs", "ss", "ds")}  # ring 3
        state |= {"sysenter_cs": 0x10, "sysenter_esp": 0x6F00, "sysenter_eip": guests.HANDLER, "rflags": 0x202}
        guest.load(guests.SYSENTER_32, state, at=guests.CALLED)
        guest.write(guests.HANDLER, guests.RECORD_SYSENTER)
        guest.halt()
        assert guest.ram.u32(guests.DATA) == 0x6F00
        assert guest.ram[guests.DATA + 4 : guests.DATA + 8] == b"\x10\0\x18\0"
        assert guest.engine.get_state()["rflags"] & 0x200 == 0

    @pytest.mark.parametrize(
        ("bitmap", "iopl", "allowed"),
        [(bytes(32), 0, True), (bytes(16) + b"\1" + bytes(15), 0, False), (b"\xff" * 32, 3, True), (b"", 0, False)],
        ids=["open", "shut", "iopl", "none"],
    )
    def test_user_code_and_ports(self, guest: Guest, bitmap: bytes, iopl: int, allowed: bool) -> None:
        # HLT faults there in any case; what counts is whether IN did before it.
        reads: list[int] = []

        def port_in(size: int) -> int:
            reads.append(size)
            return 0x5A

        guest.host.ports[0x80] = (port_in, None)
        task = guests.task_64(bitmap)
        state = guests.flat_64(guests.CALLED, ring=3) | {"rflags": 2 | iopl << 12}
        state |= {"tr_base": guests.TSS, "tr_limit": len(task) - 1, "tr_selector": 0x28, "tr_flags": 0x8B00}
        guest.load(guests.IN_80, state, at=guests.CALLED)
        guest.write(guests.TSS, task)
        guest.write(guests.IDT + 16 * 13, guests.gate_64(guests.HANDLER))
        guest.write(guests.HANDLER, guests.RECORD_FAULT_64)
        guest.halt()
        assert reads == ([1] if allowed else [])
        fault = int.from_bytes(guest.ram[guests.DATA + 8 : guests.DATA + 16], "little")
        assert fault == guests.CALLED + (2 if allowed else 0)
        assert guest.engine.get_state()["rax"] & 0xFF == (0x5A if allowed else 0)

    def test_kicks_in_long_mode(self, guest: Guest) -> None:
        count = 400_000
        guest.load(guests.mixing(64, count), guests.flat_64())
        guest.halt()
        expected = guest.ram[guests.DATA : guests.DATA + 64]
        guest.ram[guests.DATA : guests.DATA + 64] = bytes(64)
        guest.load(guests.mixing(64, count), guests.flat_64())
        done = threading.Event()

        def kick() -> None:
            while not done.wait(30e-6):
                guest.engine.kick()

        thread = threading.Thread(target=kick)
        thread.start()
        assert guest.run(kicks=True).exit is Exit.HALT
        done.set()
        thread.join()
        assert guest.ram[guests.DATA : guests.DATA + 64] == expected

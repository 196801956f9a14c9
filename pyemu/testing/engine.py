# SPDX-License-Identifier: MIT
"""The conformance suite of CPU engines for x86.

Subclass :class:`EngineConformance` in a test module and say how an engine is made::

    class TestMyEngine(EngineConformance):
        def create(self, host):
            return MyEngine(host)
"""

from __future__ import annotations

import gc
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..cpu import x86
from ..cpu.engine import CPUEngine, Exit
from ..errors import EngineError
from . import guests
from .enginehost import RAM_SIZE, Guest, HostRAM, acknowledge, engine_table

_PATIENCE = 20.0  # seconds until a test says that something is lost; never waited for when all is well


class EngineConformance:
    """What every engine does alike. Tests that need a capability look at the engine's own list."""

    @abstractmethod
    def create(self, host: Any) -> CPUEngine:
        """A new engine for the capsule ``pyemu.cpu_host``."""

    @pytest.fixture
    def guest(self) -> Iterator[Guest]:
        guest = Guest(self.create)
        yield guest
        guest.engine.close()

    # -- being made and ended ---------------------------------------------------------------------

    def test_says_what_it_is(self, guest: Guest) -> None:
        assert guest.engine.name
        assert guest.engine.mode
        assert isinstance(guest.engine.capabilities, frozenset)

    def test_power_on_state(self, guest: Guest) -> None:
        state = guest.engine.get_state()
        assert tuple(state) == x86.FIELD_NAMES
        assert (state["cs_selector"], state["rip"], state["cr0"] & 1, state["halted"]) == (0xF000, 0xFFF0, 0, 0)

    def test_first_instruction_is_taken_from_rom(self, guest: Guest) -> None:
        # Boards show the same ROM at the top of 4 GiB and below 1 MiB.
        rom = HostRAM(64 << 10)
        rom[0xFFF0:0xFFF5] = bytes.fromhex("ea00e000f0")  # jmp 0xf000:0xe000
        rom[0xE000:0xE006] = bytes.fromhex("c606000577f4")  # mov byte [0x500], 0x77 / hlt
        guest.engine.map_ram(0xFFFF0000, rom.size, rom.pointer, writable=False)
        guest.engine.map_ram(0xF0000, rom.size, rom.pointer, writable=False)
        guest.engine.reset()
        guest.halt()
        assert guest.ram[0x500:0x501] == b"\x77"

    def test_reset_forgets_a_halt_and_a_pending_nmi(self, guest: Guest) -> None:
        guest.load(b"\xf4", guests.real_mode())
        guest.halt()
        guest.engine.reset()
        state = guest.engine.get_state()
        assert (state["halted"], state["nmi_pending"], state["rip"]) == (0, 0, 0xFFF0)

    def test_close_twice_and_use_afterwards(self, guest: Guest) -> None:
        capsule = guest.engine.engine_capsule()
        guest.engine.close()
        guest.engine.close()
        guest.engine.kick()
        if capsule is not None:
            engine_table(capsule).kick(engine_table(capsule).opaque)
        with pytest.raises(EngineError):
            guest.engine.run()

    def test_capsule_outlives_the_engine(self) -> None:
        guest = Guest(self.create)
        capsule = guest.engine.engine_capsule()
        guest.engine.close()
        del guest
        gc.collect()
        if capsule is not None:
            table = engine_table(capsule)
            table.kick(table.opaque)
            table.set_irq(table.opaque, 1)

    # -- running and stopping ---------------------------------------------------------------------

    def test_kicks_do_not_disturb_the_guest(self, guest: Guest) -> None:
        # A store that is repeated or lost shows in the counter.
        count, rounds, kicks = 1_000_000, 0, 0
        stop = threading.Event()
        kicker = threading.Thread(target=_kick_until, args=(guest.engine, stop, 50e-6))
        kicker.start()
        while kicks < 200:
            guest.load(guests.count_stores(count), guests.real_mode())
            while guest.run().exit is Exit.KICK:
                kicks += 1
            rounds += 1
        stop.set()
        kicker.join()
        assert guest.ram.u32(guests.DATA) == count * rounds

    def test_kick_before_run_is_not_lost_and_counts_once(self, guest: Guest) -> None:
        guest.load(guests.count_stores(10), guests.real_mode())
        guest.engine.kick()
        guest.engine.kick()
        assert guest.run().exit is Exit.KICK
        assert guest.ram.u32(guests.DATA) == 0
        guest.halt()
        assert guest.ram.u32(guests.DATA) == 10

    def test_no_kick_is_lost(self, guest: Guest) -> None:
        # The guest never ends by itself: a lost kick would leave run() inside.
        guest.load(guests.FOREVER, guests.real_mode())
        rounds, lost = 3000, []
        back, go = threading.Semaphore(0), threading.Semaphore(0)

        def kicker() -> None:
            for i in range(rounds):
                go.acquire()
                for _ in range(i % 50):  # a moving point of time, from before run() to deep inside
                    pass
                guest.engine.kick()
                if not back.acquire(timeout=_PATIENCE):
                    lost.append(i)
                    guest.engine.kick()
                    back.acquire()

        thread = threading.Thread(target=kicker)
        thread.start()
        for _ in range(rounds):
            go.release()
            assert guest.engine.run().exit is Exit.KICK
            back.release()
        thread.join()
        assert lost == []

    def test_kick_from_a_port_handler(self, guest: Guest) -> None:
        guest.host.ports[0x80] = (None, lambda size, value: guest.engine.kick())
        guest.load(guests.OUT_THEN_COUNT, guests.real_mode())
        assert guest.run().exit is Exit.KICK
        guest.halt()
        assert guest.ram.u32(guests.DATA) == 1

    def test_kick_through_the_c_table(self, guest: Guest) -> None:
        capsule = guest.engine.engine_capsule()
        if capsule is None:
            return
        table = engine_table(capsule)
        assert (table.abi_version, table.size) == (1, 32)
        guest.load(guests.FOREVER, guests.real_mode())
        timer = threading.Timer(0.01, table.kick, (table.opaque,))
        timer.start()
        assert guest.run().exit is Exit.KICK

    def test_other_threads_run_meanwhile(self, guest: Guest) -> None:
        guest.load(guests.FOREVER, guests.real_mode())
        reached: list[int] = []

        def work() -> None:
            reached.append(sum(range(100_000)))
            guest.engine.kick()

        thread = threading.Thread(target=work)
        thread.start()
        assert guest.run().exit is Exit.KICK
        thread.join()
        assert reached

    def test_engines_run_side_by_side(self) -> None:
        machines = [Guest(self.create) for _ in range(3)]
        threads = []
        for i, machine in enumerate(machines):
            machine.load(guests.count_stores(200_000 + i), guests.real_mode())
            threads.append(threading.Thread(target=machine.halt))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [m.ram.u32(guests.DATA) for m in machines] == [200_000, 200_001, 200_002]
        for machine in machines:
            machine.engine.close()

    # -- interrupts -------------------------------------------------------------------------------

    def test_halt_returns_until_an_interrupt_can_be_taken(self, guest: Guest) -> None:
        guest.load(guests.HALT_LOOP, guests.real_mode())
        guest.vector(0x30)
        guest.write(guests.HANDLER, guests.COUNT_IRQ)
        acks = acknowledge(guest, 0x30)
        guest.halt()
        guest.halt()
        assert guest.engine.get_state()["halted"] == 1
        guest.engine.set_irq(1)
        guest.halt()
        assert acks == [0x30]
        assert guest.ram[guests.DATA : guests.DATA + 4] == b"\1\0\1\0"

    def test_interrupt_is_withheld_while_flag_is_clear(self, guest: Guest) -> None:
        guest.vector(0x30)
        guest.write(guests.HANDLER, guests.RECORD_IRQ)
        acks = acknowledge(guest, 0x30)
        guest.load(guests.OUT_WITH_IRQS_OFF, guests.real_mode())
        guest.host.ports[0x80] = (None, lambda size, value: guest.engine.set_irq(1))
        guest.halt()
        assert acks == [0x30]
        assert guest.ram[guests.DATA + 2 : guests.DATA + 4] == b"\1\0"
        guest.engine.set_irq(1)
        guest.halt()  # halted with interrupts off: stays so
        assert acks == [0x30]

    def test_interrupt_from_a_port_handler_comes_at_the_next_block(self, guest: Guest) -> None:
        guest.vector(0x30)
        guest.write(guests.HANDLER, guests.RECORD_IRQ)
        acks = acknowledge(guest, 0x30)
        guest.load(guests.OUT_THEN_BLOCK, guests.real_mode())
        guest.host.ports[0x80] = (None, lambda size, value: guest.engine.set_irq(1))
        guest.halt()
        assert acks == [0x30]
        assert guest.ram[guests.DATA + 4 : guests.DATA + 6] == b"\1\0"  # the handler ran before the block did

    def test_lowered_line_is_not_delivered(self, guest: Guest) -> None:
        acks = acknowledge(guest, 0x30)
        guest.load(b"\xfb\x90\x90\xf4", guests.real_mode())  # sti / nop / nop / hlt
        guest.engine.set_irq(1)
        guest.engine.set_irq(0)
        guest.halt()
        assert acks == []

    def test_instruction_after_sti_runs_first(self, guest: Guest) -> None:
        # With the interrupt taken between sti and hlt the guest would sleep for ever.
        guest.vector(0x30)
        guest.write(guests.HANDLER, guests.COUNT_IRQ)
        acknowledge(guest, 0x30)
        guest.load(b"\xfa\x90" + guests.HALT_LOOP, guests.real_mode())
        guest.engine.set_irq(1)
        guest.halt()
        assert guest.ram[guests.DATA : guests.DATA + 4] == b"\1\0\1\0"

    def test_interrupts_and_kicks_together(self, guest: Guest) -> None:
        # Each round raises the line from a port handler and kicks; nothing is lost or doubled.
        guest.vector(0x30)
        guest.write(guests.HANDLER, guests.COUNT_IRQ)
        acks = acknowledge(guest, 0x30)
        outs: list[int] = []

        def out(size: int, value: int) -> None:
            outs.append(value)
            guest.engine.set_irq(1)

        guest.host.ports[0x80] = (None, out)
        guest.load(guests.FOREVER_WITH_PORT, guests.real_mode())
        stop = threading.Event()
        kicker = threading.Thread(target=_kick_until, args=(guest.engine, stop, 30e-6))
        kicker.start()
        while len(outs) < 2000:
            assert guest.run().exit is Exit.KICK
        stop.set()
        kicker.join()
        handled = int.from_bytes(guest.ram[guests.DATA + 2 : guests.DATA + 4], "little")
        assert guest.ram.u32(guests.DATA + 16) == len(outs)
        assert (len(acks) - handled) & 0xFFFF in (0, 1)  # acknowledged, and the handler about to start
        assert len(acks) in (len(outs) - 1, len(outs))  # the last one may still wait

    def test_nmi(self, guest: Guest) -> None:
        guest.vector(2)
        guest.write(guests.HANDLER, guests.COUNT_IRQ)
        guest.load(b"\xfa\xf4\xf4", guests.real_mode())  # cli / hlt / hlt
        guest.halt()
        guest.engine.inject_nmi()
        assert guest.run(kicks=True).exit is Exit.HALT
        assert guest.ram[guests.DATA + 2 : guests.DATA + 4] == b"\1\0"
        assert guest.engine.get_state()["rip"] == guests.CODE + 3

    @pytest.mark.parametrize(
        ("code", "vector", "returns_to"),
        [(guests.INT_40, 0x40, 2), (guests.DIVIDE_BY_ZERO, 0, 2), (guests.UNDEFINED, 6, 0)],
    )
    def test_exceptions_in_real_mode(self, guest: Guest, code: bytes, vector: int, returns_to: int) -> None:
        guest.vector(vector)
        # The handler notes the return address; for faults it skips the instruction.
        is_int = vector == 0x40
        guest.write(guests.HANDLER, guests.COUNT_IRQ if is_int else guests.SKIP_TWO)
        guest.load(code, guests.real_mode())
        guest.halt()
        if is_int:
            assert guest.ram[guests.DATA + 2 : guests.DATA + 5] == b"\1\0\1"
        else:
            assert guest.ram.u32(guests.DATA) == 1
            assert guest.ram[guests.DATA + 6 : guests.DATA + 8] == (guests.CODE + returns_to).to_bytes(2, "little")

    # -- ports, MMIO, memory ----------------------------------------------------------------------

    def test_port_accesses_of_each_width(self, guest: Guest) -> None:
        seen: list[tuple[int, int]] = []
        guest.host.ports[0x80] = (lambda size: 0x44332211, lambda size, value: seen.append((size, value)))
        guest.load(guests.PORT_WIDTHS, guests.real_mode())
        guest.halt()
        assert guest.ram[guests.DATA : guests.DATA + 8] == bytes.fromhex("1100112211223344")
        assert seen == [(1, 0x11), (2, 0x2211), (4, 0x44332211)] + [(2, 0x2211)] * 3

    def test_memory_is_shared_without_copy(self, guest: Guest) -> None:
        # Each side sees at once what the other stored.
        seen: list[int] = []

        def out(size: int, value: int) -> None:
            seen.append(guest.ram.u32(guests.DATA + 16))
            guest.ram[guests.DATA + 16 : guests.DATA + 20] = (100 * len(seen)).to_bytes(4, "little")
            if len(seen) == 3:
                guest.engine.kick()

        guest.host.ports[0x80] = (None, out)
        guest.load(guests.FOREVER_WITH_PORT, guests.real_mode())
        assert guest.run().exit is Exit.KICK
        assert seen[:3] == [1, 101, 201]

    def test_code_that_changes_itself(self, guest: Guest) -> None:
        guest.load(guests.SELF_MODIFYING, guests.real_mode())
        guest.halt()
        assert guest.ram[guests.DATA : guests.DATA + 2] == (sum(range(1001)) & 0xFFFF).to_bytes(2, "little")
        guest.load(guests.SELF_MODIFYING_NEXT, guests.real_mode())
        guest.halt()
        assert guest.ram[guests.DATA : guests.DATA + 1] == b"\7"

    def test_host_writes_to_code_are_seen(self, guest: Guest) -> None:
        guest.host.ports[0x80] = (None, lambda size, value: guest.engine.kick())
        guest.load(guests.CALL_LOOP, guests.real_mode())
        for n in range(1, 30):
            guest.write(guests.CALLED, guests.set_result(n))
            assert guest.run().exit is Exit.KICK
            assert guest.ram[guests.DATA : guests.DATA + 1] == bytes([n])

    def test_a_device_that_writes_code(self, guest: Guest) -> None:
        # DMA in the middle of an OUT: the call after it must run the new code.
        results: list[int] = []

        def out(size: int, value: int) -> None:
            results.append(guest.ram[guests.DATA : guests.DATA + 1][0])
            if len(results) == 30:
                guest.engine.kick()
            guest.write(guests.CALLED, guests.set_result(len(results) + 1))

        guest.host.ports[0x80] = (None, out)
        guest.load(guests.CALL_LOOP, guests.real_mode())
        guest.write(guests.CALLED, guests.set_result(1))
        assert guest.run().exit is Exit.KICK
        assert results[:30] == list(range(1, 31))

    # -- state ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("bits", [16, 32, 64])
    def test_state_moves_into_a_fresh_engine(self, bits: int) -> None:
        count = 60_000
        registers = {16: guests.real_mode, 32: guests.flat_32, 64: guests.flat_64}[bits]()
        plain = Guest(self.create)
        if bits == 64 and "long-mode" not in plain.engine.capabilities:
            with pytest.raises(EngineError, match="64-bit"):
                plain.engine.set_state(guests.complete(registers))
            assert plain.engine.get_state()["rip"] == 0xFFF0
            plain.engine.close()
            return
        plain.load(guests.mixing(bits, count), registers)
        plain.write(guests.DATA, (0x12345678).to_bytes(4, "little"))
        plain.halt()
        expected = plain.ram[guests.DATA : guests.DATA + 64]
        final = plain.engine.get_state()
        plain.engine.close()

        guest = Guest(self.create)
        guest.load(guests.mixing(bits, count), registers)
        guest.write(guests.DATA, (0x12345678).to_bytes(4, "little"))
        moves = 0
        while True:
            # Some kicks come from the guest's own writes, so that there are moves, the others at any time.
            guest.host.ports[0x80] = (None, _kicker(guest.engine))
            timer = threading.Timer(0.02, guest.engine.kick)
            timer.start()
            reason = guest.run()
            timer.cancel()
            timer.join()
            if reason.exit is Exit.HALT:
                break
            state = guest.engine.get_state()
            fresh = Guest(self.create)
            fresh.ram[0:RAM_SIZE] = guest.ram[0:RAM_SIZE]
            guest.ram[0:RAM_SIZE] = b"\xcc" * RAM_SIZE
            guest.engine.close()
            fresh.engine.set_state(state)
            again = fresh.engine.get_state()
            assert {k: v for k, v in again.items() if again[k] != state[k]} == {}
            guest, moves = fresh, moves + 1
        assert moves >= 7
        assert guest.ram[guests.DATA : guests.DATA + 64] == expected
        assert guest.engine.get_state() == final
        guest.engine.close()

    def test_state_with_other_names_is_refused(self, guest: Guest) -> None:
        state = guest.engine.get_state()
        with pytest.raises(EngineError, match="unknown xyz"):
            guest.engine.set_state({**state, "xyz": 1})
        del state["rip"]
        with pytest.raises(EngineError, match="missing rip"):
            guest.engine.set_state(state)
        with pytest.raises(EngineError, match="rip"):
            guest.engine.set_state({**state, "rip": -1})
        assert guest.engine.get_state()["rip"] == 0xFFF0

    def test_state_is_not_at_hand_inside_guest_code(self, guest: Guest) -> None:
        # In the middle of an instruction not all of it is where it belongs.
        refused: list[str] = []

        def out(size: int, value: int) -> None:
            with pytest.raises(EngineError) as info:
                guest.engine.set_state(guests.complete({}))
            with pytest.raises(EngineError):
                guest.engine.get_state()
            refused.append(str(info.value))

        guest.host.ports[0x80] = (None, out)
        guest.load(guests.OUT_THEN_COUNT, guests.real_mode())
        guest.halt()
        assert len(refused) == 1

    def test_error_says_where_in_one_line(self, guest: Guest) -> None:
        guest.load(bytes.fromhex("ea00000090"), guests.real_mode())  # jmp 0x9000:0
        guest.engine.unmap(0x90000, 0x10000)
        reason = guest.run()
        assert reason.exit is Exit.ERROR
        assert "0x90000" in reason.detail
        assert "9000:" in reason.detail
        assert "\n" not in reason.detail


def _kick_until(engine: CPUEngine, stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        engine.kick()


def _kicker(engine: CPUEngine) -> Callable[[int, int], None]:
    return lambda size, value: engine.kick()

# SPDX-License-Identifier: MIT
import socket
from types import SimpleNamespace

import pytest

from pyemu import Machine, PortioEntry, PortioList
from pyemu.control import QTestServer
from pyemu.device import IRQLine, IRQOut


class Client:
    def __init__(self, server):
        self._sock = socket.create_connection((server.address.host, server.address.port), timeout=10)
        self._file = self._sock.makefile("rwb")

    def ask(self, line):
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        return self._file.readline().decode().strip()

    def tell(self, *lines):
        self._sock.sendall("".join(f"{line}\n" for line in lines).encode())

    def answers(self, count):
        return [self._file.readline().decode().strip() for _ in range(count)]

    def close(self):
        self._file.close()
        self._sock.close()


@pytest.fixture
def machine():
    with Machine("none", memory="1M", clock="step") as m:
        yield m


@pytest.fixture
def client(machine):
    server = QTestServer(machine, "tcp:127.0.0.1:0")
    client = Client(server)
    yield client
    client.close()
    server.close()


@pytest.mark.parametrize(
    ("letter", "value", "shown"),
    [("b", 0xAB, "0xab"), ("w", 0xBEEF, "0xbeef"), ("l", 0xDEADBEEF, "0xdeadbeef"), ("q", 2**63 + 5, hex(2**63 + 5))],
)
def test_memory_of_each_size(client, letter, value, shown):
    assert client.ask(f"write{letter} 0x1000 {value:#x}") == "OK"
    answer = client.ask(f"read{letter} 0x1000")
    assert answer.startswith("OK 0x") and int(answer[3:], 16) == int(shown, 16)


def test_blocks_and_memset(client):
    assert client.ask("write 0x2000 4 0x01020304") == "OK"
    assert client.ask("read 0x1fff 6") == "OK 0x000102030400"
    assert client.ask("memset 0x3000 3 0x5a") == "OK"
    assert client.ask("read 0x3000 4") == "OK 0x5a5a5a00"
    assert client.ask("b64read 0x2000 4") == "OK AQIDBA=="


def test_unassigned_ports_float_high(client):
    assert client.ask("inb 0x3f8") == "OK 0x00ff"
    assert client.ask("inw 0x3f8") == "OK 0xffff"
    assert client.ask("inl 0x3f8") == "OK 0xffffffff"


def test_ports_reach_devices(machine, client):
    latch = [0]
    table = [
        PortioEntry(0, 1, 1, read=lambda offset, size: latch[0], write=lambda offset, size, v: latch.__setitem__(0, v))
    ]
    ports = PortioList("latch", table, "latch")
    machine.call(lambda: ports.add(machine.ports, 0x80))
    assert client.ask("outb 0x80 0x55") == "OK"
    assert client.ask("inb 0x80") == "OK 0x0055"


def test_the_clock_steps_to_a_time_and_to_the_next_timer(machine, client):
    fired = []
    timer = machine.clock.timer(lambda: fired.append(machine.clock.now_ns))
    machine.call(lambda: timer.arm(1500))
    assert client.ask("clock_step 1000") == "OK 1000"
    assert fired == []
    assert client.ask("clock_step") == "OK 1500"
    assert fired == [1500]
    assert client.ask("clock_set 5000") == "OK 5000"


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "inb", "inb 0x10000", "inb zz", "outb 1 2 3", "read 0 0", "write 0 4 0x01", "clock_step -5",
     "clock_set 1 2", "irq_intercept_in nothing", "readb 0 0"],
)  # fmt: skip
def test_bad_lines_fail_with_a_reason_and_the_session_goes_on(client, line):
    answer = client.ask(line)
    assert answer.startswith("FAIL ") and len(answer) > 10
    assert client.ask("endianness") == "OK little"


def test_a_device_that_raises_fails_the_line_and_the_machine_lives(machine, client):
    def broken(offset, size):
        raise RuntimeError("no such register")

    ports = PortioList("dice", [PortioEntry(0, 4, 1, read=broken)], "dice")
    machine.call(lambda: ports.add(machine.ports, 0x2A0))
    answer = client.ask("inb 0x2a1")
    assert answer.startswith("FAIL") and "dice" in answer and "no such register" in answer
    assert machine.run_state == "internal-error"
    assert client.ask("readb 0") == "OK 0x0000000000000000"


def test_lines_that_come_together_are_answered_in_order(machine, client):
    line = IRQLine("irq0", 0)
    out = IRQOut("test", line)
    machine.devices["controller"] = SimpleNamespace(lines=[line])
    table = [PortioEntry(0, 1, 1, lambda offset, size: 0x55, lambda offset, size, value: out.set_level(value & 1))]
    machine.call(lambda: PortioList("device", table, "device").add(machine.ports, 0x300))
    client.tell("irq_intercept_in controller", "inb 0x300", "outb 0x300 1", "outb 0x300 0", "nonsense", "inb 0x300")
    answers = client.answers(8)
    del machine.devices["controller"]
    assert answers == [
        "OK",
        "OK 0x0055",
        "IRQ raise 0",
        "OK",
        "IRQ lower 0",
        "OK",
        "FAIL unknown command 'nonsense'",
        "OK 0x0055",
    ]


def test_many_answers_at_once(client):
    count = 3000
    client.tell(*["read 0 64"] * count)
    assert client.answers(count) == ["OK 0x" + "00" * 64] * count

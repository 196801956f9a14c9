# SPDX-License-Identifier: MIT
from __future__ import annotations

import gc
import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyemu.errors import MigrationError
from pyemu.migration import Cancelled, Interrupt


@pytest.fixture
def pipe():
    here, there = os.pipe()
    yield here, there
    os.close(here)
    os.close(there)


def test_waiting_ends_with_the_reason_of_the_first(pipe):
    above = Interrupt()
    one, other = above.below(), above.below().below()
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(i.wait, pipe[0], select.POLLIN) for i in (one, one, other)]
        waits.append(pool.submit(other.sleep, 1000))
        one.set(MigrationError("alone", desc="short"))
        for wait in waits[:2]:
            with pytest.raises(MigrationError, match="alone") as caught:
                wait.result(20)
            assert caught.value.desc == "short"
        assert not above.is_set and not other.is_set
        above.set(Cancelled("all"))
        above.set(MigrationError("too late"))
        for wait in waits[2:]:
            with pytest.raises(Cancelled, match="all"):
                wait.result(20)
    with pytest.raises(MigrationError, match="alone"):
        one.check()
    with pytest.raises(Cancelled):
        above.below().check()


def test_what_is_ready_and_what_is_not(pipe):
    interrupt = Interrupt()
    interrupt.check()
    assert not interrupt.wait(pipe[0], select.POLLIN, 0)
    assert interrupt.wait(pipe[1], select.POLLOUT)
    os.write(pipe[1], b"x")
    ready = interrupt.wait_any({pipe[0]: select.POLLIN, pipe[1]: select.POLLIN}, 0)
    assert ready == {pipe[0]: select.POLLIN}
    interrupt.sleep(0)


def test_each_thread_gets_an_exception_of_its_own():
    interrupt = Interrupt()
    interrupt.set(Cancelled("x"))
    caught = []
    for _ in range(2):
        with pytest.raises(Cancelled) as info:
            interrupt.sleep(1)
        caught.append(info.value)
    assert caught[0] is not caught[1]


def test_nothing_is_held_while_nobody_waits():
    def held():
        gc.collect()
        return sum("eventfd" in os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{n}"))  # fmt: skip

    before = held()
    interrupt = Interrupt()
    waiting = threading.Barrier(3)

    def wait():
        waiting.wait()
        with pytest.raises(MigrationError):
            interrupt.sleep(1000)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.wait()
    interrupt.set(MigrationError("x"))
    for thread in threads:
        thread.join()
    interrupt.below().below()
    assert held() == before

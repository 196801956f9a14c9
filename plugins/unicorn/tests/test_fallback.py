# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens when the library is not the one that deep mode knows."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from pyemu_unicorn import engine as module
from pyemu_unicorn.engine import UnicornEngine
from pyemu_unicorn.library import find_library

from pyemu.cpu.engine import Exit
from pyemu.errors import EngineError
from pyemu.testing import guests
from pyemu.testing.enginehost import FakeHost, Guest


def altered(folder: Path, old: bytes, new: bytes, near: str = "") -> Path:
    """A copy of the library with one occurrence of some bytes replaced, the first one after a symbol's address."""
    assert len(old) == len(new)
    data = bytearray(find_library().read_bytes())
    at = data.index(old, _file_offset(near)) if near else data.index(old)
    data[at : at + len(old)] = new
    path = folder / "libunicorn.so.2"
    path.write_bytes(data)
    return path


def _file_offset(symbol: str) -> int:
    # In another process: the original must not stay loaded here under this name.
    script = """if True:
        import ctypes, sys
        library = ctypes.CDLL(sys.argv[1])
        address = ctypes.cast(getattr(library, sys.argv[2]), ctypes.c_void_p).value
        for line in open("/proc/self/maps"):
            span, _, offset, *_ = line.split()
            start, end = (int(x, 16) for x in span.split("-"))
            if start <= address < end:
                print(address - start + int(offset, 16))
    """
    out = subprocess.run([sys.executable, "-c", script, str(find_library()), symbol], capture_output=True, check=True)
    return int(out.stdout)


@pytest.mark.parametrize(
    ("old", "new", "near", "reason"),
    [
        (b"\xff\x04\x01\x02", b"\xff\x03\x01\x02", "uc_version", "Unicorn 2.1.3 is not the known 2.1.4"),
        (b"\0x86_cpu_set_a20_x86_64\0", b"\0x86_cpu_set_a21_x86_64\0", "", "does not export x86_cpu_set_a20_x86_64"),
    ],
    ids=["version", "symbol"],
)
def test_another_library_means_public_mode_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    old: bytes, new: bytes, near: str, reason: str,
) -> None:  # fmt: skip
    library = altered(tmp_path, old, new, near)
    monkeypatch.setattr(module, "find_library", lambda: library)
    monkeypatch.delenv(module.MODE_VARIABLE, raising=False)
    with caplog.at_level(logging.WARNING, "pyemu"):
        guest = Guest(UnicornEngine)
    assert guest.engine.mode == "public"
    assert "exact-interrupts" not in guest.engine.capabilities
    assert [record.getMessage() for record in caplog.records if reason in record.getMessage()]
    assert len(caplog.records) == 1
    guest.load(guests.count_stores(1000), guests.real_mode())
    guest.halt()
    assert guest.ram.u32(guests.DATA) == 1000
    guest.engine.close()
    with pytest.raises(EngineError, match=reason):
        UnicornEngine(FakeHost().capsule, mode="deep")


def test_mode_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted, mode in (("public", "public"), ("deep", "deep"), ("auto", "deep")):
        monkeypatch.setenv(module.MODE_VARIABLE, wanted)
        made = module.create("x86", FakeHost().capsule)
        assert made.mode == mode
        made.close()
    monkeypatch.setenv(module.MODE_VARIABLE, "fast")
    with pytest.raises(EngineError, match="'fast' is none of auto, deep, public"):
        module.create("x86", FakeHost().capsule)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(EngineError, match="not ppc"):
        module.create("ppc", FakeHost().capsule)


def test_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(module, "find_library", lambda: broken)
    with pytest.raises(EngineError, match=r"broken\.so"):
        UnicornEngine(FakeHost().capsule)


def test_host_with_another_abi_is_refused() -> None:
    host = FakeHost()
    host.table.abi_version = 2
    with pytest.raises(EngineError, match="ABI 2"):
        UnicornEngine(host.capsule)
    host.table.abi_version, host.table.size = 1, 8
    with pytest.raises(EngineError, match="size 8"):
        UnicornEngine(host.capsule)


def test_protected_mode_without_interrupts_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    guest = Guest(lambda host: UnicornEngine(host, mode="public"))
    guest.load(guests.FOREVER_32, guests.flat_32())
    guest.engine.set_irq(1)
    guest.host.ports[0x80] = (None, lambda size, value: guest.engine.kick())
    guest.write(guests.CODE, b"\xfb\x90\xe6\x80\xeb\xfb")  # sti / nop / l: out 0x80, al / jmp l (one before)
    for _ in range(3):
        assert guest.run().exit is Exit.KICK
    assert [r.getMessage() for r in caplog.records] == [
        "unicorn: public mode delivers no interrupts in protected mode; the guest may hang"
    ]
    guest.engine.close()


def test_fault_in_protected_mode_is_an_error_in_public_mode() -> None:
    guest = Guest(lambda host: UnicornEngine(host, mode="public"))
    guest.load(guests.UNDEFINED_32, guests.flat_32())
    reason = guest.run()
    assert reason.exit is Exit.ERROR
    assert reason.detail == "at 0010:0x1000: public mode cannot deliver exception 6 in protected mode"
    guest.engine.close()


@pytest.mark.parametrize("change", [{"cs_base": 0x100}, {"cs_selector": 0x13}, {"gdtr_base": 0x100}])
def test_state_that_public_mode_cannot_load_is_refused_whole(change: dict[str, int]) -> None:
    guest = Guest(lambda host: UnicornEngine(host, mode="public"))
    guest.write(guests.GDT, guests.GDT_BYTES)
    before = guest.engine.get_state()
    with pytest.raises(EngineError, match="public mode"):
        guest.engine.set_state(guests.complete(guests.flat_32() | change))
    assert guest.engine.get_state() == before
    guest.engine.close()

# SPDX-License-Identifier: MIT
"""What every migration backend must keep to, as tests to inherit::

    class TestHashes(BackendConformance):
        capabilities = {"xxhash": True}

The suite saves small machines of board ``none`` to files with these capabilities on, and brings them back.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
import types
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..errors import MigrationError
from ..machine import Machine, restore
from ..plugin import PluginManager, default_manager
from ..snapshot import open_snapshot

PAGE = 4096


class BackendConformance:
    """Tests of one backend, or of several that are on at the same time.

    Class attributes:
        capabilities: the migration capabilities to switch on.
        parameters: migration parameters to set.
        memory: RAM of the machines in bytes, a multiple of 64 KiB.
        opens_as_data: :func:`pyemu.snapshot.open_snapshot` finds the pages.
    """

    capabilities: ClassVar[Mapping[str, bool]] = types.MappingProxyType({})
    parameters: ClassVar[Mapping[str, Any]] = types.MappingProxyType({})
    memory: ClassVar[int] = 2 << 20
    opens_as_data: ClassVar[bool] = True

    def plugins(self) -> PluginManager:
        """Where the backend comes from. Override it for one that is not installed."""
        return default_manager()

    # -- helpers ----------------------------------------------------------------------------------

    def _machine(self, seed: int = 1) -> Machine:
        machine = Machine("none", memory=self.memory, plugins=self.plugins())
        pages = self._ram(machine).reshape(-1, PAGE)
        pages[:] = np.random.default_rng(seed).integers(0, 256, pages.shape, dtype=np.uint8)
        pages[1::4] = 0
        pages[len(pages) // 2 : -1] = 0
        machine.migration.set_capabilities(self.capabilities)
        machine.migration.set_parameters({"max-bandwidth": 0, **self.parameters})
        return machine

    @staticmethod
    def _ram(machine: Machine) -> Any:
        return machine.ram["ram"].array

    def _save(self, machine: Machine, path: pathlib.Path, progress: Any = None) -> None:
        machine.migration.migrate_file(path, progress=progress)

    def _restored(self, path: pathlib.Path) -> Any:
        """RAM of the machine that the file gives."""
        with restore(path, plugins=self.plugins()) as machine:
            return self._ram(machine).copy()

    @staticmethod
    def _held(folder: pathlib.Path) -> tuple[list[str], int]:
        """Descriptors that lead into *folder*, and threads of this process."""
        open_files = []
        for fd in os.listdir("/proc/self/fd"):
            # The descriptor of the listing itself is gone by now.
            with contextlib.suppress(FileNotFoundError):
                open_files.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [name for name in open_files if name.startswith(str(folder))], threading.active_count()

    # -- tests ------------------------------------------------------------------------------------

    def test_ram_comes_back(self, tmp_path: pathlib.Path) -> None:
        with self._machine() as machine:
            self._save(machine, tmp_path / "vm")
            assert np.array_equal(self._restored(tmp_path / "vm"), self._ram(machine))

    def test_zero_pages_are_zero_where_there_was_something_else(self, tmp_path: pathlib.Path) -> None:
        with self._machine() as machine:
            self._save(machine, tmp_path / "vm")
            with Machine("none", memory=self.memory, incoming=True, plugins=self.plugins()) as target:
                target.migration.set_capabilities(self.capabilities)
                target.migration.set_parameters(self.parameters)
                self._ram(target)[:] = 0x5A
                target.migration.incoming(f"file:{tmp_path}/vm", blocking=True)
                assert np.array_equal(self._ram(target), self._ram(machine))

    def test_pages_that_change_meanwhile_come_back_as_they_were_last(self, tmp_path: pathlib.Path) -> None:
        """All of RAM has been sent once, and then pages get other bytes, become zero, or stop being zero."""
        ready = threading.Event()
        with self._machine() as machine:
            machine.migration.set_capabilities({"pause-before-switchover": True, "events": True})
            machine.on_event(lambda e: ready.set() if e.data.get("status") in ("pre-switchover", "failed") else None)
            machine.cont()
            machine.migration.migrate(f"file:{tmp_path}/vm", resume_after=True)
            assert ready.wait(60) and machine.migration.status == "pre-switchover"
            pages = self._ram(machine).reshape(-1, PAGE)
            pages[:3], pages[4], pages[-1], pages[len(pages) // 2] = 7, 0, 0, 9
            wanted = self._ram(machine).copy()
            machine.migration.continue_("pre-switchover")
            assert machine.migration.wait(60) == "completed"
        assert np.array_equal(self._restored(tmp_path / "vm"), wanted)

    def test_files_that_were_cut_off_are_refused(self, tmp_path: pathlib.Path) -> None:
        with self._machine() as machine:
            self._save(machine, tmp_path / "vm")
        data = (tmp_path / "vm").read_bytes()
        cut = tmp_path / "cut"
        for part in range(1, 12):
            cut.write_bytes(data[: len(data) * part // 12])
            try:
                with restore(cut, plugins=self.plugins()):
                    raise AssertionError(f"{part} of 12 parts of a file are taken for a whole one")
            except MigrationError as error:
                assert "\n" not in str(error)

    def test_a_save_that_ends_early_leaves_nothing(self, tmp_path: pathlib.Path) -> None:
        def stop(_progress: object) -> None:
            raise MigrationError("enough")

        with self._machine() as machine:
            self._save(machine, tmp_path / "vm")
            (tmp_path / "vm").unlink()
            before = self._held(tmp_path)
            try:
                self._save(machine, tmp_path / "vm", stop)
                raise AssertionError("an exception of the progress function ends a migration")
            except MigrationError as error:
                assert str(error) == "enough"
            assert self._held(tmp_path) == before and os.listdir(tmp_path) == []
            self._save(machine, tmp_path / "vm")
            assert self._held(tmp_path) == before
            assert np.array_equal(self._restored(tmp_path / "vm"), self._ram(machine))

    def test_files_open_as_data(self, tmp_path: pathlib.Path) -> None:
        if not self.opens_as_data:
            return
        with self._machine() as machine:
            self._save(machine, tmp_path / "vm")
            with open_snapshot(tmp_path / "vm", plugins=self.plugins()) as saved:
                assert np.array_equal(saved.blocks["ram"].array(), self._ram(machine))

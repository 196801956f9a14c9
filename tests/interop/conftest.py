# SPDX-License-Identifier: MIT
"""A real QEMU 10 in a chroot: the one PYEMU_QEMU_CHROOT names, or one that is built for the occasion.

Run with ``pytest -m interop tests/interop`` as root.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import pytest
from interop.formats import SIZE, Format, content

import pyemu
from pyemu.plugin import PluginManager

HERE = pathlib.Path(__file__).parent
#: Where a chroot of our own goes; it is kept, for building it takes half a minute.
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "pyemu-qemu-chroot"
QEMU = "usr/bin/qemu-system-x86_64"
#: No step here takes longer than seconds; a QEMU that hangs must not hang the tests.
PATIENCE = 30


@pytest.fixture(scope="session")
def chroot():
    if os.geteuid() != 0:
        pytest.skip("needs root: chroot does")
    given = os.environ.get("PYEMU_QEMU_CHROOT")
    root = pathlib.Path(given) if given else CACHE
    if not given and not (root / QEMU).exists():
        if shutil.which("debootstrap") is None:
            pytest.skip("needs debootstrap to build a chroot with: PYEMU_QEMU_CHROOT is not set")
        subprocess.run([HERE / "chroot.sh", root], check=True)
    if not (root / QEMU).exists():
        pytest.fail(f"{root} has no {QEMU}")
    return root


class QEMU10:
    """One QEMU process, its QMP socket, and if asked its qtest socket."""

    def __init__(self, root, folder, *arguments, memory=str(SIZE >> 20), machine="none", qtest=False):
        self.root = root
        self.folder = folder
        self.events = []
        self.log = open(folder / "qemu.log", "a+")  # noqa: SIM115 - closed with the process
        inside = f"/{folder.relative_to(root)}"
        command = ["chroot", root, "qemu-system-x86_64", "-M", machine, "-m", memory, "-display", "none", "-nodefaults"]
        command += ["-qmp", f"unix:{inside}/qmp,server=on,wait=off"]
        if qtest:
            command += ["-qtest", f"unix:{inside}/qtest,server=on,wait=off", "-qtest-log", "/dev/null", "-accel", "tcg"]
        for name in ("qmp", "qtest"):
            (folder / name).unlink(missing_ok=True)
        self.process = subprocess.Popen([*command, *arguments], stdout=self.log, stderr=self.log)
        self._socket, self._lines = self._connect("qmp")
        self.qtest = self._connect("qtest") if qtest else None
        self._lines.readline()
        self("qmp_capabilities")

    def _connect(self, name):
        end = time.monotonic() + PATIENCE
        while True:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                sock.connect(str(self.folder / name))
                return sock, sock.makefile("rw")
            sock.close()
            assert self.process.poll() is None and time.monotonic() < end, self.output()
            time.sleep(0.01)

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def __call__(self, command, *descriptors, **arguments):
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        line = json.dumps({"execute": command, "arguments": arguments}) + "\n"
        assert socket.send_fds(self._socket, [line.encode()], descriptors) == len(line)
        while True:
            answer = json.loads(self._lines.readline())
            if "event" in answer:
                self.events.append(answer)
                continue
            assert "error" not in answer, answer
            return answer["return"]

    def tell(self, line):
        """One qtest command."""
        _, lines = self.qtest
        lines.write(line + "\n")
        lines.flush()
        answer = lines.readline()
        assert answer.startswith("OK"), answer

    def capabilities(self, *names):
        self("migrate-set-capabilities", capabilities=[{"capability": n, "state": True} for n in names])

    def configure(self, form: Format):
        """The format's capabilities and parameters, and no others."""
        states = {"mapped-ram": form.mapped, "multifd": form.channels > 0}
        self("migrate-set-capabilities", capabilities=[{"capability": n, "state": s} for n, s in states.items()])
        self("migrate-set-parameters", **form.parameters)

    def save(self, form: Format, path):
        """Saves to a file. A machine that has saved is put into run state ``paused`` first, or it would refuse."""
        if self("query-status")["status"] == "postmigrate":
            self("cont")
            self("stop")
        self.configure(form)
        self("migrate", uri=f"file:{self.inside(path)}{form.suffix}")
        return self.wait("completed")

    def load(self, form: Format, path):
        """Loads a file into a machine started with ``-incoming defer``."""
        self.configure(form)
        self("migrate-incoming", uri=f"file:{self.inside(path)}{form.suffix}")
        self.wait("completed")
        # QEMU says so here when it finds anything to complain about that does not stop it.
        assert self.output() == ""

    def wait(self, *wanted):
        end = time.monotonic() + PATIENCE
        while True:
            answer = self("query-migrate")
            if answer.get("status") in wanted:
                return answer
            assert answer.get("status") not in ("failed", "completed") and time.monotonic() < end, (
                answer,
                self.output(),
            )
            time.sleep(0.01)

    def inside(self, path):
        return f"/{pathlib.Path(path).relative_to(self.root)}"

    def memory(self, start, size):
        path = self.folder / "dump"
        self("pmemsave", val=start, size=size, filename=self.inside(path))
        data = path.read_bytes()
        path.unlink()
        return data

    def close(self):
        self.process.kill()
        self.process.wait()
        for sock, lines in filter(None, [(self._socket, self._lines), self.qtest]):
            lines.close()
            sock.close()
        self.log.close()


@pytest.fixture
def folder(chroot):
    """A folder that both sides can name."""
    with tempfile.TemporaryDirectory(dir=chroot / "tmp") as name:
        yield pathlib.Path(name)


@pytest.fixture
def qemu(chroot, folder):
    running = []

    def start(*arguments, **options):
        running.append(QEMU10(chroot, folder, *arguments, **options))
        return running[-1]

    start.root = chroot
    yield start
    for process in running:
        process.close()


@pytest.fixture
def shared_ram(qemu, folder):
    """A QEMU whose RAM is a file with our content, still under its usual name."""

    def start(*arguments, **options):
        path = folder / "ram"
        path.write_bytes(content().tobytes())
        backend = f"memory-backend-file,id=ram,size={SIZE},mem-path=/{path.relative_to(qemu.root)},share=on"
        return qemu("-object", backend, "-machine", "memory-backend=ram", *arguments, **options)

    return start


@pytest.fixture(scope="session")
def plugins():
    return PluginManager()


@pytest.fixture
def ours(plugins):
    """Machines of ours, board ``none``."""
    machines = []

    def make(**options):
        machines.append(pyemu.Machine("none", memory=SIZE, plugins=plugins, **options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()

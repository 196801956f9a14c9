# SPDX-License-Identifier: MIT
"""Run by ``test_durability.py`` with the recorder preloaded: saves whose every system call fails once, or kills.

``savefaults FOLDER MODE:KIND:TARGET:PAGES:COUNT ...``: each combination is saved again and again, with the
fault at call 0, 1, 2, ... (COUNT: at every COUNT-th) until a save has no call left for it. After each one the
rules are checked. In mode ``random`` COUNT is the number of kills.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time

import numpy as np
from migration.conftest import KINDS, fill
from migration.fakehost import FakeHost, FakeSource
from migration.syscalls import KILL_AFTER, KILL_BEFORE, KILL_HALFWAY, SHORT, WRITES, Call, Recorder

from pyemu.errors import MigrationError
from pyemu.migration import MigrationController
from pyemu.plugin import PluginManager

PAGE = 4096
OFFSET = 4660
HEAD = bytes(range(256)) * 19
ERRORS = (errno.ENOSPC, errno.EIO)
#: Where a save goes, and whether it is written in place. A block device is the one that PYEMU_BLOCK_DEVICE names.
TARGETS = {
    "new": ("file:{path}", False),
    "old": ("file:{path}", False),
    "offset": (f"file:{{path}},offset={OFFSET}", True),
    "link": ("file:{path}", True),
    "block": ("file:{path}", True),
    "fd": ("fd:given", True),
    "fdset": ("file:/dev/fdset/7", True),
}


def where(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""  # that of the listing itself


class Case:
    """One format saved to one kind of target."""

    def __init__(self, folder, recorder, kind, target, pages):
        self.folder, self.recorder, self.kind, self.target = folder, recorder, kind, target
        self.path = os.path.join(folder, "vm")
        uri, self.in_place = TARGETS[target]
        self.uri = uri.format(path=self.path)
        #: What a loader is given; descriptors are for saving.
        self.source_uri = TARGETS["old" if target in ("fd", "fdset") else target][0].format(path=self.path)
        self.real = {"link": os.path.join(folder, "real"), "block": os.environ.get("PYEMU_BLOCK_DEVICE")}.get(target, self.path)
        self.given = []
        self.start = OFFSET if target == "offset" else 0
        self.blocks = (("ram", pages * PAGE), ("rom", 3 * PAGE))
        self.plugins = PluginManager()
        self.old = self.host(1)
        self.new = self.host(2)
        self.prepare()
        self.controller(self.old, "stream").migrate(self.source_uri, blocking=True, resume_after=True)
        self.content = self.read()

    def host(self, seed):
        host = FakeHost(self.blocks, run_state="running")
        for block in host.blocks:
            fill(block, seed)
        return host

    def controller(self, host, kind=None):
        capabilities, parameters = KINDS[kind or self.kind]
        made = MigrationController(host, self.plugins)
        made.use_dirty_source(FakeSource())
        made.set_capabilities(capabilities)
        made.set_parameters({"max-bandwidth": 0, **parameters})
        return made

    def read(self):
        try:
            with open(self.real, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def prepare(self):
        """The folder as it is before a save."""
        for name in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, name))
        if self.target == "new":
            return
        if self.real != self.path:
            os.symlink(self.real, self.path)
        with open(self.real, "wb") as file:
            file.write(getattr(self, "content", HEAD[: self.start]))
        while self.given:
            os.close(self.given.pop())
        self.give()

    def give(self):
        """Opens what a save is given instead of a path; the recorder sees it and learns the names."""
        flags = {"fd": [os.O_RDWR], "fdset": [os.O_WRONLY, os.O_WRONLY | os.O_DIRECT]}.get(self.target, [])
        if flags:
            self.recorder.begin(self.folder)
            self.given = [os.open(self.path, how) for how in flags]
            self.recorder.end()

    def save(self):
        """Saves the new machine; returns the error, if there is one."""
        self.source = self.host_again()
        made = self.controller(self.source)
        if not self.given:
            self.give()
        given, self.given = self.given, []
        for fd in given:
            if self.target == "fd":
                made.descriptors.put("given", fd)
            else:
                made.descriptors.add(fd, 7)
        try:
            made.migrate(self.uri, blocking=True, resume_after=True)
        except MigrationError as error:
            assert made.status == "failed"
            return error
        else:
            assert made.status == "completed"
            return None
        finally:
            made.close()
            assert self.open_files() == []
            # Whatever happened, the guest goes on.
            assert self.source.run_state == "running"

    def open_files(self):
        """Descriptors that lead into the folder."""
        return [name for fd in os.listdir("/proc/self/fd") if (name := where(fd)).startswith(self.folder)]

    def host_again(self):
        self.new.run_state = "running"
        return self.new

    def holds(self):
        """What the path holds: ``nothing``, ``old``, ``new``, ``no stream``, or what a loader says of it."""
        content = self.read()
        if content is None:
            return "nothing"
        if content == self.content:
            return "old"
        assert content[: self.start] == HEAD[: self.start]
        host = FakeHost(self.blocks, run_state="inmigrate")
        made = MigrationController(host, self.plugins)
        made.set_capabilities(KINDS[self.kind][0])
        try:
            made.incoming(self.source_uri, blocking=True)
        except MigrationError as error:
            # A magic of which only half was written is none either.
            return "no stream" if str(error) == "Not a migration stream" else str(error)
        equal = all(np.array_equal(a.array, b.array) for a, b in zip(host.blocks, self.new.blocks, strict=True))
        return "new" if equal else "a mixture"

    def left_over(self):
        return [n for n in os.listdir(self.folder) if n not in ("vm", os.path.basename(self.real))]

    def intact(self):
        """What the path may hold after a save that did not come to its end."""
        return "nothing" if self.target == "new" else "old"

    def __str__(self):
        return f"{self.kind} to {self.target}"


def check_order(case, calls):
    """Data is on the disk before the name, or the magic, says so; nothing is written later."""
    names = [call.name for call in calls]
    syncs = [n for n, name in enumerate(names) if name == "fsync"]
    writes = [n for n, call in enumerate(calls) if call.name in WRITES]
    steps = "\n".join(map(str, calls))
    if not case.in_place:
        rename = names.index("rename")
        assert names.count("rename") == 1 and len(syncs) == 2, steps
        assert max(writes) < syncs[0] < rename < syncs[1] == len(calls) - 1, steps
        assert calls[rename].path == calls[syncs[0]].path and calls[rename].second == case.path, steps
        assert calls[syncs[1]].path == case.folder, steps
        # Every write went to the file that was synced, whichever descriptor it used.
        assert {calls[n].path for n in writes} == {calls[syncs[0]].path}, steps
        return
    assert "rename" not in names and len(syncs) == 3 and syncs[2] == len(calls) - 1, steps
    at_magic = [n for n in writes if calls[n].offset == case.start]
    # The old magic goes before anything else is changed, but for what ftruncate() cuts off.
    assert len(at_magic) == 2 and at_magic[0] == writes[0] < syncs[0], steps
    assert all(syncs[0] < n < syncs[1] for n in writes if n not in at_magic), steps
    assert syncs[1] < at_magic[1] < syncs[2] and calls[at_magic[1]].length == 4, steps


def orders(case, recorder, step):
    case.prepare()
    recorder.begin(case.folder)
    error = case.save()
    calls = recorder.end()
    assert error is None
    assert case.holds() == "new" and not case.left_over()
    check_order(case, calls)
    direct = [c for c in calls if c.direct]
    assert bool(direct) == ("direct" in case.kind), "direct-io is used where it was asked for"
    assert all(c.name in ("open", "pwrite", "pwritev") and not (c.offset | c.length) & (PAGE - 1) for c in direct)
    return len(calls)


def sectors(case, recorder, size):
    """On a disk whose sectors are larger than a page: what is not aligned to them goes through the page cache."""
    case.prepare()
    pages = case.new.blocks[0].array.reshape(-1, PAGE)
    pages[63], pages[64:80], pages[80] = 0, 9, 0  # a run that is as large as a sector, in its place
    recorder.align(size)
    recorder.begin(case.folder)
    error = case.save()
    calls = recorder.end()
    try:
        assert error is None and case.holds() == "new", error
    finally:
        recorder.align(0)
    refused = [c for c in calls if c.direct and c.error]
    assert all(c.error == errno.EINVAL for c in refused)
    # Several runs with the gaps between them are tried again one by one, a run that is refused in the page cache.
    for call in (c for c in refused if c.name == "pwrite"):
        again = Call("pwrite", call.path, "", call.offset, call.length, call.length, 0, False)
        assert again in calls, call
    assert any(c.direct and c.name == "pwrite" and not c.error for c in calls), "aligned runs go past the page cache"
    check_order(case, calls)
    return len(refused)


def faults(case, recorder, step):
    """Each fault at each call."""
    runs = 0
    for fault in (*ERRORS, errno.EINTR, SHORT):
        number = 0
        while True:
            case.prepare()
            recorder.begin(case.folder, number, fault)
            error = case.save()
            calls = recorder.end()
            if number >= len(calls):
                assert error is None and number
                break
            check_fault(case, calls, number, fault, error)
            runs += 1
            number += step
    return runs


def check_fault(case, calls, number, fault, error):
    hit, holds, left = calls[number], case.holds(), case.left_over()
    steps = f"{case}: {fault} at {number} ({hit}): {error}; the path holds {holds}; {left}"
    #: Only these take time, so only these are interrupted; a call that cannot fall short has its whole effect.
    if fault == SHORT or (fault == errno.EINTR and hit.name not in ("rename", "unlink")):
        assert error is None and holds == "new" and not left, steps
        return
    if hit.name == "unlink":
        raise AssertionError(f"{steps}: nothing is unlinked while all is well")
    assert error is not None and "\n" not in str(error), steps
    assert os.strerror(fault) in str(error), steps
    assert not left, steps
    before = calls[:number]
    if case.in_place:
        wiped = any(c.name in WRITES for c in before) or any(c.name == "ftruncate" for c in before)
        done = hit.name == "fsync" and [c.name for c in before].count("fsync") == 2
        # Failing to sync the magic, it may be on the disk or not: all of the rest is.
        assert holds == ("new" if done else "no stream" if wiped else "old"), steps
    else:
        # The rename is the one moment of change; what fails later cannot bring the old file back.
        assert holds == ("new" if any(c.name == "rename" for c in before) else case.intact()), steps


def kill_one(case, recorder, number=-1, fault=0, after=None):
    """Saves in a child that is killed; returns whether it was, and the time that it took."""
    started = time.monotonic()
    child = os.fork()
    if not child:
        status = 1
        try:
            recorder.begin(case.folder, number, fault)
            status = 2 if case.save() else 0
        finally:
            os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    taken = time.monotonic() - started
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status), taken


def check_killed(case, where):
    holds, left = case.holds(), case.left_over()
    allowed = {"old", "no stream", "new"} if case.in_place else {case.intact(), "new"}
    assert holds in allowed, f"{case}: killed {where}: the path holds {holds}"
    assert len(left) <= 1 and all(n.startswith(".vm.") and n.endswith(".pyemu-partial") for n in left), left
    # The next save takes away what this one left.
    assert case.save() is None and case.holds() == "new" and not case.left_over()
    return holds


def kills(case, recorder, step):
    """Killed before, halfway through and after each call."""
    runs = 0
    found = set()
    for fault in (KILL_BEFORE, KILL_HALFWAY, KILL_AFTER):
        number = 0
        while True:
            case.prepare()
            killed, _ = kill_one(case, recorder, number, fault)
            if not killed:
                assert case.holds() == "new" and number
                break
            found.add(check_killed(case, f"{fault} at call {number}"))
            runs += 1
            number += step
    assert step > 1 or found == ({"old", "no stream", "new"} if case.in_place else {case.intact(), "new"})
    return runs


def random_kills(case, recorder, count):
    """Killed at random times, system calls halfway through included."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"# {case}: seed {seed}")
    chance = random.Random(seed)
    case.prepare()
    longest = kill_one(case, recorder)[1]
    runs = tries = 0
    while runs < count:
        tries += 1
        assert tries < 10 * count, "most saves end before they are killed"
        case.prepare()
        delay = chance.uniform(0, longest)
        killed, taken = kill_one(case, recorder, after=delay)
        if killed:
            check_killed(case, f"after {delay:.6f} s")
            runs += 1
        # How long a save takes depends on what else the system does: the range follows it.
        longest = longest * 1.1 if killed else min(longest, taken)
    return runs


def main():
    folder, *jobs = sys.argv[1:]
    modes = {"orders": orders, "sectors": sectors, "faults": faults, "kills": kills, "random": random_kills}
    recorder = Recorder()
    for job in jobs:
        mode, kind, target, pages, count = job.split(":")
        print(mode, kind, target, modes[mode](Case(folder, recorder, kind, target, int(pages)), recorder, int(count)), flush=True)


if __name__ == "__main__":
    main()

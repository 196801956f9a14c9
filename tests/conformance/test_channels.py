# SPDX-License-Identifier: MIT
"""Every migration channel of the core keeps what one promises."""

import os
import socket

import pytest

from pyemu.migration.channels import FileChannel
from pyemu.migration.command import ExecChannel
from pyemu.migration.given import FDChannel
from pyemu.migration.sockets import UnixChannel
from pyemu.migration.tcp import TCPChannel
from pyemu.testing.channel import ChannelConformance


class TestFile(ChannelConformance):
    channel = FileChannel
    rests = True

    def receiving(self, folder, context):
        return f"{folder}/x"


class TestFileInPlace(TestFile):
    def receiving(self, folder, context):
        return f"{folder}/x,offset=0x123"


class TestDescriptorSet(TestFile):
    def receiving(self, folder, context):
        for flags in (os.O_WRONLY | os.O_CREAT, os.O_RDONLY):
            context.descriptors.add(os.open(folder / "x", flags), 1)
        return "/dev/fdset/1"


class TestTCP(ChannelConformance):
    channel = TCPChannel

    def receiving(self, folder, context):
        return "127.0.0.1:0"


class TestTCP6(TestTCP):
    def receiving(self, folder, context):
        return "[::1]:0"


class TestUnix(ChannelConformance):
    channel = UnixChannel

    def receiving(self, folder, context):
        return f"{folder}/socket"

    @pytest.fixture(autouse=True)
    def nothing_stays(self, tmp_path):
        yield
        assert not [name for name in tmp_path.rglob("*") if name.is_socket()]


class TestGivenSockets(ChannelConformance):
    channel = FDChannel

    def receiving(self, folder, context):
        for name, sock in zip(("in", "out"), socket.socketpair(), strict=True):
            context.descriptors.put(name, sock.detach())
        return "in"

    def sending(self, receiving, folder):
        return "out"


class TestGivenPipes(TestGivenSockets):
    def receiving(self, folder, context):
        for name, fd in zip(("in", "out"), os.pipe(), strict=True):
            context.descriptors.put(name, fd)
        return "in"


class TestGivenFiles(TestGivenSockets):
    rests = True

    def receiving(self, folder, context):
        context.descriptors.put("in", os.open(folder / "x", os.O_RDONLY | os.O_CREAT))
        context.descriptors.put("out", os.open(folder / "x", os.O_WRONLY))
        return "in"


class TestCommands(ChannelConformance):
    channel = ExecChannel

    def receiving(self, folder, context):
        os.mkfifo(folder / "fifo")
        return f"cat '{folder}/fifo'"

    def sending(self, receiving, folder):
        return f"cat > '{folder}/fifo'"

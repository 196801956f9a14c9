# SPDX-License-Identifier: MIT
"""Pages in packets over several connections."""

from __future__ import annotations

import contextlib
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from migration.fakehost import FakeHost, FakeSource, Guest
from migration.memorychannels import MemoryInput, MemoryOutput
from migration.streams import counted, u32, u64
from pyemu_multifd import packets, receiving
from pyemu_multifd.backend import MultifdBackend
from pyemu_streaming.backend import StreamingBackend

from pyemu.errors import MigrationError
from pyemu.memory import RAMBlock
from pyemu.migration import LoadContext, MigrationController, SaveContext, SinkWrapper, StreamReader, StreamWriter
from pyemu.migration.pages import as_runs

PAGE = 4096
BLOCKS = (("ram", 1 << 20), ("vga.vram", 77 * PAGE), ("tiny", PAGE))
IDENTITY = bytes(range(16))
PARAMETERS = {
    "multifd-channels": 2,
    "multifd-compression": "none",
    "multifd-zlib-level": 1,
    "multifd-zstd-level": 1,
    "zero-page-detection": "multifd",
}
EMPTY = bytes(1344)


@pytest.fixture
def pair(filled, plugins, tmp_path):
    """A machine and one that waits for it, and what connects them."""

    def make(source=None, target=None, *, capabilities=(), there=(), **parameters):
        made = []
        for host, own in ((source or filled(blocks=BLOCKS), {}), (target or FakeHost(BLOCKS, run_state="inmigrate"), there)):
            controller = MigrationController(host, plugins)
            controller.set_capabilities({"multifd": True, **dict.fromkeys(capabilities, True)})
            controller.set_parameters({"max-bandwidth": 0, **parameters, **dict(own)})
            made.append((host, controller))
        for block in made[1][0].blocks:
            block.array[:] = 0x5A
        made[1][1].incoming(f"unix:{tmp_path}/sock")
        return made

    make.uri = f"unix:{tmp_path}/sock"
    return make


def same(a, b):
    return all((x.array == y.array).all() for x, y in zip(a.blocks, b.blocks, strict=True))


def move(pair, *arguments, **options):
    (source, leaving), (target, arriving) = pair(*arguments, **options)
    leaving.migrate(pair.uri)
    assert (leaving.wait(20), arriving.wait(20)) == ("completed", "completed"), (leaving.error, arriving.error)
    assert same(source, target)
    ram, there = leaving.query()["ram"], arriving.query()["ram"]
    # Both ends count the same bytes and pages.
    for name in ("total", "remaining", "transferred", "multifd-bytes", "normal", "duplicate"):
        assert ram[name] == there[name], name
    return ram


@pytest.mark.parametrize(
    ("compression", "detection"),
    [("none", "none"), ("none", "legacy"), ("none", "multifd"), ("zlib", "multifd"), ("zstd", "legacy")],
)
def test_a_machine_moves_in_packets(pair, compression, detection):
    ram = move(pair, **{"zero-page-detection": detection, "multifd-compression": compression, "multifd-channels": 3})
    pages = sum(size for _, size in BLOCKS) // PAGE
    assert ram["normal"] + ram["duplicate"] == pages
    assert (ram["duplicate"] == 0) == (detection == "none")
    if compression == "none":
        # As much as QEMU says of the same: three sync packets on each channel, an initial one, and the pages.
        data = -(-256 // 128) + 1 + 1 if detection != "legacy" else -(-ram["normal"] // 128) + 2
        assert ram["multifd-bytes"] <= ram["normal"] * PAGE + 3 * 64 + (data + 9) * 1344


@pytest.mark.parametrize(("here", "there"), [(1, 4), (5, 2)])
def test_the_destination_takes_as_many_channels_as_there_are(pair, here, there):
    move(pair, there={"multifd-channels": there}, **{"multifd-channels": here})


@pytest.mark.parametrize("detection", ["legacy", "multifd"])
def test_pages_sent_again_count_as_they_were_last(pair, filled, detection):
    source = filled(blocks=BLOCKS, run_state="running")
    (_, leaving), (target, arriving) = pair(
        source, **{"zero-page-detection": detection, "max-bandwidth": 30 << 20, "downtime-limit": 5, "multifd-channels": 3}
    )
    leaving.use_dirty_source(FakeSource())
    block = source.blocks[0]

    def step(n):
        # The same few pages all the time, zero in between.
        block.write(n % 20 * PAGE, (n % 3 and n).to_bytes(8, "little") * 512)

    with Guest(source, step) as guest:
        leaving.migrate(pair.uri)
        assert (leaving.wait(20), arriving.wait(20)) == ("completed", "completed"), (leaving.error, arriving.error)
    assert leaving.query()["ram"]["dirty-sync-count"] >= 3
    assert [b.array.tobytes() for b in target.blocks] == guest.pictures[-1]


# -- what is on the wire --------------------------------------------------------------------------


def sink_of(plugins, identity=IDENTITY, **parameters):
    output = MemoryOutput()
    context = SaveContext(StreamWriter(output), {**PARAMETERS, **parameters}, identity)
    backend = MultifdBackend()
    backend.plugins = plugins
    return output, backend.sink(context, StreamingBackend().sink(context, None))


def packet(number, *, flags=0, room=128, data=(), zero=(), size=None, block=b"ram", body=None, magic=0x11223344, version=1):
    """A packet as the format's description says, field by field."""
    body = b"".join(bytes([n + 1]) * PAGE for n in data) if body is None else body
    head = u32(magic) + u32(version) + u32(flags) + u32(room) + u32(len(data)) + u32(len(body) if size is None else size)
    head += u64(number) + u32(len(zero)) + bytes(28) + block.ljust(256, b"\0")
    offsets = b"".join(u64(n * PAGE) for n in (*data, *zero))
    return head + offsets.ljust(1024, b"\0") + body


def sync(number):
    return packet(number, flags=1, room=0, block=b"")


def initial(channel, identity=IDENTITY, magic=0x11223344, version=1):
    return u32(magic) + u32(version) + identity + bytes([channel]) + bytes(39)


def small_block():
    """Pages 1 to 3 and 6 of eight hold data, each byte being the page's number and one."""
    block = RAMBlock("ram", 8 * PAGE)
    for n in (1, 2, 3, 6):
        block.array[n * PAGE : (n + 1) * PAGE] = n + 1
    return block


def test_the_bytes_of_one_channel(plugins):
    output, sink = sink_of(plugins, **{"multifd-channels": 1})
    block = small_block()
    sink.block_header(block)
    sink.list_end()
    sink.submit(block, as_runs([(0, 4)]))
    sink.submit(block, as_runs([(6, 2)]))
    # Fewer than a packet holds: nobody has seen yet which of them are zero.
    assert (sink.count.normal, sink.in_flight) == (0, 6 * PAGE)
    sink.sync()
    assert sink.in_flight == 0
    sink.finish()
    assert output.data == u64(0x200) * 2
    expected = initial(0) + sync(0) + packet(1, data=(1, 2, 3, 6), zero=(0, 7)) + sync(2)
    assert output.further[0].data == expected
    assert (sink.count.normal, sink.count.zero) == (4, 2)
    assert sink.count.size == sink.channel_bytes == len(expected)
    sink.close()
    assert output.further[0].aborted


def test_zero_pages_on_the_main_stream(plugins):
    output, sink = sink_of(plugins, **{"multifd-channels": 1, "zero-page-detection": "legacy"})
    block = small_block()
    sink.block_header(block)
    sink.list_end()
    sink.submit(block, as_runs([(0, 8)]))
    sink.sync()
    records = u64(2) + counted("ram") + b"\0" + b"".join(u64(n * PAGE | 0x22) + b"\0" for n in (4, 5, 7))
    assert output.data == u64(0x200) + records + u64(0x200)
    assert output.further[0].data == initial(0) + sync(0) + packet(1, data=(1, 2, 3, 6)) + sync(2)
    assert (sink.count.normal, sink.count.zero) == (4, 4)
    sink.close()


def test_packets_hold_128_pages_of_one_block(plugins):
    output, sink = sink_of(plugins, **{"multifd-channels": 2, "zero-page-detection": "none"})
    first, second = RAMBlock("ram", 300 * PAGE), RAMBlock("rom", 10 * PAGE)
    for block in (first, second):
        sink.block_header(block)
    sink.list_end()
    for start in range(0, 300, 50):
        sink.submit(first, as_runs([(start, 50)]))
    sink.submit(second, as_runs([(0, 10)]))
    sink.sync()
    sink.close()
    found, numbers = [], []
    for channel in output.further:
        at = 64
        while at < len(channel.data):
            head = packets.HEADER.unpack_from(channel.data, at)
            numbers.append(head[6])
            at += 1344 + head[5]
            if not head[2]:
                found.append((head[8].rstrip(b"\0"), head[4], head[7]))
    assert sorted(found) == [(b"ram", 44, 0), (b"ram", 128, 0), (b"ram", 128, 0), (b"rom", 10, 0)]
    assert sorted(numbers) == list(range(4 + 4))


# -- hostile packets ------------------------------------------------------------------------------


def receive(plugins, main, channels, *, identity=IDENTITY, into=None, **parameters):
    """Feeds a source a main stream's records and channels; returns the memory."""
    block = into or small_block()
    stream = StreamReader(main if isinstance(main, MemoryInput) else MemoryInput(main, channels))
    context = LoadContext(stream, {**PARAMETERS, **parameters}, uuid=identity)
    backend = MultifdBackend()
    backend.plugins = plugins
    source = backend.source(context, StreamingBackend().source(context, None))
    try:
        source.block_header(block)
        source.list_end()
        while not stream.at_end():
            word = stream.u64()
            source.record(word & ~0xFFF, word & 0xFFF)
        source.finish()
    except MigrationError as error:
        raise source.fault() or error from None
    finally:
        source.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("multifd")]
    return block.array.reshape(-1, PAGE)[:, 0].tolist()


FLUSH = u64(0x200)


def test_packets_become_pages(plugins):
    channels = [
        initial(1) + sync(0) + packet(2, data=(3, 0), zero=(6,)) + packet(5, data=(6,), body=b"\x55" * PAGE) + sync(6),
        initial(0) + sync(1) + packet(3, zero=(1,)) + packet(4, data=(1,)) + sync(7) + packet(9, zero=(3,)) + sync(10),
    ]
    channels[0] += sync(8)
    main = FLUSH + FLUSH + u64(7 * PAGE | 2) + counted("ram") + b"\0" + FLUSH
    # What was in memory before is gone, zero pages of the third round hide what came in the second.
    assert receive(plugins, main, channels) == [1, 2, 0, 0, 0, 0, 0x55, 0]


def test_a_connection_that_says_nothing_keeps_no_other_waiting(plugins):
    class Silent(MemoryInput):
        def readinto(self, view):
            return super().readinto(view) or self._wait()

        def _wait(self):
            assert main.closed.wait(30)
            raise MigrationError("the channel was closed")

    main = MemoryInput(FLUSH + FLUSH, [GOOD])
    main.further.insert(0, Silent(initial(1)[:4]))
    assert receive(plugins, main, ()) == [0, 2, 0, 0, 0, 0, 0, 0]


GOOD = initial(0) + sync(0) + packet(1, data=(1,)) + sync(2)
HOSTILE = {
    "magic": (packet(1, magic=0x11223345), "multifd: received packet magic 11223345 expected 11223344"),
    "version": (packet(1, version=2), "multifd: received packet version 2 expected 1"),
    "room": (packet(1, room=129), "multifd: received packet with 129 pages, expected 128"),
    "normal": (packet(1, room=1, data=(1, 2)), "multifd: received packet with 2 normal and 0 zero pages, expected maximum 1"),
    "zero": (packet(1, room=2, data=(1,), zero=(2, 3)), "with 1 normal and 2 zero pages, expected maximum 2"),
    "block": (packet(1, block=b"bar", data=(1,)), "multifd: unknown ram block 'bar'"),
    "unnamed": (packet(1, block=b"", data=(1,)), "multifd: unknown ram block ''"),
    "unended": (packet(1, block=b"r" * 256, data=(1,)), "multifd: unknown ram block 'rrr"),
    "offset": (packet(1, data=(8,)), r"multifd: offset too long 32768 \(max 32768\) in block ram"),
    "zero-offset": (packet(1, zero=(1 << 51,)), "multifd: offset too long"),
    "unaligned": (packet(1, zero=(1,)).replace(u64(PAGE), u64(PAGE + 8)), "offset 0x1008 in block ram is inside a page"),
    "compressed": (packet(1, flags=2, data=(1,)), "multifd 0: flags received 2 flags expected 0"),
    "device": (packet(1, flags=0x40), "multifd 0: flags received 40 are device state"),
    "flags": (packet(1, flags=0x80), "multifd 0: flags received 80 are unknown"),
    "size": (packet(1, data=(1,), size=PAGE - 1), "multifd 0: packet of 4095 bytes for 1 pages of 4096"),
    "size-of-nothing": (packet(1, zero=(1,), size=1), "multifd 0: packet of 1 bytes for 0 pages"),
    "sync-with-pages": (packet(1, flags=1, zero=(1,)), r"multifd 0: sync packet with 0 \+ 1 pages"),
    "cut-head": (packet(1)[:100], "multifd: unexpected EOF after packet header"),
    "cut-pages": (packet(1, data=(1,))[:2000], "multifd: unexpected EOF after packet header"),
    "no-pages": (packet(1, data=(1,))[:1344], "multifd: unexpected EOF after packet header"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_fields_that_are_not_acceptable(plugins, name):
    data, message = HOSTILE[name]
    with pytest.raises(MigrationError, match=message):
        receive(plugins, FLUSH + FLUSH, [initial(0) + sync(0) + data])


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ([initial(0, magic=1) + sync(0)], "multifd: received packet magic 1 expected 11223344"),
        ([initial(0, version=9) + sync(0)], "multifd: received packet version 9 expected 1"),
        (
            [initial(3, identity=bytes(16)) + sync(0)],
            "received uuid '00000000-0000-0000-0000-000000000000' and expected uuid"
            " '00010203-0405-0607-0809-0a0b0c0d0e0f' for channel 3",
        ),
        ([initial(255) + sync(0)], "received channel id 255 is greater than number of channels 255"),
        ([initial(1) + sync(0), initial(1) + sync(1)], "multifd: received id '1' already setup'"),
        ([initial(0)[:20]], "multifd: unexpected EOF"),
        ([b""], "the stream ends inside a multifd channel's initial packet"),
    ],
)
def test_channels_that_are_not_acceptable(plugins, channels, message):
    with pytest.raises(MigrationError, match=message):
        receive(plugins, FLUSH + FLUSH, channels)


def test_a_channel_that_never_connects_is_noticed(plugins, monkeypatch):
    monkeypatch.setattr(receiving, "PATIENCE", 0.01)
    # Packet 1 went over another channel, with pages that nobody will see.
    channel = initial(0) + sync(0) + packet(2, data=(1,)) + sync(3)
    with pytest.raises(MigrationError, match=r"1 of 4 packets are missing .* a channel of the source did not connect \(1 did\)"):
        receive(plugins, FLUSH + FLUSH, [channel])


@pytest.mark.parametrize(
    ("main", "channel"),
    [(FLUSH, GOOD), (FLUSH + FLUSH, GOOD + sync(3)), (b"", GOOD)],
)
def test_channels_and_main_stream_end_together(plugins, monkeypatch, main, channel):
    finish = receiving.PacketSource.finish

    def finish_later(source):
        # The loader gets to its end when the channel has come to the sync packet that no flush follows.
        with source._changed:
            assert source._changed.wait_for(lambda: source._synced.get(0, 0) > source._flushes, 20)
        finish(source)

    monkeypatch.setattr(receiving.PacketSource, "finish", finish_later)
    with pytest.raises(MigrationError, match=r"channels \[0\] and the main stream do not end at the same"):
        receive(plugins, main, [channel])


@settings(max_examples=25)
@given(st.integers(0, len(GOOD) - 1 - 1344), st.binary(min_size=1, max_size=8))
def test_damaged_channels_end_in_one_kind_of_error(plugins, at, junk):
    data = GOOD[:at] + junk + GOOD[at + len(junk) :]
    saved, receiving.PATIENCE = receiving.PATIENCE, 0.01
    try:
        receive(plugins, FLUSH + FLUSH, [data])
    except MigrationError as error:
        assert str(error)
    finally:
        receiving.PATIENCE = saved


# -- what ends a migration ------------------------------------------------------------------------


def test_a_failing_destination_leaves_the_source_running(pair, filled):
    """All that comes before the switchover may fit into the sockets, so the source does not end before the other has failed."""
    source = filled(blocks=BLOCKS, run_state="running")
    (_, leaving), (target, arriving) = pair(
        source, capabilities=["pause-before-switchover"], there={"multifd-compression": "zlib"}
    )
    leaving.use_dirty_source(FakeSource())
    with Guest(source, lambda n: source.blocks[0].mark_dirty(0, 1 << 20)):
        leaving.migrate(pair.uri)
        assert arriving.wait(20) == "failed"
        while leaving.status in ("setup", "active", "pre-switchover"):
            with contextlib.suppress(MigrationError):
                leaving.continue_("pre-switchover")
        assert leaving.wait(20) == "failed"
        assert source.run_state == "running"
    assert "flags received 0 flags expected 2" in str(arriving.error)
    assert not any(block.array.any() for block in target.blocks)


def test_cancelling_ends_threads_that_cannot_send(filled, plugins, tmp_path, controller):
    import socket

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{tmp_path}/deaf")
    listening.listen(8)
    source = filled(blocks=(("ram", 16 << 20),))
    leaving = MigrationController(source, plugins)
    leaving.set_capabilities({"multifd": True})
    leaving.set_parameters({"max-bandwidth": 0})
    leaving.migrate(f"unix:{tmp_path}/deaf")
    peers = [listening.accept()[0] for _ in range(3)]
    # Pages are on their way, and nobody takes them.
    assert peers[1].recv(64, socket.MSG_WAITALL)[:4] == b"\x11\x22\x33\x44"
    leaving.cancel()
    assert leaving.wait(20) == "cancelled"
    for sock in (*peers, listening):
        sock.close()
    assert source.run_state == "paused"


def test_one_channel_that_breaks_ends_the_migration(filled, plugins, tmp_path):
    import socket

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{tmp_path}/half")
    listening.listen(8)
    leaving = MigrationController(filled(blocks=(("ram", 16 << 20),)), plugins)
    leaving.set_capabilities({"multifd": True})
    leaving.set_parameters({"max-bandwidth": 0})
    leaving.migrate(f"unix:{tmp_path}/half")
    peers = [listening.accept()[0] for _ in range(3)]
    peers[2].close()
    assert leaving.wait(20) == "failed"
    assert "Unable to write to socket" in str(leaving.error)
    for sock in (*peers, listening):
        sock.close()


def test_a_destination_that_waits_is_not_changed(plugins, tmp_path):
    target = FakeHost(BLOCKS, run_state="inmigrate")
    arriving = MigrationController(target, plugins)
    arriving.incoming(f"unix:{tmp_path}/sock")
    with pytest.raises(MigrationError, match="^Multifd must be set before incoming starts$"):
        arriving.set_capabilities({"multifd": True})
    leaving = MigrationController(FakeHost(BLOCKS), plugins)
    leaving.migrate(f"unix:{tmp_path}/sock", blocking=True)
    assert arriving.wait(20) == "completed"
    arriving.set_capabilities({"multifd": True})
    arriving.close()


@pytest.mark.parametrize("uri", ["file:x", "exec:cat", "fd:1"])
def test_channels_that_are_only_one_are_refused(controller, plugins, uri):
    leaving = controller()
    leaving.set_capabilities({"multifd": True})
    with pytest.raises(MigrationError, match=r"^Migration requires multi-channel URIs \(e.g. tcp\)$"):
        leaving.migrate(uri)


def test_a_compression_that_is_not_there_is_named_before_anything_is_opened(controller, plugins, tmp_path):
    class Without:
        def __getattr__(self, name):
            return getattr(plugins, name)

        def get(self, kind, name):
            return plugins.get(kind, "nothing" if kind == "compression" else name)

    leaving = MigrationController(FakeHost(), Without())
    leaving.set_capabilities({"multifd": True})
    leaving.set_parameters({"multifd-compression": "zstd"})
    with pytest.raises(MigrationError, match="pip install pyemu-zstd"):
        leaving.migrate(f"unix:{tmp_path}/nobody")


def test_numbers_of_different_machines_do_not_fit(pair, filled):
    (_, leaving), (_, arriving) = pair(filled(blocks=BLOCKS, uuid=IDENTITY))
    leaving.migrate(pair.uri)
    assert arriving.wait(20) == "failed"
    assert "received uuid '00010203-" in str(arriving.error)
    # All of it may have been under way by then.
    assert leaving.wait(20) in ("failed", "completed")


def test_offsets_are_of_the_format():
    assert packets.INITIAL.size == 64
    assert packets.packet_size(PAGE) == 1344 == len(EMPTY)
    data = packets.encode_pages(7, 4, RAMBlock("ram", 8 * PAGE), np.array([5, 1]), np.array([3]), 99)
    assert struct.unpack_from(">QQQQ", data, 320) == (5 * PAGE, PAGE, 3 * PAGE, 0)
    assert data == packet(7, flags=4, data=(5, 1), zero=(3,), size=99, body=b"")


def test_a_wrapped_sink_says_what_is_in_flight(plugins):
    _, sink = sink_of(plugins)
    outer = SinkWrapper(sink)
    block = small_block()
    outer.block_header(block)
    outer.list_end()
    outer.submit(block, as_runs([(0, 8)]))
    assert outer.in_flight == sink.in_flight == 8 * PAGE
    outer.sync()
    assert (outer.in_flight, outer.count.normal, outer.count.zero) == (0, 4, 4)
    outer.close()

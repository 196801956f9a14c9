# SPDX-License-Identifier: MIT
"""PCI function 5: AC'97 audio with playback, and where the MIDI and game ports are.

The playback channel follows a table of segments in guest memory (scatter/gather). How far it is
follows from the machine's clock: whoever looks brings it up to date, and so does a timer, for
the interrupts. A table is the guest's: a look goes through a bounded number of segments.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from pyemu import Property, Timer, vmstate
from pyemu.chips.ac97 import CODEC, WAV_RATE, Codec, WAVFile, at_wav_rate, frames_of
from pyemu.chips.mpu401 import MPU401, GamePort
from pyemu.device import Register, RegisterBlock, RegisterTable, VMState, block_field, pci_state, touches

from .functions import (
    COMMAND_IO,
    COMMAND_MASTER,
    REG_CAPABILITIES,
    REG_COMMAND,
    REG_LINE,
    REG_PIN,
    REG_STATUS,
    REG_SUBSYSTEM,
    STATUS_W1C,
    ViaFunction,
)

REG_FUNCTIONS, REG_LEGACY, REG_GAME_BASE = 0x42, 0x43, 0x4A
MIDI_ON, GAME_ON, SUBSYSTEM_WRITE, MIDI_BY_BAR = 0x02, 0x08, 0x20, 0x80
MIDI_LINES = (5, 7, 9, 10)
MIDI_BAR = 2

STATUS, CONTROL, TYPE, TABLE, COUNT = 0x00, 0x01, 0x02, 0x04, 0x0C
ACTIVE, PAUSED, STOPPED, END_OF_LIST, FLAGGED = 0x80, 0x40, 0x04, 0x02, 0x01
START, TERMINATE, PAUSE = 0x80, 0x40, 0x08
AUTOSTART, WIDE, STEREO, INTERRUPT_END, INTERRUPT_FLAG = 0x80, 0x20, 0x10, 0x02, 0x01
CODEC_ACCESS, SHADOW = 0x80, 0x84
CODEC_READ, CODEC_VALID = 0x80, 0x02
SEGMENT_END, SEGMENT_FLAG, SEGMENT_STOP, SEGMENT_LENGTH = 1 << 31, 1 << 30, 1 << 29, (1 << 24) - 1
SEGMENT = struct.Struct("<II")

NS = 1_000_000_000
#: How often the channel moves on by itself, and what it makes up for at most.
PERIOD_NS, LATEST_NS = 5_000_000, 100_000_000
#: Segments that one look goes through; a table of empty ones would otherwise never end.
MAX_SEGMENTS = 64

ENGINE = RegisterTable(
    (
        Register(STATUS, "playback status", 0, 0, clear=STOPPED | END_OF_LIST | FLAGGED,
                 effect="7 active, 6 paused, 2 stopped, 1 end, 0 flag"),
        Register(CONTROL, "playback control", 0, PAUSE, effect="7 starts, 6 ends, 3 pauses"),
        Register(TYPE, "playback type", 0, 0xFF, effect="7 restart at the end, 5 16 bits, 4 stereo, 1-0 interrupts"),
        Register(TABLE, "playback table", 0, 0xFFFFFFFE, size=4, effect="reads the address of the next segment while active"),
        Register(COUNT, "playback count", 0, 0, size=4, effect="bytes left in the segment"),
        Register(0x10, "record status", 0, 0),
        Register(0x12, "record type"),
        Register(CODEC_ACCESS, "codec access", 0, 0xC0FFFFFF, size=4, effect="22-16 register, 23 read; a write makes the access"),
        Register(SHADOW, "status shadow", 0, 0, size=4, effect="the playback status, spread out"),
    ),
    name="AC'97 controller", size=256, attribute="engine",
)  # fmt: skip


class ViaAudio(ViaFunction):
    """AC'97 audio: codec access, playback (into a WAV file), and control of the MIDI and game ports.

    Attributes:
        midi, game: the ISA functions that it places; attached by the board.
        table: address of the next segment's entry.
        segment, left, flags: what is left of the segment that plays.
        time_ns: guest time up to which was played.
        phase: of the WAV file's frames, see :func:`pyemu.chips.ac97.at_wav_rate`.
    """

    type_name = "via-ac97"
    device_id = 0x3058
    class_code = 0x040100
    properties = (*ViaFunction.properties, Property("wav", "host", None, "WAV file that gets what is played"))
    config_registers = (
        Register(REG_COMMAND, "command", 0x0004, COMMAND_IO | COMMAND_MASTER, size=2),
        Register(REG_STATUS, "status", 0x0210, 0, size=2, clear=STATUS_W1C),
        Register(REG_CAPABILITIES, "capabilities pointer", 0xC0, 0),
        Register(REG_LINE, "interrupt line", effect="routes the function's interrupt to this ISA line"),
        Register(REG_PIN, "interrupt pin", 3, 0),
        Register(0x40, "AC link status", 0x01, 0, effect="bit 0: the codec is ready"),
        Register(0x41, "AC link control"),
        Register(REG_FUNCTIONS, "function enable",
                 effect="1 MIDI, 3 game port, 5 subsystem id writable, 7 MIDI by base register 2"),
        Register(REG_LEGACY, "legacy base, interrupt and DMA", 0x1C, effect="7-6 MIDI line, 3-2 MIDI base"),
        Register(REG_GAME_BASE, "game port base", size=2),
    )  # fmt: skip
    register_tables = (ENGINE, CODEC)
    vmstate: ClassVar[VMState] = pci_state(
        "via-ac97",
        block_field("engine", ENGINE),
        vmstate.nested("codec", Codec.vmstate),
        vmstate.uint32("table"),
        vmstate.uint32("segment"),
        vmstate.uint32("left", limit=SEGMENT_LENGTH),
        vmstate.uint32("flags"),
        vmstate.int64("time_ns"),
        vmstate.uint32("phase", limit=WAV_RATE),
        vmstate.timer("timer"),
    )
    volatile: ClassVar[frozenset[str]] = ViaFunction.volatile | {"wav", "output", "midi", "game"}
    wav: str | None

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        self.engine = RegisterBlock(ENGINE, self)
        self.codec = Codec()
        self.midi: MPU401 | None = None
        self.game: GamePort | None = None
        self.output: WAVFile | None = None
        self.timer: Timer | None = None
        self._stop_engine()
        self.time_ns = 0
        self.register_bar(0, self.engine.ports(self._read, self._write), 256, "io")
        self.register_bar(1, RegisterBlock(RegisterTable((), name="FM", size=4)).ports(), 4, "io")
        # Below the MIDI port, which is moved here when it is to answer at this base register.
        midi = RegisterBlock(RegisterTable((), name="MIDI", size=4)).ports()
        self.register_bar(MIDI_BAR, midi, 4, "io", priority=-1)

    def _stop_engine(self) -> None:
        self.table = self.segment = self.left = self.flags = self.phase = 0

    def attach(self, midi: MPU401, game: GamePort) -> None:
        """Makes the ISA functions this one's to place; before they are plugged in."""
        for function in (midi, game):
            function.placed_by = self
            function.set_enabled(False)
        self.midi, self.game = midi, game

    # -- life -------------------------------------------------------------------------------------

    def realize(self) -> None:
        super().realize()
        if self.wav is not None and self.output is None:
            self.output = WAVFile(self.wav)
        self.timer = self.bus.clock.timer(self._tick, "ac97")

    def unrealize(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        super().unrealize()

    def close(self) -> None:
        if self.output is not None:
            self.output.close()
        super().close()

    def reset(self) -> None:
        self.engine.reset()
        self.codec.reset()
        self._stop_engine()
        self.time_ns = 0
        if self.timer is not None:
            self.timer.cancel()
        super().reset()
        self._drive()

    def pre_save(self) -> None:
        self._advance()

    def post_load(self, version: int) -> None:
        super().post_load(version)
        self._drive()

    # -- placement --------------------------------------------------------------------------------

    def config_write(self, register: int, size: int, value: int) -> None:
        # While bit 5 of 42 is set the subsystem id takes what firmware writes.
        for at in range(REG_SUBSYSTEM, REG_SUBSYSTEM + 4):
            self.wmask[at] = 0xFF if self.config[REG_FUNCTIONS] & SUBSYSTEM_WRITE else 0
        super().config_write(register, size, value)

    def follow(self) -> None:
        super().follow()
        if self.midi is None or self.game is None or self.isa is None:
            return
        on, legacy = 0 if self.hidden else self.config[REG_FUNCTIONS], self.config[REG_LEGACY]
        place: int | None = 0x300 + 0x10 * (legacy >> 2 & 3)
        if on & MIDI_BY_BAR:
            place = self.bar_address(MIDI_BAR)
        if place is not None:
            self.midi.set_base(place)
        self.midi.set_irq(MIDI_LINES[legacy >> 6])
        self.midi.set_enabled(bool(on & MIDI_ON) and place is not None)
        base = int.from_bytes(self.config[REG_GAME_BASE : REG_GAME_BASE + 2], "little") & 0xFFF8
        self.game.set_base(base)
        self.game.set_enabled(bool(on & GAME_ON) and base >= 0x100)

    # -- registers --------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> int:
        self._advance()
        status = self.engine.data[STATUS]
        self.engine.put(COUNT, 4, self.left)
        shadow = (status & FLAGGED) | (status & END_OF_LIST) << 3 | (status & STOPPED) << 6 | (status & ACTIVE) << 5
        self.engine.put(SHADOW, 4, shadow)
        if status & ACTIVE and touches(offset, size, TABLE, 4):
            held = self.engine.get(TABLE, 4)
            self.engine.put(TABLE, 4, self.table)
            value = self.engine.get(offset, size)
            self.engine.put(TABLE, 4, held)
            return value
        return self.engine.get(offset, size)

    def _write(self, offset: int, size: int, value: int) -> None:
        self._advance()
        self.engine.write(offset, size, value)
        if touches(offset, size, CONTROL):
            self._control(value >> 8 * (CONTROL - offset) & 0xFF)
        # The access is made by the byte that holds the register's number.
        if touches(offset, size, CODEC_ACCESS + 2):
            self._access_codec()
        self._schedule()
        self._drive()

    def _control(self, value: int) -> None:
        status = self.engine.data[STATUS]
        if value & TERMINATE:
            status &= ~(ACTIVE | PAUSED)
            self._stop_engine()
        elif value & START and not status & ACTIVE:
            status |= ACTIVE
            self.table, self.left, self.flags = self.engine.get(TABLE, 4), 0, 0
            self.time_ns = self.bus.clock.now_ns
        status = status | PAUSED if value & PAUSE and status & ACTIVE else status & ~PAUSED
        self.engine.data[STATUS] = status

    def _access_codec(self) -> None:
        data = self.engine.data
        register = data[CODEC_ACCESS + 2] & 0x7F
        if data[CODEC_ACCESS + 3] & 0xC0:
            data[CODEC_ACCESS + 3] &= 0xC0  # no second codec: never valid
            return
        if data[CODEC_ACCESS + 2] & CODEC_READ:
            self.engine.put(CODEC_ACCESS, 2, self.codec.read(register))
        else:
            self.codec.write(register, self.engine.get(CODEC_ACCESS, 2))
        data[CODEC_ACCESS + 3] = CODEC_VALID

    def _drive(self) -> None:
        status, wanted = self.engine.data[STATUS], self.engine.data[TYPE]
        end = status & END_OF_LIST and wanted & INTERRUPT_END
        self.irq_out.set_level(1 if end or (status & FLAGGED and wanted & INTERRUPT_FLAG) else 0)

    # -- playback ---------------------------------------------------------------------------------

    def _playing(self) -> bool:
        return self.engine.data[STATUS] & (ACTIVE | PAUSED) == ACTIVE and bool(self.command & COMMAND_MASTER)

    def _schedule(self) -> None:
        if self.timer is None:
            return
        if not self._playing():
            self.timer.cancel()
        elif not self.timer.armed:
            self.timer.arm(self.bus.clock.now_ns + PERIOD_NS)

    def _tick(self) -> None:
        self._advance()
        self._schedule()
        self._drive()

    def _advance(self) -> None:
        """Plays what became due since the last look."""
        now = self.bus.clock.now_ns
        if not self._playing():
            self.time_ns = now
            return
        self.time_ns = max(self.time_ns, now - LATEST_NS)
        rate = self.codec.rate
        frames = max(0, now - self.time_ns) * rate // NS
        self.time_ns += frames * NS // rate
        kind = self.engine.data[TYPE]
        frame = (2 if kind & WIDE else 1) * (2 if kind & STEREO else 1)
        due = frames * frame
        segments = 0
        while due and self._playing():
            if self.left < frame:
                segments += 1
                if segments > MAX_SEGMENTS or not self._next_segment():
                    return
                continue
            size = min(due, self.left - self.left % frame)
            self._play(size, kind)
            self.segment = self.segment + size & 0xFFFFFFFF
            self.left -= size
            due -= size
            if self.left < frame:
                self._end_segment()

    def _next_segment(self) -> bool:
        memory = self.bus.memory
        if memory is None:
            return False
        self.segment, word = SEGMENT.unpack(memory.read(self.table, SEGMENT.size))
        self.table = self.table + SEGMENT.size & 0xFFFFFFFF
        self.left, self.flags = word & SEGMENT_LENGTH, word & ~SEGMENT_LENGTH
        if not self.left:
            self._end_segment()
        return True

    def _end_segment(self) -> None:
        status = self.engine.data[STATUS]
        self.left = 0
        if self.flags & SEGMENT_FLAG:
            status |= FLAGGED
        if self.flags & SEGMENT_STOP:
            status |= PAUSED
        if self.flags & SEGMENT_END:
            status |= END_OF_LIST
            if self.engine.data[TYPE] & AUTOSTART:
                self.table = self.engine.get(TABLE, 4)
            else:
                status = status & ~ACTIVE | STOPPED
        self.flags = 0
        self.engine.data[STATUS] = status

    def _play(self, size: int, kind: int) -> None:
        memory = self.bus.memory
        if self.output is None or memory is None:
            return
        frames = frames_of(memory.read(self.segment, size), wide=bool(kind & WIDE), stereo=bool(kind & STEREO))
        data, self.phase = at_wav_rate(frames, self.codec.rate, self.phase, self.codec.gains())
        try:
            self.output.write(data)
        except OSError as error:
            self.warn_once(f"wav {error.errno}", "wav=%s: %s", self.wav, error)

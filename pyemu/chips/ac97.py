# SPDX-License-Identifier: MIT
"""An AC'97 codec, and a WAV file as the loudspeaker behind it."""

from __future__ import annotations

import os
import struct
from typing import ClassVar

import numpy as np

from ..device import Register, RegisterTable, VMState, vmstate
from ..errors import ConfigError

MASTER, PCM, STEREO_RATE, EXTENDED_ID, EXTENDED_CONTROL = 0x02, 0x18, 0x2C, 0x28, 0x2A
POWERDOWN, RECORD_RATE, VENDOR_1, VENDOR_2, RESET = 0x26, 0x32, 0x7C, 0x7E, 0x00
MUTE = 0x8000
VARIABLE_RATE = 0x0001
#: Rates that the codec accepts; others become the nearest of these limits.
LOWEST_RATE, HIGHEST_RATE = 4000, 48000

CODEC = RegisterTable(
    (
        Register(RESET, "reset", 0x0000, 0, size=2, effect="any write brings all registers to their reset values"),
        Register(MASTER, "master volume", MUTE, 0x9F1F, size=2, effect="attenuation in steps of 1.5 dB, bit 15 mutes"),
        Register(0x04, "headphone volume", MUTE, 0x9F1F, size=2),
        Register(0x06, "mono volume", MUTE, 0x801F, size=2),
        Register(0x0A, "PC beep volume", 0x0000, 0x801E, size=2),
        Register(0x0C, "phone volume", 0x8008, 0x801F, size=2),
        Register(0x0E, "microphone volume", 0x8008, 0x805F, size=2),
        Register(0x10, "line in volume", 0x8808, 0x9F1F, size=2),
        Register(0x12, "CD volume", 0x8808, 0x9F1F, size=2),
        Register(0x14, "video volume", 0x8808, 0x9F1F, size=2),
        Register(0x16, "aux volume", 0x8808, 0x9F1F, size=2),
        Register(PCM, "PCM out volume", 0x8808, 0x9F1F, size=2, effect="08 is 0 dB, steps of 1.5 dB, bit 15 mutes"),
        Register(0x1A, "record select", 0x0000, 0x0707, size=2),
        Register(0x1C, "record gain", MUTE, 0x8F0F, size=2),
        Register(0x20, "general purpose", 0x0000, 0xB380, size=2),
        Register(POWERDOWN, "power-down, status", 0x000F, 0xFF00, size=2),
        Register(EXTENDED_ID, "extended audio id", VARIABLE_RATE, 0, size=2),
        Register(EXTENDED_CONTROL, "extended audio control", 0, VARIABLE_RATE, size=2, effect="bit 0: other rates than 48000"),
        Register(STEREO_RATE, "PCM front rate", HIGHEST_RATE, 0xFFFF, size=2, effect="in Hz"),
        Register(RECORD_RATE, "PCM input rate", HIGHEST_RATE, 0xFFFF, size=2, effect="in Hz"),
        Register(VENDOR_1, "vendor id 1", 0x8384, 0, size=2),
        Register(VENDOR_2, "vendor id 2", 0x7600, 0, size=2),
    ),
    name="AC'97 codec", size=0x80, attribute="codec.data",
)  # fmt: skip


class Codec:
    """The mixer registers of a codec with variable rate.

    Attributes:
        data: the registers, 128 bytes.
    """

    vmstate: ClassVar[VMState] = VMState("ac97-codec", fields=(vmstate.buffer("data", CODEC.size),))

    def __init__(self) -> None:
        self.data = CODEC.reset_values()

    def reset(self) -> None:
        self.data[:] = CODEC.reset_values()

    def read(self, register: int) -> int:
        """The word at an even register; 0 where there is none."""
        return self.data[register & 0x7E] | self.data[(register & 0x7E) + 1] << 8

    def write(self, register: int, value: int) -> None:
        register &= 0x7E
        declared = CODEC.get(register)
        if register == RESET:
            self.reset()
            return
        if declared is None or declared.ignores:
            return
        if register in (STEREO_RATE, RECORD_RATE):
            variable = self.read(EXTENDED_CONTROL) & VARIABLE_RATE
            value = min(max(value, LOWEST_RATE), HIGHEST_RATE) if variable else HIGHEST_RATE
        value = self.read(register) & ~declared.mask | value & declared.mask
        self.data[register : register + 2] = value.to_bytes(2, "little")
        if register == EXTENDED_CONTROL and not value & VARIABLE_RATE:
            for rate in (STEREO_RATE, RECORD_RATE):
                self.data[rate : rate + 2] = HIGHEST_RATE.to_bytes(2, "little")

    @property
    def rate(self) -> int:
        """Of playback, in Hz; within the limits also after a load."""
        return min(max(self.read(STEREO_RATE), LOWEST_RATE), HIGHEST_RATE)

    def gains(self) -> tuple[float, float]:
        """Of left and right: PCM and master volume together; 0 when muted."""
        master, pcm = self.read(MASTER), self.read(PCM)
        if (master | pcm) & MUTE:
            return 0.0, 0.0
        steps = [(master >> shift & 0x1F) + (pcm >> shift & 0x1F) - 8 for shift in (8, 0)]
        left, right = (10 ** (-1.5 * n / 20) for n in steps)
        return left, right


WAV_RATE, WAV_FRAME = 48_000, 4
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
#: A WAV file cannot say more.
WAV_LIMIT = 0xFFFFFFFF - _HEADER.size


class WAVFile:
    """A WAV file of 16-bit stereo at 48 kHz, whole after each write.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.length = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            os.pwrite(self._fd, self._header(), 0)
        except OSError as error:
            raise ConfigError(f"wav={path}: {error.strerror}") from None

    def _header(self) -> bytes:
        return _HEADER.pack(
            b"RIFF", self.length + _HEADER.size - 8, b"WAVE", b"fmt ", 16,
            1, 2, WAV_RATE, WAV_RATE * WAV_FRAME, WAV_FRAME, 16, b"data", self.length,
        )  # fmt: skip

    def write(self, data: bytes) -> None:
        """Appends whole frames; what a WAV file cannot hold is left out.

        Raises:
            OSError: the host could not write.
        """
        data = data[: WAV_LIMIT - self.length]
        os.pwrite(self._fd, data, _HEADER.size + self.length)
        self.length += len(data)
        os.pwrite(self._fd, self._header(), 0)

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def frames_of(data: bytes, *, wide: bool, stereo: bool) -> np.ndarray:
    """Samples as a guest has them in memory (8 bits unsigned or 16 signed, one or two channels) as rows of int16."""
    if wide:
        samples = np.frombuffer(data, "<i2")
    else:
        samples = ((np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8).astype(np.int16)
    return samples.reshape(-1, 2) if stereo else np.repeat(samples.reshape(-1, 1), 2, axis=1)


def at_wav_rate(frames: np.ndarray, rate: int, phase: int, gains: tuple[float, float]) -> tuple[bytes, int]:
    """The frames at 48 kHz (each output frame is the input frame of its time) and louder or softer.

    Args:
        frames: int16, one row a frame.
        rate: of the frames, in Hz.
        phase: where the first output frame lies after the first input frame, in units of 1/(rate * 48000) s.
        gains: factors of left and right.

    Returns:
        The bytes of the WAV file, and the phase for the frames that follow.
    """
    span = len(frames) * WAV_RATE
    count = max(0, -(-(span - phase) // rate))
    if not count:
        return b"", phase - span
    picked = frames[(phase + rate * np.arange(count, dtype=np.int64)) // WAV_RATE]
    scaled = np.clip(np.rint(picked * np.array(gains)), -32768, 32767).astype("<i2")
    return scaled.tobytes(), phase + count * rate - span

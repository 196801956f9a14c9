# SPDX-License-Identifier: MIT
"""What is exchanged with a real QEMU: the RAM content, and the ways to save it to a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE = 32 << 20
PAGE = 4096


def content() -> npt.NDArray[np.uint8]:
    """Runs, holes, single pages, the first page and the last one."""
    data = np.zeros(SIZE, dtype=np.uint8)
    pages = data.reshape(-1, PAGE)
    noise = np.random.default_rng(3).integers(0, 256, (2048, PAGE), dtype=np.uint8)
    pages[256 : 256 + 2048] = noise
    pages[256 : 256 + 2048 : 4] = 0
    pages[0], pages[-1] = noise[0], noise[1]
    pages[8000:8100:2, 4095] = 9
    return data


@dataclass(frozen=True)
class Format:
    """One way to save: capabilities and parameters by QEMU's names.

    Attributes:
        mapped: pages at fixed places.
        channels: of multifd, 0 for without.
        direct: past the page cache.
        zeros: the value of ``zero-page-detection``.
        offset: of the stream in the file, None for a file of its own.
    """

    mapped: bool = False
    channels: int = 0
    direct: bool = False
    zeros: str = "multifd"
    offset: int | None = None

    @property
    def capabilities(self) -> tuple[str, ...]:
        return ("mapped-ram",) * self.mapped + ("multifd",) * bool(self.channels)

    @property
    def parameters(self) -> dict[str, Any]:
        values: dict[str, Any] = {"max-bandwidth": 0, "zero-page-detection": self.zeros}
        if self.channels:
            values["multifd-channels"] = self.channels
        if self.mapped:
            values["direct-io"] = self.direct
        return values

    @property
    def suffix(self) -> str:
        return "" if self.offset is None else f",offset={self.offset:#x}"

    def __str__(self) -> str:
        words = ["mapped" if self.mapped else "stream"]
        words += [f"multifd{self.channels}"] * bool(self.channels) + ["direct"] * self.direct
        words += [f"zeros_{self.zeros}"] * (self.zeros != "multifd")
        words += [] if self.offset is None else [f"at_{self.offset:#x}"]
        return "-".join(words)


STREAM, MAPPED = Format(), Format(mapped=True)
FOUR = Format(mapped=True, channels=4)
ZEROS = ("multifd", "legacy", "none")
#: Behind a header of another program, at an odd place, and where pages would be aligned anyway.
OFFSETS = (0x11111, 1 << 20)


def file_formats() -> Iterator[Format]:
    """Every combination for a file of its own, and the layouts at an offset."""
    for zeros in ZEROS:
        yield Format(zeros=zeros)
        for channels, direct in itertools.product((0, 1, 2, 4), (False, True)):
            yield Format(True, channels, direct, zeros)
    for offset in OFFSETS:
        yield Format(offset=offset)
        yield Format(True, 0, False, offset=offset)
        yield Format(True, 2, False, offset=offset)
        yield Format(True, 4, True, offset=offset)


def differing(found: bytes | npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> str:
    """Empty if both are alike, else which pages differ; comparing megabytes in an assert takes minutes to print."""
    data = np.frombuffer(found, dtype=np.uint8) if isinstance(found, bytes) else found
    if len(data) != len(wanted):
        return f"{len(data)} bytes instead of {len(wanted)}"
    pages = np.flatnonzero((data.reshape(-1, PAGE) != wanted.reshape(-1, PAGE)).any(axis=1))
    if not len(pages):
        return ""
    return f"{len(pages)} pages differ, the first ones are {pages[:8].tolist()}"

# SPDX-License-Identifier: MIT
"""Which formats are compared, and what guest RAM holds."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

PAGE = 4096
Zeros = Literal["runs", "every4"]
#: Zero pages in runs: 8 MiB of every 32.
RUN, PERIOD = 2048, 8192


@dataclass(frozen=True)
class Format:
    """One way to save to a file.

    Attributes:
        name: as in the tables.
        mapped: pages at fixed places.
        channels: of multifd, 0 for without.
        direct: past the page cache.
    """

    name: str
    mapped: bool = False
    channels: int = 0
    direct: bool = False

    @property
    def capabilities(self) -> dict[str, bool]:
        return {"mapped-ram": self.mapped, "multifd": self.channels > 0}

    @property
    def parameters(self) -> dict[str, Any]:
        # QEMU's default bandwidth throttles; 0 is no limit, in both programs.
        values: dict[str, Any] = {"max-bandwidth": 0}
        if self.channels:
            values["multifd-channels"] = self.channels
        if self.direct:
            values["direct-io"] = True
        return values

    @property
    def threads(self) -> int:
        """Threads that a plain copy is given: as many as move the pages of this format."""
        return max(1, self.channels)


FORMATS = (
    Format("stream"),
    Format("mapped-ram", mapped=True),
    *(Format(f"mapped-ram, multifd {n}", True, n) for n in (1, 2, 4)),
    *(Format(f"mapped-ram, multifd {n}, direct-io", True, n, True) for n in (1, 2, 4)),
)
STREAM, MAPPED, MULTIFD2 = FORMATS[0], FORMATS[1], FORMATS[3]


def zero_pages(pages: int, zeros: Zeros) -> npt.NDArray[np.bool_]:
    """For each page whether it is zero; a quarter of them is."""
    numbers = np.arange(pages)
    return numbers % PERIOD >= PERIOD - RUN if zeros == "runs" else numbers % 4 == 3


def fill(ram: npt.NDArray[np.uint8], zeros: Zeros) -> None:
    """Puts incompressible bytes into every page that is not to be zero, and touches no other."""
    rng = np.random.default_rng(1)
    for start in range(0, len(ram), PERIOD * PAGE):
        part = ram[start : start + PERIOD * PAGE].reshape(-1, PAGE)
        data = ~zero_pages(len(part), zeros)
        noise = np.frombuffer(rng.bytes(int(data.sum()) * PAGE), dtype=np.uint8).reshape(-1, PAGE)
        if zeros == "runs":
            part[: len(noise)] = noise
        else:
            part[data] = noise


def memory(size: int) -> mmap.mmap:
    """Fresh memory like that of a guest: private, with huge pages."""
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_HUGEPAGE)
    return area

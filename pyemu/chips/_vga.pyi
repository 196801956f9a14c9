# SPDX-License-Identifier: MIT
from ..device import Clock
from ..memory import IoHandler

VRAM_SIZE: int
WINDOW: int

class VGACore:
    vram: bytearray
    sequencer: bytearray
    graphics: bytearray
    crtc: bytearray
    attribute: bytearray
    palette: bytearray
    dac_latch: bytearray
    dispi: bytearray
    misc: int
    feature: int
    sequencer_index: int
    graphics_index: int
    crtc_index: int
    attribute_index: int
    attribute_data: int
    pel_mask: int
    dac_index: int
    dac_component: int
    dac_reads: int
    dispi_index: int
    dispi_low: int
    latch: int
    changes: int
    def connect_clock(self, clock: Clock) -> None: ...
    def reset_core(self) -> None: ...
    def touch(self) -> None: ...
    def window_handler(self) -> IoHandler: ...
    def port_handler(self) -> IoHandler: ...
    def dispi_handler(self) -> IoHandler: ...
    def timing(self) -> tuple[int, int]: ...

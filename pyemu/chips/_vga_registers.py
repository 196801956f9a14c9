# SPDX-License-Identifier: MIT
"""Registers of a VGA: the ports, the four indexed groups behind them, and the extension that video BIOSes of emulators use."""

from __future__ import annotations

from ..device import Register, RegisterTable

PORTS = RegisterTable(
    (
        Register(0x04, "CRTC index", 0, 0x1F, source="crtc_index", effect="at 24 with a colour screen; data behind it"),
        Register(0x10, "attribute index", 0, 0x3F, source="attribute_index",
                 effect="index and data in turn; reading input status 1 makes it an index; bit 5 shows the screen"),
        Register(0x12, "miscellaneous output", 0, source="misc",
                 effect="read at 1C; 0 colour, 1 memory, 3-2 clock; reads here are input status 0"),
        Register(0x14, "sequencer index", 0, 0x07, source="sequencer_index", effect="data behind it"),
        Register(0x16, "pixel mask", 0xFF, source="pel_mask"),
        Register(0x18, "DAC index", 0, source="dac_index",
                 effect="for writes; for reads it is written at 17; data at 19, three bytes each"),
        Register(0x1A, "feature control", 0, source="feature", effect="written at 0A, at 2A with a colour screen"),
        Register(0x1E, "graphics index", 0, 0x0F, source="graphics_index", effect="data behind it"),
    ),
    name="VGA ports, from 3B0", size=0x30,
)  # fmt: skip

SEQUENCER = RegisterTable(
    (
        Register(0, "reset", 0, 0x03),
        Register(1, "clocking mode", 0, 0x3D, effect="0 eight dots a character, 5 screen off"),
        Register(2, "map mask", 0, 0x0F, effect="planes that are written"),
        Register(3, "character map select", 0, 0x3F),
        Register(4, "memory mode", 0, 0x0E, effect="3 chain-4, 2 no odd/even"),
    ),
    name="sequencer", size=8, attribute="sequencer",
)  # fmt: skip

GRAPHICS = RegisterTable(
    (
        Register(0, "set/reset", 0, 0x0F),
        Register(1, "enable set/reset", 0, 0x0F),
        Register(2, "colour compare", 0, 0x0F),
        Register(3, "data rotate", 0, 0x1F, effect="4-3 function, 2-0 count"),
        Register(4, "read map select", 0, 0x03),
        Register(5, "graphics mode", 0, 0x7B, effect="1-0 write mode, 3 read mode"),
        Register(6, "miscellaneous", 0, 0x0F, effect="3-2 place of the window, 0 graphics"),
        Register(7, "colour don't care", 0, 0x0F),
        Register(8, "bit mask", 0),
    ),
    name="graphics controller", size=16, attribute="graphics",
)  # fmt: skip

CRTC = RegisterTable(
    [
        Register(n, name, 0, effect="0 to 7 are locked while bit 7 of 11 is set" if n == 0x11 else "")
        for n, name in enumerate(
            ["horizontal total", "horizontal display end", "start horizontal blanking", "end horizontal blanking",
             "start horizontal retrace", "end horizontal retrace", "vertical total", "overflow", "preset row scan",
             "maximum scan line", "cursor start", "cursor end", "start address high", "start address low",
             "cursor location high", "cursor location low", "vertical retrace start", "vertical retrace end",
             "vertical display end", "offset", "underline location", "start vertical blanking", "end vertical blanking",
             "mode control", "line compare"]
        )
    ],
    name="CRT controller", size=32, attribute="crtc",
)  # fmt: skip

ATTRIBUTE = RegisterTable(
    (
        Register(0, "palette 0", 0, 0x3F, effect="locked, as the others, while bit 5 of the index is set"),
        *(Register(n, f"palette {n}", 0, 0x3F) for n in range(1, 16)),
        Register(0x10, "mode control", 0, 0xEF),
        Register(0x11, "overscan colour", 0),
        Register(0x12, "colour plane enable", 0, 0x3F),
        Register(0x13, "horizontal pixel panning", 0, 0x0F),
        Register(0x14, "colour select", 0, 0x0F),
    ),
    name="attribute controller", size=32, attribute="attribute",
)  # fmt: skip

TABLES = (PORTS, SEQUENCER, GRAPHICS, CRTC, ATTRIBUTE)

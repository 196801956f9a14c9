# SPDX-License-Identifier: MIT
"""One 8237A channel on a PC, one transfer at a time, as the data sheet tells it."""


class Channel:
    """A channel in single mode; ``memory`` maps guest addresses to bytes."""

    def __init__(self, memory, *, words):
        self.memory = memory
        self.words = words
        self.base_address = self.base_count = self.address = self.count = 0
        self.page = self.mode = 0
        self.flip_flop = 0
        self.masked = True
        self.terminal = False

    def write(self, register, value):
        """A byte to the address (0) or count (1) register: low half first, base and current alike."""
        for name in ("base_count", "count") if register else ("base_address", "address"):
            old = getattr(self, name)
            setattr(self, name, old & 0x00FF | value << 8 if self.flip_flop else old & 0xFF00 | value)
        self.flip_flop ^= 1

    def read(self, register):
        value = self.count if register else self.address
        value = value >> 8 if self.flip_flop else value & 0xFF
        self.flip_flop ^= 1
        return value

    def guest_address(self):
        if self.words:
            return (self.page & 0xFE) << 16 | self.address << 1
        return self.page << 16 | self.address

    def cycle(self, data=None):
        """One transfer: *data* from the device to memory, or what memory gives; then the counters."""
        at, size = self.guest_address(), 2 if self.words else 1
        kind, given = self.mode & 0x0C, None
        if kind == 0x04 and data is not None:
            for n in range(size):
                self.memory[at + n] = data[n]
        elif kind == 0x08:
            given = bytes(self.memory.get(at + n, 0) for n in range(size))
        self.address = (self.address + (-1 if self.mode & 0x20 else 1)) & 0xFFFF
        self.count = (self.count - 1) & 0xFFFF
        if self.count == 0xFFFF:
            self.terminal = True
            if self.mode & 0x10:
                self.address, self.count = self.base_address, self.base_count
            else:
                self.masked = True
        return given

    def serve(self, data=b"", room=0):
        """Cycles until the device has no more, or the terminal count; returns bytes moved and given."""
        size = 2 if self.words else 1
        units = (len(data) if self.mode & 0x0C == 0x04 else room) // size
        out, moved = b"", 0
        while not self.masked and moved < units:
            out += self.cycle(data[moved * size : (moved + 1) * size]) or b""
            moved += 1
            if self.terminal:
                break
        return moved * size, out

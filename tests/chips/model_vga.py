# SPDX-License-Identifier: MIT
"""A VGA's memory as four lists of bytes, one access at a time: what the compiled window is compared with."""


class Planes:
    def __init__(self):
        self.planes = [bytearray(0x10000) for _ in range(4)]
        self.latches = [0, 0, 0, 0]
        self.seq = [3, 0, 0, 0, 0]
        self.gfx = [0] * 9

    def _place(self, offset):
        start, length = ((0, 0x20000), (0, 0x10000), (0x10000, 0x8000), (0x18000, 0x8000))[self.gfx[6] >> 2 & 3]
        return offset - start if start <= offset < start + length else None

    def read(self, offset):
        at = self._place(offset)
        if at is None:
            return 0xFF
        if self.seq[4] & 8:
            at, plane = at // 4, at % 4
        elif self.gfx[5] & 0x10:
            at, plane = at // 2, (self.gfx[4] & 2) + at % 2
        else:
            plane = self.gfx[4] & 3
        at %= 0x10000
        self.latches = [memory[at] for memory in self.planes]
        if not self.gfx[5] & 8:
            return self.latches[plane]
        result = 0
        for bit in range(8):
            cared = [n for n in range(4) if self.gfx[7] >> n & 1]
            if all(self.latches[n] >> bit & 1 == self.gfx[2] >> n & 1 for n in cared):
                result |= 1 << bit
        return result

    def write(self, offset, value):
        at = self._place(offset)
        if at is None:
            return
        if self.seq[4] & 8:
            at, planes = at // 4, {at % 4}
        elif not self.seq[4] & 4:
            at, planes = at // 2, {at % 2, at % 2 + 2}
        else:
            planes = {0, 1, 2, 3}
        at %= 0x10000
        turned = ((value << 8 | value) >> (self.gfx[3] & 7)) & 0xFF
        mode = self.gfx[5] & 3
        for n in planes:
            if not self.seq[2] >> n & 1:
                continue
            latch, mask = self.latches[n], self.gfx[8]
            if mode == 1:
                self.planes[n][at] = latch
                continue
            if mode == 2:
                data = 0xFF if value >> n & 1 else 0
            elif mode == 3:
                data, mask = 0xFF if self.gfx[0] >> n & 1 else 0, mask & turned
            else:
                data = turned
                if self.gfx[1] >> n & 1:
                    data = 0xFF if self.gfx[0] >> n & 1 else 0
            data = (data, data & latch, data | latch, data ^ latch)[self.gfx[3] >> 3 & 3]
            self.planes[n][at] = data & mask | latch & ~mask & 0xFF

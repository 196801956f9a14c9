# SPDX-License-Identifier: MIT
"""The SMBus host controller of PCI function 4.

A transaction is over when the write that starts it returns. The status then tells how it ended, and
where the control register asks for it the interrupt is raised that register D2 selects.
"""

from __future__ import annotations

from typing import ClassVar

from pyemu import Device, VMState, vmstate
from pyemu.chips.smbus import SMBus
from pyemu.device import Register, RegisterBlock, RegisterTable, block_field, touches

STATUS, CONTROL, COMMAND, ADDRESS, DATA0, DATA1, BLOCK_DATA = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7
DONE, DEVICE_ERROR, FAILED = 0x02, 0x04, 0x10
INTERRUPT, KILL, START = 0x01, 0x02, 0x40
QUICK, BYTE, BYTE_DATA, WORD_DATA, PROCESS_CALL, BLOCK, I2C_BLOCK = 0x0, 0x1, 0x2, 0x3, 0x4, 0x5, 0xD
BLOCK_SIZE = 32

SMBUS = RegisterTable(
    (
        Register(STATUS, "host status", 0, 0, clear=0x1E, effect="1 done, 2 no acknowledge, 3 collision, 4 killed"),
        Register(CONTROL, "host control", 0, 0x3F,
                 effect="0 interrupt, 1 kill, 5-2 protocol, 6 start; reading rewinds the block buffer"),
        Register(COMMAND, "host command"),
        Register(ADDRESS, "host address", effect="7-1 address, 0 read"),
        Register(DATA0, "host data 0", effect="data, or the count of a block"),
        Register(DATA1, "host data 1"),
        Register(BLOCK_DATA, "block data", 0, 0, effect="the next byte of the block buffer"),
        Register(0x8, "slave control"),
        Register(0x9, "slave shadow command"),
        Register(0xA, "slave event", size=2),
    ),
    name="SMBus host", size=16, attribute="smbus.registers",
)  # fmt: skip


class SMBusHost:
    """Registers, block buffer and transactions.

    Attributes:
        bus: what it talks to, or None for a bus with nothing on it.
        interrupt: a transaction ended that asked for an interrupt, and nobody cleared its status since.
    """

    vmstate: ClassVar[VMState] = VMState(
        "via-smbus",
        fields=(
            block_field("registers", SMBUS),
            vmstate.buffer("block", BLOCK_SIZE),
            vmstate.uint8("block_index", limit=BLOCK_SIZE - 1),
            vmstate.boolean("interrupt"),
        ),
    )

    def __init__(self, owner: Device) -> None:
        self.registers = RegisterBlock(SMBUS, owner)
        self.bus: SMBus | None = None
        self.block = bytearray(BLOCK_SIZE)
        self.reset()

    def reset(self) -> None:
        self.registers.reset()
        self.block[:] = bytes(BLOCK_SIZE)
        self.block_index = 0
        self.interrupt = False

    def read(self, offset: int, size: int) -> int:
        if touches(offset, size, CONTROL):
            self.block_index = 0
        if touches(offset, size, BLOCK_DATA):
            self.registers.put(BLOCK_DATA, 1, self.block[self.block_index])
            self.block_index = (self.block_index + 1) % BLOCK_SIZE
        return self.registers.get(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.registers.write(offset, size, value)
        if touches(offset, size, STATUS) and not self.registers.data[STATUS]:
            self.interrupt = False
        if touches(offset, size, BLOCK_DATA):
            self.block[self.block_index] = value >> 8 * (BLOCK_DATA - offset) & 0xFF
            self.block_index = (self.block_index + 1) % BLOCK_SIZE
        if touches(offset, size, CONTROL):
            control = value >> 8 * (CONTROL - offset) & 0xFF
            if control & START:
                self._transact(control)

    def _transact(self, control: int) -> None:
        data = self.registers.data
        if control & KILL:
            ended = FAILED
        else:
            ended = DONE if self._transfer(control >> 2 & 0xF, data[ADDRESS] >> 1, bool(data[ADDRESS] & 1)) else DEVICE_ERROR
        data[STATUS] |= ended
        self.block_index = 0
        self.interrupt = self.interrupt or bool(control & INTERRUPT)

    def _transfer(self, protocol: int, address: int, read: bool) -> bool:
        """One transaction; whether the device acknowledged all of it."""
        device = self.bus.by_address.get(address) if self.bus is not None else None
        if device is None:
            return False
        data = self.registers.data
        command = data[COMMAND]
        if protocol == QUICK:
            return device.quick(read)
        if protocol == BYTE:
            if not read:
                return device.write_bytes(bytes((command,)))
            data[DATA0] = device.read_bytes(1)[0]
            return True
        if protocol == PROCESS_CALL:
            answer = device.process_call(command, data[DATA0] | data[DATA1] << 8)
            if answer is None:
                return False
            data[DATA0], data[DATA1] = answer & 0xFF, answer >> 8 & 0xFF
            return True
        if protocol not in (BYTE_DATA, WORD_DATA, BLOCK, I2C_BLOCK):
            return False
        if not read:
            return device.write_bytes(bytes((command, *self._outgoing(protocol))))
        if not device.write_bytes(bytes((command,))):
            return False
        if protocol in (BYTE_DATA, WORD_DATA):
            answer_bytes = device.read_bytes(1 if protocol == BYTE_DATA else 2)
            data[DATA0 : DATA0 + len(answer_bytes)] = answer_bytes
            return True
        # SMBus blocks begin with their length; an I2C block is as long as the host wants.
        count = device.read_bytes(1)[0] if protocol == BLOCK else data[DATA0]
        if not 0 < count <= BLOCK_SIZE:
            return False
        data[DATA0] = count
        self.block[:count] = device.read_bytes(count)
        return True

    def _outgoing(self, protocol: int) -> bytes:
        data = self.registers.data
        if protocol in (BYTE_DATA, WORD_DATA):
            return bytes(data[DATA0 : DATA0 + (1 if protocol == BYTE_DATA else 2)])
        count = min(data[DATA0], BLOCK_SIZE)
        block = bytes(self.block[:count])
        return bytes((count,)) + block if protocol == BLOCK else block
